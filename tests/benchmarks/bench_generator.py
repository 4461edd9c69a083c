"""What the generator has learnt on digits, cycle by cycle: of 100 fresh seeds, how many satisfy 1r after the usual full
training, before and after repair; how many different networks they are and how far apart, beside random mutations of
the best network found.

    python tests/benchmarks/bench_generator.py --json generator.json
    python tests/benchmarks/bench_generator.py --seeds 20 --after 0 4 --cycles 4      (a quick look)

1r is decided as in a run: on the validation split with its margin, predicted energy with its own. Shares come with 95 %
Wilson intervals. Takes about half an hour on 2 cores: a few hundred networks are trained in full (each once).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json
from synth.data.dataset import load_dataset
from synth.objective.requirements import YES
from synth.progress import Progress
from synth.run.finishing import judge
from synth.run.order import Order
from synth.run.preparation import Laboratory, laboratory, traced_prototype
from synth.run.problem import NetworkProblem
from synth.run.summary import share_reading
from synth.search.decisions import Decisions, IntArray
from synth.search.generator import Generator
from synth.search.moves import Moves, log_cost, repair
from synth.search.synthesis import Settings, Synthesis
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.device import Compute

FRESH = 5_000_000  # seeds that no run learns from


class Judge:
    """Whether networks satisfy 1r after full training; each is trained once."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem) -> None:
        self.lab, self.problem = lab, problem
        self.known: dict[Decisions, bool] = {}

    def holds(self, rows: IntArray, progress: Progress, what: str) -> np.ndarray:
        keys = [tuple(int(c) for c in row) for row in rows]
        todo = [key for key in dict.fromkeys(keys) if key not in self.known]
        with progress.stage(what, len(todo)) as stage:
            for number, (key, outcome) in enumerate(zip(todo, self.problem.finish(todo), strict=True), 1):
                network, _ = self.lab.space.parent.draw(self.lab.space.design(key))
                verdicts = judge(self.lab, network, outcome.metrics).values()
                self.known[key] = all(verdict.holds == YES for verdict in verdicts)
                stage.at(number)
        return np.array([self.known[key] for key in keys])


def figures(name: str, rows: IntArray, holds: np.ndarray, repaired: float, lab: Laboratory) -> dict[str, object]:
    moves = Moves(lab.space)
    distance = moves.distance(rows, rows)
    pairs = distance[np.triu_indices(len(rows), 1)]
    share = share_reading(float(holds.mean()), len(rows))
    good = np.unique(rows[holds], axis=0)
    between = moves.distance(good, good)[np.triu_indices(len(good), 1)] if len(good) > 1 else np.zeros(1)
    return {"what": name, "holds": share.value, "low": share.low, "high": share.high, "repaired": repaired,
            "different": len(np.unique(rows, axis=0)), "distance": float(pairs.mean()),
            "different_that_hold": len(good), "distance_that_hold": float(between.mean()),
            "median_log_cost": float(np.median(log_cost(lab.space, rows)))}


def mutations(best: Decisions, lab: Laboratory, count: int, rate: float, seed: int) -> IntArray:
    """Random mutations of one network: each decision is drawn anew with probability `rate`, at least one is."""
    random = np.random.default_rng(seed)
    counts = np.array([len(site.choices) for site in lab.space.sites])
    rows = np.tile(np.array(best, dtype=np.int64), (count, 1))
    for row in rows:
        change = random.random(len(counts)) < rate
        change[random.integers(len(counts))] = True
        row[change] = random.integers(0, counts)[change]
    return lab.space.canonical(rows)


def run(order: Order, seeds: int, after: Sequence[int], workers: int, folder: Path) -> list[dict[str, object]]:
    progress = Progress()
    dataset = load_dataset(order.data)
    results = []
    fresh = range(FRESH, FRESH + seeds)
    manifest = Manifest("bench_generator", order.arguments(), {order.data: dataset.checksum})
    with RunFolder.start(folder, manifest) as run_folder, laboratory(
            order, dataset, traced_prototype(order, dataset), run_folder, Compute(workers), progress) as lab:
        problem = NetworkProblem(lab.space, lab.requirements, lab.probes, lab.pool, run_folder, lab.recipes,
                                 order.seed, lab.parent_outcome)
        synthesis = Synthesis(problem, Settings(order.cycles, order.batch, order.seed))
        made: dict[int, IntArray] = {}
        for cycle in range(order.cycles):
            if cycle in after:
                made[cycle] = synthesis.generator.generate(fresh)
            synthesis.cycle(cycle)
        synthesis.consolidate()
        made[order.cycles] = synthesis.generator.generate(fresh)
        synthesis.generator.save(str(folder))
        assert np.array_equal(Generator.load(folder).generate(fresh), made[order.cycles])
        bench = Judge(lab, problem)
        for cycle, raw in made.items():
            rows = lab.space.canonical(raw)
            fixed, changed, _ = repair(Moves(lab.space), lab.requirements, raw)
            for name, found in ((f"G after {cycle} cycles", rows), (f"G after {cycle} cycles, repaired", fixed)):
                share = float(changed.mean()) if "repaired" in name else 0.0
                results.append(figures(name, found, bench.holds(found, progress, name), share, lab))
        best = max((key for key, holds in bench.known.items() if holds),
                   key=lambda key: -float(log_cost(lab.space, np.array([key]))[0]))
        for rate in (0.2,):
            mutated = mutations(best, lab, seeds, rate, order.seed)
            name = f"mutations of the best, rate {rate:g}"
            results.append(figures(name, mutated, bench.holds(mutated, progress, name), 0.0, lab))
            fixed, changed, _ = repair(Moves(lab.space), lab.requirements, mutated)
            name += ", repaired"
            results.append(figures(name, fixed, bench.holds(fixed, progress, name), float(changed.mean()), lab))
    return results


def show(results: Sequence[dict[str, object]]) -> None:
    table = Table(box=None, header_style="dim")
    for title in ("networks", "satisfy 1r", "95 %", "repaired", "different", "distance", "different, 1r",
                  "distance, 1r", "median log cost"):
        table.add_column(title, justify="left" if title == "networks" else "right")
    for r in results:
        table.add_row(str(r["what"]), f"{r['holds']:.2f}", f"{r['low']:.2f}..{r['high']:.2f}", f"{r['repaired']:.2f}",
                      str(r["different"]), f"{r['distance']:.3f}", str(r["different_that_hold"]),
                      f"{r['distance_that_hold']:.3f}", f"{r['median_log_cost']:.2f}")
    Console(width=150).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=16)
    parser.add_argument("--after", type=int, nargs="*", default=[0, 4])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        found = run(Order("tx2", cycles=given.cycles, seed=given.seed), given.seeds, given.after, given.workers,
                    Path(temporary) / "run")
    show(found)
    if given.json:
        write_json(given.json, {"seconds": round(time.monotonic() - started), "rows": found},
                   "edgesynth.benchmark.generator/1")
