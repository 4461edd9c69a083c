"""Does `edgesynth bench` agree with a bare timing loop? Pairs of fresh processes, in turn, on ONNX Runtime's CPU.

The bare loop is what one writes by hand: load, warm up, time each `session.run`, take the median. The order within a
pair alternates (ABBA), so that a machine that gets slower favours neither.

    python tests/benchmarks/bench_bench.py --pairs 30 --window 1 --json bench.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_bench.agent import statistics
from edge_bench.agent.arguments import complete
from edge_bench.agent.trial import unpack
from edge_bench.agent.trials import run_trial

BARE_LOOP = """
import sys, time, statistics, numpy, onnxruntime
path, window = sys.argv[1], float(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {item.name: numpy.random.RandomState(0).standard_normal(item.shape).astype("float32")
        for item in session.get_inputs()}
end = time.monotonic() + 1.0
while time.monotonic() < end:
    session.run(None, feed)
times, end = [], time.monotonic() + window
while time.monotonic() < end:
    start = time.monotonic()
    session.run(None, feed)
    times.append(time.monotonic() - start)
print(1e3 * statistics.median(times))
"""


def write_cnn(path: Path, channels: int, size: int, layers: int) -> Path:
    """A plain CNN [1, 3, size, size] of 3x3 convolutions with ReLU."""
    generator = np.random.RandomState(0)
    nodes, weights, last, width = [], [], "x", 3
    for k in range(layers):
        weights.append(numpy_helper.from_array(
            (generator.standard_normal((channels, width, 3, 3)) / (3 * width ** 0.5)).astype(np.float32), f"w{k}"))
        nodes.append(helper.make_node("Conv", [last, f"w{k}"], [f"c{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"]))
        last, width = f"r{k}", channels
    graph = helper.make_graph(nodes, "cnn", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
                              [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, channels, size, size])],
                              weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, path)
    return path


def bare_ms(path: Path, window: float) -> float:
    done = subprocess.run([sys.executable, "-c", BARE_LOOP, str(path), str(window)], capture_output=True, text=True,
                          check=True)
    return float(done.stdout)


def bench_ms(path: Path, window: float) -> float:
    request = complete({"model": str(path), "root": "/", "trials": 1, "window": window, "threads": 1})
    return statistics.median(unpack(run_trial(request, 1, lambda text: None)["latencies"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--window", type=float, default=2.0)
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in {"small": (8, 16, 3), "medium": (32, 32, 6)}.items():
            path = write_cnn(Path(folder) / f"{name}.onnx", *sizes)
            bare, bench = [], []
            for pair in range(options.pairs):
                order = [(bare, bare_ms), (bench, bench_ms)]
                for values, measure in order if pair % 2 == 0 else reversed(order):
                    values.append(measure(path, options.window))
            ratios = statistics.interval([b / a for a, b in zip(bare, bench, strict=True)])
            rows.append({"model": name, "pairs": options.pairs, "bare_ms": statistics.median(bare),
                         "bench_ms": statistics.median(bench), "ratio": ratios.centre, "low": ratios.low,
                         "high": ratios.high, "within_1_percent": abs(ratios.centre - 1) <= 0.01})
            print("{model:8} bare {bare_ms:.4f} ms   bench {bench_ms:.4f} ms   ratio {ratio:.4f} "
                  "[{low:.4f}, {high:.4f}]   within 1 %: {within_1_percent}".format(**rows[-1]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
