"""Networks that could be finished, and which of them are worth full training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.run.preparation import Laboratory
from synth.search.acquisition import Wish, log_improvement
from synth.search.decisions import Decisions, IntArray, from_words, rows
from synth.search.generator import Generator
from synth.search.inquisitor import Inquisitor
from synth.search.moves import Moves, repair, violation
from synth.search.synthesis import BATCH_SEEDS, CycleReport

WANTED = 16  # networks that the inquisitor may propose for a round


@dataclass(frozen=True)
class Made:
    """What G makes of seeds, after repair, and networks of the inquisitor's (seed None): a row each. names: of what is
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
    """The candidates of all cycles, and of those of earlier runs. What the search believes in and saw, G may not have
    learnt to the last choice."""
    sites = lab.space.sites
    found = {f"candidate-{report.cycle}-{number}": row for report in reports
             for number, row in enumerate(report.candidates)}
    found |= {f"known-{cycle}-{number}": from_words(sites, words) for cycle, evaluated in enumerate(lab.known.cycles)
              for number, words in enumerate(evaluated.candidates)}
    decisions, names = rows(found.values(), len(sites)), list(found)
    feasible = violation(lab.requirements, lab.space.costs(decisions)) <= 0
    return Made([None] * len(names), names, decisions, np.zeros(len(names), dtype=bool), feasible)


def levels_between(bound: float, own: float, count: int) -> list[float]:
    """The greatest log errors that so many FermiNets are made for, the loosest first: from what 1r allows (`bound`, not
    infinite) to φ's `own`, by equal factors of the error. Where φ is no better than 1r asks, they are all what 1r
    allows."""
    return [float(level) for level in np.linspace(bound, min(own, bound), count)]


def wanted(lab: Laboratory, inquisitor: Inquisitor, generator: Generator, wishes: Sequence[Wish], label: str) -> Made:
    """What the inquisitor would evaluate next by all that it knows now, equally many networks for each wish. G may not
    have learnt to make them."""
    seeds = range(BATCH_SEEDS)
    inquisitor.search(lab.space.canonical(generator.generate(seeds)), inquisitor.wishes(seeds))
    for wish in wishes:
        inquisitor.hunt(wish)
    pool = inquisitor.pool.join()
    each = max(1, WANTED // len(wishes))
    found = np.concatenate([inquisitor.improving(*pool, each, wish) for wish in wishes])
    decisions = rows(dict.fromkeys(map(tuple, found.tolist())), len(lab.space.sites))
    names = [f"wanted{label}-{number}" for number in range(len(decisions))]
    return Made([None] * len(names), names, decisions, np.zeros(len(names), dtype=bool),
                np.ones(len(names), dtype=bool))


def likely(inquisitor: Inquisitor, made: Made, count: int, tried: set[Decisions], least: float,
           levels: Sequence[float]) -> list[int]:
    """Rows of `made` to train next, so many: for each level of accuracy in turn the greatest U of those that reach it
    with probability `least` (more surely from turn to turn), or else what reaches it most surely."""
    usable = made.untried(tried)
    if not usable:
        return []
    belief, different = inquisitor.theory.believe(made.decisions[usable]), list(dict.fromkeys(levels))
    utility = belief.performance()
    picked: list[int] = []
    for number in range(min(count, len(usable))):
        turn, place = divmod(number, len(different))
        enough = belief.holds(different[place]) >= 1.0 - (1.0 - least) / (1 + turn)
        enough[picked] = False
        sure = (different[place] - belief.log_error) / belief.log_error_sd  # chances may all be 0 to the last digit
        sure[picked] = -np.inf
        picked.append(int(np.argmax(np.where(enough, utility, -np.inf) if enough.any() else sure)))
    return [usable[i] for i in picked]


def promising(inquisitor: Inquisitor, made: Made, count: int, tried: set[Decisions],
              wishes: Sequence[Wish]) -> list[int]:
    """Rows of `made` whose full training promises most for each wish in turn."""
    usable = made.untried(tried)
    if not usable:
        return []
    belief = inquisitor.theory.believe(made.decisions[usable])
    worth = [log_improvement(belief, wish) for wish in wishes]
    picked: list[int] = []
    for number in range(min(count, len(usable))):
        free = worth[number % len(wishes)].copy()
        free[picked] = -np.inf
        picked.append(int(np.argmax(free)))
    return [usable[i] for i in picked]
