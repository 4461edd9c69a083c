"""Committees of small networks that say what training would have made of any network of a space, fitted to a table of
trained ones. Of another make than the search's own surrogate on purpose, so that no method is judged by its likeness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synth.search.decisions import FloatArray, IntArray, Space

HIDDEN, STEPS, RATE, DECAY = 16, 500, 0.01, 0.01  # chosen by the error on left-out networks
FOLDS, LEFT_OUT = 10, 0.1


def features(space: Space, decisions: IntArray) -> FloatArray:
    """[n, d] positions of ordered choices, indicators of the others, log costs and the summary."""
    columns = []
    for j, site in enumerate(space.sites):
        if site.ordered:
            columns.append(decisions[:, j] / max(len(site.choices) - 1, 1))
        else:
            columns += [(decisions[:, j] == choice).astype(np.float64) for choice in range(len(site.choices))]
    return np.column_stack([*columns, space.summary(decisions)])


@dataclass(frozen=True)
class Committee:
    """members: of the weights below [members, ...]. centre, scale: of features [2, d] and of targets [2, t]."""

    weights: tuple[Tensor, ...]
    inputs: FloatArray
    outputs: FloatArray

    def predict(self, at: FloatArray) -> FloatArray:
        """[members, n, targets] of features [n, d]."""
        x = torch.from_numpy((at - self.inputs[0]) / self.inputs[1])
        with torch.no_grad():
            answer = _forward(self.weights, x).numpy()
        return answer * self.outputs[1] + self.outputs[0]


def fit(at: FloatArray, targets: FloatArray, seen: FloatArray, seed: int) -> Committee:
    """A committee fitted to features [n, d] and targets [n, t]; seen [members, n]: 1 where a member sees a row, else
    0."""
    inputs = np.stack([at.mean(0), np.maximum(at.std(0), 1e-3)])
    outputs = np.stack([targets.mean(0), targets.std(0)])
    x = torch.from_numpy((at - inputs[0]) / inputs[1])
    y = torch.from_numpy((targets - outputs[0]) / outputs[1])
    share = torch.from_numpy(seen / seen.sum(1, keepdims=True))[..., None]
    members, d, t = len(seen), at.shape[1], targets.shape[1]
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int, sd: float) -> Tensor:
        return (sd * torch.randn(shape, generator=random, dtype=torch.float64)).requires_grad_()

    weights = (draw(members, d, HIDDEN, sd=d**-0.5), draw(members, 1, HIDDEN, sd=0.1),
               draw(members, HIDDEN, t, sd=0.3 * HIDDEN**-0.5), draw(members, d, t, sd=0.01),
               draw(members, 1, t, sd=0.01))  # fmt: skip
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY / RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        (share * (_forward(weights, x) - y) ** 2).sum().backward()
        optimiser.step()
        schedule.step()
    return Committee(tuple(w.detach() for w in weights), inputs, outputs)


def _forward(weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
    first, first_bias, second, linear, bias = weights
    return torch.tanh(x @ first + first_bias) @ second + x @ linear + bias


def samples(members: int, n: int, random: np.random.Generator, left_out: FloatArray | None = None) -> FloatArray:
    """[members, n] which rows each member sees, nine of ten; left_out: [members, n] true where it must not."""
    seen = random.random((members, n)) > LEFT_OUT
    return np.asarray(seen if left_out is None else seen & ~left_out, dtype=np.float64)


def cross_validated(at: FloatArray, targets: FloatArray, members: int, seed: int) -> FloatArray:
    """[n, t] what a committee of `members` that did not see a row says of it, in ten folds."""
    random = np.random.default_rng(seed)
    fold = random.permutation(len(at)) % FOLDS
    left_out = np.repeat(np.arange(FOLDS), members)[:, None] == fold[None, :]
    committee = fit(at, targets, samples(FOLDS * members, len(at), random, left_out), seed)
    answers = committee.predict(at).reshape(FOLDS, members, len(at), -1).mean(1)
    return answers[fold, np.arange(len(at))]
