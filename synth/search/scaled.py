"""Networks that a person would draw: one operator, one share of the width and one depth for the whole network, all
residual blocks linear or none, activations of one kind.

There are few of them and among them are good ones (on trained digits networks they come within about two NetScore
points of the best that is known), so the search for what a seed should become also starts from the most promising.
"""

from __future__ import annotations

import itertools

import numpy as np

from synth.search.decisions import IntArray, Space, choice_counts, own_decisions

SHARES = 17  # of the width, evenly from the least to the prototype's own, and to the widest
ALIKE = ("activation", "nonlinearity")  # kinds of sites that all take their first choice, or all the prototype's own


def one_operator(space: Space) -> list[IntArray]:
    """[sites] for every operator: the prototype with it everywhere (its own where a site does not have it)."""
    own = own_decisions(space.sites)
    chooses = [j for j, site in enumerate(space.sites) if not site.ordered and site.kind not in ALIKE]
    drawn = []
    for operator in sorted({choice for j in chooses for choice in space.sites[j].choices}):
        row = own.copy()
        for j in chooses:
            if operator in space.sites[j].choices:
                row[j] = space.sites[j].choices.index(operator)
        drawn.append(row)
    return drawn or [own]


def scaled_networks(space: Space) -> IntArray:
    """[n, sites]: `one_operator` with every share of the width (of the prototype's own, and of the widest), for sites
    of kind "block" with every number of blocks left out, from the last on, and for those of each kind of ALIKE all with
    their first choice or none."""
    widest = np.unique([own_decisions(space.sites), choice_counts(space.sites) - 1], axis=0)
    blocks = [j for j, site in enumerate(space.sites) if site.kind == "block"]
    alike = [[j for j, site in enumerate(space.sites) if site.kind == kind] for kind in ALIKE]
    scales = np.array([site.ordered and site.kind != "block" for site in space.sites])
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
    return np.unique(space.canonical(np.array(rows)), axis=0)
