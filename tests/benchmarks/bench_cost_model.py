"""How wrong is the TX2 cost model on networks that its fit has not seen, and how fast is it?

Fits the model to the published measurements, leaves out one family of networks at a time, and sets the errors beside
three plain baselines that are fitted and left out in the same way. `--write` puts the fit of all rows into
devices/boards/tx2.json.

    python tests/benchmarks/bench_cost_model.py [--data DIR] [--json PATH] [--write]
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "devices")]

from published_tx2 import DATA, FIXED, HW_NAS, layers_of, operations_of, published  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from devices.board import Target, load_board, resolve_target, value_of  # noqa: E402
from devices.calibration import (  # noqa: E402
    Fit,
    Outcome,
    Sample,
    fit,
    leave_one_family_out,
    predict_samples,
    relative_sigma,
)
from devices.cost_formula import ELEMENT_BYTES  # noqa: E402
from devices.cost_model import CostModel, LayerArrays  # noqa: E402
from devices.layer_cost import fuse  # noqa: E402
from devices.model_entry import model_entry  # noqa: E402
from devices.support.files import read_json, write_json  # noqa: E402

BOARD_FILE = ROOT / "devices" / "boards" / "tx2.json"
ROWS = "QuTiBench (RCL-lab/QutibenchWeb, arXiv 1909.05009) and NVIDIA-AI-IOT/tf_to_trt_image_classification"
CARRIER = {"value": 2.4, "low": 1.6, "high": 3.2, "source":
           "prior: idle of the board (QuTiBench, MAXP 4.7 W) less idle of VDD_IN (1.4 to 1.9 W, 3.1 W with EMC pinned)"}
SCOPES = {"latency": "latency", "energy": "energy per image"}


# -- baselines: each learns from samples and gives (latency_ms of the batch, board energy in mJ per image) ------------


def _features(sample: Sample, with_bytes: bool) -> list[float]:
    """1, MACs of the batch by precision, and bytes moved; scaled to be of order 1."""
    macs = 1e-9 * sample.batch * sum(layer.macs for layer in sample.layers)
    row = [1.0, macs * (sample.precision == "fp32"), macs * (sample.precision == "fp16")]
    if with_bytes:
        moved = sum(sample.batch * (c.input_elements + c.output_elements) + c.weights for c in sample.layers)
        host = 4 * sample.batch * sum(c.host_elements for c in sample.layers)
        row += [1e-6 * ELEMENT_BYTES[sample.precision] * moved, 1e-6 * host]
    return row


def _non_negative(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares of the relative error with coefficients that are not negative."""
    scaled = features / wanted[:, None]
    active = list(range(features.shape[1]))
    while True:
        found = np.linalg.lstsq(scaled[:, active], np.ones(len(wanted)), rcond=None)[0]
        if (found >= 0).all():
            break
        active.pop(int(np.argmin(found)))
    return np.array([found[active.index(i)] if i in active else 0.0 for i in range(features.shape[1])])


def linear(with_bytes: bool) -> Callable[[Sequence[Sample]], Callable[[Sample], tuple[float, float]]]:
    """Affine in MACs (and bytes); the latency is scaled by the GPU's clock."""
    board = load_board("tx2")

    def clock(sample: Sample) -> float:
        return FIXED["reference_gpu_mhz"] / board.mode(sample.mode).gpu_mhz

    def learn(samples: Sequence[Sample]) -> Callable[[Sample], tuple[float, float]]:
        def solve(rows: list[Sample], wanted: list[float]) -> np.ndarray:
            return _non_negative(np.array([_features(s, with_bytes) for s in rows]), np.array(wanted))

        powered = [s for s in samples if s.power_w]
        time_of = solve(list(samples), [s.latency_ms / clock(s) for s in samples])
        energy_of = solve(powered, [s.latency_ms * (s.power_w or 0) for s in powered])

        def predict(sample: Sample) -> tuple[float, float]:
            row = np.array(_features(sample, with_bytes))
            return float(row @ time_of) * clock(sample), float(row @ energy_of) / sample.batch

        return predict

    return learn


def roofline(samples: Sequence[Sample]) -> Callable[[Sample], tuple[float, float]]:
    """Peak rate against peak bandwidth, and the mode's power cap (15 W where it has none); nothing is fitted."""
    board = load_board("tx2")

    def predict(sample: Sample) -> tuple[float, float]:
        mode = board.mode(sample.mode)
        rate = value_of(board.data["gpu"]["macs_per_clock"])[sample.precision] * mode.gpu_mhz * 1e6
        size = ELEMENT_BYTES[sample.precision]
        seconds = sum(max(sample.batch * c.macs / rate,
                          size * (sample.batch * (c.input_elements + c.output_elements) + c.weights)
                          / (1e9 * mode.data["bandwidth_gb_s"])) for c in sample.layers)
        return 1e3 * seconds, 1e3 * seconds * (mode.watts or 15.0) / sample.batch

    return predict


BASELINES = {"MACs only": linear(False), "roofline": roofline, "MACs and bytes": linear(True)}


def baseline_errors(samples: Sequence[Sample]) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """{baseline: {"latency" or "energy": [(family, log error)]}}, each family left out in turn."""
    errors: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for name, learn in BASELINES.items():
        found = errors.setdefault(name, {"latency": [], "energy": []})
        for family in dict.fromkeys(s.family for s in samples):
            predict = learn([s for s in samples if s.family != family])
            for sample in (s for s in samples if s.family == family):
                latency, energy = predict(sample)
                found["latency"].append((family, float(np.log(latency / sample.latency_ms))))
                if sample.power_w:
                    measured = sample.latency_ms * sample.power_w / sample.batch
                    found["energy"].append((family, float(np.log(energy / measured))))
    return errors


# -- tables ----------------------------------------------------------------------------------------------------------


def of_outcomes(outcomes: Sequence[Outcome]) -> dict[str, list[tuple[str, float]]]:
    return {what: [(o.sample.family, e) for o in outcomes if (e := o.errors[what]) is not None] for what in SCOPES}


def percentages(errors: Sequence[tuple[str, float]], family: str | None = None) -> tuple[int, float, float]:
    """Rows, median and worst absolute percentage error."""
    wrong = 100 * np.abs(np.expm1([e for f, e in errors if family in (None, f)]))
    return len(wrong), float(np.median(wrong)), float(wrong.max())


def coverage(samples: Sequence[Sample], outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[bool]]]:
    """{"latency" or "energy": {family: whether each row lies inside the 95 % interval}}, by `CostModel.predict` as a
    user calls it, with the fit that has not seen the family and the errors of the other families. Rows of another
    stack are predicted with a ready input, for a stack that is not known."""
    inside: dict[str, dict[str, list[bool]]] = {"latency": {}, "energy": {}}
    board = load_board("tx2")
    for family in dict.fromkeys(s.family for s in samples):
        mine = [o for o in outcomes if o.sample.family == family]
        entry = entry_of(mine[0].fitted, [s for s in samples if s.family != family],
                         [o for o in outcomes if o.sample.family != family], "left out")
        for sample in (o.sample for o in mine):
            target = Target(board, board.mode(sample.mode))
            prediction = CostModel(target, sample.precision, entry, sample.stack is not None).predict(
                sample.layers, sample.batch)
            measured = {"latency": (prediction.latency_ms, sample.latency_ms)}
            if sample.power_w:
                measured["energy"] = (prediction.energy_mj["board"], sample.latency_ms * sample.power_w / sample.batch)
            for what, (reading, value) in measured.items():
                inside[what].setdefault(family, []).append(reading.low <= value <= reading.high)
    return inside


def print_errors(console: Console, by_model: dict[str, dict[str, list[tuple[str, float]]]]) -> dict:
    """The leave-one-family-out table; the same as data."""
    data: dict = {}
    for what, title in SCOPES.items():
        table = Table(title=f"{title}: absolute percentage error on families left out, median (worst)", box=None)
        table.add_column("family")
        table.add_column("rows", justify="right")
        for name in by_model:
            table.add_column(name, justify="right")
        families = list(dict.fromkeys(f for f, _ in next(iter(by_model.values()))[what]))
        for family in [*families, None]:
            cells = {name: percentages(errors[what], family) for name, errors in by_model.items()}
            data.setdefault(what, {})[family or "all"] = {
                name: {"rows": n, "median": median, "worst": worst} for name, (n, median, worst) in cells.items()}
            table.add_row(family or "all", str(next(iter(cells.values()))[0]),
                          *(f"{median:.1f} % ({worst:.0f} %)" for _, median, worst in cells.values()),
                          style="bold" if family is None else None)
        console.print(table)
    return data


def worse_than_a_baseline(left_out: dict) -> list[str]:
    """Where a baseline has the smaller median error, in words."""
    return [f"{what} of {family} ({name}, {cell['median']:.1f} %)" for what, families in left_out.items()
            for family, cells in families.items() for name, cell in cells.items()
            if cell["median"] < cells["cost model"]["median"]]


def hw_nas_check(console: Console) -> list[dict]:
    """Small networks at batch 1: how much energy follows MACs, measured and predicted."""
    rows = []
    for mode in ("maxp", "maxn"):
        model = CostModel.for_target(resolve_target(f"tx2:{mode}"), "fp16", input_ready=True)
        for name, (latency, energy) in HW_NAS.items():
            p = model.predict(layers_of(name), 1)
            rows.append({"mode": mode, "network": name, "measured_ms": latency, "predicted_ms": p.latency_ms.value,
                         "measured_mj": energy, "predicted_mj": p.energy_mj["module"].value,
                         "interval_mj": [p.energy_mj["module"].low, p.energy_mj["module"].high],
                         "power_w": p.power_w["module"].value})
    table = Table(box=None, title="HW-NAS-Bench, batch 1, torch2trt (cells of equal MACs stand in; the mode is not "
                                   "told; energies are not fitted on)")
    for column in ("mode", "network", "ms measured", "predicted", "mJ measured", "predicted, module", "W predicted"):
        table.add_column(column, justify="left" if column in ("mode", "network") else "right")
    for row in rows:
        table.add_row(row["mode"], row["network"], f"{row['measured_ms']:.2f}", f"{row['predicted_ms']:.2f}",
                      f"{row['measured_mj']:.1f}", "{:.1f} [{:.1f}, {:.1f}]".format(row["predicted_mj"],
                                                                                  *row["interval_mj"]),
                      f"{row['power_w']:.1f}")
    console.print(table)
    return rows


def speed(console: Console) -> dict[str, float]:
    """CPU seconds (others may share this machine) for 1,000 predictions of a network of FermiNet size from its graph,
    of a ResNet-20 from its list of operations and from its layers, and for 10,000 candidates of 40 layers at once."""
    from synth.networks.costs import operations_of as operations_of_network
    from synth.networks.tracing import trace
    from synth.prototypes.resnet import resnet8

    network, _ = trace(resnet8(1, (8, 8), 10).eval(), (1, 8, 8))
    model = CostModel.for_target(resolve_target("tx2"), "fp16")
    operations, layers = operations_of("resnet20"), layers_of("resnet20")
    generator = np.random.default_rng(0)
    shape = (10_000, 40)
    arrays = LayerArrays(
        active=generator.random(shape) < 0.9, macs=generator.uniform(1e4, 1e7, shape),
        weights=generator.uniform(1e2, 1e5, shape), inputs=generator.uniform(1e2, 1e5, shape),
        outputs=generator.uniform(1e2, 1e5, shape), kind=generator.integers(0, 6, 40), host_elements=3082.0)
    tasks: dict[str, Callable[[], object]] = {
        "1,000 predictions of resnet8 from its Network": lambda: [
            model.predict(fuse(operations_of_network(network)), 8) for _ in range(1000)],
        "1,000 predictions of ResNet-20 from its operations": lambda: [model.predict(fuse(operations), 8)
                                                                       for _ in range(1000)],
        "1,000 predictions of ResNet-20 from its layers": lambda: [model.predict(layers, 8) for _ in range(1000)],
        "10,000 candidates of 40 layers at once": lambda: model.evaluate(arrays, 8),
    }
    seconds = {}
    for name, task in tasks.items():
        start = time.process_time()
        task()
        seconds[name] = time.process_time() - start
    console.print("CPU time: " + "; ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
    return seconds


# -- the board's file ------------------------------------------------------------------------------------------------


def entry_of(fitted: Fit, samples: Sequence[Sample], outcomes: Sequence[Outcome], version: str) -> dict:
    """The fit as the "cost_model" of a board's file, with the errors of `outcomes`."""
    return model_entry(
        fitted, samples, {what: relative_sigma(outcomes, what) for what in ("latency", "power", "energy")},
        version=version, source=f"fitted by devices.calibration on {len(samples)} rows of {ROWS}", carrier=CARRIER,
        sigma_source="root mean square over families left out of the fit, tests/benchmarks/bench_cost_model.py",
        feeds_images=True, sources={
            "reference_gpu_mhz": "GPU clock of MAXP_CORE_ARM, to which the clocks' exponents refer",
            "idle_w": "QuTiBench idle power, board scope; the unmeasured MAXP modes taken as MAXP_CORE_ARM",
            "grouped_efficiency": "prior, not fitted: the geometric mean of dense and depthwise"})


def write_board(entry: dict) -> None:
    """Put the cost model into devices/boards/tx2.json."""
    board = read_json(BOARD_FILE, "edgesynth.board/1")
    board["cost_model"] = entry
    write_json(BOARD_FILE, board, board.pop("schema"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="folder with the published rows as CSV")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    parser.add_argument("--write", metavar="VERSION", help="put the fit into devices/boards/tx2.json as this version")
    options = parser.parse_args()
    console, board = Console(width=150), load_board("tx2")
    if not options.data.is_dir():
        sys.exit(f"{options.data}: the published rows are not here; name their folder with --data")
    samples = published(options.data)
    with Console(stderr=True).status("fitting, leaving out one family at a time (a minute or two)"):
        fitted = fit(samples, board, FIXED)
        outcomes = leave_one_family_out(samples, board, FIXED)
    if options.write:
        write_board(entry_of(fitted, samples, outcomes, options.write))
    by_model = {"cost model": of_outcomes(outcomes), **baseline_errors(samples)}
    data: dict = {"left_out": print_errors(console, by_model)}
    data["worse_than"] = worse_than_a_baseline(data["left_out"])
    console.print("a baseline has the smaller median: " + ("; ".join(data["worse_than"]) or "nowhere"))
    in_fit = of_outcomes(predict_samples(fitted, samples, board))
    data["in_fit"] = {what: dict(zip(("rows", "median", "worst"), percentages(in_fit[what]), strict=True))
                      for what in SCOPES}
    inside = coverage(samples, outcomes)
    data["coverage"] = {what: {"all": float(np.mean([held for family in rows.values() for held in family])),
                               **{family: float(np.mean(held)) for family, held in rows.items()}}
                        for what, rows in inside.items()}
    for what, title in SCOPES.items():
        console.print(f"{title}: in the fit {data['in_fit'][what]['median']:.1f} % median; 95 % intervals of families "
                      "left out hold " + ", ".join(f"{f} {100 * c:.0f} %" for f, c in data["coverage"][what].items()))
    data["hw_nas_bench"] = hw_nas_check(console)
    data["speed"] = speed(console)
    if options.json:
        write_json(options.json, data, "edgesynth.bench_cost_model/1")
        console.print(f"written: {options.json}")


if __name__ == "__main__":
    main()
