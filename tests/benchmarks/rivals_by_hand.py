"""Rivals without a model of the loss: families of networks ordered by cost, each bisected for the smallest that still
satisfies 1r."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from landscapes import Landscape
from rivals import tuples

from devices.support.files import read_json
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation
from synth.search.link import Link, log_error
from synth.search.moves import Moves, log_cost, violation
from synth.search.scaled import one_operator

PRUNED = Path(__file__).parent / "digits_pruned.json"
KNAPSACK_DOUBT = 0.5  # spread of the factor by which further knapsacks doubt each damage
MENDING = 20.0  # nats of cost that it is worth to come nearer to the exact requirements by their whole bound
LEAST_DAMAGE = 0.005  # log loss; what a table calls harmless is not free


class Bisection:
    """Of one path [n, sites] by falling cost: which network to try next, by whether the last held."""

    def __init__(self, path: IntArray) -> None:
        self.path, self.low, self.high = path, -1, len(path)  # the last that held, the first that did not
        self.at = -1

    def next(self) -> IntArray | None:
        if self.high - self.low < 2:
            return None
        self.at = (self.low + self.high) // 2
        return self.path[self.at]

    def told(self, held: bool) -> None:
        if held:
            self.low = self.at
        else:
            self.high = self.at


def bisect_paths(landscape: Landscape, evaluations: int, batch: int, paths: Iterator[IntArray]) -> list[Observation]:
    """As many paths at once as a batch holds, one more for each that is done. When none is left, what was not evaluated
    of their networks, nearest in cost to the smallest that seems to hold first; ends when there is no more."""
    everything = list(landscape.initial())
    seen: list[Observation] = []
    open_paths: list[Bisection] = []
    family: dict[Decisions, float] = {}
    walked: set[bytes] = set()
    held: list[Decisions] = []
    for cycle in range(evaluations // batch):
        asked: list[tuple[Bisection | None, IntArray]] = []
        open_paths = [b for b in open_paths if b.next() is not None]
        for bisection in open_paths:
            row = bisection.next()
            assert row is not None
            asked.append((bisection, row))
        while len(asked) < batch and (path := next(paths, None)) is not None:
            bisection = Bisection(_allowed(landscape, path))
            row = bisection.next()
            if row is not None and bisection.path.tobytes() not in walked:
                walked.add(bisection.path.tobytes())
                open_paths.append(bisection)
                asked.append((bisection, row))
                family |= dict(zip(tuples(bisection.path), log_cost(landscape.space, bisection.path), strict=True))
        known = {o.decisions for o in everything} | {tuple(row.tolist()) for _, row in asked}
        # while none holds, the largest are the likeliest to
        aim = min((family[row] for row in held), default=max(family.values(), default=0.0))
        left = sorted(set(family) - known, key=lambda row: (abs(family[row] - aim), row))
        asked += [(None, np.array(row)) for row in left[:batch - len(asked)]]
        if not asked:
            break
        new = landscape.evaluate(cycle, tuples(np.array([row for _, row in asked])))
        everything, seen = everything + new, seen + new
        loss = np.array([o.log_loss for o in everything])
        link = Link()
        link.fit(everything, loss)
        error, _ = link.final_log_error(loss, np.zeros(len(loss)))
        holds = (error <= log_error(landscape.accuracy_bound))[-len(seen):].tolist()
        for (bisection, _), this in zip(asked, holds[-len(new):], strict=True):
            if bisection is not None:
                bisection.told(this)
        held = [o.decisions for o, this in zip(seen, holds, strict=True) if this]
    return seen


def _allowed(landscape: Landscape, path: IntArray) -> IntArray:
    path = landscape.space.canonical(path)
    path = path[_missed(landscape, path) <= 0]
    return path[np.argsort(-log_cost(landscape.space, path), kind="stable")]


def scaling(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Width and depth scaling: one width multiplier for all, at every depth (blocks left out from the last to the
    first), with the operators of φ and of the hand-made anchors, and then with every other one everywhere."""
    sites = landscape.space.sites
    last = np.array([len(site.choices) - 1 for site in sites])
    blocks = [j for j, site in enumerate(sites) if site.kind == "block"]
    depths = range(len(blocks) + 1)
    drawn, others = [np.array(anchor.decisions) for anchor in landscape.initial()], one_operator(landscape.space)

    def paths() -> Iterator[IntArray]:
        for dropped, template in (*itertools.product(depths, drawn), *itertools.product(depths, others)):
            grid = []
            for share in np.linspace(1.0, 0.0, 17):
                row = template.copy()
                for j, site in enumerate(sites):
                    if site.ordered and site.kind != "block":
                        row[j] = round(share * last[j])
                row[blocks] = 1
                row[blocks[len(blocks) - dropped :]] = 0
                grid.append(row)
            yield np.unique(np.array(grid), axis=0)

    return bisect_paths(landscape, evaluations, batch, paths())


def knapsack(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """A multiple-choice knapsack over the probe table in the manner of HALP (Shen et al., arXiv 2110.10811): from φ,
    whatever saves most of the logarithm of parameters times MACs (and of what exact requirements are missed by) for the
    damage that probing foretells, one change after the other. The first path believes the table; further ones doubt
    each damage by a random factor."""
    moves, random = Moves(landscape.space), np.random.default_rng([landscape.run_seed, 20])
    table = landscape.probe_table().filled()[:, :, 0]

    def paths() -> Iterator[IntArray]:
        for number in itertools.count():
            doubt = np.exp(KNAPSACK_DOUBT * bool(number) * random.standard_normal(table.shape))
            yield _greedy_path(landscape, moves, np.maximum(table * doubt, 0.0))

    return bisect_paths(landscape, evaluations, batch, paths())


def pruning(landscape: Landscape, evaluations: int, batch: int) -> list[Observation]:
    """Torch-Pruning's networks of φ and of the parent with separable convolutions (pruned_paths.py), where the problem
    is a space of real networks."""
    sites = [[site.name, list(site.choices)] for site in landscape.space.sites]
    value = read_json(PRUNED, "edgesynth.pruned-paths/1")
    if value["sites"] != sites:
        raise SystemExit(f"{PRUNED.name} is of another space: make it anew with pruned_paths.py")
    paths = iter([np.array(path, dtype=np.int64) for path in value["paths"].values()])
    return bisect_paths(landscape, evaluations, batch, paths)


def _missed(landscape: Landscape, decisions: IntArray) -> FloatArray:
    return violation(landscape.requirements, landscape.space.costs(decisions))


def _greedy_path(landscape: Landscape, moves: Moves, damage: FloatArray) -> IntArray:
    space = landscape.space
    now = space.canonical((moves.counts - 1)[None, :])[0]
    path = [now]
    while True:
        near = space.canonical(moves.neighbours(now[None, :])[0])
        mended = _missed(landscape, now[None, :])[0] - _missed(landscape, near)
        saved = log_cost(space, now[None, :])[0] - log_cost(space, near) + MENDING * mended
        harm = damage[moves.site, moves.choice] - damage[moves.site, now[moves.site]]
        worth = np.where((saved > 1e-9) & (mended >= 0), saved / np.maximum(harm, LEAST_DAMAGE), -np.inf)
        best = int(np.argmax(worth))
        if not np.isfinite(worth[best]):
            return np.array(path)
        now = near[best]
        path.append(now)
