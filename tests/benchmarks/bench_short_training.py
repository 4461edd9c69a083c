"""What the short training of a run is worth, read off a table of trained networks (table_of_networks.py).

    python tests/benchmarks/bench_short_training.py --json short.json
    python tests/benchmarks/bench_short_training.py --splits 0 --data-root CIFAR --table FILE

FILE: another table, such as cifar10_table.json beside the one of digits.

Ranks: within one cost level (root of parameters times MACs within ±20 %), how well the short training ranks networks by
what full training makes of them, beside the parameter and MAC counts alone; partial: what it tells beyond the parameter
count; ceilings: how well a second training of the same kind does. Spearman's rho with 95 % bootstrap intervals over
networks. Full training is judged by its log error (log of 1 - accuracy on the validation split, half an image added)
and by its log loss, which is less grainy.

Inherited: the same networks trained in full from inherited weights in place of fresh ones, to see what inheritance
biases.

Surrogate: what predicts the log loss of networks that were not evaluated, from as many as half a run evaluates (drawn
anew 16 times), with parts of the surrogate or of what probing says taken away: differences to the whole, paired.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ablations import shuffled, table_of_costs
from replay import HERE, Table, load_table, smoothed_log_error
from rich.console import Console
from rich.table import Table as Shown
from scipy.stats import rankdata
from scipy.stats import t as student
from table_of_networks import FINAL, INHERITED, SHORT

import synth.search.surrogate
from devices.support.files import write_json
from synth.search.decisions import FloatArray, IntArray, Observation
from synth.search.probe_table import ProbeTable
from synth.search.theory import Theory

SCHEMA = "edgesynth.bench-short-training/1"
RESAMPLES, SPLITS, KNOWN = 2000, 16, 32


@dataclass(frozen=True)
class Figure:
    """A statistic with its 95 % interval over n networks or splits."""

    what: str
    n: int
    value: float
    low: float
    high: float


def spearman(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def partial(a: FloatArray, b: FloatArray, given: FloatArray) -> float:
    """Spearman's partial correlation of a and b given a third."""
    ab, ag, bg = spearman(a, b), spearman(a, given), spearman(b, given)
    return (ab - ag * bg) / np.sqrt(max((1 - ag**2) * (1 - bg**2), 1e-12))


def bootstrapped(what: str, statistic: Callable[..., float], *columns: FloatArray) -> Figure:
    random, n = np.random.default_rng(1), len(columns[0])
    with np.errstate(invalid="ignore"):  # a few networks may be drawn as one only, which ranks nothing
        draws = [statistic(*(c[at] for c in columns)) for at in random.integers(0, n, (RESAMPLES, n))]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Figure(what, n, statistic(*columns), float(low), float(high))


def column(table: Table, rows: IntArray, purpose: str, repeat: int | None, kind: str) -> FloatArray:
    """Log loss or log error of one training of some networks, or of the mean over its repeats."""
    found = []
    for i in rows:
        trainings = np.array(table.entries[i][purpose])
        trainings = trainings if repeat is None else trainings[[repeat]]
        accuracy = trainings[:, 2].mean()
        found.append(trainings[:, 0].mean() if kind == "loss" else smoothed_log_error(accuracy, table.images))
    return np.array(found)


def ranks(table: Table, rows: IntArray, where: str) -> list[Figure]:
    costs = table.space.costs(table.decisions[rows])
    short = column(table, rows, SHORT, 0, "loss")
    params, macs = -np.log(costs["params"]), -np.log(costs["macs"])
    found = []
    for name, kind in (("log error", "error"), ("log loss", "loss")):
        final = column(table, rows, FINAL, None, kind)
        for what, predictor in (("short log loss", short), ("fewer parameters", params), ("fewer MACs", macs)):
            found.append(bootstrapped(f"{where}: {what} with final {name}", spearman, predictor, final))
        found.append(bootstrapped(f"{where}: short log loss with final {name}, parameters given", partial, short,
                                  final, params))
    return found


def ceilings(table: Table, rows: IntArray) -> list[Figure]:
    found = []
    for purpose, kind in ((SHORT, "loss"), (FINAL, "error"), (FINAL, "loss")):
        twice = np.array([i for i in rows if len(table.entries[i][purpose]) > 1], dtype=np.int64)
        if len(twice) >= 10:
            first, second = (column(table, twice, purpose, repeat, kind) for repeat in (0, 1))
            found.append(bootstrapped(f"ceiling: {purpose} log {kind} with its repetition", spearman, first, second))
    return found


def inherited(table: Table) -> list[Figure]:
    at = np.array([i for i, e in enumerate(table.entries) if e.get(INHERITED)], dtype=np.int64)
    if len(at) < 4:
        return []
    found = []
    for name, kind in (("log error", "error"), ("log loss", "loss")):
        fresh, warm = column(table, at, FINAL, 0, kind), column(table, at, INHERITED, 0, kind)
        found.append(bootstrapped(f"inherited: final {name} with that from fresh weights", spearman, warm, fresh))
        found.append(bootstrapped(f"inherited: final {name} less that from fresh weights",
                                  lambda a, b: float((a - b).mean()), warm, fresh))
        short = column(table, at, SHORT, 0, "loss")
        found.append(bootstrapped(f"inherited: short log loss with final {name}", spearman, short, warm))
    return found


# --- the surrogate ---------------------------------------------------------------------------------------------------


class Known:
    """A problem of which only the probe table, the space and 1r are asked. number, run_seed: of the shuffle."""

    def __init__(self, table: Table, probes: ProbeTable, number: int) -> None:
        self.space, self.requirements = table.space, table.requirements
        self.number, self.run_seed = number, 0
        self._probes = probes

    def probe_table(self) -> ProbeTable:
        return self._probes


PROBES: dict[str, Callable[[Known], ProbeTable]] = {
    "whole": Known.probe_table,
    "probes replaced by cost features": table_of_costs,
    "probe responses shuffled": shuffled,
    "probes taken away": lambda known: ProbeTable(known.space.sites, [], []),
}
WITHOUT = [f"without {part}" for part in ("sites", "interactions", "smooth")]  # as PRIOR_LOG_SD has them


def predicted(table: Table, split: int, variant: str) -> tuple[float, float, float]:
    """Root mean square error, Spearman's rho and mean negative log density of networks that were not seen."""
    order = np.random.default_rng([split, 3]).permutation(len(table.decisions))
    seen, rest = order[:KNOWN], order[KNOWN:]
    known = Known(table, table.probed(seen), split)
    probes = PROBES.get(variant, Known.probe_table)(known)
    prior = synth.search.surrogate.PRIOR_LOG_SD.copy(), synth.search.surrogate.PRIOR_SPREAD.copy()
    try:
        if variant in WITHOUT:
            at = WITHOUT.index(variant)
            synth.search.surrogate.PRIOR_LOG_SD[at], synth.search.surrogate.PRIOR_SPREAD[at] = np.log(1e-4), 1e-3
        theory = Theory(Known(table, probes, split), split)  # type: ignore[arg-type]
        observed = [Observation(tuple(int(c) for c in table.decisions[i]), *table.entries[i][SHORT][0]) for i in seen]
        theory.observe([*table.known, *observed], probes)
    finally:
        synth.search.surrogate.PRIOR_LOG_SD[:], synth.search.surrogate.PRIOR_SPREAD[:] = prior
    belief = theory.believe(table.decisions[rest])
    missed = table.loss[rest] - belief.log_loss
    sd = np.hypot(belief.log_loss_sd, table.loss_noise)
    density = 0.5 * (missed / sd) ** 2 + np.log(sd)
    return float(np.sqrt((missed**2).mean())), spearman(belief.log_loss, table.loss[rest]), float(density.mean())


def surrogates(table: Table, splits: int) -> list[Figure]:
    names = ("RMSE", "rho", "negative log density")
    results = {variant: np.array([predicted(table, split, variant) for split in range(splits)])
               for variant in (*PROBES, *WITHOUT)}  # fmt: skip
    found = []
    for variant, values in results.items():
        shown = values if variant == "whole" else values - results["whole"]
        for name, numbers in zip(names, shown.T, strict=True):
            half = float(student.ppf(0.975, splits - 1) * numbers.std(ddof=1) / np.sqrt(splits))
            what = f"surrogate, {variant}: {name}" + ("" if variant == "whole" else ", less the whole's")
            found.append(Figure(what, splits, float(numbers.mean()), float(numbers.mean() - half),
                                float(numbers.mean() + half)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=HERE)
    parser.add_argument("--data-root", help="folder with your copy of the data that the table is of")
    parser.add_argument("--splits", type=int, default=SPLITS, help="of the surrogate's part; 0 leaves it out")
    parser.add_argument("--json", help="write all figures here")
    options = parser.parse_args()
    table = load_table(options.table, options.data_root)
    level = np.array([i for i, group in enumerate(table.groups) if group == "level"], dtype=np.int64)
    everything = np.arange(len(table.decisions))
    figures = [*ranks(table, level, "one cost"), *ceilings(table, level), *ranks(table, everything, "all costs"),
               *inherited(table), *(surrogates(table, options.splits) if options.splits else [])]
    shown = Shown("what", "n", "value", "95 %")
    for f in figures:
        shown.add_row(f.what, str(f.n), f"{f.value:.3f}", f"{f.low:.3f} .. {f.high:.3f}")
    Console(width=130).print(shown)
    noise: dict[str, Any] = {"loss": table.loss_noise, "error": table.error_noise, "reported_se": table.loss_se.mean()}
    print("noise between trainings of one network (nan: none was trained twice): log loss {loss:.3f} (the run believes "
          "{reported_se:.3f}), log error {error:.3f}".format(**noise))
    if options.json:
        write_json(options.json, {"noise": noise, "figures": [vars(f) for f in figures]}, SCHEMA)


if __name__ == "__main__":
    main()
