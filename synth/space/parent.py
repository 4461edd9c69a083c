"""The elastic parent: the prototype φ with, at every dense convolution, a bank of other operators fitted to it.

Candidates inherit slices of the bank (`space.bank`), so that a short training suffices to tell them apart.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from devices.layer_cost import fuse
from synth.networks.channels import Channels, channels_of, shrink
from synth.networks.costs import operations_of
from synth.networks.inheritance import axis_masks, grown, sliced
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.networks.operators import operator
from synth.networks.operators.pointwise import IDEMPOTENT
from synth.networks.rewriting import (
    INVERTED,
    OPERATORS,
    SEPARABLE,
    Block,
    activations_after_additions,
    following_norm,
    into_additions,
    is_replaceable,
    projected_width,
    replaced,
    residual_blocks,
    with_attention,
    with_nonlinearities,
    without_activations,
    without_blocks,
)
from synth.networks.widening import inner_groups, widened


@dataclass(frozen=True)
class Origin:
    """Where a candidate's tensor comes from: a tensor of the bank and the indices along its leading axes."""

    key: str
    indices: tuple[Tensor, ...]


@dataclass(frozen=True)
class Design:
    """What distinguishes one network of the space from φ.

    kept: {channel group: its kept units}. operators: {convolution: one of OPERATORS}. dropped: additions of the
    residual blocks that are left out. linear: activations behind additions that are. nonlinearities: {one of the
    parent's `nonlinearities`: the kind that all activations of its group are}. attention: the convolutions that have
    it before them.
    """

    kept: Mapping[str, np.ndarray]
    operators: Mapping[str, str]
    dropped: tuple[str, ...]
    linear: tuple[str, ...] = ()
    nonlinearities: Mapping[str, str] = field(default_factory=dict)
    attention: tuple[str, ...] = ()


class ElasticParent:
    """φ, its couplings, and the bank. bank: {"vertex.tensor" of φ, or "operator:vertex.tensor"}. own_widths: φ's, by
    channel group, where `network` is wider than φ."""

    def __init__(self, network: Network, bank: Weights, own_widths: Mapping[str, int] | None = None) -> None:
        self.network = network
        self.bank = bank
        self.own_widths = dict(own_widths or {})

    def widened(self, factor: int) -> ElasticParent:
        """The parent with `factor` times the channels inside residual blocks. It computes what φ does: the new channels
        answer as φ's own do, and what reads them has zeros for them. (Net2WiderNet, Chen et al., arXiv 1511.05641,
        shares φ's weights out instead; φ could then not be cut from it.)"""
        if factor == 1:
            return self
        own_widths = {group.name: group.width for group in inner_groups(self.channels)}
        wide = ElasticParent(widened(self.channels, factor), {}, own_widths)
        for choice in OPERATORS:
            origins = wide.origins_with(choice)
            wide.bank |= {o.key: grown(self.bank[o.key], [len(index) for index in o.indices])
                          for o in origins.values() if o.key in self.bank}
        return wide

    @functools.cached_property
    def channels(self) -> Channels:
        return channels_of(self.network)

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        return residual_blocks(self.network)

    @functools.cached_property
    def replaceable(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.network.vertices if is_replaceable(self.network, v))

    @functools.cached_property
    def activations(self) -> tuple[str, ...]:
        """Those that may be left out."""
        return activations_after_additions(self.network)

    @functools.cached_property
    def into_additions(self) -> tuple[str, ...]:
        """The convolutions before which attention over channels may stand."""
        return into_additions(self.network)

    @functools.cached_property
    def nonlinearities(self) -> dict[str, tuple[str, ...]]:
        """{the first ReLU of a map size: all of this size that may be of another kind, those inside "separable relu"
        too}. Of φ's own, those that end the launch they are in, so that what follows is launched as before."""
        found: dict[tuple[int, ...], list[str]] = {}
        for layer in fuse(operations_of(self.network), siblings=False):
            vertex = self.network[layer.operations[-1]]
            if (vertex.op == "activation" and vertex.attrs["kind"] in IDEMPOTENT and vertex.name not in
                    self.network.outputs and len(self.network.shapes[vertex.name]) == 3):
                found.setdefault(self.network.shapes[vertex.name][1:], []).append(vertex.name)
        inside = {size: [f"{name}.relu" for name in self.replaceable if self.network.shapes[name][1:] == size]
                  for size in found}
        return {names[0]: (*names, *inside[size]) for size, names in found.items()}

    def weights(self) -> Weights:
        """φ's own weights."""
        return {key: tensor for key, tensor in self.bank.items() if ":" not in key}

    def draw(self, design: Design) -> tuple[Network, dict[str, Origin]]:
        """The network of a design, and where each of its tensors comes from."""
        kept = self.channels.keep(design.kept)
        network = shrink(self.channels, kept)
        origins: dict[str, Origin] = {}
        for vertex in self.network.vertices:
            for tensor, indices in axis_masks(self.channels, vertex, kept).items():
                key = f"{vertex.name}.{tensor}"
                origins[key] = Origin(key, tuple(indices))
        for name, choice in design.operators.items():
            if choice != "dense":
                network = replaced(network, name, choice)
                origins |= self._replaced_origins(name, choice, kept)
        network = with_attention(network, design.attention)
        for name in design.attention:
            choice = design.operators.get(name, "dense")
            origins |= {f"{name}.excite.{tensor}": Origin(f"{choice}:{name}.excite.{tensor}",
                                                          (self._read(name, choice, kept),))
                        for tensor in ("weight", "bias")}
        dropped = [block for block in self.blocks if block.addition in design.dropped]
        network = without_activations(without_blocks(network, dropped), design.linear)
        network = with_nonlinearities(network, {name: kind for first, kind in design.nonlinearities.items()
                                                for name in self.nonlinearities[first]})
        return network, {key: origin for key, origin in origins.items() if key.rpartition(".")[0] in network}

    def inherit(self, origins: Mapping[str, Origin]) -> Weights:
        """The tensors of a drawn network, cut from the bank."""
        return {key: sliced(self.bank[o.key], list(o.indices)).clone() for key, o in origins.items()}

    def write_back(self, learnt: Iterable[tuple[Mapping[str, Origin], Weights]], step: float) -> None:
        """Move the bank towards what candidates learnt, in the given order: b += step * (learnt - b)."""
        for origins, weights in learnt:
            for key, origin in origins.items():
                tensor = self.bank[origin.key]
                place = np.ix_(*(index.numpy() for index in origin.indices)) if origin.indices else ...
                tensor[place] += step * (weights[key] - tensor[place])

    def origins_with(self, choice: str) -> dict[str, Origin]:
        """Of all tensors of the network with one operator, where it may stand, attention everywhere and all widths."""
        operators = dict.fromkeys(self.replaceable, choice)
        return self.draw(Design({}, operators, (), attention=self.into_additions))[1]

    def _indices(self, name: str, kept: np.ndarray) -> Tensor:
        """Which of a vertex's channels are kept."""
        return torch.from_numpy(np.flatnonzero(kept[self.channels.labels[name]]))

    def _read(self, name: str, choice: str, kept: np.ndarray) -> Tensor:
        """The channels that the last convolution of an operator reads."""
        if choice == INVERTED:
            return self._indices(name, kept)
        inside = self._indices(self.network[name].inputs[0], kept)
        return torch.arange(projected_width(len(inside))) if choice == "project" else inside

    def _replaced_origins(self, name: str, choice: str, kept: np.ndarray) -> dict[str, Origin]:
        vertex = self.network[name]
        out, inside = self._indices(name, kept), self._indices(vertex.inputs[0], kept)
        middle = self._read(name, choice, kept)
        axes: dict[str, tuple[Tensor, ...]] = {}
        if choice == INVERTED:
            axes[f"{name}.pointwise.weight"] = (out, inside)
        elif choice in SEPARABLE:
            axes[f"{name}.depthwise.weight"] = (inside,)
        elif choice == "project":
            axes[f"{name}.project.weight"] = (middle, inside)
        if choice != "pointwise":
            axes |= {f"{name}.norm.{t}": (middle,) for t in ("weight", "bias", "running_mean", "running_var")}
        axes[f"{name}.weight"] = (out,) if choice == INVERTED else (out, middle)
        if vertex.attrs["bias"]:
            axes[f"{name}.bias"] = (out,)
        norm = following_norm(self.network, name)
        if norm is not None:  # norms are never shared between operators
            axes |= {f"{norm.name}.{t}": (out,) for t in operator("batch_norm").axes(norm.attrs)}
        return {key: Origin(f"{choice}:{key}", indices) for key, indices in axes.items()}
