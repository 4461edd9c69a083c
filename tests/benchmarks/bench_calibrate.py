"""How well does the file that `devices calibrate` writes predict networks that were not in its set?

The boards are laws (tests/devices/board_laws.py, tests/edge_bench/laws/waves.py): one of the cost model's own shape
with other constants, two of other shapes. The set is measured with noise, the model fitted, and its file predicts other
networks, beside the TX2's own file and beside the fit's own claim (the share of true values inside the 95 % intervals).

With --board the whole command runs instead, for some minutes: the stand-in board of the harness tests, its TensorRT
double and its power rail obey the law of tests/edge_bench/laws/waves.py, the agent measures them, and the file predicts
networks of other sizes.

    python tests/benchmarks/bench_calibrate.py [--seeds N] [--noise 0.01] [--board] [--json PATH]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
EDGE_BENCH = ROOT / "tests" / "edge_bench"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "devices"), str(EDGE_BENCH), str(EDGE_BENCH / "doubles")]

import board_law  # noqa: E402
from board_laws import Law, measured, other_shape, same_shape  # noqa: E402
from published_tx2 import layers_of  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from stand_in_board import StandInBoard  # noqa: E402

from devices import calibration_set  # noqa: E402
from devices.board import Board, Target, load_board, resolve_target  # noqa: E402
from devices.calibration_set import NETWORKS, Condition, conditions, write_network  # noqa: E402
from devices.cost_model import CostModel, Prediction  # noqa: E402
from devices.layer_cost import LayerCost, fuse  # noqa: E402
from devices.onnx_layers import operations_of_onnx  # noqa: E402
from devices.own_board import calibrated_board  # noqa: E402
from devices.support.files import write_json  # noqa: E402
from edge_bench.bench import bench_model  # noqa: E402
from edge_bench.calibration.calibrate import calibrate_board  # noqa: E402

UNSEEN = ("resnet20", "nasbench201_16M", "nasbench201_79M", "cnv_100", "cnv_25", "cnv_12.5", "mobilenet_v1_0p25_128",
          "mobilenet_v1_0p5_160", "mobilenet_v1_1p0_224", "googlenet", "resnet50", "inception_v3", "mlp_100", "mlp_25")
BATCHES = (1, 8, 32)
# half of the set, for what fewer measurements cost
WAVES = board_law.load_law(str(EDGE_BENCH / "laws" / "waves.py")) or {}
HALF = ("short", "deep", "dense", "residual", "separable", "stem")


def waves(layers: Sequence[LayerCost], precision: str, batch: int) -> tuple[float, float, float]:
    """The law of the stand-in board, which knows no precisions; all but the launches' host part is the device's."""
    latency_ms, power_mw = WAVES["cost"]([
        {"channels": layer.output_shape[0], "outputs": layer.output_elements,
         "depth": layer.macs / max(layer.output_elements, 1)} for layer in layers], batch)
    return latency_ms, latency_ms - WAVES["HOST_MS"] - WAVES["HOST_IMAGE_MS"] * batch, power_mw / 1e3


def errors_of(predict: Callable[[Sequence[LayerCost], str, int], Prediction], law: Law) -> dict[str, np.ndarray]:
    """{"latency", "energy": [n, 2]}: relative error, and whether the interval holds the truth, over unseen networks."""
    rows: dict[str, list[tuple[float, bool]]] = {"latency": [], "energy": []}
    for name in UNSEEN:
        for precision in ("fp16", "fp32"):
            for batch in BATCHES:
                latency_ms, _, watts = law(layers_of(name), precision, batch)
                found = predict(layers_of(name), precision, batch)
                for what, reading, truth in (("latency", found.latency_ms, latency_ms),
                                             ("energy", found.energy_mj["module"], latency_ms * watts / batch)):
                    rows[what].append((reading.value / truth - 1, reading.low <= truth <= reading.high))
    return {what: np.array(values, float) for what, values in rows.items()}


def calibrated(law: Law, chosen: Sequence[Condition], layers: dict[str, list[LayerCost]], seed: int,
               noise: float) -> Callable[[Sequence[LayerCost], str, int], Prediction]:
    random = np.random.default_rng(seed)
    rows = [measured(law, condition, layers[condition.network], random, noise) for condition in chosen]
    if law is waves:
        rows = [dataclasses.replace(row, idle_w=WAVES["IDLE_MW"] / 1e3) for row in rows]
    board = Board(calibrated_board(load_board("tx2"), rows, layers, "own", "bench", "a law").data)
    target = Target(board, board.default_mode)
    return lambda found, precision, batch: CostModel.for_target(target, precision).predict(found, batch)


def published(found: Sequence[LayerCost], precision: str, batch: int) -> Prediction:
    return CostModel.for_target(resolve_target("tx2"), precision, input_ready=True).predict(found, batch)


def on_the_stand_in_board(console: Console) -> list[dict]:
    """The whole command, in this process, on a board that obeys a law; what its file says of other networks, beside
    what they measure there (the TensorRT double's copies included, which the law leaves out)."""
    law, rows = EDGE_BENCH / "laws" / "waves.py", []
    quick = {"trials": 1, "window": 2.5, "warmup_cap": 4.0}
    with tempfile.TemporaryDirectory() as place:
        stand_in = StandInBoard(pathlib.Path(place) / "board")
        stand_in.add_tegrastats(idle_mw=3100)
        os.environ.update(stand_in.environment(), BOARD_LAW=str(law), TENSORRT_DOUBLE="8.2.1",
                          PYTHONPATH=f"{EDGE_BENCH / 'doubles'}:{EDGE_BENCH / 'doubles_pycuda'}")
        done = calibrate_board(f"{place}/mine.json", root=str(stand_in.root), **quick,
                               progress=lambda text: console.print(text, markup=False, highlight=False))
        target = resolve_target(str(done.board_file))
        others = {"chain of 10": ((3, 16, 16), lambda net: calibration_set._chain(net, 24, 10)),
                  "chain of 20": ((3, 12, 12), lambda net: calibration_set._chain(net, 40, 20)),
                  "residual 32x32": ((3, 32, 32), calibration_set._residual),
                  "separable 64x64": ((3, 64, 64), calibration_set._separable),
                  "branches 28x28": ((3, 28, 28), calibration_set._branches),
                  "stem 128x128": ((3, 128, 128), calibration_set._stem)}
        for name, (shape, build) in others.items():
            calibration_set.NETWORKS[name] = calibration_set.Member(shape, build, (1,))
            path = write_network(name, place)
            for batch in (1, 8):
                console.print(f"measuring {name}, batch {batch}", highlight=False)
                measured_there = bench_model(path, batch=batch, precision="fp16", power=True, root=str(stand_in.root),
                                             **quick)["readings"]
                latency_ms, truth = (measured_there[name]["value"] for name in ("latency_p50_ms", "energy_mj"))
                found = CostModel.for_target(target, "fp16").predict(fuse(operations_of_onnx(path)), batch)
                energy = found.energy_mj["module"]
                rows.append({"network": name, "batch": batch, "latency": found.latency_ms.value / latency_ms - 1,
                             "energy": energy.value / truth - 1,
                             "inside": [found.latency_ms.low <= latency_ms <= found.latency_ms.high,
                                        energy.low <= truth <= energy.high]})
    table = Table(title="the stand-in board under waves.py: the file's error on networks of other sizes", box=None)
    for title in ("network", "batch", "latency", "energy"):
        table.add_column(title, justify="left" if title == "network" else "right")
    for row in rows:
        table.add_row(row["network"], str(row["batch"]), f"{row['latency']:+.0%}", f"{row['energy']:+.0%}")
    console.print(table)
    for position, what in enumerate(("latency", "energy")):
        wrong = np.abs([row[what] for row in rows])
        console.print(f"{what}: median {np.median(wrong):.1%}, worst {wrong.max():.0%}; inside the interval "
                      f"{np.mean([row['inside'][position] for row in rows]):.0%}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.01, help="relative, of every measurement")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    parser.add_argument("--board", action="store_true", help="run the whole command on the stand-in board instead")
    options = parser.parse_args()
    if options.board:
        rows = on_the_stand_in_board(Console(width=150))
        if options.json:
            write_json(options.json, {"rows": rows}, "edgesynth.bench_calibrate_board/1")
        return
    with tempfile.TemporaryDirectory() as folder:
        layers = {name: fuse(operations_of_onnx(write_network(name, folder))) for name in NETWORKS}
    every = conditions(["fp16", "fp32"], ["MAXN"])
    half = [condition for condition in every if condition.network in HALF]
    table = Table(title=f"{len(UNSEEN)} networks that were not in the set, fp16 and fp32, batch "
                        f"{', '.join(map(str, BATCHES))}; median over {options.seeds} seeds", box=None)
    for title in ("law", "file", "measurements", "latency: median", "worst", "inside", "energy: median", "worst",
                  "inside"):
        table.add_column(title, justify="left" if title in ("law", "file") else "right")
    data = []
    for law in (same_shape, other_shape, waves):
        found = {"tx2.json, nothing measured": (0, [errors_of(published, law)])}
        for title, chosen in (("calibrated on half of the set", half), ("calibrated", every)):
            found[title] = (len(chosen), [errors_of(calibrated(law, chosen, layers, seed, options.noise), law)
                                          for seed in range(options.seeds)])
        for title, (count, runs) in found.items():
            row: dict = {"law": law.__name__, "file": title, "measurements": count}
            cells = []
            for what in ("latency", "energy"):
                wrong = np.median([[np.median(np.abs(run[what][:, 0])), np.abs(run[what][:, 0]).max(),
                                    run[what][:, 1].mean()] for run in runs], axis=0)
                row[what] = dict(zip(("median", "worst", "inside"), map(float, wrong), strict=True))
                cells += [f"{100 * wrong[0]:.1f} %", f"{100 * wrong[1]:.0f} %", f"{100 * wrong[2]:.0f} %"]
            table.add_row(law.__name__, title, str(count), *cells)
            data.append(row)
    Console(width=150).print(table)
    if options.json:
        write_json(options.json, {"rows": data, "seeds": options.seeds, "noise": options.noise},
                   "edgesynth.bench_calibrate/1")
        print(f"written: {options.json}")


if __name__ == "__main__":
    main()
