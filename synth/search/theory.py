"""θ_I: what probing and evaluation taught, as a belief of every network of the space.

It predicts the log loss after the usual short training from exact costs, the probe table and the decisions
(`search.surrogate`), and links it to the accuracy after full training (`search.link`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from synth.objective.performance import performance
from synth.search.acquisition import Belief, Wish
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, Problem, rows
from synth.search.link import Link, least_error, log_error
from synth.search.moves import Moves, violation
from synth.search.probe_table import SLOPE, ProbeTable
from synth.search.surrogate import PRIOR_LOG_SD, Inputs, SiteKernel, Surrogate

# priors of the linear weights, log loss per unit of the feature
LEVEL_SD = 1.0
COST_SLOPE, COST_SLOPE_SD = -0.12, 0.15  # per nat of parameters, and of MACs: more of either loses less
JITTER = 1e-6  # of log losses, squared
REFERENCE_NETWORKS = 256  # over which features are standardised


class Theory:
    """θ_I. Deterministic in (seed, observations, probe table). bound: the greatest log error that 1r allows."""

    def __init__(self, problem: Problem, seed: int = 0):
        self.space, self.requirements = problem.space, problem.requirements
        self.observations: list[Observation] = []
        self.in_full: list[tuple[Decisions, float]] = []  # full trainings told of by themselves: accuracies
        bound, least = self.requirements.accuracy_bound, least_error(self.requirements.validation_images)
        self.bound = np.inf if bound is None else float(log_error(bound, least))
        self.reference = Moves(self.space).random(REFERENCE_NETWORKS, np.random.default_rng([seed, 0x2]))
        self.smooth_scale = self.space.summary(self.reference).std(axis=0)
        self.log_sd = PRIOR_LOG_SD
        self.kernel = SiteKernel(self.space.sites)
        self.observe([], problem.probe_table())

    def observe(self, observations: Sequence[Observation], table: ProbeTable) -> None:
        """Update θ_I with new observations and the probe table as it stands now."""
        self.observations += observations
        self.table, self.filled = table, table.filled()
        raw = self._raw(self.reference)
        self.centre, self.spread = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-9)
        self.spread[:2] = 1.0  # costs stay in nats
        mean = np.concatenate([[0.0], [COST_SLOPE] * 2, SLOPE * table.signs])
        spread = np.concatenate([[LEVEL_SD], [COST_SLOPE_SD] * 2, [table.slope_sd] * len(table.signs)])
        self.surrogate = Surrogate(mean, spread, self.smooth_scale, self.log_sd)
        self.link = Link(images=self.requirements.validation_images)
        seen = self._seen()
        target = np.array([o.log_loss for o in self.observations])
        noise = np.array([o.log_loss_se for o in self.observations])
        self.surrogate.fit(self.inputs(self.space.canonical(seen)), target, noise)
        self.log_sd = self.surrogate.log_sd  # where the next marginal likelihood starts
        self._fit_link()

    def observe_in_full(self, trained: Sequence[tuple[Decisions, float]]) -> None:
        """Learn what full training made of networks (their accuracy), whether or not a short training was seen: of the
        surrogate that says nothing, of the link much. A training that an observation tells of, before or later, is no
        other."""
        self.in_full += trained
        self._fit_link()

    def _fit_link(self) -> None:
        believed, _ = self.surrogate.predict(self.surrogate.inputs)
        done = [i for i, o in enumerate(self.observations) if o.final_accuracy is not None]
        self.whole, unseen = self.surrogate.inputs.take(done), None
        told = {(o.decisions, o.final_accuracy) for o in self.observations}
        others = [pair for pair in self.in_full if pair not in told]
        if others:
            networks = self.inputs(self.space.canonical(rows((d for d, _ in others), len(self.space.sites))))
            unseen = self.surrogate.predict(networks)[0], np.array([accuracy for _, accuracy in others])
            self.whole = self.whole.joined(networks)
        self.link.fit(self.observations, believed, unseen, self.surrogate.likeness(self.whole, self.whole))

    def inputs(self, decisions: IntArray, costs: Mapping[str, FloatArray] | None = None) -> Inputs:
        """What the surrogate sees of networks [n, sites], whose costs need not be computed when they are known."""
        linear = (self._raw(decisions, costs) - self.centre) / self.spread
        linear = np.column_stack([np.ones(len(decisions)), linear])
        return Inputs(self.kernel.features(decisions), linear, self.space.summary(decisions))

    def _seen(self) -> IntArray:
        return rows((o.decisions for o in self.observations), len(self.space.sites))

    def _raw(self, decisions: IntArray, costs: Mapping[str, FloatArray] | None = None) -> FloatArray:
        costs = self.space.costs(decisions) if costs is None else costs
        logs = [np.log(np.maximum(costs[name], 1.0)) for name in ("params", "macs")]
        return np.column_stack([*logs, self.table.features(decisions, self.filled)])

    def believe(self, decisions: IntArray, margin: float = 0.0,
                losses: tuple[FloatArray, FloatArray] | None = None) -> Belief:
        """The belief of networks [n, sites]; `margin` is the slack demanded on requirements on costs. losses: where
        their short trainings are done, the log losses that these came to and the standard errors, each [n]."""
        return self._belief(self.surrogate, decisions, margin, losses)

    def _belief(self, surrogate: Surrogate, decisions: IntArray, margin: float = 0.0,
                losses: tuple[FloatArray, FloatArray] | None = None) -> Belief:
        costs = self.space.costs(decisions)
        inputs = self.inputs(decisions, costs)
        mean, sd = surrogate.predict(inputs) if losses is None else losses
        error, error_sd = self.link.final_log_error(mean, sd, self._likeness(surrogate, inputs, self.whole))
        return Belief(mean, sd, error, error_sd, costs, violation(self.requirements, costs, margin))

    def draw(self, decisions: IntArray, count: int) -> FloatArray:
        """[count, n] draws of the log errors after full training that networks [n, sites] may have together: what is
        wrong with the theory is so for all that are alike."""
        random, inputs = np.random.default_rng(0), self.inputs(decisions)
        mean, covariance = self.surrogate.covariance(inputs)
        lower = np.linalg.cholesky(covariance + JITTER * np.eye(len(mean)))
        losses = mean + random.standard_normal((count, len(mean))) @ lower.T
        together, likeness = (self._likeness(self.surrogate, inputs, others) for others in (inputs, self.whole))
        return self.link.draw(losses, random, together, likeness)

    def _likeness(self, surrogate: Surrogate, networks: Inputs, others: Inputs) -> FloatArray | None:
        """None where it counts for nothing."""
        return surrogate.likeness(networks, others) if self.link.alike else None

    def incumbent(self, demand: float | None = None) -> tuple[IntArray, FloatArray, float]:
        """Evaluated networks, best first by U times the probability that 1r holds; these values; the U to improve
        on: the best that more likely than not satisfies 1r. demand: another greatest log error than that of 1r."""
        bound = self.bound if demand is None else demand
        seen, u, holds = self._evaluated(bound)
        if not len(seen):
            return seen, np.zeros(0), float(np.quantile(performance(0.5, self.space.costs(self.reference)), 0.5))
        floor = u.min() - 10.0
        worth = holds * (u - floor)
        order = np.argsort(-worth, kind="stable")
        likely = u[holds >= 0.5]
        reference = float(likely.max()) if len(likely) else float(floor + worth.max())
        return seen[order], worth[order], reference

    def best(self) -> float | None:
        """The greatest U of what was evaluated and more likely than not satisfies 1r; None where nothing does."""
        _, u, holds = self._evaluated(self.bound)
        return max(u[holds >= 0.5].tolist(), default=None)

    def _evaluated(self, bound: float) -> tuple[IntArray, FloatArray, FloatArray]:
        """Every evaluated network once, its U and the probability that it satisfies 1r, as believed."""
        seen = np.unique(self.space.canonical(self._seen()), axis=0)
        if not len(seen):
            return seen, np.zeros(0), np.zeros(0)
        belief = self.believe(seen)
        return seen, belief.performance(), belief.holds(bound)

    def wish(self, demand: float | None = None) -> Wish:
        """To improve on the best of what was evaluated, under 1r or another demand."""
        bound = self.bound if demand is None else demand
        return Wish(np.float64(bound), np.float64(self.incumbent(bound)[2]))

    def imagine(self, picked: IntArray, decisions: IntArray) -> Belief:
        """The belief of networks [n, sites], had the `picked` [m, sites] come out as believed."""
        extra = self.inputs(picked)
        mean, _ = self.surrogate.predict(extra)
        old = self.surrogate
        imagined = Surrogate(old.prior_mean, old.prior_sd, self.smooth_scale, old.log_sd)
        noise = np.concatenate([old.noise, np.full(len(mean), float(np.median(old.noise)) if len(old.noise) else 0.1)])
        imagined.fit(old.inputs.joined(extra), np.concatenate([old.target, mean]), noise, tune=False)
        return self._belief(imagined, decisions)
