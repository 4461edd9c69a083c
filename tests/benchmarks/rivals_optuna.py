"""Optuna's TPE and NSGA-II, both told of the constraints. What breaks an exact requirement, or is known, costs no
evaluation: it is drawn again, up to 30 times a candidate, then repaired."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from landscapes import Landscape
from rivals import fitness, tuples

from synth.search.decisions import Decisions, FloatArray, IntArray, Observation
from synth.search.link import Link, log_error
from synth.search.moves import Moves, log_cost, repair, violation

POPULATION = 12  # of NSGA-II: five generations in 64 evaluations
REDRAWS, TOLD = 30, 3

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
warnings.simplefilter("ignore", FutureWarning)  # constraints are experimental in one version, deprecated in the next


def _distributions(landscape: Landscape) -> dict[str, optuna.distributions.BaseDistribution]:
    return {site.name: optuna.distributions.IntDistribution(0, len(site.choices) - 1) if site.ordered
            else optuna.distributions.CategoricalDistribution(list(range(len(site.choices))))
            for site in landscape.space.sites}  # fmt: skip


def _slack(trial: optuna.trial.FrozenTrial) -> list[float]:
    return trial.user_attrs["slack"]


def _row(landscape: Landscape, trial: optuna.trial.Trial) -> IntArray:
    return landscape.space.canonical(np.array([[trial.params[site.name] for site in landscape.space.sites]]))


def _broken(landscape: Landscape, row: IntArray) -> float:
    return float(violation(landscape.requirements, landscape.space.costs(row))[0])


def _log_errors(observations: list[Observation]) -> FloatArray:
    """Believed after full training, each from its own noisy log loss."""
    loss = np.array([o.log_loss for o in observations])
    link = Link()
    link.fit(observations, loss)
    return link.final_log_error(loss, np.zeros(len(loss)))[0]


def tpe(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """TPE, multivariate, ten random trials first (the anchors and what breaks an exact requirement among them). The
    first few of those are told as infeasible, so that the sampler learns the bound; more would drown what was
    measured."""
    moves, kinds = Moves(landscape.space), _distributions(landscape)
    sampler = optuna.samplers.TPESampler(seed=landscape.run_seed, multivariate=True, n_startup_trials=10,
                                         constraints_func=_slack)  # fmt: skip
    study = optuna.create_study(direction="maximize", sampler=sampler)
    everything: list[Observation] = []

    def tell(observation: Observation) -> None:
        everything.append(observation)
        over = float(_log_errors(everything)[-1] - log_error(landscape.accuracy_bound))
        broken = _broken(landscape, np.array([observation.decisions]))
        params = {site.name: int(c) for site, c in zip(landscape.space.sites, observation.decisions, strict=True)}
        study.add_trial(optuna.trial.create_trial(
            params=params, distributions=kinds, value=float(fitness(landscape, everything)[-1]),
            constraints={"0": over, "1": broken},  # what the sampler's own function would have said
        ))  # fmt: skip

    def draw() -> Decisions:
        for attempt in range(REDRAWS):
            trial = study.ask(kinds)
            row = _row(landscape, trial)
            broken = _broken(landscape, row)
            if broken <= 0 or attempt >= TOLD:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)  # an outcome is added once it is known
            else:
                trial.set_user_attr("slack", [0.0, broken])
                study.tell(trial, -60.0 * broken)
            if broken <= 0 and tuples(row)[0] not in {o.decisions for o in everything}:
                return tuples(row)[0]
        return tuples(repair(moves, landscape.requirements, row)[0])[0]

    for observation in landscape.initial():
        tell(observation)
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        new = landscape.evaluate(cycle, [draw() for _ in range(batch)])
        for observation in new:
            tell(observation)
        seen += new
    return seen


def nsga2(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """NSGA-II for little error and little cost, population 12 that begins with the anchors, constrained by 1r."""
    moves, kinds = Moves(landscape.space), _distributions(landscape)
    sampler = optuna.samplers.NSGAIISampler(seed=landscape.run_seed, population_size=POPULATION,
                                            constraints_func=_slack)  # fmt: skip
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    everything: list[Observation] = []

    def tell(trial: optuna.trial.Trial, observation: Observation) -> None:
        everything.append(observation)
        row = np.array([observation.decisions])
        error = float(_log_errors(everything)[-1])
        trial.set_user_attr("slack", [error - float(log_error(landscape.accuracy_bound)), _broken(landscape, row)])
        study.tell(trial, [error, float(log_cost(landscape.space, row)[0])])

    def draw() -> tuple[optuna.trial.Trial, Decisions]:
        known = {o.decisions for o in everything}
        for attempt in range(REDRAWS):
            trial = study.ask(kinds)
            row = _row(landscape, trial)
            if _broken(landscape, row) <= 0 and tuples(row)[0] not in known:
                break
            if attempt < REDRAWS - 1:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return trial, tuples(repair(moves, landscape.requirements, row)[0])[0]

    for observation in landscape.initial():
        study.enqueue_trial({site.name: int(c)
                             for site, c in zip(landscape.space.sites, observation.decisions, strict=True)})
        tell(study.ask(kinds), observation)
    seen: list[Observation] = []
    for cycle in range(evaluations // batch):
        drawn = [draw() for _ in range(batch)]
        new = landscape.evaluate(cycle, [decisions for _, decisions in drawn])
        for (trial, _), observation in zip(drawn, new, strict=True):
            tell(trial, observation)
        seen += new
    return seen


RIVALS: dict[str, Callable[[Landscape, int, int], list[Observation]]] = {"TPE (Optuna)": tpe, "NSGA-II (Optuna)": nsga2}
