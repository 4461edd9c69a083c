"""Exercises the power side of the agent and prints what came out: run by test_power_old_python under every Python.

    python exercise_power.py FOLDER      (the repository on PYTHONPATH; plain Python 3.6, no pytest)
"""
import gzip
import json
import os
import random
import sys

from devices.support.errors import EdgesynthError
from edge_bench.agent import energy, ratio, statistics
from edge_bench.agent.power import find_source
from edge_bench.agent.power.nvml import Nvml
from edge_bench.agent.power.rapl import Rapl
from edge_bench.agent.power.source import Absent
from edge_bench.agent.power.tegrastats import read_log
from edge_bench.agent.samples import Samples, read_samples
from edge_bench.agent.sensor import quantum_of

LINE = "RAM 1/2MB (lfb 1x4MB) CPU [1%@345] GPU@40C VDD_IN {}/3056 VDD_SYS_GPU 152/152"


class Counter:
    """A libnvidia-ml whose counter moves at every look."""

    energy = 0

    def nvmlInit_v2(self):
        return 0

    nvmlShutdown = nvmlInit_v2

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device, value):
        self.energy += 10
        value._obj.value = self.energy
        return 0


def numbers():
    generator = random.Random(3)
    values = [generator.gauss(10, 1) for _ in range(14)]
    return {"t": statistics.interval(values[:5]), "bootstrap": statistics.interval(values),
            "drift": statistics.drift(range(14), values), "percentiles": statistics.percentiles(values),
            "outliers": statistics.outliers([*values, 30.0]),
            "ratio": ratio.of_sessions([values], [values[3:], values]),
            "rounding": statistics.beside_uniform(1.0, 0.5), "quantum": quantum_of([38 * int(v) for v in values])}


def recording(path):
    samples = Samples({"name": "ina3221", "scope": "module", "rails": ["VDD_IN"], "totals": {"module": ["VDD_IN"]},
                       "counter": False, "quantum_mw": 38.0, "refresh_s": None, "filter_s": 0.42}, 0.05)
    for i in range(1300):
        power = 2000 if i < 160 else 7000 + 38 * (i % 3)
        samples.add(5 + i * 0.05, power, None, [power])
    with gzip.open(path, "wb") as stream:
        stream.write(json.dumps({"samples": samples.to_json()}).encode())
    windows = [(15.01 + 10 * k, 25.0 + 10 * k, 1000 + k) for k in range(5)]
    return energy.per_image(read_samples(path), windows, (6.0, 12.0))


def main(folder):
    found = {"numbers": numbers(), "energy": recording(os.path.join(folder, "samples.gz"))}
    log = os.path.join(folder, "log")
    with open(log, "wb") as stream:
        stream.write("\n".join([LINE.format(3056), "rubbish", LINE.format(4120)]).encode() + b"\n\xff\0\xfe\n")
    found["log"] = list(read_log(log))
    root = os.path.join(folder, "root")
    chip = os.path.join(root, "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1")
    zone = os.path.join(root, "sys/class/powercap/intel-rapl:0")
    for path, text in ((chip + "/rail_name_0", "VDD_IN"), (chip + "/in_power0_input", "3040"),
                       (zone + "/name", "package-0"), (zone + "/energy_uj", "5"),
                       (zone + "/max_energy_range_uj", "1000")):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as stream:
            stream.write(text)
    with find_source(root=root, board="tx2") as source:
        found["ina3221"] = source.read()[1:]
    with find_source("replay:" + os.path.join(folder, "samples.gz")) as source:
        found["replay"] = source.read()[1:]
    with Rapl(root) as source:
        found["rapl"] = source.read()[1:]
    with Nvml(library=Counter()) as source:
        found["nvml"] = [source.counter, source.rails, source.read().energy_mj > 0]
    found["errors"] = []
    for name in ("tegrastats", "jtop", "what"):
        try:
            find_source(name, os.path.join(folder, "nowhere"))
        except (EdgesynthError, Absent) as error:
            found["errors"].append(type(error).__name__)
    json.dump(rounded(found), sys.stdout, sort_keys=True)


def rounded(value):
    """Without the last digits, in which C libraries differ."""
    if isinstance(value, float):
        return float(format(value, ".10g"))
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    main(sys.argv[1])
