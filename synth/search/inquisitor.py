"""I(G; θ_I): turns what probing and evaluation taught into the generator's next step, Δθ_G = I(G).

θ_I predicts the log loss after the usual short training from exact costs, the probe table and the decisions
(`search.surrogate`), links it to the accuracy after full training (`search.link`), and with both believes something of
every network of the space. Δθ_G moves the generator towards networks that a local search on that belief wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.objective.performance import frugality, performance
from synth.search.acquisition import Belief, Pool, Wish, climb, log_improvement, spread_targets
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, Problem, rows
from synth.search.generator import PREFERENCES, Generator, preference
from synth.search.link import Link, least_error, log_error
from synth.search.moves import Moves, violation
from synth.search.probe_table import SLOPE, ProbeTable
from synth.search.scaled import scaled_networks
from synth.search.step import Step, fit_step
from synth.search.surrogate import PRIOR_LOG_SD, Inputs, SiteKernel, Surrogate

# priors of the linear weights, log loss per unit of the feature
LEVEL_SD = 1.0
COST_SLOPE, COST_SLOPE_SD = -0.12, 0.15  # per nat of parameters, and of MACs: more of either loses less
REFERENCE_NETWORKS = 256  # over which features are standardised
HUNTERS, DRAWN = 6, 6  # local searches that start from the best networks evaluated so far, and from scaled ones
GREEDY_STEPS, SEED_STEPS = 10, 6  # of local search, for hunters and for seeds
CARELESS, MOST_FRUGAL = 0.6, 2.0  # share of seeds that energy is nothing to, and what a decibel is worth to the last
CAUTION = 6.0  # NetScore points that the most cautious seed aims below the best known
SEARCHED = 16  # seeds of a step that search for themselves; the others choose from what these found
PULL = 8.0  # nats that a target pays for the whole distance from G(s): near ones are learnt, far ones only recited
NEAREST, CROWDED = 0.06, 1.0  # least cost-weighted distance between targets, and nats paid below it
FIRST_RADIUS, LEAST_RADIUS, GREATEST_RADIUS = 0.5, 0.1, 1.5  # of the trust region, nats per site
TAIL = 0.1  # share of seeds whose worst slack sets how far targets keep from bounds on costs


@dataclass(frozen=True)
class Insight:
    """One Δθ_G with its reasons. targets: [seeds, sites] N*; predicted_gain: mean gain in log improvement that the
    inquisitor expects for the same seeds."""

    step: Step
    seeds: list[int]
    targets: IntArray
    predicted_gain: float


class Inquisitor:
    """θ_I and what is done with it. Deterministic in (seed, observations, probe table)."""

    def __init__(self, problem: Problem, seed: int = 0):
        self.problem, self.space, self.requirements = problem, problem.space, problem.requirements
        self.moves = Moves(self.space)
        self.random = np.random.default_rng([seed, 0x1])
        self.radius = FIRST_RADIUS
        self.safety = 0.0  # NetScore points that every seed aims lower, for the sake of 1r
        self.margin = 0.0  # relative slack that targets keep from bounds on costs
        self.observations: list[Observation] = []
        self.in_full: list[tuple[Decisions, float]] = []  # networks that had only a full training, and its accuracy
        bound, least = self.requirements.accuracy_bound, least_error(self.requirements.validation_images)
        self.bound = np.inf if bound is None else float(log_error(bound, least))
        self.scaled = scaled_networks(self.space)
        self.reference = self.moves.random(REFERENCE_NETWORKS, np.random.default_rng([seed, 0x2]))
        self.smooth_scale = self.space.summary(self.reference).std(axis=0)
        self.log_sd = PRIOR_LOG_SD
        self.kernel = SiteKernel(self.space.sites)
        self.pool = Pool(len(self.space.sites))
        self.observe([], problem.probe_table())

    # --- θ_I -------------------------------------------------------------------------------------------------------

    def observe(self, observations: Sequence[Observation], table: ProbeTable) -> None:
        """Update θ_I with new observations and the probe table as it stands now."""
        self.observations += observations
        self.table, self.filled = table, table.filled()
        raw = self._raw(self.reference)
        self.centre, self.spread = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-9)
        self.spread[:2] = 1.0  # costs stay in nats
        mean = np.concatenate([[0.0], [COST_SLOPE] * 2, SLOPE * table.signs])
        spread = np.concatenate([[LEVEL_SD], [COST_SLOPE_SD] * 2, [table.slope_sd] * len(table.signs)])
        self.surrogate = Surrogate(self.kernel, mean, spread, self.smooth_scale, self.log_sd)
        self.link = Link(least_error=least_error(self.requirements.validation_images))
        seen = self._seen()
        target = np.array([o.log_loss for o in self.observations])
        noise = np.array([o.log_loss_se for o in self.observations])
        self.surrogate.fit(self.inputs(self.space.canonical(seen)), target, noise)
        self.log_sd = self.surrogate.log_sd  # where the next marginal likelihood starts
        if self.observations:
            self._fit_link()

    def observe_in_full(self, trained: Sequence[tuple[Decisions, float]]) -> None:
        """Learn what full training made of networks (their accuracy) whose short training nobody saw: of the surrogate
        they say nothing, of the link much."""
        self.in_full += trained
        self._fit_link()

    def _fit_link(self) -> None:
        believed, _ = self.surrogate.predict(self.surrogate.inputs)
        unseen = None
        if self.in_full:
            networks = self.space.canonical(rows((d for d, _ in self.in_full), len(self.space.sites)))
            accuracies = np.array([accuracy for _, accuracy in self.in_full])
            unseen = self.surrogate.predict(self.inputs(networks))[0], accuracies
        self.link.fit(self.observations, believed, unseen)

    def inputs(self, decisions: IntArray, costs: Mapping[str, FloatArray] | None = None) -> Inputs:
        """What the surrogate sees of networks [n, sites], whose costs need not be computed when they are known."""
        linear = (self._raw(decisions, costs) - self.centre) / self.spread
        return Inputs(decisions, np.column_stack([np.ones(len(decisions)), linear]), self.space.summary(decisions))

    def _seen(self) -> IntArray:
        return rows((o.decisions for o in self.observations), len(self.space.sites))

    def _raw(self, decisions: IntArray, costs: Mapping[str, FloatArray] | None = None) -> FloatArray:
        costs = self.space.costs(decisions) if costs is None else costs
        logs = [np.log(np.maximum(costs[name], 1.0)) for name in ("params", "macs")]
        return np.column_stack([*logs, self.table.features(decisions, self.filled)])

    def believe(self, decisions: IntArray, margin: float = 0.0) -> Belief:
        """The belief of networks [n, sites]; `margin` is the slack demanded on requirements on costs."""
        return self._belief(self.surrogate, decisions, margin)

    def _belief(self, surrogate: Surrogate, decisions: IntArray, margin: float = 0.0) -> Belief:
        costs = self.space.costs(decisions)
        mean, sd = surrogate.predict(self.inputs(decisions, costs))
        error, error_sd = self.link.final_log_error(mean, sd)
        return Belief(mean, sd, error, error_sd, costs, violation(self.requirements, costs, margin))

    # --- what is wanted --------------------------------------------------------------------------------------------

    def incumbent(self) -> tuple[IntArray, FloatArray, float]:
        """Evaluated networks, best first by U times the probability that 1r holds; these values; the U to improve
        on: the best that more likely than not satisfies 1r."""
        seen = np.unique(self.space.canonical(self._seen()), axis=0)
        if not len(seen):
            return seen, np.zeros(0), float(np.quantile(performance(0.5, self.space.costs(self.reference)), 0.5))
        belief = self.believe(seen)
        u, holds = belief.performance(), belief.holds(self.bound)
        floor = u.min() - 10.0
        worth = holds * (u - floor)
        order = np.argsort(-worth, kind="stable")
        likely = u[holds >= 0.5]
        reference = float(likely.max()) if len(likely) else float(floor + worth.max())
        return seen[order], worth[order], reference

    def wishes(self, seeds: Sequence[int]) -> Wish:
        """What each seed is after, by its preference: how accurate raises the demand on accuracy from the bound
        towards the best known; how small lowers the caution; how frugal, beyond what most seeds are, makes images per
        joule worth something beside U."""
        wants = np.array([preference(seed) for seed in seeds]).reshape(-1, PREFERENCES)
        caution = self.safety + CAUTION * (1.0 - wants[:, 1])
        frugal = MOST_FRUGAL * np.maximum(wants[:, 2] - CARELESS, 0.0) / (1.0 - CARELESS)
        seen, _, reference = self.incumbent()
        if not len(seen):
            return Wish(np.full(len(wants), self.bound), reference - caution, np.zeros(len(wants)))
        belief = self.believe(seen)
        # what breaks a requirement on costs (φ itself, often) is no measure of how accurate a network can be
        allowed = belief.violation <= 0 if (belief.violation <= 0).any() else belief.violation >= 0
        best = float(belief.log_error[allowed].min())
        loosest = min(self.bound, float(belief.log_error.max()))
        demand = loosest - 0.8 * wants[:, 0] ** 2 * max(loosest - best, 0.0)
        if not np.isfinite(self.bound):
            demand = np.where(wants[:, 0] < 0.3, np.inf, demand)
        u = belief.performance()
        meets = belief.log_error[None, :] <= np.minimum(demand, self.bound)[:, None]
        known = np.where(meets, u[None, :], -np.inf).max(axis=1)
        known = np.where(np.isfinite(known), np.minimum(known, reference), reference)
        saved = frugal[:, None] * (frugality(belief.costs) * np.ones(len(seen)))[None, :]
        gained = np.where(meets, u[None, :] + saved, -np.inf).max(axis=1)
        known = np.where(np.isfinite(gained) & (frugal > 0), gained, known)
        return Wish(demand, known - caution, frugal)

    def search(self, starts: IntArray, wish: Wish) -> tuple[IntArray, Belief]:
        """The pool of networks worth looking at: local searches from `starts` [b, sites] for the wishes [b] of their
        seeds; and, for improvement alone, from the best networks evaluated and the most promising of those that a
        person would draw. Returns (pool [n, sites], belief)."""
        self.pool = Pool(len(self.space.sites))
        climb(self.moves, lambda d: self.believe(d, self.margin), starts, wish, self.pool, SEED_STEPS)
        best, _, reference = self.incumbent()
        drawn = self.believe(self.scaled, self.margin)
        self.pool.add(self.scaled, drawn)
        promise = log_improvement(drawn, Wish(np.float64(self.bound), np.float64(reference)))
        hunters = np.concatenate([best[:HUNTERS], self.scaled[np.argsort(-promise, kind="stable")[:DRAWN]]])
        greedy = Wish(np.full(len(hunters), self.bound), np.full(len(hunters), reference))
        climb(self.moves, lambda d: self.believe(d, self.margin), hunters, greedy, self.pool, GREEDY_STEPS)
        return self.pool.join()

    def step(self, generator: Generator, seeds: Sequence[int], search: bool = True) -> Insight:
        """Δθ_G = I(G): search from G(s) for what each seed should have become, and the step that makes it so.

        Without `search` the seeds choose from what the last search found; nothing may have been observed since.
        """
        seeds = list(seeds)
        wish, starts = self.wishes(seeds), self.space.canonical(generator.generate(seeds))
        some = np.arange(0, len(seeds), max(1, len(seeds) // SEARCHED))
        decisions, belief = self.search(starts[some], wish.take(some)) if search else self.pool.join()
        values = log_improvement(belief, Wish(wish.demand[:, None], wish.reference[:, None],
                                                np.asarray(wish.frugal)[:, None]))
        values = values - PULL * self.moves.distance(starts, decisions)
        chosen = spread_targets(self.moves, decisions, values, NEAREST, CROWDED)
        targets = decisions[chosen]
        step = fit_step(generator, seeds, targets, self.radius)
        before = self.worth(generator, seeds, wish)
        generator.move(step.delta)
        after = self.worth(generator, seeds, wish)
        generator.move(-step.delta)
        return Insight(step, seeds, targets, after - before)

    def worth(self, generator: Generator, seeds: Sequence[int], wish: Wish) -> float:
        """Mean log improvement of what G makes of the seeds, each for its wish; clipped, so that no single network
        that breaks a requirement decides."""
        value = log_improvement(self.believe(self.space.canonical(generator.generate(seeds))), wish)
        return float(np.clip(value, -8.0, None).mean())

    def trust(self, realised: float, predicted: float) -> None:
        """Shrink the trust region when the realised gain falls short of the predicted one, grow it when it holds."""
        if predicted <= 1e-6:
            return
        ratio = realised / predicted
        factor = 0.7 if ratio < 0.25 else 1.3 if ratio > 0.75 else 1.0
        self.radius = float(np.clip(self.radius * factor, LEAST_RADIUS, GREATEST_RADIUS))

    def keep_clear(self, made: IntArray) -> None:
        """Set the margin that targets keep from bounds on costs, by the tail (CVaR) of the slack over networks that the
        generator made."""
        slack = self.requirements.cost_slack(self.space.costs(made))
        if not slack.size:
            return
        worst = np.sort(slack.min(axis=1))[: max(1, int(np.ceil(TAIL * len(made))))].mean()
        self.margin = float(np.clip(self.margin - 0.3 * np.clip(worst, -0.2, 0.1), 0.0, 0.15))

    # --- what to evaluate ------------------------------------------------------------------------------------------

    def propose(self, decisions: IntArray, belief: Belief, count: int, uncertain: int) -> list[IntArray]:
        """`count` networks of a pool by expected improvement, each after the others as if these had come out as
        believed; then `uncertain` ones where it is least known whether 1r holds among those that would improve."""
        seen = {o.decisions for o in self.observations}
        fresh = np.array([tuple(int(c) for c in row) not in seen for row in decisions])
        # targets keep clear of bounds on costs for the sake of seeds; what is evaluated need only hold them
        belief = replace(belief, violation=violation(self.requirements, belief.costs))
        fresh &= belief.violation <= 0
        _, _, reference = self.incumbent()
        wish = Wish(np.float64(self.bound), np.float64(reference))
        value = np.where(fresh, log_improvement(belief, wish), -np.inf)
        top = np.argsort(-value, kind="stable")[:200]
        top = top[np.isfinite(value[top])]
        picked: list[IntArray] = []
        for number in range(count + uncertain):
            if not len(top):
                break
            now = self._imagine(picked, decisions[top]) if picked else belief.take(top)
            if number >= count:
                chance = np.clip(now.holds(self.bound), 1e-9, 1 - 1e-9)
                doubt = -(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
                gain = np.logaddexp(0.0, performance(1 - np.exp(min(self.bound, -1e-3)), now.costs) - reference)
                value_now = np.log(doubt) + np.log(np.maximum(-np.expm1(-gain), np.finfo(np.float64).tiny))
            else:
                # the link errs for all networks alike, so that what is bold fails together: the first plays safe
                shift = self.link.common_sd(now.log_loss) if number == 0 else 0.0
                value_now = log_improvement(now, Wish(wish.demand - shift, wish.reference))
            best = int(np.argmax(value_now))
            picked.append(decisions[top[best]])
            top = np.delete(top, best)
        return picked

    def candidates(self, pool: IntArray, belief: Belief, improving: int, uncertain: int) -> dict[Decisions, str]:
        """{what to evaluate next: why}: `improving` networks of a pool by expected improvement, and `uncertain` ones
        where 1r is, of those that a person would draw, whose order by cost tells most of where it begins to bind."""
        picked = {tuple(row.tolist()): "improve" for row in self.propose(pool, belief, improving, 0)}
        drawn = rows((row for row in map(tuple, self.scaled.tolist()) if row not in picked), len(self.space.sites))
        return picked | {tuple(row.tolist()): "uncertain"
                         for row in self.propose(drawn, self.believe(drawn), 0, uncertain)}

    def _imagine(self, picked: list[IntArray], decisions: IntArray) -> Belief:
        """The belief of networks, had the picked ones come out as believed."""
        extra = self.inputs(np.array(picked))
        mean, _ = self.surrogate.predict(extra)
        old = self.surrogate
        imagined = Surrogate(self.kernel, old.prior_mean, old.prior_sd, self.smooth_scale, old.log_sd)
        joined = Inputs(
            np.concatenate([old.inputs.decisions, extra.decisions]),
            np.concatenate([old.inputs.linear, extra.linear]),
            np.concatenate([old.inputs.smooth, extra.smooth]),
        )
        noise = np.concatenate([old.noise, np.full(len(mean), float(np.median(old.noise)) if len(old.noise) else 0.1)])
        imagined.fit(joined, np.concatenate([old.target, mean]), noise, tune=False)
        return self._belief(imagined, decisions)
