"""Δθ_G: the step that fits G to the networks the inquisitor wants of its seeds, within a trust region."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synth.search.decisions import IntArray
from synth.search.generator import Generator

RATE = 0.03
ENTROPY_FLOOR = 0.15  # share of the greatest entropy that the choices over all seeds keep at every site
FLOOR_WEIGHT = 1.0


@dataclass(frozen=True)
class Step:
    """delta: Δθ_G as a vector. seeds: what it was worked out on. predicted_gain: mean gain in log improvement that the
    inquisitor expects of it for these seeds."""

    delta: Tensor
    seeds: list[int]
    predicted_gain: float


def fit(generator: Generator, seeds: Sequence[int], targets: IntArray, radius: float, iterations: int) -> Tensor:
    """The Δθ_G that makes `targets` [n, sites] likely for `seeds` [n], with KL(old, new) per site, in nats, at most
    `radius`, by so many iterations of Adam."""
    latents, preferences = generator.conditions(seeds)
    want = torch.from_numpy(targets)[..., None]
    new = copy.deepcopy(generator)
    start = generator.vector()
    with torch.no_grad():
        old = generator.log_probabilities(latents, preferences)
    weights = list(new.parameters())
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    greatest = torch.log(torch.tensor(generator.counts, dtype=torch.float64)).clamp_min(1e-9)
    for number in range(1, iterations + 1):
        now = new.log_probabilities(latents, preferences)
        loss = -now.gather(-1, want).mean()
        share = _entropy(now.exp().mean(dim=0)) / greatest
        floor = (ENTROPY_FLOOR - share).clamp_min(0.0).mean()
        excess = (_divergence(old, now) - radius).clamp_min(0.0)
        slopes = torch.autograd.grad(loss + FLOOR_WEIGHT * floor + 10.0 * excess, weights)
        # Adam (Kingma and Ba 2015), spelt out: importing torch.optim takes seconds
        slope = torch.cat([part.flatten() for part in slopes])
        mean.lerp_(slope, 0.1)
        square.lerp_(slope * slope, 0.01)
        rate = RATE * (1 - 0.99**number) ** 0.5 / (1 - 0.9**number)
        new.move(-rate * mean / (square.sqrt() + 1e-8))
    delta = new.vector() - start
    for _ in range(12):
        new.move(start + delta - new.vector())
        with torch.no_grad():
            far = float(_divergence(old, new.log_probabilities(latents, preferences)))
        if far <= radius * 1.001:
            break
        delta = delta * max(0.3, 0.95 * (radius / far) ** 0.5)  # the divergence grows with the square of the step
    return delta


def _divergence(old: Tensor, new: Tensor) -> Tensor:
    """KL(old, new) per site, mean over seeds."""
    gap = torch.where(torch.isfinite(old), old.exp() * (old - new), torch.zeros_like(old))
    return torch.nan_to_num(gap).sum(dim=-1).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    """[sites] entropy in nats."""
    return -(probabilities * torch.log(probabilities.clamp_min(1e-12))).sum(dim=-1)
