import numpy as np
from toy_problem import SITES, ToyBounds, ToySpace, everything

from synth.search.decisions import choice_counts
from synth.search.moves import Moves, log_cost, repair, violation

SPACE = ToySpace()
MOVES = Moves(SPACE)


def test_neighbours_are_all_single_changes():
    start = np.array([[1, 2, 3, 0, 1, 0, 1, 2, 1]])
    near = MOVES.neighbours(start)[0]
    differs = (near != start).sum(axis=1)
    assert set(differs) == {0, 1}
    assert len(np.unique(near[differs == 1], axis=0)) == int((choice_counts(SITES) - 1).sum())
    some = MOVES.neighbours(start, np.array([[0, 5]]))[0]
    assert (some == near[[0, 5]]).all()


def test_distance_is_a_share_weighted_by_cost():
    whole = choice_counts(SITES)[None, :] - 1
    none = np.zeros_like(whole)
    assert MOVES.distance(whole, whole)[0, 0] == 0
    assert abs(MOVES.distance(whole, none)[0, 0] - 1) < 1e-12
    near = whole.copy()
    near[0, 0] -= 1
    far = whole.copy()
    far[0, 0] = 0
    assert 0 < MOVES.distance(whole, near)[0, 0] < MOVES.distance(whole, far)[0, 0] < 1


def test_repair_changes_only_what_misses_and_ends_feasible():
    bounds = ToyBounds(macs=60_000.0)
    random = np.random.default_rng(0)
    drawn = MOVES.random(200, random)
    before = violation(bounds, SPACE.costs(drawn))
    fixed, changed, feasible = repair(MOVES, bounds, drawn)
    assert feasible.all()
    assert (violation(bounds, SPACE.costs(fixed)) <= 0).all()
    assert (changed == (before > 0)).all() and 0 < changed.sum() < 200
    assert (fixed[~changed] == drawn[~changed]).all()


def test_repair_is_near_the_nearest_network_there_is():
    """Against all networks of the space: the repaired one is not much farther than the nearest feasible one."""
    bounds = ToyBounds(macs=60_000.0)
    space = everything()
    space = space[violation(bounds, SPACE.costs(space)) <= 0]
    drawn = MOVES.random(60, np.random.default_rng(1))
    drawn = drawn[violation(bounds, SPACE.costs(drawn)) > 0]
    fixed, _, _ = repair(MOVES, bounds, drawn)
    nearest = MOVES.distance(drawn, space).min(axis=1)
    reached = MOVES.distance(drawn, fixed).diagonal()
    assert np.mean(reached / nearest) < 1.2


def test_what_cannot_be_repaired_is_said():
    _, changed, feasible = repair(MOVES, ToyBounds(macs=1.0), MOVES.random(3, np.random.default_rng(0)))
    assert changed.all() and not feasible.any()


def test_a_margin_tightens_the_bound():
    decisions = MOVES.random(100, np.random.default_rng(2))
    costs = SPACE.costs(decisions)
    assert (violation(ToyBounds(), costs, 0.1) >= violation(ToyBounds(), costs)).all()
    assert np.isfinite(log_cost(SPACE, decisions)).all()
