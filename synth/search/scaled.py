"""Networks that a person would draw: one operator, one share of the width and one depth for the whole network, all
residual blocks linear or none, activations of one kind, attention everywhere or nowhere; and those that the search
begins with, where they mix operators (inverted residuals do), at other widths and depths.

There are few of them and among them are good ones (on trained digits networks they come within about two NetScore
points of the best that is known), so the search for what a seed should become also starts from the most promising.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from synth.search.decisions import SWITCHES, IntArray, Space, choice_counts, own_decisions

SHARES = 17  # of the width, evenly from the least to the prototype's own, and to the widest
GROWTH = 1.5  # of the width that a network to begin with has, at most


def one_operator(space: Space) -> list[IntArray]:
    """[sites] for every operator: the prototype with it everywhere (its own where a site does not have it)."""
    own = own_decisions(space.sites)
    chooses = [j for j, site in enumerate(space.sites) if not site.ordered and site.kind not in SWITCHES]
    drawn = []
    for operator in sorted({choice for j in chooses for choice in space.sites[j].choices}):
        row = own.copy()
        for j in chooses:
            if operator in space.sites[j].choices:
                row[j] = space.sites[j].choices.index(operator)
        drawn.append(row)
    return drawn or [own]


def scaled_networks(space: Space, known: IntArray | None = None) -> IntArray:
    """[n, sites]: `one_operator` with every share of the width (of the prototype's own, and of the widest), for sites
    of kind "block" with every number of blocks left out, from the last on, and for those of each of SWITCHES all with
    their first choice or none. And of the networks `known` [m, sites] those that are of no one operator, with every
    share of the width, up to GROWTH times their own, and every number of their blocks."""
    widest = np.unique([own_decisions(space.sites), choice_counts(space.sites) - 1], axis=0)
    blocks = _blocks(space)
    alike = [[j for j, site in enumerate(space.sites) if site.kind == kind] for kind in SWITCHES]
    scales = _widths(space)
    rows = []
    for most, share, operators, left_out, *firsts in itertools.product(
            widest, np.linspace(0.0, 1.0, SHARES), one_operator(space), range(len(blocks) + 1),
            *((False, True) if sites else (False,) for sites in alike)):
        row = operators.copy()
        row[scales] = np.round(share * most[scales]).astype(np.int64)
        row[blocks[len(blocks) - left_out:]] = 0
        for sites, first in zip(alike, firsts, strict=True):
            if first:
                row[sites] = 0
        rows.append(row)
    mixed = [] if known is None else [row for row in known if not _is_of_one_operator(space, row)]
    return np.unique(space.canonical(np.array([*rows, *(other for row in mixed for other in _resized(space, row))])),
                     axis=0)


def _resized(space: Space, row: IntArray) -> Iterator[IntArray]:
    """A network with other shares of its widths, and without the last of its blocks."""
    scales, blocks = _widths(space), [j for j in _blocks(space) if row[j]]
    last = choice_counts(space.sites) - 1
    for share, left_out in itertools.product(np.linspace(0.0, GROWTH, SHARES), range(len(blocks) + 1)):
        other = row.copy()
        other[scales] = np.minimum(np.round(share * row[scales]), last[scales]).astype(np.int64)
        other[blocks[len(blocks) - left_out:]] = 0
        yield other


def _is_of_one_operator(space: Space, row: IntArray) -> bool:
    """Whether it is the same network with one operator everywhere (where blocks are left out, any is)."""
    alike = np.array([site.ordered or site.kind in SWITCHES for site in space.sites])
    alone = np.array([np.where(alike, row, one) for one in one_operator(space)])
    return bool((space.canonical(alone) == space.canonical(row[None, :])).all(axis=1).any())


def _blocks(space: Space) -> list[int]:
    return [j for j, site in enumerate(space.sites) if site.kind == "block"]


def _widths(space: Space) -> npt.NDArray[np.bool_]:
    return np.array([site.ordered and site.kind != "block" for site in space.sites])
