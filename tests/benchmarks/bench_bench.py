"""Does `edgesynth bench` agree with a bare timing loop? Pairs of fresh processes, in turn, on ONNX Runtime's CPU.

The bare loop is what one writes by hand: load, warm up, time each `session.run`, take the median. The order within a
pair alternates (ABBA), so that a machine that gets slower favours neither. Networks from one matrix product, where the
loop itself is some of the time, to convolutions of many milliseconds.

    python tests/benchmarks/bench_bench.py --pairs 30 --seconds 150 --json bench.json

For each network the ratio of the medians with its 95 % interval, and whether that lies within 1 %, reaches beyond, or
lies outside; last the mean of the networks. Exit code 1 when a network's interval lies outside of 1 % altogether.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
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
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    session.run(None, feed)
times, end = [], time.monotonic() + window
while time.monotonic() < end:
    start = time.monotonic()
    session.run(None, feed)
    times.append(time.monotonic() - start)
print(1e3 * statistics.median(times))
"""


# channels, pixels, layers; 0 layers: one matrix product of channels x 10
NETWORKS = {"matmul": (64, 1, 0), "tiny": (8, 8, 2), "small": (8, 16, 3), "medium": (32, 32, 6), "large": (64, 56, 6),
            "huge": (128, 56, 6)}
AGREE = 0.01


def write_network(path: Path, channels: int, size: int, layers: int) -> Path:
    return write_cnn(path, channels, size, layers) if layers else write_matmul(path, channels)


def write_matmul(path: Path, features: int) -> Path:
    """One matrix product [1, features] x [features, 10]."""
    weight = numpy_helper.from_array(np.ones((features, 10), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matmul",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, features])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, path)
    return path


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
    done = subprocess.run([sys.executable, "-c", BARE_LOOP, str(path), str(window), str(window)], capture_output=True,
                          text=True, check=True)
    return float(done.stdout)


def bench_ms(path: Path, window: float) -> float:
    request = complete({"model": str(path), "root": "/", "trials": 1, "window": window, "threads": 1})
    return statistics.median(unpack(run_trial(request, 1, lambda text: None)["latencies"]))


def verdict(low: float, high: float) -> str:
    """Where an interval of a ratio lies against 1 ± 1 %."""
    if low >= 1 - AGREE and high <= 1 + AGREE:
        return "within 1 %"
    return "OUTSIDE 1 %" if low > 1 + AGREE or high < 1 - AGREE else "reaches beyond 1 %"


def compare(name: str, path: Path, pairs: int, window: float, until: float) -> dict:
    """One row: `pairs` pairs, or as many as there is time for, at least 5."""
    bare: list[float] = []
    bench: list[float] = []
    while len(bare) < pairs and (len(bare) < 5 or time.monotonic() < until):
        order = [(bare, bare_ms), (bench, bench_ms)]
        for values, measure in order if len(bare) % 2 == 0 else reversed(order):
            values.append(measure(path, window))
    found = statistics.interval([math.log(b / a) for a, b in zip(bare, bench, strict=True)])
    low, high = math.exp(found.low), math.exp(found.high)
    return {"model": name, "pairs": len(bare), "bare_ms": statistics.median(bare),
            "bench_ms": statistics.median(bench), "ratio": math.exp(found.centre), "low": low, "high": high,
            "verdict": verdict(low, high)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="pairs of processes a network (default: 30)")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all networks together (default: 600)")
    parser.add_argument("--window", type=float, default=0.5, help="measured seconds a process (default: 0.5)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    rows, began = [], time.monotonic()
    print(f"{'network':10}{'pairs':>6}{'bare loop ms':>14}{'bench ms':>12}{'ratio':>9}  95 % interval")
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(options.networks):
            path = write_network(Path(folder) / f"{name}.onnx", *NETWORKS[name])
            until = began + options.seconds * (number + 1) / len(options.networks)
            rows.append(row := compare(name, path, options.pairs, options.window, until))
            print("{model:10}{pairs:6}{bare_ms:14.5f}{bench_ms:12.5f}{ratio:9.4f}  [{low:.4f}, {high:.4f}]  {verdict}"
                  .format(**row), flush=True)
    if len(rows) > 1:
        together = statistics.interval([math.log(row["ratio"]) for row in rows])
        low, high = math.exp(together.low), math.exp(together.high)
        print(f"{'all':10}{sum(row['pairs'] for row in rows):6}{'':26}{math.exp(together.centre):9.4f}  "
              f"[{low:.4f}, {high:.4f}]  {verdict(low, high)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "agree": AGREE}, indent=1) + "\n")
    return 1 if any(row["verdict"].startswith("OUTSIDE") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
