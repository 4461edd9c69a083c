"""Whether requirements are within reach of a space, before a long search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from devices.support.errors import UserError
from devices.support.reading import Z95, Reading
from synth.networks.network import Network
from synth.objective.requirements import MARGIN, Requirement, Requirements
from synth.objective.share import least_share
from synth.search.decisions import FloatArray, IntArray
from synth.search.moves import Moves, repair, violation
from synth.space.space import NetworkSpace
from synth.training.evaluation import Metrics

STEPS = 200  # of a descent, at most


def best_for(space: NetworkSpace, item: Requirement) -> Network:
    """The network of a space that is best in one metric: the end of the steepest single-site descents from the
    cheapest networks."""
    moves = Moves(space)

    def cost(rows: IntArray) -> np.ndarray:
        values = space.costs(rows)[item.key]
        return -values if item.lower else values

    rows = space.smallest()
    for _ in range(STEPS):
        near = moves.neighbours(rows).reshape(-1, rows.shape[1])
        values = cost(near).reshape(len(rows), -1)
        best = values.argmin(axis=1)
        better = values[np.arange(len(rows)), best] < cost(rows) - 1e-12
        if not better.any():
            break
        found = near.reshape(len(rows), -1, rows.shape[1])[np.arange(len(rows)), best]
        rows = np.where(better[:, None], found, rows)
    row = space.canonical(rows[[int(cost(rows).argmin())]])[0]
    network, _ = space.parent.draw(space.design(row))
    return network


@dataclass(frozen=True)
class _Hopeful:
    """Requirements as they would be, were every prediction wrong to the good side as far as its 95 % interval goes."""

    requirements: Requirements

    @property
    def accuracy_bound(self) -> float | None:
        return self.requirements.accuracy_bound

    @property
    def validation_images(self) -> int | None:
        return self.requirements.validation_images

    def cost_slack(self, costs: Mapping[str, FloatArray]) -> FloatArray:
        sigma = self.requirements.relative_sigma
        return self.requirements.cost_slack(costs, {key: -Z95 * value for key, value in sigma.items()})


def _best_end(item: Requirement, reading: Reading) -> Reading:
    """The good end of a reading's interval, as if it were known."""
    end = reading.high if item.lower else reading.low
    return reading if end is None else Reading(end, reading.unit, reading.provenance, reading.source,
                                               scope=reading.scope)


def refuse_impossible(space: NetworkSpace, hopeful: bool = False) -> None:
    """UserError when a requirement on costs is out of reach, alone or with the others: which one, and the best that
    the space can reach. hopeful: boards will measure, so that a prediction refuses only by its whole interval."""
    requirements = space.prices.requirements
    best = {item.key: space.prices.reading(item, best_for(space, item)) for item in requirements.on_costs
            if item.relation == item.kind.natural}  # of two bounds of one metric, the other is against the grain
    if hopeful:
        best = {item.key: _best_end(item, best[item.key]) for item in requirements.on_costs if item.key in best}
    sentences = requirements.infeasible(best)
    if sentences:
        raise UserError("; ".join(sentences))
    if not requirements.on_costs:
        return
    wanted = _Hopeful(requirements) if hopeful else requirements
    fixed, _, feasible = repair(Moves(space), wanted, space.smallest())
    if not feasible.any():
        slack = wanted.cost_slack(space.costs(fixed))
        row = int(violation(wanted, space.costs(fixed)).argmin())
        worst = requirements.on_costs[int(slack[row].argmin())]
        raise UserError("no network of this space meets all requirements at once: the one that comes nearest misses "
                        f"'{worst}' by {_missed_percent(worst, slack[row].min()):.0f} %; relax it or another")


def _missed_percent(item: Requirement, slack: float) -> float:
    """By how much of its bound a requirement is missed, given its (negative) slack: three times an upper bound is 200 %
    too much."""
    return 100 * abs(math.expm1(slack if item.lower else -slack))


def refuse_unshowable_accuracy(requirements: Requirements, count: int) -> None:
    """UserError when no share of `count` validation images can show the accuracy that is required."""
    for item in requirements.items:
        if item.metric == "accuracy" and least_share(item.bound, count, MARGIN) > 1:
            raise UserError(f"'{item}' cannot be shown on {count} validation images, not even by a network that has "
                            "all of them right; relax it, or give more images for validation")


def beyond_accuracy(requirements: Requirements, prototype: Metrics, teachers: Metrics | None = None) -> str | None:
    """What is to be said when the accuracy that counts as holding (`Requirements.accuracy_bound`) is beyond that of the
    better of φ and its teachers by more than twice its standard error; None within. All on the validation split."""
    best = prototype if teachers is None else max(prototype, teachers, key=lambda metrics: metrics.accuracy)
    bound = requirements.accuracy_bound
    if bound is None or bound <= best.accuracy + 2 * best.accuracy_se:
        return None
    item = next(item for item in requirements.items if item.metric == "accuracy")
    theirs = "" if teachers is None else f", its teachers {100 * teachers.accuracy:.1f} %"
    return (f"to hold '{item}' for sure takes {100 * bound:.1f} % of {best.count} validation images, the prototype "
            f"itself reaches {100 * prototype.accuracy:.1f} %{theirs}")
