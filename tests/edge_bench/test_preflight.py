"""The state of a machine, read from a stand-in board's files."""

from __future__ import annotations

import pytest
from stand_in_board import StandInBoard

from edge_bench.agent import clocks, identity, load, power_mode, preflight


@pytest.fixture
def board(tmp_path):
    return StandInBoard(tmp_path)


def test_a_tx2_is_known_with_its_software_and_mode(board):
    state = preflight.preflight(str(board.root))
    assert state["board"]["board"] == "tx2" and state["board"]["serial"] == "0421819000042"
    assert state["software"]["l4t"] == "32.7.1" and state["software"]["tensorrt"] == "8.2.1"
    assert state["mode"] == {"id": 3, "name": "MAXP_CORE_ARM"}
    assert state["fan"] == {"pwm": 80}


def test_a_jetson_that_no_board_file_fits_is_no_host(board):
    board.write("proc/device-tree/model", "NVIDIA Jetson AGX Thor Developer Kit\0")
    assert identity.identify(str(board.root))["board"] == "jetson"
    assert identity.identify(str(board.root / "run"))["board"] in ("cpu", "nvidia-gpu")


def test_dead_and_constant_sensors_are_left_out(board):
    assert preflight.temperatures(str(board.root)) == {"GPU-therm": 38.5}


def test_locked_is_what_is_observed(board):
    root = str(board.root)
    assert clocks.read_clocks(root)["locked"] is False
    for path in board.root.glob("sys/devices/system/cpu/*/cpufreq/scaling_*_freq"):
        path.write_text("2035200\n")
    assert clocks.read_clocks(root)["locked"] is False  # the GPU is not
    for path in board.root.glob("sys/devices/17000000.gp10b/devfreq/*/*_freq"):
        path.write_text("1300500000\n")
    assert clocks.read_clocks(root)["locked"] is True
    # the memory clock, where root may read it, is held by its own lock below its maximum
    for word, value in (("min_rate", 40800000), ("max_rate", 1866000000), ("rate", 1600000000), ("mrq_rate_locked", 0)):
        board.write("sys/kernel/debug/bpmp/debug/clk/emc/" + word, str(value))
    assert clocks.read_clocks(root)["locked"] is False
    board.write("sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked", "1")
    assert clocks.read_clocks(root)["locked"] is True
    assert clocks.read_clocks(str(board.root / "etc"))["locked"] is None


def test_governors_the_cap_of_the_memory_clock_and_what_is_not_shown_are_told(board):
    board.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n")
    board.write("sys/devices/17000000.gp10b/devfreq/17000000.gp10b/governor", "nvhost_podgov\n")
    board.write("sys/kernel/nvpmodel_emc_cap/emc_iso_cap", "1600000000\n")
    found = clocks.read_clocks(str(board.root))
    assert found["cpu"][0] == {"name": "cpu0", "min_hz": 345600000, "max_hz": 2035200000, "current_hz": 1113600000,
                               "governor": "schedutil"}
    assert found["gpu"]["governor"] == "nvhost_podgov" and found["emc_cap_hz"] == 1600000000
    assert found["unseen"] == ["emc"] and found["emc"] is None  # debugfs is root's


@pytest.mark.parametrize("files, boost", [
    ({}, None), ({"cpufreq/boost": "0"}, False), ({"cpufreq/boost": "1"}, True),
    ({"intel_pstate/no_turbo": "1"}, False), ({"intel_pstate/no_turbo": "0"}, True)])
def test_a_hosts_clocks(tmp_path, files, boost):
    folder = tmp_path / "sys/devices/system/cpu"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text + "\n")
    state = clocks.read_clocks(str(tmp_path))
    assert state["boost"] is boost and state["locked"] is None and state["unseen"] == ["cpu"]
    cpufreq = folder / "cpu0/cpufreq"
    cpufreq.mkdir(parents=True)
    for word in ("min", "max", "cur"):
        (cpufreq / f"scaling_{word}_freq").write_text("2400000\n")
    state = clocks.read_clocks(str(tmp_path))
    assert state["locked"] is True and state["unseen"] == []
    (cpufreq / "scaling_min_freq").write_text("800000\n")
    assert clocks.read_clocks(str(tmp_path))["locked"] is False
    assert any("CPU's clocks" in text for text in preflight.preflight(str(tmp_path))["warnings"])


@pytest.mark.parametrize("name, state", [("pwm-fan", "2"), ("TCC Offset", "5"), ("intel_powerclamp", "-1"),
                                         ("iwlwifi_1", "3"), ("cpufreq-cpu0", "0"), ("hot-surface-alert", "1")])
def test_cooling_that_holds_no_clock_down_is_no_throttling(tmp_path, name, state):
    folder = tmp_path / "sys/class/thermal/cooling_device0"
    folder.mkdir(parents=True)
    (folder / "type").write_text(name + "\n")
    (folder / "cur_state").write_text(state + "\n")
    assert preflight.throttling(str(tmp_path)) == []


def test_over_current_is_counted_where_it_slows_clocks(board):
    assert preflight.over_currents(str(board.root)) == {}
    for name, count, slows in (("oc1", 0, 1), ("oc2", 7, 0), ("oc3", 37, 1)):
        board.write(f"sys/class/hwmon/hwmon3/{name}_event_cnt", f"{count}\n")
        board.write(f"sys/class/hwmon/hwmon3/{name}_throt_en", f"{slows}\n")
    assert preflight.over_currents(str(board.root)) == {"oc1": 0, "oc3": 37}


def test_an_offline_core_does_not_count(board):
    board.write("sys/devices/system/cpu/cpu1/online", "0\n")
    assert [clock["name"] for clock in clocks.read_clocks(str(board.root))["cpu"]] == ["cpu0"]


def test_throttling_and_unlocked_clocks_are_warned_of(board):
    board.write("sys/class/thermal/cooling_device0/type", "gpu-balanced\n")
    board.write("sys/class/thermal/cooling_device0/cur_state", "3\n")
    board.write("sys/class/thermal/cooling_device1/type", "pwm-fan\n")
    board.write("sys/class/thermal/cooling_device1/cur_state", "2\n")
    state = preflight.preflight(str(board.root))
    assert state["throttling"] == ["gpu-balanced"]
    assert any("gpu-balanced" in text for text in state["warnings"])
    assert any("--lock" in text for text in state["warnings"])


@pytest.mark.parametrize("model, name", [
    ("quill", "tx2"), ("NVIDIA Jetson TX2 NX Developer Kit", "tx2-nx"), ("lightning", "tx2-nx"),
    ("NVIDIA Jetson Nano Developer Kit", "nano"), ("Jetson-AGX", "agx-xavier"),
    ("NVIDIA Jetson Xavier NX Developer Kit", "xavier-nx"), ("NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
    ("NVIDIA Orin Nano Developer Kit", "orin-nano"), ("NVIDIA Jetson Orin NX Engineering Reference", "orin-nx"),
    ("NVIDIA Jetson TX1", "tx1"), ("Raspberry Pi 4 Model B", None), (None, None)])
def test_models_name_boards_that_exist(model, name):
    from devices.board import known_boards

    assert identity.board_of_model(model) == name
    assert name is None or name in known_boards()


@pytest.mark.parametrize("text, release", [
    ("# R32 (release), REVISION: 7.1, GCID: 29818004", "32.7.1"), ("# R35 (release), REVISION: 4.1", "35.4.1"),
    ("# R28 (release), REVISION: 2.0", "28.2.0"), ("", None), (None, None)])
def test_l4t_releases(text, release):
    assert identity.l4t_release(text) == release


def test_modes_without_a_status_file_fall_back_to_the_default(board):
    (board.root / "var/lib/nvpmodel/status").unlink()
    assert power_mode.present(str(board.root))["name"] == "MAXP_CORE_ARM"
    assert power_mode.present(str(board.root / "sys")) is None


@pytest.mark.parametrize("path", [
    "sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load", "sys/devices/17000000.gv11b/load",
    "sys/devices/platform/bus@0/17000000.gpu/load"])
def test_the_load_of_the_gpu_is_read_wherever_a_board_has_it(board, path):
    board.write("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\n")
    board.write("sys/devices/platform/disk/load", "999\n")
    assert load.other_load(str(board.root), seconds=0.01)["gpu_share"] is None
    board.write(path, "300\n")
    assert load.other_load(str(board.root), seconds=0.01)["gpu_share"] == 0.3


@pytest.mark.parametrize("thousandths, words", [(300, "30% of the GPU's time"), (20, None)])
def test_other_work_on_the_gpu_is_warned_of(board, thousandths, words):
    board.write("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\n")
    board.write("sys/devices/gpu.0/load", f"{thousandths}\n")
    told = [text for text in preflight.preflight(str(board.root))["warnings"] if "GPU" in text]
    assert words in told[0] if words else not told


def test_own_load_is_seen_and_a_missing_proc_is_no_error(tmp_path):
    assert load.other_load(str(tmp_path), seconds=0.01) is None
    found = load.other_load("/", seconds=0.05)
    assert found["cpu_share"] >= 0
