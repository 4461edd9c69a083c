"""What the generator and the inquisitor are compared with on landscapes: each spends the same evaluations, starts from
the same anchors, and never evaluates a network that breaks an exact requirement.

A rival is a function (landscape, evaluations, batch) -> observations in order, the anchors' not among them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from landscapes import Landscape

from synth.acquisition import Wish, log_improvement
from synth.decisions import Decisions, FloatArray, IntArray, Observation, rows
from synth.inquisitor import Inquisitor
from synth.link import Link, log_error
from synth.moves import Moves, repair, violation
from synth.performance import performance
from synth.synthesis import Settings, Synthesis

Rival = Callable[[Landscape, int, int], list[Observation]]


def parent_performance(landscape: Landscape) -> float:
    """U of the parent: what one is left with when a search finds nothing that satisfies 1r."""
    parent = (landscape.space.counts - 1)[None, :]
    return float(performance(landscape.accuracy(parent), landscape.space.costs(parent))[0])


def _tuples(decisions: IntArray) -> list[Decisions]:
    return [tuple(int(c) for c in row) for row in decisions]


def _feasible(landscape: Landscape, moves: Moves, random: np.random.Generator, count: int) -> IntArray:
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


def _fitness(landscape: Landscape, observations: list[Observation]) -> FloatArray:
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
        seen += landscape.evaluate(cycle, _tuples(_feasible(landscape, moves, random, batch)))
    return seen


def _offspring(
    landscape: Landscape, moves: Moves, random: np.random.Generator, parents: IntArray, count: int
) -> IntArray:
    """[count, sites] children by crossover (half of them) and mutation of one to three sites; exact requirements
    hold."""
    children = parents[random.integers(len(parents), size=count)].copy()
    others = parents[random.integers(len(parents), size=count)]
    mix = (random.random(children.shape) < 0.5) & (random.random((count, 1)) < 0.5)
    children = np.where(mix, others, children)
    for _ in range(3):
        at = random.integers(len(moves.counts), size=count)
        go = (random.random(count) < 0.6) | (_ == 0)
        children[np.flatnonzero(go), at[go]] = random.integers(0, moves.counts[at[go]])
    children = landscape.space.canonical(children)
    holds = violation(landscape.requirements, landscape.space.costs(children)) <= 0
    if not holds.all():
        children[~holds] = repair(moves, landscape.requirements, children[~holds])[0]
    return children


def evolution(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Regularised evolution with tournaments (Real et al. 2019), population 16, crossover added."""
    moves, random = Moves(landscape.space), np.random.default_rng([landscape.run_seed, 11])
    everything = list(landscape.initial())
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        if cycle * batch < 12:
            children = _feasible(landscape, moves, random, batch)
        else:
            fitness = _fitness(landscape, everything)
            alive = np.arange(max(0, len(everything) - 32), len(everything))
            alive = np.union1d(alive[np.argsort(-fitness[alive])][:16], np.argsort(-fitness)[:2])
            cups = [alive[random.integers(len(alive), size=3)] for _ in range(2 * batch)]
            winners = [int(cup[np.argmax(fitness[cup])]) for cup in cups]
            parents = landscape.space.canonical(rows((everything[w].decisions for w in winners), len(moves.counts)))
            children = _offspring(landscape, moves, random, parents, batch)
        new = landscape.evaluate(cycle, _tuples(children))
        everything, seen = everything + new, seen + new
    return seen


def surrogate_evolution(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Evolution whose offspring are screened by our inquisitor's expected improvement: the same surrogate, link and
    acquisition, no generator, no local search; 400 children a cycle in four generations."""
    inquisitor = Inquisitor(landscape, landscape.run_seed)
    inquisitor.observe(landscape.initial(), landscape.probe_table())
    moves, random = inquisitor.moves, np.random.default_rng([landscape.run_seed, 12])
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        best, _, reference = inquisitor.incumbent()
        wish = Wish(np.float64(inquisitor.bound), np.float64(reference))
        parents = np.concatenate([best[:16], _feasible(landscape, moves, random, 16)])
        pool = parents
        for _ in range(4):
            pool = np.unique(np.concatenate([pool, _offspring(landscape, moves, random, parents, 100)]), axis=0)
            value = log_improvement(inquisitor.believe(pool), wish)
            parents = pool[np.argsort(-value, kind="stable")[:16]]
        picked = inquisitor.propose(pool, inquisitor.believe(pool), batch, 0)
        new = landscape.evaluate(cycle, _tuples(np.array(picked)))
        inquisitor.observe(new, landscape.probe_table())
        seen += new
    return seen


def no_generator(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Our inquisitor, acquisition and local search, started from random networks and the best evaluated: what is left
    of generative synthesis when the generator is taken away."""
    inquisitor = Inquisitor(landscape, landscape.run_seed)
    inquisitor.observe(landscape.initial(), landscape.probe_table())
    random = np.random.default_rng([landscape.run_seed, 13])
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        starts = _feasible(landscape, inquisitor.moves, random, 16)
        wish = inquisitor.wishes(range(16 * cycle, 16 * cycle + 16))
        picked = inquisitor.propose(*inquisitor.search(starts, wish), batch - 1, 1)
        new = landscape.evaluate(cycle, _tuples(np.array(picked)))
        inquisitor.observe(new, landscape.probe_table())
        seen += new
    return seen


def tpe(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Optuna's TPE (multivariate, constrained). What breaks an exact requirement is told as infeasible and costs no
    evaluation, up to 30 times a candidate, then it is repaired."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # constraints are experimental in one version, deprecated in the next
    space, moves = landscape.space, Moves(landscape.space)

    def constraints(trial: optuna.trial.FrozenTrial) -> list[float]:
        return trial.user_attrs["slack"]

    sampler = optuna.samplers.TPESampler(
        seed=landscape.run_seed, multivariate=True, n_startup_trials=10, constraints_func=constraints
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kinds: dict[str, optuna.distributions.BaseDistribution] = {
        site.name: optuna.distributions.IntDistribution(0, len(site.choices) - 1)
        if site.ordered
        else optuna.distributions.CategoricalDistribution(list(range(len(site.choices))))
        for site in space.sites
    }
    everything = list(landscape.initial())
    seen: list[Observation] = []

    def tell(observation: Observation) -> optuna.trial.FrozenTrial:
        fitness = _fitness(landscape, everything)[-1]
        loss = np.array([o.log_loss for o in everything])
        link = Link()
        link.fit(everything, loss)
        error, _ = link.final_log_error(loss[-1:], np.zeros(1))
        broken = violation(landscape.requirements, space.costs(np.array([observation.decisions])))[0]
        over = float(error[0] - log_error(landscape.accuracy_bound))
        params = {site.name: int(c) for site, c in zip(space.sites, observation.decisions, strict=True)}
        return optuna.trial.create_trial(
            params=params, distributions=kinds, value=float(fitness), user_attrs={"slack": [over, float(broken)]}
        )

    for number in range(len(everything)):
        kept, everything = everything, everything[: number + 1]
        study.add_trial(tell(everything[-1]))
        everything = kept
    for cycle in range(evaluations // batch):
        chosen = []
        for _ in range(batch):
            for attempt in range(30):
                trial = study.ask(kinds)
                row = space.canonical(np.array([[trial.params[site.name] for site in space.sites]]))
                broken = float(violation(landscape.requirements, space.costs(row))[0])
                trial.set_user_attr("slack", [0.0, broken])
                if broken <= 0:
                    break
                if attempt < 3:  # told, so that the sampler learns the bound; more would drown what was measured
                    study.tell(trial, -60.0 * broken)
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                row = repair(moves, landscape.requirements, row)[0]
            if broken <= 0:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)  # its outcome is added below
            chosen += _tuples(row)
        for observation in landscape.evaluate(cycle, chosen):
            everything.append(observation)
            seen.append(observation)
            study.add_trial(tell(observation))
    return seen


def ours(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Generative synthesis as it runs on real networks."""
    return [o for report in synthesise(landscape, evaluations, batch).reports for o in report.observations]


def synthesise(landscape: Landscape, evaluations: int, batch: int) -> Synthesis:
    """The whole run, for what is asked of the generator besides the regret."""
    run = Synthesis(landscape, Settings(cycles=evaluations // batch, batch=batch, seed=landscape.run_seed))
    run.run()
    return run


RIVALS: dict[str, Rival] = {
    "generative synthesis": ours,
    "random": random_search,
    "evolution": evolution,
    "evolution + our surrogate": surrogate_evolution,
    "no generator": no_generator,
    "TPE (Optuna)": tpe,
}
