import numpy as np
import pytest
from toy_problem import ToyBounds, ToySpace, everything

from synth.objective.performance import FRUGAL, performance
from synth.search.acquisition import Belief, Pool, Wish, best_together, climb, log_improvement, spread_targets
from synth.search.moves import Moves, violation

SPACE = ToySpace()
MOVES = Moves(SPACE)
BOUNDS = ToyBounds(None, 60_000.0)


def believe(decisions):
    """A belief that is nearly sure of an additive truth."""
    costs = SPACE.costs(decisions)
    error = -1.0 - 0.15 * decisions[:, :5].sum(axis=1) - 0.1 * decisions[:, 5:8].sum(axis=1)
    sd = np.full(len(decisions), 0.02)
    return Belief(error, sd, error, sd, costs, violation(BOUNDS, costs))


def belief(error, sd, params=1e5, missed=0.0):
    one = np.ones(1)
    costs = {"params": params * one, "macs": 100 * params * one}
    return Belief(error * one, sd * one, error * one, sd * one, costs, missed * one)


@pytest.mark.parametrize(("error", "sd", "demand", "below"), [
    (-2.0, 0.3, -2.1, 2.0), (-2.0, 0.1, -1.5, 1.0), (-1.5, 0.5, -2.0, 4.0), (-3.0, 0.2, np.inf, 3.0),
])  # fmt: skip
def test_expected_improvement_agrees_with_sampling(error, sd, demand, below):
    one = belief(error, sd)
    reference = float(one.performance()[0]) - below
    draws = error + sd * np.random.default_rng(0).standard_normal(400_000)
    u = performance(1 - np.exp(np.minimum(draws, -1e-3)), {"params": 1e5, "macs": 1e7})
    expected = (np.maximum(u - reference, 0) * (draws <= demand)).mean()
    found = np.exp(log_improvement(one, Wish(np.array([demand]), np.array([reference]))))[0]
    assert found == pytest.approx(expected, rel=0.06)


def test_what_breaks_an_exact_requirement_is_worth_less_than_anything_that_does_not():
    wish = Wish(np.array([-2.0]), np.array([100.0]))
    good, broken, worse = (log_improvement(belief(-3.0, 0.1, 1e4, m), wish)[0] for m in (0.0, 0.01, 0.5))
    hopeless = log_improvement(belief(-1.0, 0.2, 1e5), wish)[0]
    assert good > broken > worse and broken < good - 15
    assert np.isfinite(hopeless)


def test_greater_and_dearer_and_worse_are_worth_less():
    wish = Wish(np.array([-2.0]), np.array([95.0]))
    base = log_improvement(belief(-2.3, 0.2), wish)[0]
    assert log_improvement(belief(-2.3, 0.2, params=2e5), wish)[0] < base
    assert log_improvement(belief(-2.0, 0.2), wish)[0] < base


def test_the_climb_finds_the_best_of_all_networks_of_the_space():
    space = SPACE.canonical(everything())
    wish = Wish(np.array([-2.2]), np.array([90.0]))
    best = log_improvement(believe(space), wish).max()
    starts = MOVES.random(6, np.random.default_rng(0))
    pool = Pool()
    ends = climb(MOVES, believe, starts, Wish(np.full(6, -2.2), np.full(6, 90.0)), pool, 12)
    reached = log_improvement(believe(ends), wish)
    assert reached.max() == pytest.approx(best, abs=0.02)
    decisions, known = pool.join()
    assert len(np.unique(decisions, axis=0)) == len(decisions) == len(known.log_error)
    assert {tuple(row) for row in ends} <= {tuple(row) for row in decisions}


def test_targets_keep_apart():
    decisions = SPACE.canonical(MOVES.random(200, np.random.default_rng(1)))
    values = np.tile(-np.arange(200.0)[None, :] / 20, (10, 1))  # every seed wants the same one
    crowded = spread_targets(MOVES, decisions, values, 1e-6, 3.0)
    spread = spread_targets(MOVES, decisions, values, 0.3, 3.0)
    distance = MOVES.distance(decisions[spread], decisions[spread])[~np.eye(10, dtype=bool)]
    assert len(set(spread)) == len(set(crowded)) == 10
    assert distance.min() > MOVES.distance(decisions[:10], decisions[:10])[~np.eye(10, dtype=bool)].min()


def test_who_is_frugal_pays_for_energy_and_who_is_not_does_not():
    def one(joules):
        found = belief(-2.3, 0.2)
        return Belief(found.log_loss, found.log_loss_sd, found.log_error, found.log_error_sd,
                      {**found.costs, FRUGAL: np.array([joules])}, found.violation)

    careless = Wish(np.array([-2.0]), np.array([95.0]))
    frugal = Wish(np.array([-2.0]), np.array([95.0 + 20.0]), np.array([1.0]))
    assert log_improvement(one(100.0), careless) == log_improvement(one(400.0), careless)
    at, more = (log_improvement(one(joules), frugal)[0] for joules in (100.0, 400.0))
    assert at == log_improvement(one(100.0), careless)[0]  # 100 images per joule are 20 decibels
    assert more > at
    assert log_improvement(belief(-2.3, 0.2), careless)[0] == at  # where energy is not priced, it is nothing to anybody


def test_the_best_together_are_not_those_that_are_good_in_the_same_draws():
    worth = np.array([[5.0, 4.9, 0.0, 1.0], [5.0, 4.9, 0.0, 1.0], [0.0, 0.0, 3.0, 1.0]])
    assert best_together(worth, 2) == [0, 2]
    assert best_together(worth, 3, [3]) == [3, 0, 2]
    assert sorted(best_together(worth, 9)) == [0, 1, 2, 3]
