"""Oracle benchmark: how far from the true optimum a search is after so many evaluations, on landscapes of known truth.

    python tests/benchmarks/bench_oracle.py --json oracle.json            30 landscapes, up to 64 evaluations
    python tests/benchmarks/bench_oracle.py --evaluations 128             the long run
    python tests/benchmarks/bench_oracle.py --quick                       5 landscapes, 32 evaluations

Regret: U of the best network that a long search with the truth in hand finds, less U of the best evaluated network that
truly satisfies 1r (the parent's U where none does), in NetScore points. "chosen": the same for the best of four
finalists that are picked without knowing the truth, by one rule for all methods (the inquisitor on the method's own
observations). Every method spends the same evaluations in batches of four, sees the same noise level, anchors and full
trainings, and never evaluates what breaks an exact requirement.

Numbers 1 and 2 of every family were looked at while constants were set; the default set (10 .. 15) was not.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rich
from landscapes import FAMILIES, Landscape, landscapes
from rich.table import Table
from rivals import RIVALS, parent_performance, synthesise
from scipy.stats import t as student

from devices.support.files import append_line, read_lines, write_json
from synth.decisions import Observation, rows
from synth.inquisitor import Inquisitor
from synth.moves import repair, violation
from synth.synthesis import Synthesis

BUDGETS = (16, 32, 64, 128)
BATCH = 4
OURS = "generative synthesis"
SCHEMA = "edgesynth.bench-oracle/1"


@dataclass(frozen=True)
class Run:
    """One method on one landscape. regret: by budget; seconds: of the processor."""

    family: str
    number: int
    seed: int
    method: str
    optimum: float
    regret: dict[str, float]
    chosen: float
    feasible_share: float
    seconds: float
    generator: dict[str, float] | None = None


@functools.cache
def optimum(family: str, number: int) -> float:
    return Landscape(family, number).optimum()[0]


def measure(task: tuple[str, int, int, str, int]) -> Run:
    family, number, seed, method, evaluations = task
    landscape = Landscape(family, number, seed)
    best_known = optimum(family, number)
    floor = parent_performance(landscape)
    sites = len(landscape.space.sites)
    start = time.process_time()
    generator = None
    if method == OURS:
        run = synthesise(landscape, evaluations, BATCH)
        seconds = time.process_time() - start
        seen = [o for report in run.reports for o in report.observations]
        generator = of_the_generator(landscape, run)
    else:
        seen = RIVALS[method](landscape, evaluations, BATCH)
        seconds = time.process_time() - start
    truth = landscape.truth(rows((o.decisions for o in seen), sites))
    so_far = np.maximum.accumulate(np.maximum(truth, floor))
    regret = {str(b): max(best_known - float(so_far[b - 1]), 0.0) for b in BUDGETS if b <= evaluations}
    chosen = landscape.truth(rows(finalists(landscape, seen), sites)).max()
    return Run(family, number, seed, method, best_known, regret, max(best_known - max(float(chosen), floor), 0.0),
               float(np.isfinite(truth).mean()), seconds, generator)  # fmt: skip


def finalists(landscape: Landscape, seen: list[Observation]) -> list[tuple[int, ...]]:
    """Four of the evaluated networks, picked by one rule for all methods."""
    inquisitor = Inquisitor(landscape, landscape.run_seed)
    inquisitor.observe([*landscape.initial(), *seen], landscape.probe_table())
    pool = np.unique(landscape.space.canonical(rows((o.decisions for o in seen), len(landscape.space.sites))), axis=0)
    picked = inquisitor.choose(pool, 4, np.random.default_rng(0))
    return [tuple(int(c) for c in pool[index]) for index in picked]


def of_the_generator(landscape: Landscape, run: Synthesis, count: int = 100) -> dict[str, float]:
    """What fresh seeds give, beside random mutations (three sites) of the best network found, repaired alike."""
    space, moves = landscape.space, run.inquisitor.moves
    raw = space.canonical(run.generator.generate(range(5_000_000, 5_000_000 + count)))
    made = repair(moves, landscape.requirements, raw)[0]
    best = run.inquisitor.incumbent()[0][0]
    random = np.random.default_rng(0)
    mutated = np.repeat(best[None, :], count, axis=0)
    for row in mutated:
        at = random.choice(len(best), 3, replace=False)
        row[at] = random.integers(0, moves.counts[at])
    mutated = repair(moves, landscape.requirements, mutated)[0]

    def spread(networks: np.ndarray) -> float:
        return float(moves.distance(networks, networks).sum() / (count * (count - 1)))

    return {
        "exact before repair": float((violation(landscape.requirements, space.costs(raw)) <= 0).mean()),
        "exact after repair": float((violation(landscape.requirements, space.costs(made)) <= 0).mean()),
        "1r": float(np.isfinite(landscape.truth(made)).mean()),
        "1r of mutations": float(np.isfinite(landscape.truth(mutated)).mean()),
        "different": float(len(np.unique(made, axis=0))),
        "different mutations": float(len(np.unique(mutated, axis=0))),
        "distance": spread(made),
        "distance of mutations": spread(mutated),
    }


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return float(values.mean()), half


def summarise(runs: list[Run], evaluations: int) -> dict[str, Any]:
    """Means with intervals over (landscape, seed), and paired differences to ours."""
    budgets = [str(b) for b in BUDGETS if b <= evaluations]
    by_method: dict[str, dict[tuple[str, int, int], Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, {})[(run.family, run.number, run.seed)] = run
    ours = by_method.get(OURS, {})
    out: dict[str, Any] = {}
    for method, found in by_method.items():
        shared = [key for key in found if key in ours]
        measures = {b: np.array([found[key].regret[b] for key in shared]) for b in budgets}
        measures["chosen"] = np.array([found[key].chosen for key in shared])
        base = {b: np.array([ours[key].regret[b] for key in shared]) for b in budgets}
        base["chosen"] = np.array([ours[key].chosen for key in shared])
        out[method] = {
            "runs": len(shared),
            "regret": {name: interval(value) for name, value in measures.items()},
            "behind_ours": {name: interval(value - base[name]) for name, value in measures.items()},
            "feasible_share": float(np.mean([found[key].feasible_share for key in shared])),
            "seconds": float(np.mean([found[key].seconds for key in shared])),
            "by_family": {f: float(np.mean([found[k].regret[budgets[-1]] for k in shared if k[0] == f] or [np.nan]))
                          for f in FAMILIES},
        }  # fmt: skip
    return out


def show(summary: dict[str, Any], runs: list[Run], evaluations: int) -> None:
    names = [str(b) for b in BUDGETS if b <= evaluations] + ["chosen"]
    table = Table(title="regret in U under 1r, NetScore points: mean ± half of the 95 % interval; Δ: behind ours")
    for column in ("method", "runs", *names, f"Δ at {names[-2]}", "Δ chosen", "feasible", "CPU s"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, entry in sorted(summary.items(), key=lambda item: item[1]["regret"][names[-2]][0]):
        cells = ["{:.2f} ±{:.2f}".format(*entry["regret"][name]) for name in names]
        last, chosen = ("–" if method == OURS else "{:+.2f} ±{:.2f}".format(*entry["behind_ours"][name])
                        for name in names[-2:])  # fmt: skip
        table.add_row(method, str(entry["runs"]), *cells, last, chosen, f"{100 * entry['feasible_share']:.0f} %",
                      f"{entry['seconds']:.1f}")  # fmt: skip
    rich.print(table)
    made = [run.generator for run in runs if run.generator]
    if made:
        table = Table(title="100 fresh seeds of the learned generator (mean over runs)")
        table.add_column("measure")
        table.add_column("mean ±", justify="right")
        for name in made[0]:
            table.add_row(name, "{:.2f} ±{:.2f}".format(*interval(np.array([g[name] for g in made]))))
        rich.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", default="10,11,12,13,14,15", help="landscapes of each of the five families")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each method on each landscape")
    parser.add_argument("--evaluations", type=int, default=64, choices=BUDGETS)
    parser.add_argument("--methods", default=",".join(RIVALS), help="separated by commas")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", help="JSON Lines of finished runs: an interrupted benchmark goes on from there")
    parser.add_argument("--json", help="write the summary and all runs here")
    options = parser.parse_args()
    numbers = [int(n) for n in options.numbers.split(",")]
    if options.quick:
        numbers, options.evaluations = numbers[:1], 32
    runs = [Run(**value) for value in read_lines(options.records)] if options.records else []
    known = {(r.family, r.number, r.seed, r.method) for r in runs}
    tasks = [(family, number, seed, method, options.evaluations)
             for family, number in landscapes(numbers) for seed in range(1, options.seeds + 1)
             for method in options.methods.split(",")
             if (family, number, seed, method) not in known]  # fmt: skip
    with ProcessPoolExecutor(options.workers) as pool:
        for index, run in enumerate(pool.map(measure, tasks), 1):
            runs.append(run)
            if options.records:
                append_line(options.records, asdict(run))
            last = list(run.regret.values())[-1]
            print(f"{index}/{len(tasks)} {run.family} {run.number} {run.method}: {last:.2f}", file=sys.stderr)
    summary = summarise(runs, options.evaluations)
    show(summary, runs, options.evaluations)
    if options.json:
        write_json(options.json, {"evaluations": options.evaluations, "summary": summary,
                                  "runs": [asdict(run) for run in runs]}, SCHEMA)  # fmt: skip


if __name__ == "__main__":
    main()
