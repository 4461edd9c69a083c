"""What a person would draw: the same everywhere, whole families of it, and nothing twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_problem import OPERATORS, SITES, ToySpace

from synth.search.decisions import Site
from synth.search.scaled import scaled_networks


def test_every_operator_width_and_depth_is_there_once():
    space = ToySpace()
    found = scaled_networks(space)
    assert len(np.unique(found, axis=0)) == len(found)
    assert (space.canonical(found) == found).all()
    widths, operators, kept = found[:, :5], found[:, 5:8], found[:, 8]
    assert (operators == operators[:, :1]).all() and set(operators[:, 0]) == {0, 1, 2}
    assert (widths[kept == 1] == widths[kept == 1][:, :1]).all() and set(widths[:, 0]) == {0, 1, 2, 3}
    assert len(found) == 4 * 3 * 2


def test_a_site_that_lacks_an_operator_has_the_parents_own_beside_it():
    class Looking(ToySpace):
        sites = (*SITES[:6], replace(SITES[6], kind="looking operator", choices=OPERATORS[1:]), *SITES[7:])

        def canonical(self, decisions):
            return decisions

    space = Looking()
    drawn = {tuple(space.sites[j].choices[row[j]] for j in (5, 6, 7)) for row in scaled_networks(space)}
    assert drawn == {("pointwise", "dense", "pointwise"), ("separable",) * 3, ("dense",) * 3}


def test_a_space_of_widths_alone():
    class Widths(ToySpace):
        sites = SITES[:5]

        def canonical(self, decisions):
            return decisions

    assert scaled_networks(Widths()).tolist() == [[width] * 5 for width in range(4)]


@pytest.mark.parametrize("kind, choices", [("activation", ("linear", "relu")), ("nonlinearity", ("hardswish", "relu")),
                                           ("attention", ("channels", "none"))])
def test_switches_are_alike_everywhere(kind, choices):
    more = [Site(f"place{n}/{kind}", kind, choices, False, (n / 4, 0.5)) for n in range(3)]

    class Alike(ToySpace):
        sites = (*SITES, *more)

    found = scaled_networks(Alike())
    assert len(np.unique(found, axis=0)) == len(found) == 2 * len(scaled_networks(ToySpace()))
    assert {tuple(row) for row in found[:, -3:]} == {(0, 0, 0), (1, 1, 1)}


def test_networks_to_begin_with_that_mix_operators_are_there_at_other_sizes():
    space = ToySpace()
    alike, mixed = np.array([2, 2, 2, 2, 2, 1, 1, 1, 1]), np.array([1, 2, 2, 3, 2, 0, 1, 2, 1])
    plain = scaled_networks(space)
    assert np.array_equal(scaled_networks(space, alike[None, :]), plain), "what a family holds already"
    found = scaled_networks(space, np.array([alike, mixed]))
    more = np.array([row for row in found.tolist() if row not in plain.tolist()])
    assert len(np.unique(found, axis=0)) == len(found) == len(plain) + len(more)
    assert (more[:, 5:8] == mixed[5:8]).all()
    widths = {tuple(row[:5]) for row in more.tolist() if row[8]}
    assert (1, 2, 2, 3, 2) in widths and (0, 0, 0, 0, 0) in widths and (2, 3, 3, 3, 3) in widths  # none beyond the last
    assert {tuple(row[4:]) for row in more.tolist() if not row[8]} == {(0, 0, 1, 2, 0)}


def test_blocks_are_left_out_from_the_last_on():
    class Deep(ToySpace):
        sites = (*SITES, Site("block5/keep", "block", ("drop", "keep"), True, (1.0, 0.5)))

        def canonical(self, decisions):
            return decisions

    mixed = np.array([1, 2, 2, 3, 2, 0, 1, 2, 1, 1])
    found = scaled_networks(Deep(), mixed[None, :])
    family = (found[:, 5:8] == found[:, 5:6]).all(axis=1)
    for rows in (found[family], found[~family]):
        assert {tuple(row) for row in rows[:, 8:].tolist()} == {(1, 1), (1, 0), (0, 0)}


def test_what_stands_inside_blocks_that_are_left_out_makes_no_network_mixed():
    class Within(ToySpace):
        def canonical(self, decisions):
            fixed = super().canonical(decisions)
            fixed[fixed[:, 8] == 0, 7] = 2
            return fixed

    space = Within()
    known = space.canonical(np.array([[2, 2, 2, 2, 2, 1, 1, 1, 0]]))
    assert known[0, 7] == 2 and np.array_equal(scaled_networks(space, known), scaled_networks(space))
