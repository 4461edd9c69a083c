"""Networks that could be finished, and which of them are worth full training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.run.preparation import Laboratory
from synth.search.acquisition import Wish, log_improvement
from synth.search.decisions import Decisions, IntArray, rows
from synth.search.generator import Generator
from synth.search.inquisitor import Inquisitor
from synth.search.moves import Moves, log_cost, repair, violation
from synth.search.synthesis import BATCH_SEEDS, CycleReport

WANTED = 16  # networks that the inquisitor may propose for a round


@dataclass(frozen=True)
class Made:
    """What G makes of seeds, after repair, and networks that were evaluated (seed None): a row each. names: of what is
    made of them on disk."""

    seeds: list[int | None]
    names: list[str]
    decisions: IntArray
    repaired: np.ndarray
    feasible: np.ndarray

    def row(self, i: int) -> Decisions:
        return tuple(int(choice) for choice in self.decisions[i])

    def joined(self, other: Made) -> Made:
        """These rows, then the other's."""
        arrays = (np.concatenate([getattr(self, name), getattr(other, name)])
                  for name in ("decisions", "repaired", "feasible"))
        return Made([*self.seeds, *other.seeds], [*self.names, *other.names], *arrays)

    def untried(self, tried: set[Decisions]) -> list[int]:
        """Rows of feasible networks that were not tried yet, each network once."""
        seen: dict[Decisions, int] = {}
        for i in range(len(self.decisions)):
            seen.setdefault(self.row(i), i)
        return [i for row, i in seen.items() if self.feasible[i] and row not in tried]


def make(lab: Laboratory, generator: Generator, seeds: Sequence[int], prefer: Sequence[float] | None = None,
         label: str = "") -> Made:
    """G(s) of every seed, repaired where requirements on costs are missed. label: goes behind the names."""
    raw = generator.generate(seeds, prefer)
    fixed, changed, feasible = repair(Moves(lab.space), lab.requirements, raw)
    suffix = label if prefer is None else "-" + "-".join(f"{share:g}" for share in prefer)
    return Made(list(seeds), [f"seed-{seed}{suffix}" for seed in seeds], fixed, changed, feasible)


def evaluated(lab: Laboratory, reports: Sequence[CycleReport]) -> Made:
    """The candidates of all cycles. What the search believes in and saw, G may not have learnt to the last choice."""
    decisions = rows((row for report in reports for row in report.candidates), len(lab.space.sites))
    names = [f"candidate-{report.cycle}-{number}" for report in reports for number in range(len(report.candidates))]
    feasible = violation(lab.requirements, lab.space.costs(decisions)) <= 0
    return Made([None] * len(names), names, decisions, np.zeros(len(names), dtype=bool), feasible)


def wanted(lab: Laboratory, inquisitor: Inquisitor, generator: Generator, label: str) -> Made:
    """What the inquisitor would evaluate next by all that it knows now. G may not have learnt to make it."""
    seeds = range(BATCH_SEEDS)
    pool = inquisitor.search(lab.space.canonical(generator.generate(seeds)), inquisitor.wishes(seeds))
    decisions = inquisitor.improving(*pool, WANTED)
    names = [f"wanted{label}-{number}" for number in range(len(decisions))]
    return Made([None] * len(names), names, decisions, np.zeros(len(names), dtype=bool),
                np.ones(len(names), dtype=bool))


def likely(inquisitor: Inquisitor, made: Made, wanted: int, tried: set[Decisions], least: float) -> list[int]:
    """Rows of `made` to train next, of those for which 1r holds with probability `least`: the one with the greatest U,
    the most accurate, and between them by cost."""
    usable = made.untried(tried)
    if not usable:
        return []
    decisions = made.decisions[usable]
    belief = inquisitor.theory.believe(decisions)
    chance = belief.holds(inquisitor.theory.bound)
    cost, utility = log_cost(inquisitor.space, decisions), belief.performance()
    enough = np.flatnonzero(chance >= least)
    if len(enough) < wanted:
        enough = np.argsort(-chance, kind="stable")[:wanted]
    smallest = int(enough[np.argmax(utility[enough])])
    accurate = int(enough[np.argmin(belief.log_error[enough])])
    picked = [smallest, accurate]
    for share in np.linspace(0, 1, max(wanted, 2))[1:-1]:
        aim = (1 - share) * cost[smallest] + share * cost[accurate]
        free = [int(i) for i in enough if int(i) not in picked]
        if free:
            picked.append(min(free, key=lambda i: (abs(cost[i] - aim), -chance[i])))
    return [usable[i] for i in dict.fromkeys(picked)][:wanted]


def promising(inquisitor: Inquisitor, made: Made, wanted: int, tried: set[Decisions], reference: float) -> list[int]:
    """Rows of `made` whose full training promises most of U under 1r beyond `reference`."""
    usable = made.untried(tried)
    if not usable:
        return []
    wish = Wish(np.float64(inquisitor.theory.bound), np.float64(reference))
    worth = log_improvement(inquisitor.theory.believe(made.decisions[usable]), wish)
    return [usable[i] for i in np.argsort(-worth, kind="stable")[:wanted]]
