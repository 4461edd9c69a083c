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


def test_own_load_is_seen_and_a_missing_proc_is_no_error(tmp_path):
    assert load.other_load(str(tmp_path), seconds=0.01) is None
    found = load.other_load("/", seconds=0.05)
    assert found["cpu_share"] >= 0
