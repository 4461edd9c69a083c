"""More channels inside residual blocks than a network has: those that MobileNetV2 (arXiv 1801.04381) expands to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synth.networks.channels import ChannelGroup, Channels
from synth.networks.network import Network, Vertex
from synth.networks.operators import operator


def inner_groups(channels: Channels) -> tuple[ChannelGroup, ...]:
    """The groups of channels that live inside residual blocks, or others that something goes past, and can be made
    wider with nothing else changing: not every path from the network's inputs to its outputs leads through them, no
    addition couples them to what goes past, and only convolutions read them."""
    network, passing = channels.network, _on_every_path(channels.network)
    found = []
    for group in channels.groups:
        vertices = [network[name] for name in group.vertices]
        readers = {reader for name in group.vertices for reader in network.readers[name]} - set(group.vertices)
        if (not group.frozen and group.width > 1 and not passing.intersection(group.vertices)
                and all(_keeps_apart(v) and np.array_equal(channels.labels[v.name], group.units) for v in vertices)
                and all(_is_plain(network[name]) for name in readers)):
            found.append(group)
    return tuple(found)


def widened(channels: Channels, factor: int) -> Network:
    """The network with `factor` times as many channels in each of its `inner_groups`, behind those that it has."""
    inside = {name for group in inner_groups(channels) for name in group.vertices}

    def kept(name: str) -> np.ndarray:
        width = len(channels.labels[name])
        return np.ones(factor * width if name in inside else width, dtype=bool)

    vertices = [replace(v, attrs=operator(v.op).shrunk(v.attrs, [kept(s) for s in v.inputs], kept(v.name)))
                if v.name in inside else v for v in channels.network.vertices]
    return replace(channels.network, vertices=tuple(vertices))


def _on_every_path(network: Network) -> set[str]:
    """The vertices through which every path from an input to an output leads."""
    to, onward = dict[str, int](), dict[str, int]()
    for vertex in network.vertices:
        to[vertex.name] = sum(to[source] for source in vertex.inputs) if vertex.inputs else 1
    for vertex in reversed(network.vertices):
        onward[vertex.name] = network.outputs.count(vertex.name) + sum(
            onward[reader] for reader in network.readers[vertex.name])  # once for each time that it reads
    whole = sum(to[name] for name in network.outputs)
    return {name for name in to if to[name] * onward[name] == whole}


def _is_plain(vertex: Vertex) -> bool:
    return vertex.op == "conv" and vertex.attrs["groups"] == 1 and not vertex.attrs.get("depthwise")


def _keeps_apart(vertex: Vertex) -> bool:
    """Whether a vertex makes new channels, or does with each of its channels what it does with the others."""
    return _is_plain(vertex) or vertex.op == "batch_norm" or vertex.op == "activation" or (
        vertex.op == "conv" and bool(vertex.attrs.get("depthwise")) and vertex.attrs["out"] == vertex.attrs["groups"])
