"""Small changes of decisions: neighbours, distances, and the repair to the nearest feasible network by exact costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from synth.search.decisions import FloatArray, Indicator, IntArray, Space, choice_counts

REPAIR_STEPS = 200


class Moves:
    """All single-site changes of a space, as (site, choice) pairs."""

    def __init__(self, space: Space):
        self.space = space
        self.counts = choice_counts(space.sites)
        pairs = [(site, choice) for site, n in enumerate(self.counts) for choice in range(n)]
        self.site = np.array([site for site, _ in pairs], dtype=np.int64)
        self.choice = np.array([choice for _, choice in pairs], dtype=np.int64)
        self.weight = site_weights(space)

    def neighbours(self, decisions: IntArray, which: IntArray | None = None) -> IntArray:
        """[n, moves, sites]: single-site changes of every row (the row itself where a move changes nothing); all of
        them, or the moves `which` [n, m] of each row."""
        if which is None:
            which = np.broadcast_to(np.arange(len(self.site)), (len(decisions), len(self.site)))
        near = np.repeat(decisions[:, None, :], which.shape[1], axis=1)
        np.put_along_axis(near, self.site[which][..., None], self.choice[which][..., None], axis=2)
        return near

    def distance(self, a: IntArray, b: IntArray) -> FloatArray:
        """[n, m] cost-weighted share of decisions that differ, in [0, 1]; ordered sites count by how far."""
        total = np.zeros((len(a), len(b)))
        for j, site in enumerate(self.space.sites):
            left, right = a[:, j][:, None], b[:, j][None, :]
            step = np.abs(left - right) / max(len(site.choices) - 1, 1) if site.ordered else left != right
            total += self.weight[j] * step
        return total

    def random(self, count: int, random: np.random.Generator) -> IntArray:
        """[count, sites] uniform decisions."""
        return self.space.canonical(random.integers(0, self.counts, size=(count, len(self.counts))))


def log_cost(space: Space, decisions: IntArray) -> FloatArray:
    """[n] natural log of parameters times MACs: what NetScore pays for."""
    costs = space.costs(decisions)
    total: FloatArray = np.log(np.maximum(costs["params"], 1.0)) + np.log(np.maximum(costs["macs"], 1.0))
    return total


def site_weights(space: Space) -> FloatArray:
    """[sites] that sum to 1: half alike, half by how much the site alone moves the cost of the middle network."""
    counts = choice_counts(space.sites)
    base = space.canonical((counts // 2)[None, :])
    ends = np.repeat(base, 2 * len(counts), axis=0)
    for j in range(len(counts)):
        ends[2 * j, j], ends[2 * j + 1, j] = 0, counts[j] - 1
    cost = log_cost(space, space.canonical(ends)).reshape(-1, 2)
    reach = np.abs(cost[:, 1] - cost[:, 0])
    share = reach / reach.sum() if reach.sum() > 0 else np.full(len(counts), 1 / len(counts))
    return 0.5 / len(counts) + 0.5 * share


def violation(requirements: Indicator, costs: Mapping[str, FloatArray], margin: float = 0.0) -> FloatArray:
    """[n] sum of the relative amounts by which requirements on costs, tightened by `margin`, are missed; 0 where all
    hold."""
    slack = requirements.cost_slack(costs) - margin
    return np.maximum(-slack, 0.0).sum(axis=1) if slack.size else np.zeros(len(costs["params"]))


def repair(
    moves: Moves, requirements: Indicator, decisions: IntArray
) -> tuple[IntArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The nearest networks that satisfy the requirements on costs.

    Greedy: the change that gains most per distance, until all hold; then what was changed without need is put back.
    Returns (decisions, changed [n], feasible [n]); a row for which no way was found keeps its best attempt.
    """
    space = moves.space
    fixed = space.canonical(decisions)
    missed = violation(requirements, space.costs(fixed))
    changed = missed > 0
    for row in np.flatnonzero(changed):
        fixed[row] = _repair_one(moves, lambda d: violation(requirements, space.costs(d)), fixed[row])
    return fixed, changed, violation(requirements, space.costs(fixed)) <= 0


def _repair_one(moves: Moves, missed: Callable[[IntArray], FloatArray], start: IntArray) -> IntArray:
    space, now = moves.space, start
    for _ in range(REPAIR_STEPS):
        have = missed(now[None, :])[0]
        if have <= 0:
            break
        near = space.canonical(moves.neighbours(now[None, :])[0])
        gain = have - missed(near)
        price = moves.distance(now[None, :], near)[0]
        worth = np.where(gain > 1e-12, gain / np.maximum(price, 1e-9), -np.inf)
        best = int(np.argmax(worth))
        if not np.isfinite(worth[best]):
            break
        now = near[best]
    differs = np.flatnonzero(now != start)
    for site in differs[np.argsort(-moves.weight[differs], kind="stable")]:
        back = now.copy()
        back[site] = start[site]
        back = space.canonical(back[None, :])
        if missed(back)[0] <= 0:
            now = back[0]
    return now
