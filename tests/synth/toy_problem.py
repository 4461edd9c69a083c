"""A tiny problem whose truth is known, for tests of the generator, the inquisitor and the cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.search.decisions import Decisions, Observation, Site, rows
from synth.search.probe_table import ProbeTable

OPERATORS = ("pointwise", "separable", "dense")
SITES = tuple(
    [Site(f"block{b}/width", "width", ("4", "8", "16", "32"), True, (b / 4, 0.5)) for b in range(5)]
    + [Site(f"block{b}/operator", "operator", OPERATORS, False, (b / 4, 0.5)) for b in range(3)]
    + [Site("block4/keep", "block", ("drop", "keep"), True, (1.0, 0.5))]
)
WIDTHS = np.array([4.0, 8.0, 16.0, 32.0])
PER_WEIGHT = np.array([1.0, 1.5, 9.0])
DAMAGE = np.array([0.5, 0.25, 0.1, 0.0])


class ToySpace:
    """Five widths, three operators, one block that can be dropped: 4^5 3^3 2 networks."""

    sites = SITES

    def costs(self, decisions):
        width = WIDTHS[decisions[:, :5]]
        factor = np.concatenate([PER_WEIGHT[decisions[:, 5:8]], np.ones((len(decisions), 2))], axis=1)
        factor[:, 4] *= decisions[:, 8]
        params = (27 + factor[:, 0]) * width[:, 0] + (factor[:, 1:] * width[:, :4] * width[:, 1:]).sum(axis=1)
        return {"params": params, "macs": 64 * params + 100 * width.sum(axis=1)}

    def summary(self, decisions):
        costs = self.costs(decisions)
        share = np.stack([(decisions[:, 5:8] == o).mean(axis=1) for o in range(3)], axis=1)
        return np.column_stack([np.log(costs["params"]), np.log(costs["macs"]), decisions[:, 8], share])

    def canonical(self, decisions):
        fixed = np.array(decisions, dtype=np.int64, copy=True)
        fixed[fixed[:, 8] == 0, 4] = 0
        return fixed


@dataclass(frozen=True)
class ToyBounds:
    accuracy_bound: float | None = 0.75
    macs: float | None = 90_000.0
    validation_images: int | None = None

    def cost_slack(self, costs):
        if self.macs is None:
            return np.zeros((len(costs["macs"]), 0))
        return ((self.macs - costs["macs"]) / self.macs)[:, None]


class ToyProblem:
    """log loss = -1.8 + damage of every choice; final error = exp(log loss - 0.6)."""

    def __init__(self, requirements: ToyBounds | None = None, noise: float = 0.05, seed: int = 0):
        self.space, self.requirements = ToySpace(), requirements or ToyBounds()
        self.noise, self.seed = noise, seed
        self.ended: list[int] = []
        self.table = ProbeTable(SITES, ("damage",), (1,))
        for j, site in enumerate(SITES):
            for c in range(0, len(site.choices), 2):
                self.table.record(j, c, (self.damage(j, c) * 1.5,))

    def damage(self, site: int, choice: int) -> float:
        if site < 5:
            return float(DAMAGE[choice] * (0.5 + 0.2 * site))
        return float(0.1 * (2 - choice)) if site < 8 else 0.15 * (1 - choice)

    def log_loss(self, decisions):
        d = self.space.canonical(decisions)
        return -1.8 + sum(np.array([self.damage(j, int(c)) for c in d[:, j]]) for j in range(len(SITES)))

    def accuracy(self, decisions):
        return 1 - np.minimum(np.exp(self.log_loss(decisions) - 0.6), 0.95)

    def initial(self) -> list[Observation]:
        whole = tuple(len(site.choices) - 1 for site in SITES)
        middle = (2, 2, 2, 2, 2, 1, 1, 1, 1)
        known = []
        for d in (whole, middle):
            loss, final = float(self.log_loss(rows([d], 9))[0]), float(self.accuracy(rows([d], 9))[0])
            known.append(Observation(d, loss, 0.02, float(1 - np.exp(loss - 0.4)), final))
        return known

    def evaluate(self, cycle: int, batch: Sequence[Decisions]) -> list[Observation]:
        random = np.random.default_rng([self.seed, cycle])
        loss = self.log_loss(rows(batch, 9)) + self.noise * random.standard_normal(len(batch))
        final = self.accuracy(rows(batch, 9))  # the first of every batch is trained in full
        return [Observation(tuple(d), float(v), self.noise, float(1 - np.exp(v - 0.4)), None if i else float(final[0]))
                for i, (d, v) in enumerate(zip(batch, loss, strict=True))]  # fmt: skip

    def probe_table(self) -> ProbeTable:
        return self.table

    def end_cycle(self, cycle: int, state) -> None:
        self.ended.append(cycle)


def everything() -> np.ndarray:
    """[4^5 3^3 2, 9] all decisions of the space."""
    grids = np.meshgrid(*[np.arange(len(site.choices)) for site in SITES], indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1).astype(np.int64)
