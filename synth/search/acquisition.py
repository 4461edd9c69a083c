"""What is worth making or evaluating: expected improvement of U times the probability that 1r holds, and the local
search for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from synth.objective.performance import frugality, performance
from synth.search.decisions import FloatArray, IntArray
from synth.search.moves import Moves

NODES = 5  # of the quadrature over what the accuracy may be
SOFT = 0.3  # NetScore points over which "no improvement" fades out, so that the search has a slope everywhere
BROKEN = 20.0  # nats that a network pays for breaking a requirement on costs, and per unit of relative excess
LASTING = 40  # changes that a path keeps trying after its first step
PARTNERS = 4  # best changes of either sort that are also tried in pairs


@dataclass(frozen=True)
class Belief:
    """What the inquisitor believes of n networks, each array [n].

    log_loss, log_loss_sd: after the usual short training. log_error, log_error_sd: log(1 - accuracy) after full
    training. costs: by name. violation: relative excess over requirements on costs (0 where all hold).
    """

    log_loss: FloatArray
    log_loss_sd: FloatArray
    log_error: FloatArray
    log_error_sd: FloatArray
    costs: Mapping[str, FloatArray]
    violation: FloatArray

    def take(self, index: IntArray) -> Belief:
        """The belief of some of the networks."""
        costs = {name: value[index] for name, value in self.costs.items()}
        loss, loss_sd = self.log_loss[index], self.log_loss_sd[index]
        return Belief(loss, loss_sd, self.log_error[index], self.log_error_sd[index], costs, self.violation[index])

    def performance(self) -> FloatArray:
        """U at the believed accuracy."""
        return performance(1.0 - np.exp(np.minimum(self.log_error, -1e-3)), self.costs)

    def holds(self, demand: FloatArray | float) -> FloatArray:
        """Probability that 1r holds, `demand` being the greatest log error allowed."""
        chance = ndtr((np.asarray(demand) - self.log_error) / self.log_error_sd)
        return np.where(self.violation > 0, 0.0, chance)


@dataclass(frozen=True)
class Wish:
    """What a seed is after. demand: greatest log error after full training (inf: none); frugal: what a decibel of
    images per joule is worth, in NetScore points; reference: the worth (U and what frugality adds) to improve on.
    Arrays of one shape, which broadcasts against the networks."""

    demand: FloatArray
    reference: FloatArray
    frugal: FloatArray | float = 0.0

    def take(self, index: IntArray) -> Wish:
        frugal = self.frugal if isinstance(self.frugal, float) else self.frugal[index]
        return Wish(self.demand[index], self.reference[index], frugal)


def log_improvement(belief: Belief, wish: Wish) -> FloatArray:
    """log of E[max(worth - reference, 0) 1r], softened so that it has a slope everywhere, less what broken exact
    requirements cost; shape of the belief's arrays broadcast against the wish's.

    The integral runs over the log error below the demand (equal-probability nodes of the truncated normal).
    """
    place = (wish.demand - belief.log_error) / belief.log_error_sd
    chance = ndtr(place)
    total = np.zeros(np.shape(place))
    reference = wish.reference - wish.frugal * frugality(belief.costs)
    for node in range(NODES):
        quantile = ndtri(np.maximum(chance * (node + 0.5) / NODES, 1e-280))
        error = np.exp(np.minimum(belief.log_error + belief.log_error_sd * quantile, -1e-3))
        total += np.logaddexp(0.0, (performance(1.0 - error, belief.costs) - reference) / SOFT)
    value = log_ndtr(place) + np.log(SOFT * total / NODES)
    return value - BROKEN * ((belief.violation > 0) + 10.0 * belief.violation)


def best_together(worth: FloatArray, count: int, chosen: Sequence[int] = ()) -> list[int]:
    """Columns of worth [draws, n], the `chosen` first, one after the other: each raises the expectation of the best
    among them most. What is good only where another is good as well waits for what that came to."""
    taken, have = list(chosen), np.max(worth[:, list(chosen)], axis=1, initial=-np.inf)
    while len(taken) < min(count, worth.shape[1]):
        total = np.maximum(have[:, None], worth).mean(axis=0)
        total[taken] = -np.inf
        taken.append(int(np.argmax(total)))
        have = np.maximum(have, worth[:, taken[-1]])
    return taken


Believe = Callable[[IntArray], Belief]


class Pool:
    """Every network that was looked at, once, with what is believed of it."""

    def __init__(self) -> None:
        self.beliefs: list[Belief] = []
        self.chunks: list[IntArray] = []
        self.seen: dict[bytes, None] = {}

    def add(self, decisions: IntArray, belief: Belief) -> None:
        """Take in networks that are not known yet."""
        fresh = []
        for row in range(len(decisions)):
            key = decisions[row].tobytes()
            if key not in self.seen:
                self.seen[key] = None
                fresh.append(row)
        if fresh:
            index = np.array(fresh, dtype=np.int64)
            self.chunks.append(decisions[index])
            self.beliefs.append(belief.take(index))

    def join(self) -> tuple[IntArray, Belief]:
        """(decisions [n, sites], belief of all)."""
        whole = np.concatenate(self.chunks)
        first = self.beliefs[0]
        names = ("log_loss", "log_loss_sd", "log_error", "log_error_sd", "violation")
        joined = {name: np.concatenate([getattr(belief, name) for belief in self.beliefs]) for name in names}
        costs = {name: np.concatenate([belief.costs[name] for belief in self.beliefs]) for name in first.costs}
        return whole, Belief(costs=costs, **joined)


def climb(moves: Moves, believe: Believe, starts: IntArray, wish: Wish, pool: Pool, steps: int) -> IntArray:
    """Local search from every start [b, sites] for its own wish [b]; returns where each ended.

    A step looks at every single change, and at pairs of the changes that raise U most with those that raise the
    chance of 1r most. What was looked at near a path goes into `pool`.
    """
    space = moves.space
    now = space.canonical(starts)
    which = np.broadcast_to(np.arange(len(moves.site)), (len(now), len(moves.site)))
    here = believe(now)
    pool.add(now, here)
    score = log_improvement(here, wish)
    active = np.arange(len(now))
    for _ in range(steps):
        count = which.shape[1]
        near = space.canonical(moves.neighbours(now[active], which).reshape(-1, now.shape[1]))
        belief = believe(near)
        owner = np.repeat(active, count)
        value = log_improvement(belief, wish.take(owner)).reshape(len(active), count)
        pairs = _pairs(moves, which, belief, wish.take(owner), now[active], value)
        pairs = space.canonical(pairs.reshape(-1, now.shape[1]))
        paired = believe(pairs)
        owner_of_pairs = np.repeat(active, len(pairs) // len(active))
        value_of_pairs = log_improvement(paired, wish.take(owner_of_pairs)).reshape(len(active), -1)
        best, best_pair = value.argmax(axis=1), value_of_pairs.argmax(axis=1)
        top, top_pair = value.max(axis=1), value_of_pairs.max(axis=1)
        row = np.arange(len(active))
        take_pair = top_pair > top + 1e-9
        pair_at = row * value_of_pairs.shape[1] + best_pair
        target = np.where(take_pair[:, None], pairs[pair_at], near[row * count + best])
        better = np.maximum(top, top_pair) > score[active] + 1e-6
        promising = np.argsort(-value, axis=1, kind="stable")[:, :PARTNERS] + row[:, None] * count
        pool.add(near[promising.ravel()], belief.take(promising.ravel()))
        pool.add(pairs[pair_at], paired.take(pair_at))
        now[active[better]] = target[better]
        score[active[better]] = np.maximum(top, top_pair)[better]
        active, which, value = active[better], which[better], value[better]
        if not len(active):
            break
        if count > LASTING:  # what made a network much worse is not tried again on the same path
            which = np.take_along_axis(which, np.argsort(-value, axis=1, kind="stable")[:, :LASTING], axis=1)
    return now


def _pairs(
    moves: Moves, which: IntArray, belief: Belief, wish: Wish, now: IntArray, value: FloatArray
) -> IntArray:
    """[b, pairs, sites]: the changes that raise U most joined with those that raise the chance of 1r most, and the
    best single changes joined with each other."""
    shape = value.shape
    chance = np.minimum((wish.demand - belief.log_error) / belief.log_error_sd, 1e3).reshape(shape)
    chance = chance - 1e3 * belief.violation.reshape(shape)
    price = (performance(1.0, belief.costs) + wish.frugal * frugality(belief.costs)).reshape(shape)
    site, choice = moves.site[which], moves.choice[which]
    same = np.take_along_axis(now, site, axis=1) == choice
    best, cheap, safe = (
        np.argsort(np.where(same, np.inf, -measure), axis=1, kind="stable")[:, :PARTNERS]
        for measure in (value, price, chance)
    )
    left = np.repeat(np.concatenate([best, cheap, best], axis=1), PARTNERS, axis=1)
    right = np.concatenate([np.tile(safe, PARTNERS), np.tile(safe, PARTNERS), np.tile(cheap, PARTNERS)], axis=1)
    both = np.repeat(now[:, None, :], left.shape[1], axis=1)
    for half in (left, right):
        at, to = np.take_along_axis(site, half, axis=1), np.take_along_axis(choice, half, axis=1)
        np.put_along_axis(both, at[..., None], to[..., None], axis=2)
    return both


def spread_targets(
    moves: Moves, decisions: IntArray, values: FloatArray, least_distance: float, penalty: float
) -> IntArray:
    """[b] index of one network of a pool [n] for every seed, the best by its own `values` [b, n] less a penalty for
    each network already taken that lies within `least_distance`. Seeds choose in the order of their best value."""
    order = np.argsort(-values.max(axis=1), kind="stable")
    taken = np.zeros(len(values), dtype=np.int64)
    crowd = np.zeros(len(decisions))
    for seed in order:
        choice = int(np.argmax(values[seed] - penalty * crowd))
        taken[seed] = choice
        near = moves.distance(decisions[choice][None, :], decisions)[0]
        crowd += np.maximum(0.0, 1.0 - near / least_distance)
    return taken
