"""Loads that hardly move: what two levels of a sensor say of the power between them, and the interval of trials."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.agent import rounding, statistics

Q = 38.0


def levels(power, sigma, count=2000, seed=1):
    """What a sensor of steps of Q shows of a power with normal noise."""
    generator = random.Random(seed)
    return [Q * round(generator.gauss(power, sigma) / Q) for _ in range(count)]


def test_one_level_leaves_half_a_step_on_both_sides():
    assert rounding.bounds([3800.0] * 200, Q) == (19.0, 19.0)


@pytest.mark.parametrize("sigma", [0.5, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("power", [3800.0 + 19.0, 3800.0 + 14.0, 3800.0 + 25.0, 3800.0 + 8.0])
def test_two_levels_hold_the_power_between_their_mean_and_their_border(power, sigma):
    values = levels(power, sigma)
    found = rounding.bounds(values, Q)
    if found is None:  # a third level was seen
        assert sigma > 8
        return
    mean = statistics.mean(values)
    assert mean - found[0] <= power <= mean + found[1]
    assert max(found) <= 19.0 + rounding.MARGIN * Q


def test_a_load_over_three_levels_needs_no_bounds():
    assert rounding.bounds(levels(3810.0, 30.0), Q) is None


def test_exact_trials_give_a_normal_interval_and_equal_ones_the_middle_of_what_they_share():
    values = [100.0, 101.0, 99.0, 100.5, 99.5]
    found = rounding.interval([value - 1e-6 for value in values], [value + 1e-6 for value in values])
    half = statistics.t_quantile(0.975, 4) * statistics.stdev(values) / math.sqrt(5)
    assert found.centre == pytest.approx(100.0, abs=0.01)
    assert found.high - found.centre == pytest.approx(half, rel=0.25)
    equal = rounding.interval([81.0] * 5, [119.0] * 5)
    assert (equal.centre, equal.low, equal.high) == pytest.approx((100.0, 100 - 0.95 * 19, 100 + 0.95 * 19), rel=1e-3)


@given(st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(0.0, 100.0)), min_size=2, max_size=12))
def test_any_bounds_give_an_ordered_interval(trials):
    lows, highs = [value for value, _ in trials], [value + width for value, width in trials]
    found = rounding.interval(lows, highs)
    assert found.low <= found.centre <= found.high
    assert all(math.isfinite(value) for value in found[:3])


def test_it_covers_where_the_trials_differ_by_less_than_a_step():
    generator, covered = random.Random(3), 0
    for _ in range(200):
        truth = generator.uniform(3800.0, 3838.0)
        shown = [Q * round(generator.gauss(truth, 6.0) / Q) for _ in range(5)]
        found = rounding.interval([value - Q / 2 for value in shown], [value + Q / 2 for value in shown])
        covered += found.low <= truth <= found.high
    assert covered >= 184
