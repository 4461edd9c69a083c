"""Does `edgesynth bench` agree with a bare timing loop on ONNX Runtime's CPU? Two paired comparisons a network.

The bare loop is what one writes by hand: load, warm up, time each `session.run`, take the median. Its clock is a local
name: to look up `time.monotonic` inside of the time costs 70 ns, more than 1 % of the smallest network.

  loops       both loops in one process on one session, in short blocks in turn (ABBA): what the harness's own loop
              adds; most of what else goes on in the machine is in both, so the interval is narrow
  processes   a fresh process each, in turn (ABBA): a whole trial of `bench` against a whole script; on a busy machine
              the interval is wide, and says nothing either way

Networks from one matrix product, where the loop itself is some of the time, to convolutions of many milliseconds.

    python tests/benchmarks/bench_bench.py --blocks 400 --pairs 10 --seconds 150 --json bench.json

For each the ratio of the medians with its 95 % interval, and whether that lies within 1 %, reaches beyond, or lies
outside. Exit code 1 when an interval lies outside of 1 % altogether.
"""

from __future__ import annotations

import argparse
import functools
import gc
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
from edge_bench.agent.runners import open_runner
from edge_bench.agent.trial import unpack
from edge_bench.agent.trials import run_trial

BARE_LOOP = """
import sys, time, statistics, numpy, onnxruntime

def loop(session, feed, seconds):
    clock, times = time.monotonic, []
    end = clock() + seconds
    while clock() < end:
        start = clock()
        session.run(None, feed)
        times.append(clock() - start)
    return 1e3 * statistics.median(times)

if __name__ == "__main__":
    path, window = sys.argv[1], float(sys.argv[2])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {item.name: numpy.random.RandomState(0).standard_normal(item.shape).astype("float32")
            for item in session.get_inputs()}
    loop(session, feed, window)
    print(loop(session, feed, window))
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
    done = subprocess.run([sys.executable, "-c", BARE_LOOP, str(path), str(window)], capture_output=True,
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


def row_of(network: str, what: str, bare: list[float], bench: list[float]) -> dict:
    """The ratio of pairs of medians, with its interval."""
    found = statistics.interval([math.log(b / a) for a, b in zip(bare, bench, strict=True)])
    low, high = math.exp(found.low), math.exp(found.high)
    return {"network": network, "what": what, "pairs": len(bare), "bare_ms": statistics.median(bare),
            "bench_ms": statistics.median(bench), "ratio": math.exp(found.centre), "low": low, "high": high,
            "verdict": verdict(low, high)}


def in_turn(bare_of, bench_of, pairs: int, until: float, least: int = 5) -> tuple[list[float], list[float]]:
    """`pairs` pairs of both, or as many as there is time for; the order within a pair alternates."""
    bare: list[float] = []
    bench: list[float] = []
    while len(bare) < pairs and (len(bare) < least or time.monotonic() < until):
        order = [(bare, bare_of), (bench, bench_of)]
        for values, measure in order if len(bare) % 2 == 0 else reversed(order):
            values.append(measure())
    return bare, bench


def compare_loops(path: Path, blocks: int, until: float) -> tuple[list[float], list[float]]:
    """Medians of blocks of both loops on one session; a block is 20 ms or five inferences, so that what other programs
    do is mostly in both of a pair."""
    runner = open_runner(complete({"model": str(path), "root": "/", "runner": "onnxruntime", "threads": 1}))
    space: dict = {"__name__": "bare"}
    exec(BARE_LOOP, space)  # the very text that the processes run
    loop, session, feed = space["loop"], runner.session, runner.feed
    gc.collect()
    gc.disable()  # as in a trial; it holds for both
    try:
        seconds = max(0.02, 5e-3 * loop(session, feed, 0.5))
        return in_turn(lambda: loop(session, feed, seconds),
                       lambda: 1e3 * statistics.median(runner.run_for(seconds)[2]), blocks, until, least=12)
    finally:
        gc.enable()
        runner.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=400, help="pairs of blocks a network (default: 400)")
    parser.add_argument("--pairs", type=int, default=10, help="pairs of processes a network, 0 for none (default: 10)")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all together (default: 600)")
    parser.add_argument("--window", type=float, default=0.5, help="measured seconds a process (default: 0.5)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    rows: list[dict] = []
    kinds = ["loops"] + ["processes"] * (options.pairs > 0)
    print(f"{'network':9}{'in turn':11}{'pairs':>6}{'bare loop ms':>14}{'bench ms':>12}{'ratio':>9}  95 % interval")
    with tempfile.TemporaryDirectory() as folder:
        for what in kinds:
            for name in options.networks:
                path = write_network(Path(folder) / f"{name}.onnx", *NETWORKS[name])
                until = time.monotonic() + options.seconds / len(kinds) / len(options.networks)
                if what == "loops":
                    found = compare_loops(path, options.blocks, until)
                else:
                    found = in_turn(functools.partial(bare_ms, path, options.window),
                                    functools.partial(bench_ms, path, options.window), options.pairs, until)
                rows.append(row := row_of(name, what, *found))
                print("{network:9}{what:11}{pairs:6}{bare_ms:14.5f}{bench_ms:12.5f}{ratio:9.4f}  "
                      "[{low:.4f}, {high:.4f}]  {verdict}".format(**row), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "agree": AGREE}, indent=1) + "\n")
    return 1 if any(row["verdict"].startswith("OUTSIDE") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
