"""Oracle benchmark: how far from the true optimum a search is after so many evaluations, on landscapes of known truth.

    python tests/benchmarks/bench_oracle.py --json oracle.json            30 landscapes, up to 64 evaluations
    python tests/benchmarks/bench_oracle.py --evaluations 128             the long run
    python tests/benchmarks/bench_oracle.py --quick                       5 landscapes, 32 evaluations
    python tests/benchmarks/bench_oracle.py --families digits --numbers 100-149    replayed on trained networks

The families "digits" and "digits-smooth" are no landscapes but a table of trained networks, replayed (replay.py says
how, and what that cannot show); numbers 1 to 9 may be looked at while constants are set, the others not.

Regret: U of the best network that a long search with the truth in hand finds, less U of the best evaluated network that
truly satisfies 1r (the parent's U where none does), in NetScore points. "chosen": the same for the best of four
finalists that are picked without knowing the truth, by one rule for all methods (the inquisitor on the method's own
observations). Every method has the same evaluations, in batches of four (a family of networks may end before), sees the
same noise level, anchors and full trainings, and never evaluates what breaks an exact requirement.

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
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from landscapes import FAMILIES, Landscape
from methods import ABLATIONS, METHODS, ON_NETWORKS, OURS, problem_of
from replay import FAMILY, SMOOTH
from rich.console import Console
from rich.table import Table
from rivals import observed, parent_performance, synthesise
from scipy.stats import t as student

from devices.support.files import append_line, read_lines, write_json
from synth.objective.performance import performance
from synth.search.acquisition import best_together
from synth.search.decisions import Observation, own_decisions, rows
from synth.search.inquisitor import CAUTION
from synth.search.moves import log_cost, repair, violation
from synth.search.synthesis import Synthesis
from synth.search.theory import Theory

BUDGETS = (16, 32, 64, 128)
BATCH = 4
DRAWS = 256  # of the joint belief, that finalists are chosen by
SCHEMA = "edgesynth.bench-oracle/2"


@dataclass(frozen=True)
class Run:
    """One method on one landscape. regret: by budget; feasible_share: of what was evaluated; hypervolume: of the front
    of what was evaluated, in nats of error below that of 90 % times nats of cost below φ's; seconds: of the processor.
    """

    family: str
    number: int
    seed: int
    method: str
    optimum: float
    regret: dict[str, float]
    chosen: float
    feasible_share: float
    hypervolume: float
    seconds: float
    generator: dict[str, float] | None = None


@dataclass(frozen=True)
class Task:
    """One run to be made. table: of trained networks, where one is replayed. generator: whether to judge ours'."""

    family: str
    number: int
    seed: int
    method: str
    evaluations: int
    table: Path | None = None
    generator: bool = True


@functools.cache
def optimum(family: str, number: int, table: Path | None = None) -> float:
    return problem_of(family, number, 0, table).optimum()[0]


def measure(task: Task) -> Run:
    landscape = problem_of(task.family, task.number, task.seed, task.table)
    best_known = optimum(task.family, task.number, task.table)
    floor = parent_performance(landscape)
    sites = len(landscape.space.sites)
    start = time.process_time()
    run = synthesise(landscape, task.evaluations, BATCH) if task.method == OURS else None
    known = METHODS | ON_NETWORKS | ABLATIONS
    seen = observed(run) if run else known[task.method](landscape, task.evaluations, BATCH)
    seconds = time.process_time() - start
    generator = None
    if run and task.generator:
        run.consolidate()
        generator = of_the_generator(landscape, run)
    decisions = rows((o.decisions for o in seen), sites)
    truth = landscape.truth(decisions)
    so_far = np.maximum.accumulate(np.maximum(truth, floor))
    at = {b: min(b, len(seen)) - 1 for b in BUDGETS if b <= task.evaluations}  # a family of networks may run out
    # a method may find no network at all that holds the exact requirements
    regret = {str(b): max(best_known - (float(so_far[i]) if seen else floor), 0.0) for b, i in at.items()}
    chosen = landscape.truth(rows(finalists(landscape, seen), sites)).max() if seen else -np.inf
    return Run(task.family, task.number, task.seed, task.method, best_known, regret,
               max(best_known - max(float(chosen), floor), 0.0), float(np.isfinite(truth).mean()) if seen else 0.0,
               hypervolume(landscape, decisions), seconds, generator)  # fmt: skip


def hypervolume(landscape: Landscape, decisions: np.ndarray) -> float:
    """Of the true log error after full training and the log cost (parameters times MACs) of networks that hold the
    exact requirements, below those of 90 % accuracy and of φ (of twice φ's error where φ itself is worse than 95 %)."""
    space = landscape.space
    parent = own_decisions(space.sites)[None, :]
    error_of_parent = float(np.log(1 - landscape.accuracy(parent)[0]))
    worst = max(np.log(0.1), error_of_parent + np.log(2.0)), float(log_cost(space, parent)[0])
    kept = decisions[violation(landscape.requirements, space.costs(decisions)) <= 0]
    error, cost = np.log(1 - landscape.accuracy(kept)), log_cost(space, kept)
    volume, least = 0.0, worst[0]
    for i in np.argsort(cost):
        if cost[i] < worst[1] and error[i] < least:
            volume += (worst[1] - cost[i]) * (least - error[i])
            least = error[i]
    return float(volume)


def finalists(landscape: Landscape, seen: list[Observation]) -> list[tuple[int, ...]]:
    """Four of the evaluated networks, picked by one rule for all methods: greedily, by the expectation of the best U
    under 1r among them, over draws of the joint belief."""
    theory = Theory(landscape, landscape.run_seed)
    theory.observe([*landscape.initial(), *seen], landscape.probe_table())
    pool = np.unique(landscape.space.canonical(rows((o.decisions for o in seen), len(landscape.space.sites))), axis=0)
    belief = theory.believe(pool)
    _, _, reference = theory.incumbent()
    errors = theory.draw(pool, DRAWS)
    u = performance(1.0 - np.exp(np.minimum(errors, -1e-3)), belief.costs)
    worth = np.where((errors <= theory.bound) & (belief.violation <= 0), u, reference - 4 * CAUTION)
    return [tuple(int(c) for c in pool[index]) for index in best_together(worth, 4)]


def of_the_generator(landscape: Landscape, run: Synthesis, count: int = 100) -> dict[str, float]:
    """What fresh seeds give, beside random mutations (three sites) of the best network found, repaired alike."""
    space, moves = landscape.space, run.inquisitor.moves
    raw = space.canonical(run.generator.generate(range(5_000_000, 5_000_000 + count)))
    made = repair(moves, landscape.requirements, raw)[0]
    best = run.inquisitor.theory.incumbent()[0][0]
    random = np.random.default_rng(0)
    mutated = np.repeat(best[None, :], count, axis=0)
    for row in mutated:
        at = random.choice(len(best), 3, replace=False)
        row[at] = random.integers(0, moves.counts[at])
    mutated = repair(moves, landscape.requirements, mutated)[0]

    def spread(networks: np.ndarray) -> float:
        return float(moves.distance(networks, networks).sum() / (count * (count - 1)))

    truth = landscape.truth(made)
    holding = truth[np.isfinite(truth)]
    return {
        "exact before repair": float((violation(landscape.requirements, space.costs(raw)) <= 0).mean()),
        "exact after repair": float((violation(landscape.requirements, space.costs(made)) <= 0).mean()),
        "1r": float(np.isfinite(truth).mean()),
        "U below the best evaluated": float(run.inquisitor.theory.incumbent()[2] - np.median(holding)) if len(holding)
        else float("nan"),
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
            "feasible_share": interval(np.array([found[key].feasible_share for key in shared])),
            "hypervolume": interval(np.array([found[key].hypervolume for key in shared])),
            "hypervolume_behind_ours": interval(np.array([ours[key].hypervolume - found[key].hypervolume
                                                          for key in shared])),
            "seconds": float(np.mean([found[key].seconds for key in shared])),
            "by_family": {f: float(np.mean([found[k].regret[budgets[-1]] for k in shared if k[0] == f] or [np.nan]))
                          for f in sorted({k[0] for k in shared})},
        }  # fmt: skip
    return out


def show(summary: dict[str, Any], runs: list[Run], evaluations: int) -> None:
    console = Console(width=170)
    names = [str(b) for b in BUDGETS if b <= evaluations] + ["chosen"]
    table = Table(title="regret in U under 1r, NetScore points: mean ± half of the 95 % interval; Δ: behind ours")
    for column in ("method", "runs", *names, f"Δ at {names[-2]}", "Δ chosen", "feasible", "hypervolume", "CPU s"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, entry in sorted(summary.items(), key=lambda item: item[1]["regret"][names[-2]][0]):
        cells = ["{:.2f} ±{:.2f}".format(*entry["regret"][name]) for name in names]
        last, chosen = ("–" if method == OURS else "{:+.2f} ±{:.2f}".format(*entry["behind_ours"][name])
                        for name in names[-2:])  # fmt: skip
        share = "{:.0f} ±{:.0f} %".format(*(100 * value for value in entry["feasible_share"]))
        volume = "{:.2f} ±{:.2f}".format(*entry["hypervolume"])
        table.add_row(method, str(entry["runs"]), *cells, last, chosen, share, volume, f"{entry['seconds']:.1f}")
    console.print(table)
    made = [run.generator for run in runs if run.generator]
    if made:
        table = Table(title="100 fresh seeds of the learned generator (mean over runs)")
        table.add_column("measure")
        table.add_column("mean ±", justify="right")
        for name in made[0]:
            table.add_row(name, "{:.2f} ±{:.2f}".format(*interval(np.array([g[name] for g in made]))))
        console.print(table)


def without_nan(value: Any) -> Any:
    """None for NaN (the interval of a single run), which JSON has no word for."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def numbers_of(text: str) -> list[int]:
    """"1,2,10-12" as 1, 2, 10, 11, 12."""
    ends = [part.split("-") for part in text.split(",")]
    return [number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", default="10-15", help="landscapes of each family: 1,2,10-15")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each method on each landscape")
    parser.add_argument("--evaluations", type=int, default=64, choices=BUDGETS)
    parser.add_argument("--methods", default=",".join(METHODS),
                        help=f"separated by commas; also: {', '.join([*ON_NETWORKS, *ABLATIONS])}")
    parser.add_argument("--families", default=",".join(FAMILIES),
                        help=f"of landscapes; {FAMILY}, {SMOOTH}: the table replayed")
    parser.add_argument("--table", type=Path, help="of trained networks, another than the one shipped")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; needs --records")
    parser.add_argument("--search-only", action="store_true", help="leave out what is asked of our generator")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", help="JSON Lines of finished runs: an interrupted benchmark goes on from there")
    parser.add_argument("--json", help="write the summary and all runs here")
    options = parser.parse_args()
    numbers = numbers_of(options.numbers)
    if options.quick:
        numbers, options.evaluations = numbers[:1], 32
    until = time.monotonic() + options.seconds
    runs = [Run(**value) for value in read_lines(options.records)] if options.records else []
    known = {(r.family, r.number, r.seed, r.method) for r in runs}
    tasks = [Task(family, number, seed, method, options.evaluations, options.table,
                  not options.search_only)
             for number in numbers for family in options.families.split(",") for seed in range(1, options.seeds + 1)
             for method in options.methods.split(",") if (family, number, seed, method) not in known]  # fmt: skip
    with ProcessPoolExecutor(options.workers) as pool:
        for index, run in enumerate(pool.map(measure, tasks) if options.workers > 1 else map(measure, tasks), 1):
            runs.append(run)
            if options.records:
                append_line(options.records, asdict(run))
            last = list(run.regret.values())[-1]
            print(f"{index}/{len(tasks)} {run.family} {run.number} {run.method}: {last:.2f}", file=sys.stderr)
            if time.monotonic() > until and index < len(tasks):
                print(f"stopped after {options.seconds:g} s; run again to go on", file=sys.stderr)
                pool.shutdown(cancel_futures=True)
                sys.exit(1)
    summary = summarise(runs, options.evaluations)
    show(summary, runs, options.evaluations)
    if options.json:
        write_json(options.json, {"evaluations": options.evaluations, "summary": without_nan(summary),
                                  "runs": [asdict(run) for run in runs]}, SCHEMA)  # fmt: skip


if __name__ == "__main__":
    main()
