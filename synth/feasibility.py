"""Whether requirements are within reach of a space, before a long search."""

from __future__ import annotations

import numpy as np

from devices.support.errors import UserError
from synth.decisions import IntArray
from synth.evaluation import Metrics
from synth.moves import Moves, repair, violation
from synth.networks.network import Network
from synth.requirements import Requirement, Requirements
from synth.space import NetworkSpace

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


def refuse_impossible(space: NetworkSpace) -> None:
    """UserError when a requirement on costs is out of reach, alone or with the others: which one, and the best that
    the space can reach."""
    requirements = space.prices.requirements
    best = {item.key: space.prices.reading(item, best_for(space, item)) for item in requirements.on_costs}
    sentences = requirements.infeasible(best)
    if sentences:
        raise UserError("; ".join(sentences))
    if not requirements.on_costs:
        return
    fixed, _, feasible = repair(Moves(space), requirements, space.smallest())
    if not feasible.any():
        slack = requirements.exact(space.costs(fixed))
        row = int(violation(requirements, space.costs(fixed)).argmin())
        worst = requirements.on_costs[int(slack[row].argmin())]
        missed = 100 * (1 - np.exp(slack[row].min()))
        raise UserError("no network of this space meets all requirements at once: the one that comes nearest misses "
                        f"'{worst}' by {missed:.0f} %; relax it or another")


def refuse_unreachable_accuracy(requirements: Requirements, prototype: Metrics) -> None:
    """UserError when the accuracy asked for is beyond φ's own by more than twice its standard error."""
    bound = requirements.accuracy_bound
    reach = prototype.accuracy + 2 * prototype.accuracy_se
    if bound is not None and bound > reach:
        raise UserError(
            f"'accuracy >= {100 * bound:g} %' cannot be met: the prototype itself reaches "
            f"{100 * prototype.accuracy:.1f} % on the validation split; relax it, or give a better prototype")
