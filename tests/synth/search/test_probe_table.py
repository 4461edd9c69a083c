import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.search.decisions import Site
from synth.search.probe_table import ProbeTable

SITES = [Site(f"s{j}", "width", ("a", "b", "c", "d"), True, (j / 4,)) for j in range(4)] + [
    Site("op", "operator", ("x", "y"), False, (0.5,))
]


def test_values_are_means_of_visits_and_what_was_not_seen_stays_unknown():
    table = ProbeTable(SITES, ("rank", "label"), (1, -1))
    table.record(0, 1, (2.0, np.nan))
    table.record(0, 1, (4.0, 1.0))
    assert table.values[0, 1].tolist() == [3.0, 1.0]
    assert table.visits[0, 1].tolist() == [2, 1]
    assert np.isnan(table.values[1]).all()


def test_the_fit_fills_by_the_distance_from_the_parents_choice():
    table = ProbeTable(SITES, ("damage",), (1,))
    for site in (0, 1, 3):
        for choice in range(4):
            for _ in range(20):
                table.record(site, choice, (0.3 * (3 - choice),))
    filled = table.filled()
    assert filled[2, :, 0] == pytest.approx([0.9, 0.6, 0.3, 0.0], abs=0.05)
    assert (filled[4, 2:] == 0).all()  # choices that the site does not have


def test_what_was_seen_often_is_kept():
    table = ProbeTable(SITES, ("damage",), (1,))
    for _ in range(50):
        table.record(0, 0, (5.0,))
        table.record(0, 3, (0.0,))
    assert table.filled()[0, 0, 0] == pytest.approx(5.0, abs=0.15)


def test_features_sum_over_sites():
    table = ProbeTable(SITES, ("damage",), (1,))
    filled = np.arange(5 * 4, dtype=float).reshape(5, 4, 1)
    decisions = np.array([[0, 1, 2, 3, 1], [3, 3, 3, 3, 0]])
    assert table.features(decisions, filled)[:, 0].tolist() == [0 + 5 + 10 + 15 + 17, 3 + 7 + 11 + 15 + 16]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.floats(-1e3, 1e3)), max_size=30))
def test_any_history_gives_a_finite_table(history):
    table = ProbeTable(SITES, ("damage",), (1,))
    for site, choice, value in history:
        table.record(site, choice, (value,))
    assert np.isfinite(table.filled()).all()
