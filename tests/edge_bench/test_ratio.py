"""Ratios and their intervals: against scipy's, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_bench.agent import ratio

VALUES = st.floats(0.5, 20.0)
SESSION = st.lists(VALUES, min_size=2, max_size=5)
SIDE = st.lists(SESSION, min_size=1, max_size=3)


def logs(found):
    return math.log(found.value), math.log(found.low), math.log(found.high)


def test_one_session_a_side_is_welchs_test():
    new, old = [1.1, 1.2, 1.15, 1.3], [1.0, 1.02, 0.97, 1.05, 1.01]
    expected = stats.ttest_ind(np.log(new), np.log(old), equal_var=False).confidence_interval(0.95)
    assert logs(ratio.of_sessions([new], [old])) == pytest.approx(
        (math.log(stats.gmean(new) / stats.gmean(old)), expected.low, expected.high))


def test_sessions_without_spread_inside_are_students_test_between_them():
    new, old = [1.1, 1.2, 1.15], [1.0, 1.02, 0.97, 1.05]
    expected = stats.ttest_ind(np.log(new), np.log(old)).confidence_interval(0.95)
    found = ratio.of_sessions([[value] * 3 for value in new], [[value] * 3 for value in old])
    assert logs(found)[1:] == pytest.approx((expected.low, expected.high))
    assert found.units == 7


def test_one_new_session_has_the_interval_of_the_next_session():
    old = [0.97, 1.0, 1.04]
    half = stats.t.ppf(0.975, 2) * np.std(np.log(old), ddof=1) * math.sqrt(1 + 1 / 3)
    found = ratio.of_sessions([[1.0, 1.0]], [[value] * 2 for value in old])
    assert math.log(found.high / found.value) == pytest.approx(half)


def test_sessions_that_agree_by_luck_do_not_hide_the_spread_inside_them():
    noisy = [0.9, 1.1, 1.0, 0.95, 1.05]
    found = ratio.of_sessions([noisy], [noisy, noisy, noisy])
    assert found.value == pytest.approx(1) and found.low < 0.95 and found.high > 1.05


def test_pairs_are_students_paired_test():
    base, head = [1.0, 1.3, 0.9, 1.1], [1.1, 1.38, 1.02, 1.19]
    expected = stats.ttest_rel(np.log(head), np.log(base)).confidence_interval(0.95)
    found = ratio.of_pairs(list(zip(base, head, strict=True)))
    assert logs(found)[1:] == pytest.approx((expected.low, expected.high)) and found.units == 4


def test_what_both_of_a_pair_share_cancels():
    heat = [1.0, 1.4, 0.7, 2.0]
    found = ratio.of_pairs([(value, 1.1 * value) for value in heat])
    assert (found.low, found.high) == pytest.approx((1.1, 1.1))


@pytest.mark.parametrize("found", [ratio.of_sessions([[2.0]], [[1.0]]), ratio.of_pairs([(1.0, 2.0)]),
                                   ratio.of_pairs([(1.0, 1.9), (1.0, 4 / 1.9)])])
def test_what_shows_no_spread_has_no_interval(found):
    assert found.value == pytest.approx(2) and found.low is None and found.high is None
    assert ratio.inverse(found).value == pytest.approx(0.5) and ratio.inverse(found).low is None


@pytest.mark.parametrize("wild", [0.0, -1.0])
def test_values_that_are_not_positive_are_refused(wild):
    with pytest.raises(ValueError, match="positive"):
        ratio.of_sessions([[1.0, wild]], [[1.0, 1.0]])
    with pytest.raises(ValueError, match="positive"):
        ratio.of_pairs([(1.0, wild)])


@settings(max_examples=40)
@given(SIDE, SIDE, st.floats(0.1, 10))
def test_units_do_not_matter_and_sides_are_alike(new, old, scale):
    found = ratio.of_sessions(new, old)
    scaled = ratio.of_sessions([[scale * v for v in s] for s in new], [[scale * v for v in s] for s in old])
    assert logs(scaled) == pytest.approx(logs(found), abs=1e-9)
    turned = ratio.inverse(ratio.of_sessions(old, new))
    assert logs(turned) == pytest.approx(logs(found), abs=1e-9)
    assert found.low <= found.value <= found.high


@settings(max_examples=30)
@given(SIDE, SIDE, st.floats(0.001, 0.2))
def test_an_error_that_all_trials_share_never_narrows_the_interval(new, old, bound):
    found, wider = ratio.of_sessions(new, old), ratio.of_sessions(new, old, [bound])
    assert wider.low <= found.low and wider.high >= found.high


def test_a_sensors_rounding_widens_an_interval_without_spread():
    found = ratio.of_sessions([[1.1, 1.1]], [[1.0, 1.0]], [0.01, 0.002])
    assert math.log(found.high / found.value) == pytest.approx(0.0098, rel=0.02)


@pytest.mark.parametrize("by_session, by_process", [(0.02, 0.003), (0.0, 0.02), (0.014, 0.014)])
def test_intervals_hold_the_truth_as_often_as_they_say(by_session, by_process):
    generator = np.random.default_rng(12)

    def side(sessions):
        return [np.exp(generator.normal(0, by_session) + generator.normal(0, by_process, 5)).tolist()
                for _ in range(sessions)]

    held = 0
    for _ in range(1500):
        found = ratio.of_sessions(side(2), side(3))
        held += found.low <= 1 <= found.high
    assert 0.93 <= held / 1500 <= 0.995  # the wider of two intervals holds a little more often than 95 %
