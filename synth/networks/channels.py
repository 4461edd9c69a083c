"""What is coupled: which channels of a network must be kept or dropped together, read off the graph.

Every channel of every vertex gets a label; an addition merges labels, a concatenation joins arrays of them, a
flattening repeats them, and so on (`Operator.labels`). Channels with one label are a unit: they live and die
together. Units that occur in the same vertices form a group, whose width is one decision.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from devices.support.errors import UserError
from synth.networks.network import Network, Vertex
from synth.networks.operators import Labels, operator
from synth.networks.operators.base import Labelling


@dataclass(frozen=True)
class ChannelGroup:
    """Units that occur in the same vertices. name: the first vertex that makes them; units: their labels."""

    name: str
    units: tuple[int, ...]
    vertices: tuple[str, ...]
    frozen: bool  # part of the network's input or output

    @property
    def width(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Channels:
    """The labels of every vertex's output channels, and the groups of units."""

    network: Network
    labels: Mapping[str, Labels]
    groups: tuple[ChannelGroup, ...]

    @functools.cached_property
    def group_of_unit(self) -> dict[int, int]:
        return {unit: i for i, group in enumerate(self.groups) for unit in group.units}

    def keep_all(self) -> np.ndarray:
        """The mask over labels that keeps everything."""
        return np.ones(1 + max(int(labels.max()) for labels in self.labels.values()), dtype=bool)

    def keep(self, kept_units: Mapping[str, np.ndarray | list[int]]) -> np.ndarray:
        """The mask over labels in which only `kept_units` (by group name) of the named groups are kept.

        UserError when a group is frozen, unknown, or would be left empty.
        """
        by_name = {group.name: group for group in self.groups}
        mask = self.keep_all()
        for name, kept in kept_units.items():
            group = by_name.get(name)
            if group is None or group.frozen:
                raise UserError(f"the width of {name} cannot be changed: it is "
                                + ("part of the network's input or output" if group else "no group of channels"))
            if len(kept) == 0:
                raise UserError(f"{name} would be left without channels")
            mask[list(group.units)] = False
            mask[np.asarray(kept, dtype=np.int64)] = True
        return mask


def channels_of(network: Network) -> Channels:
    labelling = Labelling()
    raw: dict[str, Labels] = {}
    for vertex in network.vertices:
        raw[vertex.name] = operator(vertex.op).labels(
            vertex.attrs, [raw[s] for s in vertex.inputs], network.input_shapes(vertex), labelling)
    labels = {name: labelling.resolve(array) for name, array in raw.items()}
    fixed = {int(u) for v in network.vertices if v.op == "input" for u in labels[v.name]}
    fixed |= {int(u) for name in network.outputs for u in labels[name]}
    found: dict[int, list[str]] = {}
    for vertex_name, array in labels.items():
        for unit in dict.fromkeys(array.tolist()):
            found.setdefault(unit, []).append(vertex_name)
    together: dict[tuple[str, ...], list[int]] = {}
    for unit, places in found.items():
        together.setdefault(tuple(places), []).append(unit)
    taken: set[str] = set()
    groups = []
    for vertices, units in together.items():
        name = vertices[0]
        while name in taken:  # a vertex whose channels part ways later (a slice) gives several groups
            name += "'"
        taken.add(name)
        groups.append(ChannelGroup(name, tuple(units), vertices, any(u in fixed for u in units)))
    return Channels(network, labels, tuple(groups))


def shrink(channels: Channels, kept: np.ndarray) -> Network:
    """The network in which only the channels whose label is marked in `kept` are left. bool [labels]."""
    vertices: list[Vertex] = []
    for vertex in channels.network.vertices:
        attrs = operator(vertex.op).shrunk(
            vertex.attrs, [kept[channels.labels[s]] for s in vertex.inputs], kept[channels.labels[vertex.name]])
        vertices.append(replace(vertex, attrs=attrs))
    network = replace(channels.network, vertices=tuple(vertices))
    for vertex in network.vertices:
        expected = int(kept[channels.labels[vertex.name]].sum())
        if network.shapes[vertex.name][0] != expected:
            raise UserError(f"{vertex.name}: {network.shapes[vertex.name][0]} channels are left where the graph's "
                            f"couplings say {expected}; please report this network")
    return network
