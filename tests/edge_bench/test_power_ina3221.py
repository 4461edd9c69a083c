"""The INA3221 source on fake /sys trees of both drivers, with the names and numbers of several boards."""

import errno
import os

import pytest

from devices.support.errors import CannotMeasure
from edge_bench.agent.power import find_source, ina3221
from edge_bench.agent.power.source import Absent, ReadFailed

TX2 = {"0-0040": [("VDD_SYS_GPU", 19000, 8), ("VDD_SYS_SOC", 19000, 36), ("VDD_4V0_WIFI", 4800, 0)],
       "0-0041": [("VDD_IN", 19152, 160), ("VDD_SYS_CPU", 19100, 20), ("VDD_SYS_DDR", 4800, 180)],
       "0-0042": [("VDD_MUX", 19200, 60), ("VDD_5V0_IO_SYS", 5000, 10), ("VDD_3V3_SYS", 3300, 5)]}
ORIN_NX = {"1-0040": [("VDD_IN", 5000, 1060), ("VDD_CPU_GPU_CV", 5000, 154), ("VDD_SOC", 5000, 284)]}
AGX_ORIN = {"1-0040": [("VDD_GPU_SOC", 20000, 100), ("VDD_CPU_CV", 20000, 50), ("VIN_SYS_5V0", 5000, 700)],
            "1-0041": [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 120), ("NC", 0, 0)]}


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def iio_tree(root, chips, number=1):
    """A tree as the driver of L4T up to 32 makes it; the numbers of the devices mean nothing."""
    for chip, rails in chips.items():
        folder = root / "sys/bus/i2c/drivers/ina3221x" / chip / f"iio:device{number}"
        number += 1
        for channel, (name, mv, ma) in enumerate(rails):
            put(folder / f"rail_name_{channel}", name)
            put(folder / f"in_voltage{channel}_input", mv)
            put(folder / f"in_current{channel}_input", ma)
            put(folder / f"in_power{channel}_input", mv * ma // 1000)
            put(folder / f"in_power{channel}_trigger_input", 0)
    return root


def hwmon_tree(root, chips, number=3, shunt=None):
    """A tree as the driver of L4T from 34 on makes it, with the links that lead to the same folder."""
    for chip, rails in chips.items():
        real = root / "sys/devices/platform" / chip
        folder = real / f"hwmon/hwmon{number}"
        put(folder / "name", "ina3221")
        for channel, (name, mv, ma) in enumerate(rails, start=1):
            put(folder / f"in{channel}_label", name)
            put(folder / f"in{channel}_input", mv)
            put(folder / f"curr{channel}_input", ma)
            put(folder / f"in{channel + 3}_input", 12345)
            if shunt:
                put(folder / f"shunt{channel}_resistor", shunt)
        put(folder / "in7_label", "sum of shunt voltages")
        put(folder / "in7_input", 99999)
        for link in ("sys/bus/i2c/devices", "sys/bus/i2c/drivers/ina3221"):
            (root / link).mkdir(parents=True, exist_ok=True)
            (root / link / chip).symlink_to(real)
        (root / "sys/class/hwmon").mkdir(parents=True, exist_ok=True)
        (root / f"sys/class/hwmon/hwmon{number}").symlink_to(folder)
        number += 1
    return root


def read_once(root, board):
    with ina3221.Ina3221(str(root), board) as source:
        return source, source.read()


def test_tx2_total_is_vdd_in_and_nothing_is_added_to_it(tmp_path):
    source, sample = read_once(iio_tree(tmp_path, TX2), "tx2")
    assert sample.total_mw == 19152 * 160 // 1000
    assert sample.rails["VDD_SYS_SOC"] == 684
    assert len(sample.rails) == 9
    assert source.totals == {"module": ["VDD_IN"], "board": ["VDD_IN", "VDD_MUX"]}
    assert source.scope == "module"
    assert source.quantum_mw == 38
    assert source.filter_s == 0.42


@pytest.mark.parametrize(("text", "mode"), [("0", "triggered"), ("1", "continuous"), (None, None), ("?", None)])
def test_how_the_chip_of_the_total_converts_is_told_and_its_filter_stays(tmp_path, text, mode):
    chips = iio_tree(tmp_path, TX2) / "sys/bus/i2c/drivers/ina3221x"
    put(chips / "0-0040/iio:device1/running_mode", "1")
    if text:
        put(chips / "0-0041/iio:device2/running_mode", text)
    source, _ = read_once(tmp_path, "tx2")
    assert source.describe()["running_mode"] == mode and source.filter_s == 0.42


def test_rails_are_found_by_name_whatever_the_numbers(tmp_path):
    turned = {"6-0040": [("VDD_SYS_CPU", 1000, 1), ("VDD_IN", 1000, 77), ("VDD_SYS_GPU", 1000, 2)]}
    _, sample = read_once(iio_tree(tmp_path, turned, number=8), None)
    assert sample.total_mw == 77


def test_hwmon_multiplies_and_skips_shunt_voltages(tmp_path):
    source, sample = read_once(hwmon_tree(tmp_path, ORIN_NX), "orin-nx")
    assert sample.rails == {"VDD_IN": 5300.0, "VDD_CPU_GPU_CV": 770.0, "VDD_SOC": 1420.0}
    assert sample.total_mw == 5300.0
    assert source.rails[0] == "VDD_IN"


def test_hwmon_quantum_comes_from_the_shunt(tmp_path):
    source, _ = read_once(hwmon_tree(tmp_path, ORIN_NX, shunt=5000), "orin-nx")
    assert source.quantum_mw == pytest.approx(8 * 5.0)  # 40 uV over 5 mOhm are 8 mA, at 5 V


def test_agx_orin_sums_its_top_rails_without_what_they_feed_and_drops_nc(tmp_path):
    source, sample = read_once(hwmon_tree(tmp_path, AGX_ORIN), "agx-orin")
    assert sample.total_mw == 2000 + 1000 + 3500
    assert "VDDQ_VDD2_1V8AO" in sample.rails
    assert not any("NC" in name for name in sample.rails)
    assert source.totals == {"module": ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]}


@pytest.mark.parametrize("board", ["agx-xavier", None])
def test_agx_xavier_sums_all_six(tmp_path, board):
    chips = {"1-0040": [("GPU", 19000, 10), ("CPU", 19000, 20), ("SOC", 19000, 30)],
             "1-0041": [("CV", 19000, 1), ("VDDRQ", 19000, 2), ("SYS5V", 5000, 40)]}
    _, sample = read_once(iio_tree(tmp_path, chips), board)
    assert sample.total_mw == 190 + 380 + 570 + 19 + 38 + 200


def test_a_name_on_two_chips_is_never_one_of_them(tmp_path):
    chips = {"1-0040": [("VDD_IN", 5000, 100)], "1-0041": [("VDD_SOC", 1, 1)], "2-0042": [("VDD_SOC", 2, 2)]}
    _, sample = read_once(iio_tree(tmp_path, chips), None)
    assert set(sample.rails) == {"VDD_IN", "VDD_SOC@1-0041", "VDD_SOC@2-0042"}


def test_two_totals_cannot_be_told_apart(tmp_path):
    chips = {"1-0040": [("VDD_IN", 5000, 100)], "1-0041": [("VDD_IN", 5000, 900)]}
    with pytest.raises(CannotMeasure, match="none of VDD_IN@1-0040, VDD_IN@1-0041 is known to be the total"):
        read_once(iio_tree(tmp_path, chips), None)


def test_eagain_is_tried_again(tmp_path, monkeypatch):
    iio_tree(tmp_path, TX2)
    real, fails = os.pread, []

    def stubborn(handle, length, offset):
        if len(fails) % 4 != 3:
            fails.append(1)
            raise OSError(errno.EAGAIN, "try again")
        fails.append(0)
        return real(handle, length, offset)

    monkeypatch.setattr(ina3221, "PAUSE_S", 0)
    monkeypatch.setattr(os, "pread", stubborn)
    assert read_once(tmp_path, "tx2")[1].total_mw == 3064


def test_eagain_for_ever_is_one_failed_reading(tmp_path, monkeypatch):
    source = ina3221.Ina3221(str(iio_tree(tmp_path, TX2)), "tx2")
    source.open()

    def never(*_):
        raise OSError(errno.EAGAIN, "try again")

    monkeypatch.setattr(ina3221, "PAUSE_S", 0)
    monkeypatch.setattr(os, "pread", never)
    with pytest.raises(ReadFailed, match="10 tries"):
        source.read()
    monkeypatch.undo()
    assert source.read().total_mw == 3064
    source.close()
    source.close()


@pytest.mark.parametrize("content", ["", "no data\n"])
def test_a_rail_that_falls_silent_takes_no_total_with_it(tmp_path, content, monkeypatch):
    monkeypatch.setattr(ina3221, "PAUSE_S", 0)
    with ina3221.Ina3221(str(iio_tree(tmp_path, TX2)), "tx2") as source:
        for chip, number in (("0-0040", 1), ("0-0042", 3)):  # the GPU's rail; the carrier's, of which a total is made
            folder = tmp_path / f"sys/bus/i2c/drivers/ina3221x/{chip}/iio:device{number}"
            (folder / "in_power0_input").write_text(content)
            if chip == "0-0040":
                sample = source.read()
                assert sample.total_mw == 3064 and "VDD_SYS_GPU" not in sample.rails and "VDD_SYS_CPU" in sample.rails
        with pytest.raises(ReadFailed, match="0-0042"):
            source.read()


def test_a_disabled_channel_is_left_out_and_a_silent_total_is_refused(tmp_path):
    iio_tree(tmp_path / "a", TX2)
    put(tmp_path / "a/sys/bus/i2c/drivers/ina3221x/0-0042/iio:device3/in_power0_input", "no data")
    source, sample = read_once(tmp_path / "a", "tx2")
    assert "VDD_MUX" not in sample.rails
    assert list(source.totals) == ["module"]
    iio_tree(tmp_path / "b", TX2)
    put(tmp_path / "b/sys/bus/i2c/drivers/ina3221x/0-0041/iio:device2/in_power0_input", "no data")
    with pytest.raises(CannotMeasure, match="without it there is no total"):
        read_once(tmp_path / "b", "tx2")


def test_permission_is_said_with_the_remedy(tmp_path, monkeypatch):
    iio_tree(tmp_path, TX2)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Absent, match=r"in_power0_input may not be read by this user: run as root, or chmod"):
        ina3221.Ina3221(str(tmp_path), "tx2").open()


def test_find_source_takes_the_rails_first_and_names_the_board_itself(tmp_path):
    iio_tree(tmp_path, TX2)
    put(tmp_path / "proc/device-tree/model", "quill")
    put(tmp_path / "etc/nv_tegra_release", "# R32 (release), REVISION: 7.1")
    source = find_source(root=str(tmp_path))
    assert source.name == "ina3221"
    assert source.totals["board"] == ["VDD_IN", "VDD_MUX"]
    source.close()


def test_without_any_source_each_is_named_with_its_reason(tmp_path):
    with pytest.raises(CannotMeasure) as refused:
        find_source(root=str(tmp_path))
    for word in ("ina3221: no INA3221 monitor", "tegrastats: there is no", "nvml: ", "rapl: no processor package"):
        assert word in str(refused.value)


def test_a_named_source_that_is_not_there(tmp_path):
    with pytest.raises(CannotMeasure, match="power source ina3221: no INA3221"):
        find_source("ina3221", str(tmp_path))
