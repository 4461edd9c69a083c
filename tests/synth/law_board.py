"""A board in this process, behind the same interface as the one behind ssh: it applies the law of the stand-in board to
the exported ONNX file's layers, with the run-to-run noise and the steps of a sensor.

The energy path is the real one from the exported file on: only ssh, the engine and the time that a window takes are
left out.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from devices.support.files import sha256_bytes
from devices.support.reading import MEASURED, MODULE, Reading
from edge_bench.agent.evaluate import between_trials

HERE = Path(__file__).parent
LAWS = HERE.parent / "edge_bench" / "laws"


def _board_law():
    """By its file: the folder also holds a double of tensorrt, which no other test may find on its path."""
    spec = importlib.util.spec_from_file_location("board_law",
                                                  HERE.parent / "edge_bench" / "doubles" / "board_law.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


board_law = _board_law()
STEP_MW = 38.0  # of the TX2's VDD_IN
LATENCY_SPREAD, POWER_SPREAD = 0.004, 0.008  # between trials, relative
BOARD_SPREAD = 0.004  # between boards of one kind


class LawBoard:
    """name: of the board; boards of other names differ a little. law: a file (see `board_law`)."""

    def __init__(self, name: str = "board", law: Path = LAWS / "waves.py"):
        self.name, self.law = name, board_law.load_law(str(law))
        self.measured: list[str] = []
        self.cancelled = 0

    def state(self, power):
        return {"board": "tx2", "l4t": "32.7.1", "tensorrt": "8.2.1", "mode": "MAXN", "precision": "fp16"}

    def truth(self, onnx: Path, batch: int) -> tuple[float, float]:
        """(latency in ms of the batch, mJ per image) without noise."""
        layers = board_law.layers_of(board_law.graph_of(onnx.read_bytes()))
        latency_ms, power_mw = self.law["cost"](layers, batch)
        return latency_ms, latency_ms * power_mw / 1e3 / batch

    def measure(self, job, keep, say):
        self.measured.append(job.network)
        latency_ms, energy_mj = self.truth(job.onnx, job.batch)
        power_mw = 1e3 * energy_mj * job.batch / latency_ms
        seed = sha256_bytes(f"{self.name}/{job.network}/{job.batch}/{job.full}".encode())
        random = np.random.default_rng(int(seed[:15], 16))
        own = np.random.default_rng(int(sha256_bytes(self.name.encode())[:15], 16)).standard_normal()
        trials = 5 if job.full else 3
        latencies = latency_ms * np.exp(LATENCY_SPREAD * random.standard_normal(trials))
        powers = power_mw * np.exp(BOARD_SPREAD * own + POWER_SPREAD * random.standard_normal(trials))
        # hundreds of samples a window average the steps out, but for a share that does not move
        powers = powers + STEP_MW / 12**0.5 * random.standard_normal(trials) / 4
        source = f"{self.name}, a stand-in by law, {trials} trials"
        energies = [float(p * t / 1e3 / job.batch) for p, t in zip(powers, latencies, strict=True)]
        readings = {
            "latency_p50_ms": between_trials([float(t) for t in latencies], "ms", source),
            "latency_p99_ms": between_trials([1.05 * float(t) for t in latencies], "ms", source),
            "throughput_img_s": between_trials([1e3 * job.batch / float(t) for t in latencies], "img/s", source),
            "energy_mj": _module(between_trials(energies, "mJ", source)),
            "power_mw": _module(between_trials([float(p) for p in powers], "mW", source)),
        }
        return {"created": "2026-01-01T00:00:00+00:00", "marks": [] if job.full else ["quick"],
                "readings": {name: reading.to_json() for name, reading in readings.items()}}

    def cancel(self):
        self.cancelled += 1


def _module(reading: Reading) -> Reading:
    return Reading(reading.value, reading.unit, MEASURED, reading.source, reading.low, reading.high, MODULE)
