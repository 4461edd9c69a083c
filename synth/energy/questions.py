"""What a phase of a run asks the board: the networks that matter, with what is believed of them, and the pick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from synth.energy.choice import Chosen, Question, choose
from synth.energy.feedback import Request
from synth.search.acquisition import Wish, log_improvement
from synth.search.decisions import FloatArray, IntArray
from synth.search.inquisitor import CAUTION
from synth.search.moves import Moves
from synth.search.synthesis import FRESH_FROM, CycleReport
from synth.space.quantities import descriptors, on_board, quantity_of
from synth.space.space import NetworkSpace

MATTER = 192  # networks over which the doubt is summed up
FRESH = 48  # of them at most from fresh seeds
RANDOM = 256  # networks that stand for the space before the first cycle
QUICK_NOISE = 0.02  # relative standard error that is expected of a quick measurement

Choice = Callable[[Sequence[Question], FloatArray, int, frozenset[tuple[int, int]]], list[Chosen]]


def first_requests(space: NetworkSpace, count: int, seed: int, pick: Choice = choose) -> list[Request]:
    """What to measure before anything is learnt: over random networks of the space, all mattering alike."""
    decisions = np.unique(np.concatenate([
        Moves(space).random(RANDOM, np.random.default_rng([seed, 0x5])), space.smallest()]), axis=0)
    return requests(space, decisions, np.ones(len(decisions)), count, pick)


def cycle_requests(space: NetworkSpace, report: CycleReport, count: int, pick: Choice = choose) -> list[Request]:
    """What to measure beside the next cycle: over what the search looked at and what fresh seeds give, each mattering
    as much as it promises to improve on the best known, were its requirements on the board met."""
    inquisitor = report.inquisitor
    pool, _ = inquisitor.pool.join()
    fresh = space.canonical(report.generator.generate(range(FRESH_FROM, FRESH_FROM + FRESH)))
    decisions = np.unique(np.concatenate([pool, fresh]), axis=0)
    belief = inquisitor.theory.believe(decisions)
    wish = Wish(np.float64(inquisitor.theory.bound), np.float64(report.incumbent - CAUTION))
    worth = log_improvement(replace(belief, violation=_otherwise_missed(space, decisions)), wish)
    top = np.argsort(-worth, kind="stable")[:MATTER]
    return requests(space, decisions[top], np.exp(worth[top] - worth[top[0]]), count, pick)


def requests(space: NetworkSpace, decisions: IntArray, weight: FloatArray, count: int, pick: Choice) -> list[Request]:
    """`count` requests at most out of networks [n, sites] that matter by `weight` [n]."""
    prices = space.prices
    assert prices.correction is not None
    questions, costs = [], space.costs(decisions)
    features = descriptors(space.layers(decisions))
    for item in prices.requirements.on_costs:
        if not on_board(item):
            continue
        name, _ = quantity_of(item)
        model = prices.correction.models[name, item.batch or 1]
        questions.append(Question(item.slack(costs[item.key]), model.covariance(features), QUICK_NOISE,
                                  item.batch or 1))
    known: set[tuple[int, int]] = set()
    while True:  # which of them were measured before is only asked of those that are picked
        picked = pick(questions, weight, count, frozenset(known))
        networks = [space.parent.draw(space.design(decisions[one.row]))[0] for one in picked]
        before = {(one.row, one.batch) for one, network in zip(picked, networks, strict=True)
                  if (network.digest, one.batch) in prices.correction.known}
        if not before:
            return [Request(network, one.batch, gain=one.gain) for one, network in zip(picked, networks, strict=True)]
        known |= before


def _otherwise_missed(space: NetworkSpace, decisions: IntArray) -> FloatArray:
    """[n] relative amounts by which requirements that no board decides are missed."""
    items = space.prices.requirements.on_costs
    slack = space.prices.requirements.cost_slack(space.costs(decisions))
    columns = [number for number, item in enumerate(items) if not on_board(item)]
    return np.maximum(-slack[:, columns], 0.0).sum(axis=1)
