"""I(G; θ_I): turns what probing and evaluation taught into the generator's next step, Δθ_G = I(G).

θ_I is a theory (`search.theory`), by which something is believed of every network of the space. Δθ_G moves the
generator towards networks that a local search on that belief wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.objective.performance import frugality, performance
from synth.search.acquisition import SOFT, Belief, Pool, Wish, best_together, climb, log_improvement, spread_targets
from synth.search.decisions import Decisions, IntArray, Observation, Problem, rows
from synth.search.generator import PREFERENCES, Generator, preference
from synth.search.moves import Moves, violation
from synth.search.probe_table import ProbeTable
from synth.search.scaled import scaled_networks
from synth.search.step import Step, fit
from synth.search.theory import Theory

HUNTERS, DRAWN = 6, 6  # local searches that start from the best networks evaluated so far, and from scaled ones
GREEDY_STEPS, SEED_STEPS = 10, 6  # of local search, for hunters and for seeds
CARELESS, MOST_FRUGAL = 0.6, 2.0  # share of seeds that energy is nothing to, and what a decibel is worth to the last
CAUTION = 6.0  # NetScore points that the most cautious seed aims below the best known
SEARCHED = 16  # seeds of a step that search for themselves; the others choose from what these found
NEAREST = 0.06  # least cost-weighted distance between targets, below which they crowd
FIRST_RADIUS, LEAST_RADIUS, GREATEST_RADIUS = 0.5, 0.1, 1.5  # of the trust region, nats per site
PROMISING, DRAWS = 200, 512  # networks of a pool that are looked at closely, and draws of what they may have together
TAIL = 0.1  # share of seeds whose worst slack sets how far targets keep from bounds on costs


@dataclass(frozen=True)
class Pace:
    """How one Δθ_G follows. pull: nats that a target pays for the whole distance from G(s), beyond what other seeds are
    away from it; crowded: nats that it pays for each other seed's target at the same place; iterations: of the fit."""

    pull: float
    crowded: float
    iterations: int


# While cycles learn, seeds keep to where they are and apart, so that what is wanted of them changes little. In the end
# they need not: fitted closely to targets that may be neighbours, what G makes is 1.8 to 2.5 NetScore points better at
# as much 1r (replayed on digits, numbers 1 to 9), and less different.
IN_CYCLES, AT_THE_END = Pace(3.0, 1.0, 24), Pace(0.0, 0.1, 50)


class Inquisitor:
    """What is wanted by a theory θ_I, and what to do about it. Deterministic in (seed, observations, probe table)."""

    def __init__(self, problem: Problem, seed: int = 0):
        self.space, self.requirements = problem.space, problem.requirements
        self.theory = Theory(problem, seed)
        self.moves = Moves(self.space)
        self.radius = FIRST_RADIUS
        self.safety = 0.0  # NetScore points that every seed aims lower, for the sake of 1r
        self.margin = 0.0  # relative slack that targets keep from bounds on costs
        self.scaled = scaled_networks(self.space)
        self.pool = Pool()

    def begin(self, known: Sequence[Observation], table: ProbeTable,
              in_full: Sequence[tuple[Decisions, float]] = ()) -> None:
        """Learn what is known before the first cycle, of some networks after full training only (their accuracy).
        Those of `known` are drawn at other sizes, too."""
        self.theory.observe(known, table)
        if in_full:
            self.theory.observe_in_full(in_full)
        self.scaled = scaled_networks(self.space, rows((o.decisions for o in known), len(self.space.sites)))

    # --- what is wanted --------------------------------------------------------------------------------------------

    def wishes(self, seeds: Sequence[int]) -> Wish:
        """What each seed is after, by its preference: how accurate raises the demand on accuracy from the bound
        towards the best known; how small lowers the caution; how frugal, beyond what most seeds are, makes images per
        joule worth something beside U."""
        wants = np.array([preference(seed) for seed in seeds]).reshape(-1, PREFERENCES)
        caution = self.safety + CAUTION * (1.0 - wants[:, 1])
        frugal = MOST_FRUGAL * np.maximum(wants[:, 2] - CARELESS, 0.0) / (1.0 - CARELESS)
        seen, _, reference = self.theory.incumbent()
        if not len(seen):
            return Wish(np.full(len(wants), self.theory.bound), reference - caution, np.zeros(len(wants)))
        belief = self.theory.believe(seen)
        # what breaks a requirement on costs (φ itself, often) is no measure of how accurate or good a network can be
        allowed = belief.violation <= 0 if (belief.violation <= 0).any() else belief.violation >= 0
        best = float(belief.log_error[allowed].min())
        loosest = min(self.theory.bound, float(belief.log_error.max()))
        demand = loosest - 0.8 * wants[:, 0] ** 2 * max(loosest - best, 0.0)
        if not np.isfinite(self.theory.bound):
            demand = np.where(wants[:, 0] < 0.3, np.inf, demand)
        u = belief.performance()
        meets = allowed & (belief.log_error <= np.minimum(demand, self.theory.bound)[:, None])
        known = np.where(meets, u[None, :], -np.inf).max(axis=1)
        known = np.where(np.isfinite(known), np.minimum(known, reference), reference)
        saved = frugal[:, None] * (frugality(belief.costs) * np.ones(len(seen)))[None, :]
        gained = np.where(meets, u[None, :] + saved, -np.inf).max(axis=1)
        known = np.where(np.isfinite(gained) & (frugal > 0), gained, known)
        return Wish(demand, known - caution, frugal)

    def search(self, starts: IntArray, wish: Wish) -> tuple[IntArray, Belief]:
        """The pool of networks worth looking at: local searches from `starts` [b, sites] for the wishes [b] of their
        seeds; and, for improvement alone, `hunt`. Returns (pool [n, sites], belief)."""
        self.pool = Pool()
        climb(self.moves, lambda d: self.theory.believe(d, self.margin), starts, wish, self.pool, SEED_STEPS)
        self.hunt(self.theory.wish())
        return self.pool.join()

    def hunt(self, wish: Wish) -> None:
        """Put into the pool what one wish (of no dimension, nothing frugal) leads to from the best networks evaluated
        and from the most promising of those that a person would draw."""
        drawn = self.theory.believe(self.scaled, self.margin)
        self.pool.add(self.scaled, drawn)
        promise = log_improvement(drawn, wish)
        best = self.theory.incumbent(float(wish.demand))[0]
        hunters = np.concatenate([best[:HUNTERS], self.scaled[np.argsort(-promise, kind="stable")[:DRAWN]]])
        greedy = Wish(np.full(len(hunters), wish.demand), np.full(len(hunters), wish.reference))
        climb(self.moves, lambda d: self.theory.believe(d, self.margin), hunters, greedy, self.pool, GREEDY_STEPS)

    def step(self, generator: Generator, seeds: Sequence[int], pace: Pace = IN_CYCLES) -> Step:
        """Δθ_G = I(G): search from G(s) for what each seed should have become, and the step that makes it so."""
        seeds = list(seeds)
        wish, starts = self.wishes(seeds), self.space.canonical(generator.generate(seeds))
        some = np.arange(0, len(seeds), max(1, len(seeds) // SEARCHED))
        decisions, belief = self.search(starts[some], wish.take(some))
        values = log_improvement(belief, Wish(wish.demand[:, None], wish.reference[:, None],
                                                np.asarray(wish.frugal)[:, None]))
        away = self.moves.distance(starts, decisions)
        values = values - pace.pull * (away - away.mean(axis=0))
        chosen = spread_targets(self.moves, decisions, values, NEAREST, pace.crowded)
        delta = fit(generator, seeds, decisions[chosen], self.radius, pace.iterations)
        before = self.worth(generator, seeds, wish)
        generator.move(delta)
        after = self.worth(generator, seeds, wish)
        generator.move(-delta)
        return Step(delta, seeds, after - before)

    def worth(self, generator: Generator, seeds: Sequence[int], wish: Wish) -> float:
        """Mean log improvement of what G makes of the seeds, each for its wish; clipped, so that no single network
        that breaks a requirement decides."""
        value = log_improvement(self.theory.believe(self.space.canonical(generator.generate(seeds))), wish)
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

    def candidates(self, pool: IntArray, belief: Belief, improving: int, uncertain: int) -> dict[Decisions, str]:
        """{what to evaluate next: why}: `improving` networks of a pool by expected improvement, and `uncertain` ones
        where 1r is, of those that a person would draw, whose order by cost tells most of where it begins to bind."""
        picked = {tuple(row.tolist()): "improve" for row in self.improving(pool, belief, improving)}
        drawn = rows((row for row in map(tuple, self.scaled.tolist()) if row not in picked), len(self.space.sites))
        return picked | {tuple(row.tolist()): "uncertain" for row in self.uncertain(drawn, uncertain)}

    def improving(self, decisions: IntArray, belief: Belief, count: int, wish: Wish | None = None) -> IntArray:
        """`count` networks of a pool, of which the best is expected to improve most: under 1r, or for another wish (of
        no dimension, nothing frugal)."""
        wish = wish or self.theory.wish()
        top, belief = self._promising(decisions, belief, wish)
        if not len(top) or not count:
            return decisions[:0]
        bound, reference = float(wish.demand), float(wish.reference)
        # the link errs for all networks alike, so that what is bold fails together: the first plays safe
        shift = self.theory.link.common_sd(belief.log_error_sd, belief.log_loss_sd)
        safe = int(np.argmax(log_improvement(belief, Wish(bound - shift, wish.reference))))
        errors = self.theory.draw(decisions[top], DRAWS)
        u = performance(1.0 - np.exp(np.minimum(errors, -1e-3)), belief.costs)
        worth = np.where(errors <= bound, SOFT * np.logaddexp(0.0, (u - reference) / SOFT), 0.0)
        chosen: IntArray = decisions[top[best_together(worth, count, [safe])]]
        return chosen

    def uncertain(self, decisions: IntArray, count: int) -> IntArray:
        """`count` networks where it is least known whether 1r holds among those that would improve, each after the
        others as if these had come out as believed."""
        wish = self.theory.wish()
        top, now = self._promising(decisions, self.theory.believe(decisions), wish)
        picked: list[int] = []
        for _ in range(min(count, len(top))):
            if picked:
                now = self.theory.imagine(decisions[picked], decisions[top])
            chance = np.clip(now.holds(self.theory.bound), 1e-9, 1 - 1e-9)
            doubt = -(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
            gain = performance(1 - np.exp(min(self.theory.bound, -1e-3)), now.costs) - wish.reference
            best = int(np.argmax(np.log(doubt) - np.logaddexp(0.0, -gain)))  # log of gain's logistic function
            picked.append(int(top[best]))
            top = np.delete(top, best)
        return decisions[picked]

    def _promising(self, decisions: IntArray, belief: Belief, wish: Wish) -> tuple[IntArray, Belief]:
        """(rows that are worth a closer look, best first: networks that were not evaluated yet and hold the
        requirements on costs; the belief of these)."""
        seen = {o.decisions for o in self.theory.observations}
        fresh = np.array([tuple(int(c) for c in row) not in seen for row in decisions], dtype=bool)
        # targets keep clear of bounds on costs for the sake of seeds; what is evaluated need only hold them
        belief = replace(belief, violation=violation(self.requirements, belief.costs))
        value = np.where(fresh & (belief.violation <= 0), log_improvement(belief, wish), -np.inf)
        top = np.argsort(-value, kind="stable")[:PROMISING]
        top = top[np.isfinite(value[top])]
        return top, belief.take(top)
