"""The networks that a search begins with: between φ and the smallest, of kinds that people draw."""

from __future__ import annotations

import numpy as np

from synth.networks.network import Network, Vertex
from synth.networks.rewriting import INVERTED, POINTWISE, follows_a_stride
from synth.search.decisions import SWITCHES, Decisions, Site
from synth.space.space import BLOCK, OPERATOR, WIDTH, NetworkSpace, Place


def anchors(space: NetworkSpace) -> list[Decisions]:
    """Separable convolutions of half the widths, with every second of the blocks that can be left out; quarter widths
    with the first of them only; and, where the space has what they need, inverted residuals, with every second block
    or, where they can be wider inside than φ's, with those that do not stand on the largest map. (With all blocks they
    take as long to train as φ, since the map of every layer is written and read, however narrow it is.)"""
    rows = [_scaled(space, 0.5, "separable", 2), _scaled(space, 0.25, "project", len(space.sites) + 1)]
    if space.choices.activations and "separable relu" in space.choices.operators:
        rows.append(_inverted_residuals(space))
    return [tuple(int(c) for c in row) for row in space.canonical(np.array(rows, dtype=np.int64))]


def _scaled(space: NetworkSpace, share: float, operator: str, every: int) -> list[int]:
    """One share of all widths, one operator, and every so many of the blocks."""
    row = []
    for place, site, own in zip(space.places, space.sites, space.own, strict=True):
        if place.kind == WIDTH:
            row.append(round(share * own))
        else:
            row.append(site.choices.index(operator) if place.kind == OPERATOR else len(site.choices) - 1)
    return _with_every(space, row, every)


def _inverted_residuals(space: NetworkSpace) -> list[int]:
    """Half way up φ's widths between blocks and 1.5 times φ's own within, as far as there is, 1x1 convolutions that
    widen, separable ones with ReLU that narrow, and no activation behind additions: MobileNetV2's blocks, as far as φ's
    shape allows, and where there may be another nonlinearity than ReLU, and attention, those (MobileNetV3, Howard et
    al., arXiv 1905.02244)."""
    network = space.parent.network
    between = [g for g in space.parent.channels.groups if any(network[name].op == "add" for name in g.vertices)]
    groups, trunk = {group.name for group in between}, {name for group in between for name in group.vertices}

    def choice(place: Place, site: Site, own: int) -> int:
        if place.kind == WIDTH:
            passing = not groups or place.name in groups
            return round(0.5 * own) if passing else _nearest(site, 1.5 * int(site.choices[own]))
        if place.kind == OPERATOR:
            wanted = _operators(network, network[place.name], trunk)
            return site.choices.index(next(name for name in (*wanted, "separable") if name in site.choices))
        return 0 if place.kind in SWITCHES else len(site.choices) - 1

    row = [choice(*at) for at in zip(space.places, space.sites, space.own, strict=True)]
    return _off_the_largest_map(space, row) if space.parent.own_widths else _with_every(space, row, 2)


def _nearest(site: Site, width: float) -> int:
    """The choice of a width that is nearest to one."""
    return min(range(len(site.choices)), key=lambda choice: abs(int(site.choices[choice]) - width))


def _operators(network: Network, vertex: Vertex, trunk: set[str]) -> tuple[str, ...]:
    """What stands in a convolution's place in an inverted residual, the first that may; what reads the images stays."""
    source = vertex.inputs[0]
    if network[source].op == "input":
        return ("dense",)
    if source in trunk and vertex.name not in trunk:
        return (POINTWISE if tuple(vertex.attrs["stride"]) == (1, 1) else INVERTED, "separable")
    return (POINTWISE, "separable relu") if follows_a_stride(network, vertex) else ("separable relu",)


def _with_every(space: NetworkSpace, row: list[int], every: int) -> list[int]:
    """The row without blocks but the first, the one so many after it, and so on."""
    blocks = [column for column, place in enumerate(space.places) if place.kind == BLOCK]
    for number, column in enumerate(blocks):
        row[column] = len(space.sites[column].choices) - 1 if number % every == 0 else 0
    return row


def _off_the_largest_map(space: NetworkSpace, row: list[int]) -> list[int]:
    """The row without the blocks on the largest map that has any, where most MACs are and least parameters; where all
    stand on one map, with every second."""
    shapes = space.parent.network.shapes
    size = {column: shapes[place.name][1:] for column, place in enumerate(space.places) if place.kind == BLOCK}
    if len(set(size.values())) < 2:
        return _with_every(space, row, 2)
    return [0 if size.get(column) == max(size.values()) else choice for column, choice in enumerate(row)]
