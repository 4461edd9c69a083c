"""What a long record becomes in a chart: no extreme is lost, no gap is closed, nothing is invented."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.report.envelope import envelope

steps = st.lists(st.floats(0.001, 3.0), min_size=1, max_size=300)
values = st.one_of(st.none(), st.just(math.nan), st.floats(-1e6, 1e6))


@given(st.data(), steps, st.integers(1, 50))
def test_every_extreme_is_in_it_and_nothing_else(data, gaps, count):
    times = [sum(gaps[:i + 1]) for i in range(len(gaps))]
    column = data.draw(st.lists(values, min_size=len(times), max_size=len(times)))
    runs = envelope(times, column, count)
    there = [value for value in column if value is not None and math.isfinite(value)]
    columns = [one for run in runs for one in run]
    assert bool(columns) == bool(there)
    if there:
        assert (min(one.low for one in columns), max(one.high for one in columns)) == (min(there), max(there))
        assert all(one.low <= one.mean + 1e-6 and one.mean <= one.high + 1e-6 for one in columns)
        assert all(a.t_s < b.t_s for run in runs for a, b in itertools.pairwise(run))
        width = (times[-1] - times[0]) / count
        assert all(times[0] - width <= one.t_s <= times[-1] + width for one in columns)
    if len(times) > count and None not in column and not any(map(math.isnan, column)):
        assert len(columns) <= count


def test_a_few_values_are_kept_as_they_are():
    (run,) = envelope([0.0, 1.0, 2.5], [3.0, 1.0, 2.0], 10)
    assert [(one.t_s, one.low, one.mean, one.high) for one in run] == [(0, 3, 3, 3), (1, 1, 1, 1), (2.5, 2, 2, 2)]


def test_a_single_spike_among_many_is_seen():
    column = [100.0] * 10_000
    column[6_789] = 900.0
    (run,) = envelope([0.01 * i for i in range(10_000)], column, 500)
    assert len(run) == 500 and max(one.high for one in run) == 900 and sum(one.high > 100 for one in run) == 1


def test_gaps_stay_open():
    runs = envelope([0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 5.3], [1.0, 1.0, None, 1.0, 1.0, 1.0, 1.0], 100, gap_s=0.5)
    assert [len(run) for run in runs] == [2, 4]
    runs = envelope([0.0, 0.1, 5.0, 5.1], [1.0] * 4, 100, gap_s=0.5)
    assert [len(run) for run in runs] == [2, 2]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="as many times"):
        envelope([0.0], [])
    assert envelope([], []) == []
