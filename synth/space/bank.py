"""The bank of an elastic parent: other operators in the place of φ's convolutions, fitted to them in closed form.

Each answers φ's own activations as nearly as it can in the least squares sense.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from synth.networks.module import Weights, build, responses
from synth.networks.network import Network, Vertex
from synth.networks.operators import operator
from synth.networks.rewriting import INVERTED, OPERATORS, following_norm, projected_width
from synth.space.parent import ElasticParent

RIDGE = 1e-3  # of the mean squared input, so that directions without energy get no weight
SAMPLES = 8192  # positions that a fit looks at, at most
START = {"weight": 0.0, "bias": 2.5}  # of attention; hardsigmoid makes 11/12 of 2.5, and has no slope from 3 on
PIXELS = 2**20  # of all stimuli that a fit looks at, at most


def elastic_parent(network: Network, weights: Weights, stimuli: Tensor,
                   operators: Sequence[str] = OPERATORS) -> ElasticParent:
    """φ with its bank, fitted on the responses to `stimuli` (N, C, H, W), normalised training images; of large ones to
    as many as PIXELS allow, since every response is held at once. "inverted" is fitted where `operators` have it."""
    stimuli = stimuli[:: math.ceil(len(stimuli) * stimuli.shape[2] * stimuli.shape[3] / PIXELS)]
    module = build(network, weights).eval()
    parent = ElasticParent(network, dict(weights))
    with torch.no_grad():
        answers = responses(module, stimuli)
        for name in parent.replaceable:
            vertex = network[name]
            weight, x = weights[f"{name}.weight"], answers[vertex.inputs[0]]
            sources = _sources(vertex, weight, x) | ({INVERTED: _inverted(vertex, weight, x)} if INVERTED in operators
                                                     else {})
            for choice, source in sources.items():
                tensors = _fitted(network, vertex, weights, source, answers[name])
                parent.bank |= {f"{choice}:{key}": tensor for key, tensor in tensors.items()}
    parent.bank |= _open_gates(parent)
    return parent


def _open_gates(parent: ElasticParent) -> Weights:
    """Attention that lets the same share of every channel through, nearly all of it, and can still learn to let less
    or more."""
    tensors = {}
    for choice in OPERATORS:
        origins = parent.origins_with(choice)
        for name, (tensor, start) in itertools.product(parent.into_additions, START.items()):
            origin = origins[f"{name}.excite.{tensor}"]
            tensors[origin.key] = torch.full((len(origin.indices[0]),), start)
    return tensors


@dataclass(frozen=True)
class _Source:
    """What the last convolution of an operator reads, (N, C, H, W), and how; tensors: of what comes before it."""

    activations: Tensor
    kernel: int
    stride: tuple[int, int]
    tensors: Weights
    depthwise: bool = False


def _sources(vertex: Vertex, weight: Tensor, x: Tensor) -> dict[str, _Source]:
    """For every other operator but "inverted" in the place of one convolution that reads x (N, Cin, H, W)."""
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


def _inverted(vertex: Vertex, weight: Tensor, x: Tensor) -> _Source:
    mixing = _mixing(weight)
    mixed, norm = _normalised(functional.conv2d(x, mixing))
    tensors = {f"{vertex.name}.pointwise.weight": mixing} | {f"{vertex.name}.norm.{t}": v for t, v in norm.items()}
    stride = (int(vertex.attrs["stride"][0]), int(vertex.attrs["stride"][1]))
    return _Source(mixed.relu(), vertex.attrs["kernel"][0], stride, tensors, depthwise=True)


def _fitted(network: Network, vertex: Vertex, weights: Weights, source: _Source, y: Tensor) -> Weights:
    """An operator's tensors, its last convolution regressed on φ's answers y (N, Cout, H', W'); behind it the norm
    with φ's own scale and shift and the statistics of the new answers."""
    name, norm = vertex.name, following_norm(network, vertex.name)
    constant = vertex.attrs["bias"] or norm is not None
    weight, bias = _regress(source.activations, y, source.kernel, source.stride, constant, source.depthwise)
    tensors = {**source.tensors, f"{name}.weight": weight}
    if vertex.attrs["bias"]:
        tensors[f"{name}.bias"] = bias
    if norm is not None:
        answer = functional.conv2d(source.activations, weight, bias if vertex.attrs["bias"] else None,
                                   source.stride, source.kernel // 2, 1, y.shape[1] if source.depthwise else 1)
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


def _mixing(weight: Tensor) -> Tensor:
    """The best mixture of the inputs for every output channel: leading singular vector of its slice, (Cout, Cin, 1, 1),
    of such sign that its entries sum to something positive."""
    left, _, _ = torch.linalg.svd(weight.flatten(2), full_matrices=False)
    leading = left[:, :, 0]
    leading = leading * torch.where(leading.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    return leading[:, :, None, None].contiguous()


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


def _regress(x: Tensor, y: Tensor, kernel: int, stride: Sequence[int], constant: bool, depthwise: bool = False
             ) -> tuple[Tensor, Tensor]:
    """Ridge regression of y (N, Cout, H', W') on the k x k patches of x (N, Cin, H, W), with a constant or not:
    weight (Cout, Cin, k, k) and bias (Cout,). depthwise: each channel on its own, weight (Cout, 1, k, k)."""
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
    if depthwise:
        each = design.reshape(len(design), x.shape[1], -1).transpose(0, 1)  # [channels, rows, k^2]
        grams = each.mT @ each
        ridge = RIDGE * grams.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-12)
        grams = grams + ridge[:, None, None] * torch.eye(grams.shape[1], dtype=grams.dtype)
        solutions = torch.linalg.solve(grams, each.mT @ target.T[:, :, None])[:, :, 0]
        shift = mean_y - (mean_x.reshape(solutions.shape) * solutions).sum(dim=1)
        return solutions.float().reshape(y.shape[1], 1, kernel, kernel).contiguous(), shift.float()
    gram = design.T @ design
    gram += RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram, design.T @ target)
    weight = solution.T.reshape(y.shape[1], x.shape[1], kernel, kernel).float().contiguous()
    return weight, (mean_y - mean_x @ solution).float()
