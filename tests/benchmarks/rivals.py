"""What the generator and the inquisitor are compared with on landscapes: each has the same evaluations, starts from
the same anchors, and never evaluates a network that breaks an exact requirement.

A rival is a function (landscape, evaluations, batch) -> observations in order, the anchors' not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from landscapes import Landscape

from synth.objective.performance import performance
from synth.search.acquisition import Wish, log_improvement
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, own_decisions, rows
from synth.search.inquisitor import Inquisitor
from synth.search.link import Link, log_error
from synth.search.moves import Moves, repair, violation
from synth.search.synthesis import Settings, Synthesis

Rival = Callable[[Landscape, int, int], list[Observation]]


def parent_performance(landscape: Landscape) -> float:
    """U of the parent: what one is left with when a search finds nothing that satisfies 1r."""
    parent = own_decisions(landscape.space.sites)[None, :]
    return float(performance(landscape.accuracy(parent), landscape.space.costs(parent))[0])


def tuples(decisions: IntArray) -> list[Decisions]:
    return [tuple(int(c) for c in row) for row in decisions]


def feasible(landscape: Landscape, moves: Moves, random: np.random.Generator, count: int) -> IntArray:
    """Random networks of all sizes that hold the exact requirements: drawn until enough hold, repaired when too few
    do. Each leans by its own amount towards the first or the last choices, else nearly all would be of one size."""
    kept = np.zeros((0, len(landscape.space.sites)), dtype=np.int64)
    for _ in range(20):
        lean = random.uniform(-3.0, 3.0, (16 * count, 1))
        drawn = np.zeros((16 * count, len(moves.counts)), dtype=np.int64)
        for j, n in enumerate(moves.counts):
            chance = np.exp(lean * np.arange(n) / max(n - 1, 1))
            drawn[:, j] = (random.random((16 * count, 1)) > (chance / chance.sum(1, keepdims=True)).cumsum(1)).sum(1)
        drawn = landscape.space.canonical(np.minimum(drawn, moves.counts - 1))
        kept = np.concatenate([kept, drawn[violation(landscape.requirements, landscape.space.costs(drawn)) <= 0]])
        if len(kept) >= count:
            return kept[:count]
    fixed, _, _ = repair(moves, landscape.requirements, moves.random(count, random))
    return fixed


def fitness(landscape: Landscape, observations: list[Observation]) -> FloatArray:
    """What a search without a model ranks by: U at the accuracy that the link gives the noisy log loss, less a price
    for missing the requirement."""
    loss = np.array([o.log_loss for o in observations])
    link = Link()
    link.fit(observations, loss)
    error, _ = link.final_log_error(loss, np.zeros(len(loss)))
    d = rows((o.decisions for o in observations), len(landscape.space.sites))
    short = np.maximum(error - float(log_error(landscape.accuracy_bound)), 0.0)
    broken = violation(landscape.requirements, landscape.space.costs(d))
    u = performance(1 - np.exp(np.minimum(error, -1e-3)), landscape.space.costs(d))
    return u - 60.0 * short - 60.0 * broken - 5.0 * ((short > 0) | (broken > 0))


def random_search(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    moves, random = Moves(landscape.space), np.random.default_rng([landscape.run_seed, 10])
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        seen += landscape.evaluate(cycle, tuples(feasible(landscape, moves, random, batch)))
    return seen


def offspring(
    landscape: Landscape, moves: Moves, random: np.random.Generator, parents: IntArray, count: int,
    known: Collection[Decisions] = (),
) -> IntArray:
    """[count, sites] children by crossover (half of them) and mutation of one to three sites; exact requirements
    hold: of three times as many the first that do and are not `known`, repaired ones where these are too few."""
    born = 3 * count
    children = parents[random.integers(len(parents), size=born)].copy()
    others = parents[random.integers(len(parents), size=born)]
    mix = (random.random(children.shape) < 0.5) & (random.random((born, 1)) < 0.5)
    children = np.where(mix, others, children)
    for _ in range(3):
        at = random.integers(len(moves.counts), size=born)
        go = (random.random(born) < 0.6) | (_ == 0)
        children[np.flatnonzero(go), at[go]] = random.integers(0, moves.counts[at[go]])
    children = landscape.space.canonical(children)
    holds = violation(landscape.requirements, landscape.space.costs(children)) <= 0
    fresh = list(dict.fromkeys(row for row in tuples(children[holds]) if row not in known))[:count]
    kept = rows(fresh, len(moves.counts))
    if len(kept) < count:
        spare = np.concatenate([children[~holds], children[holds]])[: count - len(kept)]
        kept = np.concatenate([kept, repair(moves, landscape.requirements, spare)[0]])
    return kept


def evolution(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Regularised evolution with tournaments (Real et al. 2019), population 16, crossover added."""
    moves, random = Moves(landscape.space), np.random.default_rng([landscape.run_seed, 11])
    everything = list(landscape.initial())
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        if cycle * batch < 12:
            children = feasible(landscape, moves, random, batch)
        else:
            values = fitness(landscape, everything)
            alive = np.arange(max(0, len(everything) - 32), len(everything))
            alive = np.union1d(alive[np.argsort(-values[alive])][:16], np.argsort(-values)[:2])
            cups = [alive[random.integers(len(alive), size=3)] for _ in range(2 * batch)]
            winners = [int(cup[np.argmax(values[cup])]) for cup in cups]
            parents = landscape.space.canonical(rows((everything[w].decisions for w in winners), len(moves.counts)))
            known = {o.decisions for o in everything}
            children = offspring(landscape, moves, random, parents, batch, known)
        new = landscape.evaluate(cycle, tuples(children))
        everything, seen = everything + new, seen + new
    return seen


def surrogate_evolution(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Evolution whose offspring are screened by our inquisitor's expected improvement: the same surrogate, link and
    acquisition, no generator, no local search; 400 children a cycle in four generations."""
    inquisitor = Inquisitor(landscape, landscape.run_seed)
    inquisitor.begin(landscape.initial(), landscape.probe_table())
    moves, random = inquisitor.moves, np.random.default_rng([landscape.run_seed, 12])
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        best, _, reference = inquisitor.theory.incumbent()
        wish = Wish(np.float64(inquisitor.theory.bound), np.float64(reference))
        parents = np.concatenate([best[:16], feasible(landscape, moves, random, 16)])
        pool = parents
        for _ in range(4):
            pool = np.unique(np.concatenate([pool, offspring(landscape, moves, random, parents, 100)]), axis=0)
            value = log_improvement(inquisitor.theory.believe(pool), wish)
            parents = pool[np.argsort(-value, kind="stable")[:16]]
        picked = inquisitor.improving(pool, inquisitor.theory.believe(pool), batch)
        new = landscape.evaluate(cycle, tuples(np.array(picked)))
        inquisitor.theory.observe(new, landscape.probe_table())
        seen += new
    return seen


def no_generator(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Our inquisitor, acquisition and local search, started from random networks and the best evaluated: what is left
    of generative synthesis when the generator is taken away."""
    inquisitor = Inquisitor(landscape, landscape.run_seed)
    inquisitor.begin(landscape.initial(), landscape.probe_table())
    random = np.random.default_rng([landscape.run_seed, 13])
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        starts = feasible(landscape, inquisitor.moves, random, 16)
        wish = inquisitor.wishes(range(16 * cycle, 16 * cycle + 16))
        picked = inquisitor.candidates(*inquisitor.search(starts, wish), batch - 1, 1)
        new = landscape.evaluate(cycle, list(picked))
        inquisitor.theory.observe(new, landscape.probe_table())
        seen += new
    return seen


def ours(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Generative synthesis as it runs on real networks."""
    return observed(synthesise(landscape, evaluations, batch))


def synthesise(landscape: Landscape, evaluations: int, batch: int,
               inquisitor: type[Inquisitor] = Inquisitor) -> Synthesis:
    """All cycles of a run. The last steps of the generator, after which nothing is evaluated, are left to whom they
    matter."""
    settings = Settings(cycles=evaluations // batch, batch=batch, seed=landscape.run_seed)
    run = Synthesis(landscape, settings, inquisitor)
    for cycle in range(settings.cycles):
        run.cycle(cycle)
    return run


def observed(run: Synthesis) -> list[Observation]:
    """What a run evaluated, in order."""
    return [o for report in run.reports for o in report.observations]
