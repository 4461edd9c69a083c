"""Generative synthesis with one part taken away or replaced, by the same run otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from landscapes import Landscape
from rivals import observed, ours, synthesise

from synth.search.acquisition import Pool, log_improvement
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, Problem, choice_counts, rows
from synth.search.generator import Generator
from synth.search.inquisitor import IN_CYCLES, Inquisitor, Pace
from synth.search.moves import Moves
from synth.search.probe_table import ProbeTable
from synth.search.step import Step

SAMPLES, ROUNDS, RATE = 24, 12, 0.03  # REINFORCE: networks drawn a seed and round, rounds a step, step size
SIGMA = 0.05  # CMA-ES: first step size, about that of the parameters' own spread after a few steps
ENTROPY = 0.02  # nats of reward per nat of entropy and site


class Changed:
    """A problem with some of its parts replaced."""

    def __init__(self, problem: Landscape, **parts: Any) -> None:
        self._problem, self._parts = problem, parts

    def __getattr__(self, name: str) -> Any:
        return self._parts[name] if name in self._parts else getattr(self._problem, name)


# --- what probing is worth -------------------------------------------------------------------------------------------


def table_of_costs(problem: Landscape) -> ProbeTable:
    """As many statistics as probing has, of costs instead: what a single swap in φ saves of parameters, MACs, both and
    predicted energy, in nats; a swap that saves more is believed to lose more."""
    real, space = problem.probe_table(), problem.space
    counts = choice_counts(space.sites)
    whole = (counts - 1)[None, :]
    names = ("params", "macs", *(key for key in space.costs(whole) if key.startswith("img_per_joule")))
    table = ProbeTable(space.sites, [f"cost {i}" for i in range(len(real.names))], [1] * len(real.names))
    for j, n in enumerate(counts):
        swapped = np.repeat(whole, n, axis=0)
        swapped[:, j] = np.arange(n)
        now, before = space.costs(space.canonical(swapped)), space.costs(whole)
        saved = [np.abs(np.log(before[name] / now[name])) for name in names]
        saved.append(saved[0] + saved[1])
        for choice in range(n):
            table.record(j, choice, [saved[i % len(saved)][choice] for i in range(len(real.names))])
    return table


def shuffled(problem: Landscape) -> ProbeTable:
    """The probe table with all responses of a site given to another of its kind and number of choices."""
    real = problem.probe_table()
    random = np.random.default_rng([problem.number, problem.run_seed, 31])
    table = ProbeTable(problem.space.sites, real.names, [int(s) for s in real.signs])
    groups: dict[tuple[str, int], list[int]] = {}
    for j, site in enumerate(problem.space.sites):
        groups.setdefault((site.kind, len(site.choices)), []).append(j)
    for places in groups.values():
        sources = random.permutation(places)
        table.values[places], table.visits[places] = real.values[sources], real.visits[sources]
    return table


def cost_features(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    table = table_of_costs(landscape)
    return ours(Changed(landscape, probe_table=lambda: table), evaluations, batch)


def shuffled_responses(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    table = shuffled(landscape)
    return ours(Changed(landscape, probe_table=lambda: table), evaluations, batch)


# --- what the space and the cost model are worth ---------------------------------------------------------------------


def width_only(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """φ's operators and blocks everywhere; anchors of the same cost levels, trained in full as the others are."""
    space = landscape.space
    last = choice_counts(space.sites) - 1
    fixed = np.array([site.kind != "width" for site in space.sites])

    def canonical(decisions: IntArray) -> IntArray:
        return space.canonical(np.where(fixed[None, :], last[None, :], decisions))

    anchors = [tuple(int(c) for c in canonical(np.round(share * last).astype(np.int64)[None, :])[0])
               for share in (0.5, 0.25)]  # fmt: skip
    initial = [landscape.initial()[0], *trained_in_full(landscape, anchors)]
    narrow = Changed(space, canonical=canonical)
    return ours(Changed(landscape, space=narrow, initial=lambda: initial), evaluations, batch)


def trained_in_full(landscape: Landscape, anchors: Sequence[Decisions]) -> list[Observation]:
    final = landscape.accuracy(rows(anchors, len(landscape.space.sites)))
    seen = landscape.observe(np.random.default_rng([landscape.number, landscape.run_seed, 998]), anchors)
    return [Observation(o.decisions, o.log_loss, o.log_loss_se, o.accuracy, float(a))
            for o, a in zip(seen, final, strict=True)]  # fmt: skip


def energy_from_macs(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Energy as a line in MACs, the best there is over random networks of the space, instead of the cost model; whether
    a network satisfies 1r is judged by the cost model all the same."""
    space = landscape.space
    drawn = Moves(space).random(2000, np.random.default_rng(32))
    costs = space.costs(drawn)
    lines = {key: np.polyfit(costs["macs"], 1.0 / costs[key], 1) for key in costs if key.startswith("img_per_joule")}

    def priced(decisions: IntArray) -> dict[str, FloatArray]:
        found = dict(space.costs(decisions))
        return found | {key: 1.0 / np.maximum(np.polyval(line, found["macs"]), 1e-9) for key, line in lines.items()}

    return ours(Changed(landscape, space=Changed(space, costs=priced)), evaluations, batch)


# --- what Δθ_G by fitting is worth -----------------------------------------------------------------------------------


class DrawingInquisitor(Inquisitor):
    """One that draws by chance."""

    def __init__(self, problem: Problem, seed: int = 0):
        super().__init__(problem, seed)
        self.random = np.random.default_rng([seed, 0x1])


class ReinforceInquisitor(DrawingInquisitor):
    """Δθ_G by REINFORCE (Williams 1992) on the same belief and wishes: no local search, no targets; what is evaluated
    comes from what was drawn."""

    def step(self, generator: Generator, seeds: Sequence[int], pace: Pace = IN_CYCLES) -> Step:
        seeds = list(seeds)
        wish = self.wishes(seeds)
        self.pool = Pool()
        latents, preferences = generator.conditions(seeds)
        start, before = generator.vector(), self.worth(generator, seeds, wish)
        random = torch.Generator().manual_seed(int(self.random.integers(2**31)))
        mean, square = torch.zeros_like(start), torch.zeros_like(start)
        parameters = list(generator.parameters())
        for number in range(1, ROUNDS + 1):
            log_p = generator.log_probabilities(latents, preferences)
            flat = log_p.detach().exp().reshape(-1, log_p.shape[-1])
            picks = torch.multinomial(flat, SAMPLES, replacement=True, generator=random)
            picks = picks.reshape(*log_p.shape[:2], SAMPLES)  # [seeds, sites, samples]
            drawn = self.space.canonical(picks.permute(0, 2, 1).reshape(-1, log_p.shape[1]).numpy())
            belief = self.theory.believe(drawn, self.margin)
            self.pool.add(drawn, belief)
            value = np.clip(log_improvement(belief, wish.take(np.repeat(np.arange(len(seeds)), SAMPLES))), -40.0, None)
            reward = torch.from_numpy(value.reshape(len(seeds), SAMPLES))
            gain = (reward - reward.mean(1, keepdim=True)) / (reward.std() + 1e-6)
            likely = log_p.gather(-1, picks).sum(1)
            entropy = -(log_p.exp() * log_p.masked_fill(torch.isinf(log_p), 0.0)).sum(-1).mean()
            loss = -(gain * likely).mean() - ENTROPY * log_p.shape[1] * entropy
            slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
            mean.lerp_(slope, 0.1)
            square.lerp_(slope * slope, 0.01)
            rate = RATE * (1 - 0.99**number) ** 0.5 / (1 - 0.9**number)
            generator.move(-rate * mean / (square.sqrt() + 1e-8))
        delta = generator.vector() - start
        after = self.worth(generator, seeds, wish)
        generator.move(start - generator.vector())
        return Step(delta, seeds, after - before)


class EvolvingInquisitor(DrawingInquisitor):
    """Δθ_G by CMA-ES with a diagonal covariance (Ros and Hansen 2008), on the mean log improvement of what G makes of
    the seeds: no local search, no targets, as many networks looked at as by REINFORCE; what is evaluated comes from
    these."""

    def step(self, generator: Generator, seeds: Sequence[int], pace: Pace = IN_CYCLES) -> Step:
        import cmaes

        seeds = list(seeds)
        wish = self.wishes(seeds)
        self.pool = Pool()
        start, before = generator.vector(), self.worth(generator, seeds, wish)
        evolution = cmaes.SepCMA(np.zeros(len(start)), SIGMA, seed=int(self.random.integers(2**31)),
                                 population_size=SAMPLES)
        best, delta = before, torch.zeros_like(start)
        for _ in range(ROUNDS):
            tried = []
            for _ in range(SAMPLES):
                point = evolution.ask()
                generator.move(start + torch.from_numpy(point) - generator.vector())
                made = self.space.canonical(generator.generate(seeds))
                belief = self.theory.believe(made, self.margin)
                self.pool.add(made, belief)
                worth = float(np.clip(log_improvement(belief, wish), -8.0, None).mean())
                if worth > best:
                    best, delta = worth, torch.from_numpy(point)
                tried.append((point, -worth))
            evolution.tell(tried)
        generator.move(start - generator.vector())
        return Step(delta, seeds, best - before)


def evolved(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    return observed(synthesise(landscape, evaluations, batch, EvolvingInquisitor))


def reinforce(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    return observed(synthesise(landscape, evaluations, batch, ReinforceInquisitor))


ABLATIONS = {
    "probes: cost features": cost_features,
    "probes: shuffled": shuffled_responses,
    "width only": width_only,
    "energy from MACs": energy_from_macs,
    "Δθ_G by REINFORCE": reinforce,
    "Δθ_G by CMA-ES": evolved,
}
