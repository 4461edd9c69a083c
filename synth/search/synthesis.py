"""The cycle of generative synthesis: generate, probe and observe, update the inquisitor, then the generator.

Everything here is a deterministic function of (seed, observations): a run that replays what it recorded reaches the
same state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from synth.search.acquisition import Belief
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, Problem, rows
from synth.search.generator import Generator
from synth.search.inquisitor import AT_THE_END, Inquisitor
from synth.search.moves import log_cost, repair, violation

FRESH_COUNT = 64  # seeds of the unbiased count
FRESH_EVERY = 4  # cycles in which one candidate is a fresh seed's; G made most of the others too, by its targets
FRESH_FROM = 1_000_000  # seeds of the unbiased count, never used for learning
FRESH_TRIES = 32  # seeds, until one gives a network that was not evaluated yet
BATCH_SEEDS = 16  # seeds a Δθ_G is fitted to
LAST_STEPS, LAST_SEEDS = 8, 64  # steps after the last cycle, and the seeds of each
SAFETY = 3.0  # NetScore points that seeds aim lower in the end than while there is something to find out, at first
LIKELY, REACT = 0.75, 6.0  # share of fresh seeds that 1r shall hold for by belief; points of safety per share missed


@dataclass(frozen=True)
class Settings:
    """cycles: how many; batch: candidates evaluated in each; seed: of everything."""

    cycles: int = 16
    batch: int = 4
    seed: int = 0


@dataclass(frozen=True)
class CycleReport:
    """What a cycle did, for progress, records and the report.

    candidates and observations: what was evaluated, in order, with why ("improve", "uncertain", "fresh"; "" for what
    a run that is replayed elsewhere would not propose there). incumbent: the U to improve on after the cycle. best: U
    of the best network so far that likely satisfies 1r, None before there is one. feasible_share: of fresh seeds,
    requirements on costs only, before repair. foreseen: what the inquisitor believed of the candidates before they were
    evaluated.
    """

    cycle: int
    candidates: list[Decisions]
    reasons: list[str]
    observations: list[Observation]
    incumbent: float
    best: float | None
    feasible_share: float
    generator: Generator = field(repr=False)
    inquisitor: Inquisitor = field(repr=False)
    foreseen: Belief = field(repr=False)


class Synthesis:
    """One run of generative synthesis on a problem. inquisitor: what makes I; another class is another way to Δθ_G.
    in_full: networks that were trained in full before, and their accuracy."""

    def __init__(self, problem: Problem, settings: Settings | None = None, inquisitor: type[Inquisitor] = Inquisitor,
                 in_full: Sequence[tuple[Decisions, float]] = ()):
        self.problem = problem
        self.settings = settings or Settings()
        torch.set_num_threads(1)
        self.inquisitor = inquisitor(problem, self.settings.seed)
        self.inquisitor.begin(problem.initial(), problem.probe_table(), in_full)
        self.generator = Generator(problem.space.sites, seed=self.settings.seed)
        low, high = self.target_band()
        self.generator.aim(self._log_cost, low, high, self.seeds_of(0))
        self.reports: list[CycleReport] = []
        self._move_generator(0)

    def _log_cost(self, decisions: IntArray) -> FloatArray:
        return log_cost(self.problem.space, self.problem.space.canonical(decisions))

    def seeds_of(self, cycle: int) -> list[int]:
        """Seeds that the cycle learns from: consecutive, so that their preferences are stratified."""
        return [cycle * BATCH_SEEDS + index for index in range(BATCH_SEEDS)]

    def target_band(self) -> tuple[float, float]:
        """Log cost (parameters times MACs) within which the generator's median starts.

        Around what satisfies the requirements on costs, when there are any; around the best known network, when one is
        known; else around the middle of the space.
        """
        space, moves = self.problem.space, self.inquisitor.moves
        random = np.random.default_rng([self.settings.seed, 0x3])
        probe = moves.random(512, random)
        cost = log_cost(space, probe)
        best, _, _ = self.inquisitor.theory.incumbent()
        centre = float(log_cost(space, best[:1])[0]) if len(best) else float(np.median(cost))
        holds = violation(self.problem.requirements, space.costs(probe)) <= 0
        if self.problem.requirements.cost_slack(space.costs(probe[:1])).size and holds.any():
            centre = min(centre, float(np.quantile(cost[holds], 0.75)))
        width = 0.1 * float(cost.std() + 1e-6)
        return centre - width, centre + width

    def run(self) -> Generator:
        """All cycles; returns the learned generator."""
        for cycle in range(self.settings.cycles):
            self.cycle(cycle)
        self.consolidate()
        return self.generator

    def consolidate(self) -> None:
        """The last steps of the generator, when nothing more will be evaluated: many seeds, and as much safety as it
        takes for most of them to satisfy 1r."""
        self.inquisitor.safety, self.inquisitor.radius = SAFETY, math.inf
        first = (self.settings.cycles + 1) * BATCH_SEEDS
        for number in range(LAST_STEPS):
            seeds = list(range(first + number * LAST_SEEDS, first + (number + 1) * LAST_SEEDS))
            self.generator.move(self.inquisitor.step(self.generator, seeds, AT_THE_END).delta)
            fresh = self._fresh()
            self.inquisitor.keep_clear(fresh)
            share = float(self.inquisitor.theory.believe(fresh).holds(self.inquisitor.theory.bound).mean())
            self.inquisitor.safety = max(self.inquisitor.safety + REACT * (LIKELY - share), 0.0)

    def cycle(self, cycle: int) -> CycleReport:
        """One cycle, in the paper's order."""
        proposed = self.candidates(cycle)
        observations = self.problem.evaluate(cycle, list(proposed))
        candidates = [observation.decisions for observation in observations]
        foreseen = self.inquisitor.theory.believe(rows(candidates, len(self.problem.space.sites)))
        self.inquisitor.theory.observe(observations, self.problem.probe_table())
        self._judge_last_step()
        self._move_generator(cycle + 1)
        fresh = self._fresh()
        self.inquisitor.keep_clear(fresh)
        share = float((violation(self.problem.requirements, self.problem.space.costs(fresh)) <= 0).mean())
        theory = self.inquisitor.theory
        report = CycleReport(
            cycle, candidates, [proposed.get(decisions, "") for decisions in candidates], observations,
            theory.incumbent()[2], theory.best(), share, self.generator, self.inquisitor, foreseen)
        self.reports.append(report)
        self.problem.end_cycle(cycle, report)
        return report

    def _fresh(self) -> IntArray:
        """[FRESH_COUNT, sites] what G makes of seeds it did not learn from, not repaired."""
        return self.problem.space.canonical(self.generator.generate(range(FRESH_FROM, FRESH_FROM + FRESH_COUNT)))

    def candidates(self, cycle: int) -> dict[Decisions, str]:
        """{what to evaluate next: why}: `Inquisitor.candidates`, and every few cycles one fresh seed."""
        batch = self.settings.batch
        uncertain = int(batch >= 3 and np.isfinite(self.inquisitor.theory.bound))
        fresh = int(cycle % FRESH_EVERY == FRESH_EVERY - 1)
        picked = self.inquisitor.candidates(*self.pool, max(batch - fresh - uncertain, 0), uncertain)
        missing = batch - len(picked)
        if not missing:
            return picked
        known = {observation.decisions for observation in self.inquisitor.theory.observations}
        first = FRESH_FROM + 1000 + cycle * FRESH_TRIES
        made = [network for network in self.make(range(first, first + FRESH_TRIES)) if network not in picked]
        made.sort(key=known.__contains__)  # of a small space all may be known
        return picked | dict.fromkeys(list(dict.fromkeys(made))[:missing], "fresh")

    def make(self, seeds: Sequence[int]) -> list[Decisions]:
        """G(s), repaired where requirements on costs are missed."""
        fixed, _, _ = repair(self.inquisitor.moves, self.problem.requirements, self.generator.generate(seeds))
        return [tuple(int(c) for c in row) for row in fixed]

    def _move_generator(self, cycle: int) -> None:
        """Δθ_G = I(G); θ_G ← θ_G + Δθ_G. Keeps what is needed to judge the step once more is known."""
        self._last = self.inquisitor.step(self.generator, self.seeds_of(cycle))
        self.pool = self.inquisitor.pool.join()
        self._before = self.generator.vector()
        self.generator.move(self._last.delta)

    def _judge_last_step(self) -> None:
        """Set the trust region by what the last step gained, by the inquisitor as it is now."""
        wish = self.inquisitor.wishes(self._last.seeds)
        after = self.inquisitor.worth(self.generator, self._last.seeds, wish)
        now = self.generator.vector()
        self.generator.move(self._before - now)
        before = self.inquisitor.worth(self.generator, self._last.seeds, wish)
        self.generator.move(now - self._before)
        self.inquisitor.trust(after - before, self._last.predicted_gain)
