"""NVML and RAPL: counters, their wrap-around, permission, and the Jetson on which NVML knows nothing."""

import ctypes
import os

import pytest

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import main, measure
from edge_bench.agent.power import find_source
from edge_bench.agent.power.nvml import Nvml
from edge_bench.agent.power.rapl import Rapl
from edge_bench.agent.power.source import Absent, ReadFailed


class Clock:
    """Moves by a millisecond whenever it is looked at."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        self.now += 0.001
        return self.now


class FakeNvml:
    """A strict stand-in for libnvidia-ml: what is not here raises AttributeError, as ctypes does."""

    NOT_SUPPORTED, NOT_FOUND = 3, 6

    def __init__(self, clock, energy=True, power=True, init=0, watts=60.0, refresh_s=0.02, missing=()):
        self.clock, self.energy, self.power, self.init, self.watts = clock, energy, power, init, watts
        self.refresh_s, self.missing, self.calls, self.offset_mj = refresh_s, missing, [], 5_000_000

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in object.__getattribute__(self, "missing"):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def nvmlInit_v2(self):
        self.calls.append("init")
        return self.init

    def nvmlShutdown(self):
        self.calls.append("shutdown")
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        self.calls.append(index.value)
        return 0 if index.value < 2 else self.NOT_FOUND

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):
        self.calls.append(uuid)
        return 0

    def nvmlDeviceGetName(self, device, text, length):
        text.value = b"A GPU of the tests"
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device, value):
        if not self.energy:
            return self.NOT_SUPPORTED
        refreshed = int((self.clock.now - 100.0) / self.refresh_s) * self.refresh_s if self.refresh_s else 0.0
        value._obj.value = self.offset_mj + int(refreshed * self.watts * 1000)
        assert isinstance(value._obj, ctypes.c_ulonglong)
        return 0

    def nvmlDeviceGetPowerUsage(self, device, value):
        if not self.power:
            return self.NOT_SUPPORTED
        value._obj.value = int(self.watts * 1000)
        return 0


@pytest.fixture(autouse=True)
def no_visible_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def nvml(**kind):
    clock = Clock()
    library = FakeNvml(clock, **kind)
    return Nvml(clock=clock, library=library), library


def test_the_energy_counter_is_preferred_and_its_refresh_found():
    source, library = nvml()
    source.open()
    assert source.counter
    assert source.refresh_s == pytest.approx(0.02, rel=0.1)
    assert source.where == "A GPU of the tests"
    first = source.read()
    samples = [source.read() for _ in range(400)]
    last = samples[-1]
    assert last.energy_mj - first.energy_mj == pytest.approx(60_000 * (last.t_s - first.t_s), rel=0.03)
    assert last.total_mw == pytest.approx(60_000, rel=0.15)
    assert source.totals == {"gpu": ["gpu"]}
    source.close()
    source.close()
    assert library.calls.count("shutdown") == 1


def test_without_a_counter_power_is_read():
    source, _ = nvml(energy=False)
    source.open()
    assert not source.counter
    assert source.read()[1:] == ({"gpu": 60_000}, 60_000, None)


def test_an_old_library_without_the_counter_falls_back():
    source, _ = nvml(missing=("nvmlDeviceGetTotalEnergyConsumption",))
    source.open()
    assert not source.counter


def test_on_a_jetson_nvml_starts_and_knows_nothing_which_is_an_error():
    source, library = nvml(energy=False, power=False)
    with pytest.raises(CannotMeasure, match=r"neither energy nor power of this GPU \(not supported\); on a Jetson"):
        source.open()
    assert library.calls[-1] == "shutdown"


def test_no_power_of_zero_watts():
    source, _ = nvml(energy=False, watts=0.0)
    with pytest.raises(CannotMeasure, match="neither energy nor power"):
        source.open()


def test_a_counter_that_stands_still_is_an_error():
    source, _ = nvml(refresh_s=None)
    with pytest.raises(CannotMeasure, match="did not move in 2 s"):
        source.open()


def test_without_a_driver_or_elsewhere():
    source, _ = nvml(init=9)
    with pytest.raises(Absent, match="the driver is not loaded"):
        source.open()
    with pytest.raises(Absent, match="this machine's GPUs only"):
        Nvml(root="/tmp").open()


@pytest.mark.parametrize(("visible", "asked"), [("1,0", 1), ("GPU-12ab", b"GPU-12ab"), ("0", 0)])
def test_the_gpu_that_cuda_shows_is_measured(monkeypatch, visible, asked):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    source, library = nvml()
    source.open()
    assert library.calls[1] == asked


def test_what_runs_on_a_gpu_counts_gpus_as_nvml_does(monkeypatch):
    """CUDA's own first is the fastest, NVML's first is the first on the bus."""
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # so that it is as before when this ends
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setitem(main.VERBS, "_trial", ("builtins:bool", None))
    main.main(["_trial"])
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"



@pytest.mark.parametrize(("visible", "reason"), [("7", "knows no GPU '7'"), ("MIG-1", "MIG slice")])
def test_a_gpu_that_cannot_be_measured(monkeypatch, visible, reason):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    source, _ = nvml()
    with pytest.raises(Absent, match=reason):
        source.open()


def test_a_counter_that_goes_back_is_a_failed_reading():
    source, library = nvml()
    source.open()
    library.offset_mj = 0
    with pytest.raises(ReadFailed, match="went back"):
        source.read()


# RAPL

def zone(root, name, label, energy_uj, range_uj=1000_000):
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def test_rapl_adds_packages_and_wraps_around(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 7)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    zone(tmp_path, "intel-rapl:2", "psys", 0)
    clock = Clock()
    source = Rapl(str(tmp_path), clock=clock)
    source.open()
    assert source.rails == ["package-0", "dram-0", "package-1"]
    assert source.totals == {"package": ["package-0", "package-1"]}
    assert source.read().total_mw is None
    first.write_text("50000")  # past its range of 1 J: 150 mJ on
    second.write_text("150000")
    memory.write_text("20000")
    clock.now += 0.1
    sample = source.read()
    assert sample.energy_mj == pytest.approx(150 + 50)
    assert sample.total_mw == pytest.approx(200 / 0.103, rel=0.02)
    assert sample.rails["dram-0"] == pytest.approx(20 / 0.103, rel=0.02)


def test_rapl_that_is_not_there_or_may_not_be_read(tmp_path, monkeypatch):
    with pytest.raises(Absent, match="virtual machines and containers"):
        Rapl(str(tmp_path)).open()
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Absent, match=r"root alone: sudo chmod a\+r"):
        Rapl(str(tmp_path)).open()


def test_rapl_damage_is_a_failed_reading(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    source = Rapl(str(tmp_path))
    source.open()
    path.write_text("?")
    with pytest.raises(ReadFailed, match="energy_uj"):
        source.read()


# which of the two

def test_a_run_is_never_billed_the_power_of_what_it_does_not_run_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Nvml, "open", lambda self: None)
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    for runs_on, name in ((None, "nvml"), ("gpu", "nvml"), ("cpu", "rapl")):
        assert find_source(root=str(tmp_path), runs_on=runs_on).name == name
    for name, runs_on in (("nvml", "cpu"), ("rapl", "gpu")):
        with pytest.raises(UserError, match=f"alone, and the model runs on the {runs_on.upper()}; leave"):
            find_source(name, str(tmp_path), runs_on=runs_on)


def test_a_bench_asks_for_the_power_of_its_runner(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    request = {"power": True, "power_source": None, "root": str(tmp_path)}
    with measure.power_session(dict(request, runner="onnxruntime")) as power:
        assert power.sampler.samples.source["name"] == "rapl"
    with pytest.raises(CannotMeasure, match="rapl: it measures the CPU alone, and the model runs on the GPU"):
        measure.power_session(dict(request, runner="tensorrt")).__enter__()
