"""The elastic parent: the prototype φ with, at every dense convolution, a bank of other operators fitted to it.

Candidates inherit slices of the bank, so that a short training suffices to tell them apart. The fit is closed form
and made once: each operator answers φ's own activations as nearly as it can in the least squares sense.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from devices.layer_cost import fuse
from synth.networks.channels import Channels, channels_of, shrink
from synth.networks.costs import operations_of
from synth.networks.inheritance import axis_masks, grown, sliced
from synth.networks.module import Weights, build, responses
from synth.networks.network import Network, Vertex
from synth.networks.operators import operator
from synth.networks.operators.pointwise import IDEMPOTENT
from synth.networks.rewriting import (
    OPERATORS,
    SEPARABLE,
    Block,
    activations_after_additions,
    is_replaceable,
    projected_width,
    replaced,
    residual_blocks,
    with_nonlinearities,
    without_activations,
    without_blocks,
)
from synth.networks.widening import inner_groups, widened

RIDGE = 1e-3  # of the mean squared input, so that directions without energy get no weight
SAMPLES = 8192  # positions that a fit looks at, at most
PIXELS = 2**20  # of all stimuli that a fit looks at, at most


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
    parent's `nonlinearities`: the kind that all activations of its group are}.
    """

    kept: Mapping[str, np.ndarray]
    operators: Mapping[str, str]
    dropped: tuple[str, ...]
    linear: tuple[str, ...] = ()
    nonlinearities: Mapping[str, str] = field(default_factory=dict)


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
            _, origins = wide.draw(Design({}, dict.fromkeys(wide.replaceable, choice), ()))
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

    def _replaced_origins(self, name: str, choice: str, kept: np.ndarray) -> dict[str, Origin]:
        vertex = self.network[name]
        out = torch.from_numpy(np.flatnonzero(kept[self.channels.labels[name]]))
        inside = torch.from_numpy(np.flatnonzero(kept[self.channels.labels[vertex.inputs[0]]]))
        middle = inside if choice in SEPARABLE else torch.arange(projected_width(len(inside)))
        axes: dict[str, tuple[Tensor, ...]] = {}
        if choice in SEPARABLE:
            axes[f"{name}.depthwise.weight"] = (inside,)
        elif choice == "project":
            axes[f"{name}.project.weight"] = (middle, inside)
        if choice != "pointwise":
            axes |= {f"{name}.norm.{t}": (middle,) for t in ("weight", "bias", "running_mean", "running_var")}
        axes[f"{name}.weight"] = (out, inside if choice == "pointwise" else middle)
        if vertex.attrs["bias"]:
            axes[f"{name}.bias"] = (out,)
        norm = following_norm(self.network, name)
        if norm is not None:  # norms are never shared between operators
            axes |= {f"{norm.name}.{t}": (out,) for t in operator("batch_norm").axes(norm.attrs)}
        return {key: Origin(f"{choice}:{key}", indices) for key, indices in axes.items()}


def following_norm(network: Network, name: str) -> Vertex | None:
    """The batch norm that alone reads a vertex."""
    readers = [network[r] for r in network.readers[name]]
    return readers[0] if len(readers) == 1 and readers[0].op == "batch_norm" else None


# --- the bank ------------------------------------------------------------------------------------------------------


def elastic_parent(network: Network, weights: Weights, stimuli: Tensor) -> ElasticParent:
    """φ with its bank, fitted on the responses to `stimuli` (N, C, H, W), normalised training images; of large ones to
    as many as PIXELS allow, since every response is held at once."""
    stimuli = stimuli[:: math.ceil(len(stimuli) * stimuli.shape[2] * stimuli.shape[3] / PIXELS)]
    module = build(network, weights).eval()
    parent = ElasticParent(network, dict(weights))
    with torch.no_grad():
        answers = responses(module, stimuli)
        for name in parent.replaceable:
            vertex = network[name]
            for choice, source in _sources(vertex, weights[f"{name}.weight"], answers[vertex.inputs[0]]).items():
                tensors = _fitted(network, vertex, weights, source, answers[name])
                parent.bank |= {f"{choice}:{key}": tensor for key, tensor in tensors.items()}
    return parent


@dataclass(frozen=True)
class _Source:
    """What the last convolution of an operator reads, (N, C, H, W), and how; tensors: of what comes before it."""

    activations: Tensor
    kernel: int
    stride: tuple[int, int]
    tensors: Weights


def _sources(vertex: Vertex, weight: Tensor, x: Tensor) -> dict[str, _Source]:
    """For every other operator in the place of one convolution that reads x (N, Cin, H, W)."""
    name, k = vertex.name, vertex.attrs["kernel"][0]
    stride = (int(vertex.attrs["stride"][0]), int(vertex.attrs["stride"][1]))
    depthwise = _rank_one(weight)
    filtered, norm = _normalised(functional.conv2d(x, depthwise, None, stride, k // 2, 1, x.shape[1]))
    separable = {f"{name}.depthwise.weight": depthwise} | {f"{name}.norm.{t}": v for t, v in norm.items()}
    _, vectors = torch.linalg.eigh(_covariance(x))  # ascending
    project = vectors.flip(1)[:, :projected_width(x.shape[1])].T[:, :, None, None].contiguous()
    projected, norm = _normalised(functional.conv2d(x, project))
    projecting = {f"{name}.project.weight": project} | {f"{name}.norm.{t}": v for t, v in norm.items()}
    return {
        "pointwise": _Source(x[:, :, ::stride[0], ::stride[1]], 1, (1, 1), {}),
        "separable": _Source(filtered, 1, (1, 1), separable),
        "separable relu": _Source(filtered.relu(), 1, (1, 1), {key: t.clone() for key, t in separable.items()}),
        "project": _Source(projected, k, stride, projecting),
    }


def _fitted(network: Network, vertex: Vertex, weights: Weights, source: _Source, y: Tensor) -> Weights:
    """An operator's tensors, its last convolution regressed on φ's answers y (N, Cout, H', W'); behind it the norm
    with φ's own scale and shift and the statistics of the new answers."""
    name, norm = vertex.name, following_norm(network, vertex.name)
    constant = vertex.attrs["bias"] or norm is not None
    weight, bias = _regress(source.activations, y, source.kernel, source.stride, constant)
    tensors = {**source.tensors, f"{name}.weight": weight}
    if vertex.attrs["bias"]:
        tensors[f"{name}.bias"] = bias
    if norm is not None:
        answer = functional.conv2d(source.activations, weight, bias if vertex.attrs["bias"] else None,
                                   source.stride, source.kernel // 2)
        statistics = {"running_mean": answer.mean(dim=(0, 2, 3)), "running_var": answer.var(dim=(0, 2, 3))}
        for tensor in operator("batch_norm").axes(norm.attrs):
            own = weights[f"{norm.name}.{tensor}"]
            tensors[f"{norm.name}.{tensor}"] = statistics[tensor] if tensor in statistics else own.clone()
    return tensors


def _rank_one(weight: Tensor) -> Tensor:
    """The best k x k filter of every input channel: leading singular vector of its slice, (Cin, 1, k, k)."""
    out, channels, k, _ = weight.shape
    slices = weight.permute(1, 0, 2, 3).reshape(channels, out, k * k)
    _, values, right = torch.linalg.svd(slices, full_matrices=False)
    return (right[:, 0] * values[:, :1].clamp_min(1e-8)).reshape(channels, 1, k, k).contiguous()


def _normalised(x: Tensor) -> tuple[Tensor, Weights]:
    """x as a fresh batch norm gives it, and that norm's tensors."""
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3)) + 1e-5
    norm = {"weight": torch.ones_like(mean), "bias": torch.zeros_like(mean), "running_mean": mean,
            "running_var": variance}
    return (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None], norm


def _covariance(x: Tensor) -> Tensor:
    flat = x.permute(1, 0, 2, 3).flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    return (flat @ flat.T / flat.shape[1]).float()


def _patches(x: Tensor, kernel: int, stride: Sequence[int]) -> Tensor:
    """(positions, Cin k^2) of one image, (1, Cin, H, W)."""
    return functional.unfold(x, kernel, padding=kernel // 2, stride=tuple(stride))[0].T


def _regress(x: Tensor, y: Tensor, kernel: int, stride: Sequence[int], constant: bool) -> tuple[Tensor, Tensor]:
    """Ridge regression of y (N, Cout, H', W') on the k x k patches of x (N, Cin, H, W), with a constant or not:
    weight (Cout, Cin, k, k) and bias (Cout,)."""
    positions = y.shape[2] * y.shape[3]
    rows = torch.arange(len(x) * positions)
    if len(rows) > SAMPLES:
        rows = torch.linspace(0, len(rows) - 1, SAMPLES).long()
    chosen = [rows[rows // positions == i] % positions for i in range(len(x))]  # all patches at once would be gigabytes
    design = torch.cat([_patches(image[None], kernel, stride)[at]
                        for image, at in zip(x, chosen, strict=True)]).double()
    target = torch.cat([image.flatten(1).T[at] for image, at in zip(y, chosen, strict=True)]).double()
    mean_x, mean_y = design.mean(dim=0) * constant, target.mean(dim=0) * constant
    design, target = design - mean_x, target - mean_y
    gram = design.T @ design
    gram += RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram, design.T @ target)
    weight = solution.T.reshape(y.shape[1], x.shape[1], kernel, kernel).float().contiguous()
    return weight, (mean_y - mean_x @ solution).float()
