"""One generator, many networks: what 100 fresh seeds of a run's generator give, and how preferences steer it.

    python tests/benchmarks/bench_many_networks.py RUN [--seeds 100] [--short 0] [--device cpu] [--json many.json]

RUN is a run folder whose cycles are done (`edgesynth synth --out RUN`). For fresh seeds, which nothing was learnt
from: the share that holds the exact requirements before and after repair; how many different networks; their mean
pairwise distance (cost-weighted share of decisions that differ); what the inquisitor believes of their accuracy after
full training; the range of their costs. Beside them random mutations (three decisions) of the best network that the run
knows, repaired alike. Then the same seeds under each preference of `edgesynth generate --prefer`. --short N trains N of
the fresh ones briefly, as candidates are, and up to 16 of each other kind (--beside); it says what accuracy that gives,
and how likely 1r is for them by it (the short log loss in place of the believed one, through the run's link to full
training).
Nothing is trained in full, and the test split is not read.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json
from synth.data.dataset import load_dataset
from synth.objective.performance import FRUGAL
from synth.progress import Progress
from synth.run.candidates import run_task
from synth.run.cli import PREFERENCES
from synth.run.order import Order
from synth.run.preparation import Laboratory, laboratory, traced_prototype
from synth.run.problem import SHORT_LOGITS, NetworkProblem
from synth.run.run import checksums, learn
from synth.search.decisions import IntArray
from synth.search.inquisitor import Inquisitor
from synth.search.moves import Moves, repair, violation
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.device import AUTO, DEVICES, Compute, device_named

FRESH = 5_000_000  # seeds that no run learns from


class Judge:
    """What there is to say of networks without training them in full."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem, inquisitor: Inquisitor) -> None:
        self.lab, self.problem, self.inquisitor = lab, problem, inquisitor
        self.moves = Moves(lab.space)

    def row(self, name: str, raw: IntArray, short: int) -> dict[str, Any]:
        """short: of the different networks, how many are trained briefly at most."""
        space = self.lab.space
        before = violation(self.lab.requirements, space.costs(space.canonical(raw))) <= 0
        made, changed, feasible = repair(self.moves, self.lab.requirements, raw)
        different = np.unique(made, axis=0)
        belief = self.inquisitor.theory.believe(made)
        accuracy, costs = 1 - np.exp(belief.log_error), space.costs(made)
        distance = self.moves.distance(made, made)
        found = {
            "name": name, "seeds": len(made), "exact_before_repair": float(before.mean()),
            "exact_after_repair": float(feasible.mean()), "repaired": float(changed.mean()),
            "likely_1r": float(belief.holds(self.inquisitor.theory.bound).mean()), "different": len(different),
            "distance": float(distance.sum() / (len(made) * (len(made) - 1))),
            "believed_accuracy": quartiles(accuracy), "params": quartiles(costs["params"]),
            "macs": quartiles(costs["macs"]),
            "img_per_joule": quartiles(costs[FRUGAL]) if FRUGAL in costs else None,
        }
        if short:
            some = different[np.linspace(0, len(different) - 1, min(short, len(different))).astype(int)]
            found |= self._trained_briefly(some)
        return found

    def _trained_briefly(self, decisions: IntArray) -> dict[str, Any]:
        tasks = [self.problem.task(tuple(int(c) for c in row), self.lab.recipes.short, SHORT_LOGITS, "short")[0]
                 for row in decisions]
        metrics = [outcome.metrics for outcome in self.lab.pool.map(run_task, tasks)]
        theory = self.inquisitor.theory
        losses = np.array([m.log_loss for m in metrics]), np.array([m.log_loss_se for m in metrics])
        belief = theory.believe(decisions, losses=losses)
        return {"short": len(metrics), "short_accuracy": quartiles(np.array([m.accuracy for m in metrics])),
                "likely_1r_by_short": float(belief.holds(theory.bound).mean())}


def quartiles(values: np.ndarray) -> list[float]:
    """Least, quartiles, greatest."""
    return [float(value) for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1))]


def rows_of(folder: Path, seeds: int, short: int, beside: int, compute: Compute) -> list[dict[str, Any]]:
    manifest = Manifest.read(folder)
    order = Order.from_arguments(dict(manifest.arguments))
    dataset = load_dataset(order.data, order.data_root)
    quiet = Progress(quiet=True)
    again = Manifest(manifest.command, order.arguments(), checksums(order, dataset))
    with RunFolder.start(folder, again, resume=True) as run_folder, laboratory(
            order, dataset, traced_prototype(order, dataset), run_folder, compute, quiet) as lab:
        learned = learn(lab, run_folder, quiet)
        synthesis = learned.synthesis
        judge = Judge(lab, learned.problem, synthesis.inquisitor)
        beside = min(short, beside)
        fresh = range(FRESH, FRESH + seeds)
        best = synthesis.inquisitor.theory.incumbent()[0][0]
        random = np.random.default_rng(0)
        mutated = np.repeat(best[None, :], seeds, axis=0)
        for row in mutated:
            at = random.choice(len(best), 3, replace=False)
            row[at] = random.integers(0, judge.moves.counts[at])
        rows = [judge.row("fresh seeds", synthesis.generator.generate(fresh), short),
                judge.row("mutations of the best", lab.space.canonical(mutated), beside)]
        return rows + [judge.row(f"--prefer {name}", synthesis.generator.generate(fresh, wish), beside)
                       for name, wish in PREFERENCES.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--short", type=int, default=0)
    parser.add_argument("--beside", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", choices=DEVICES, default=AUTO)
    parser.add_argument("--json")
    options = parser.parse_args()
    compute = Compute(options.workers, device_named(options.device))
    rows = rows_of(options.run, options.seeds, options.short, options.beside, compute)
    table = Table(title=f"{options.seeds} networks each; medians [quartiles]")
    for title in ("", "exact before / after repair", "1r by belief", "different", "distance", "accuracy believed",
                  "parameters", "MACs", "img/J p", *(["short accuracy", "1r by it"] if options.short else [])):
        table.add_column(title, justify="left" if not title else "right")
    for row in rows:
        cells = [row["name"], f"{row['exact_before_repair']:.0%} / {row['exact_after_repair']:.0%}",
                 f"{row['likely_1r']:.0%}", str(row["different"]), f"{row['distance']:.2f}",
                 "{2:.1%} [{1:.1%}, {3:.1%}]".format(*row["believed_accuracy"]),
                 "{2:.1f} k [{1:.1f}, {3:.1f}]".format(*(v / 1e3 for v in row["params"])),
                 "{2:.2f} M [{1:.2f}, {3:.2f}]".format(*(v / 1e6 for v in row["macs"])),
                 "–" if row["img_per_joule"] is None else "{2:.0f} [{1:.0f}, {3:.0f}]".format(*row["img_per_joule"])]
        if options.short:
            cells.append("{2:.1%} [{1:.1%}, {3:.1%}]".format(*row["short_accuracy"]))
            cells.append(f"{row['likely_1r_by_short']:.0%} of {row['short']}")
        table.add_row(*cells)
    Console(width=170).print(table)
    if options.json:
        write_json(options.json, {"run": str(options.run), "rows": rows}, "edgesynth.bench-many-networks/1")


if __name__ == "__main__":
    main()
