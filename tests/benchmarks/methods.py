"""All methods that the benchmarks compare, and the problems that they are compared on."""

from __future__ import annotations

from pathlib import Path

import ablations
import rivals
import rivals_by_hand
import rivals_optuna
from landscapes import Landscape
from replay import FAMILY, HERE, SMOOTH, Replay
from rivals import Rival

OURS = "generative synthesis"
METHODS: dict[str, Rival] = {
    OURS: rivals.ours,
    "random": rivals.random_search,
    "evolution": rivals.evolution,
    "evolution + our surrogate": rivals.surrogate_evolution,
    "no generator": rivals.no_generator,
    **rivals_optuna.RIVALS,
    "width and depth scaling": rivals_by_hand.scaling,
    "knapsack over probes": rivals_by_hand.knapsack,
}
ON_NETWORKS: dict[str, Rival] = {"Torch-Pruning": rivals_by_hand.pruning}  # where trained networks are replayed
ABLATIONS: dict[str, Rival] = dict(ablations.ABLATIONS)


def problem_of(family: str, number: int, run_seed: int, table: Path | None = None) -> Landscape:
    """A synthetic landscape, or the replay of the table of trained networks, which has all that methods and judges ask
    of a landscape. Every number has seeds of its own, so that a method's own luck is in its interval."""
    run_seed += 1000 * number
    if family in (FAMILY, SMOOTH):
        return Replay(number, run_seed, table or HERE, family)  # type: ignore[return-value]
    return Landscape(family, number, run_seed)
