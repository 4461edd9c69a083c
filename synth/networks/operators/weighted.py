"""Operators that store tensors: convolutions, linear layers, normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from devices.support.errors import UserError
from synth.networks.operators.base import (
    Attrs,
    Labelling,
    Labels,
    Operator,
    Shape,
    need_map,
    pair,
    register,
    window_size,
)


@register
class Convolution(Operator):
    """attrs: out, kernel, stride, padding, dilation (pairs), groups, bias, and depthwise where groups follow width."""

    name = "conv"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = need_map(inputs)
        groups, out = attrs["groups"], attrs["out"]
        if channels % groups or out % groups:
            raise UserError(f"{groups} groups do not divide {channels} input and {out} output channels")
        sizes = zip((height, width), pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]),
                    pair(attrs["dilation"]), strict=True)
        return (out, *(window_size(*size) for size in sizes))

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        kh, kw = pair(attrs["kernel"])
        return int(np.prod(output)) * (inputs[0][0] // attrs["groups"]) * kh * kw

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (attrs["out"], inputs[0][0] // attrs["groups"], *pair(attrs["kernel"]))}
        return shapes | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        inner = () if attrs.get("depthwise") else ("in",) if attrs["groups"] == 1 else ("in_group",)
        return {"weight": ("out", *inner)} | ({"bias": ("out",)} if attrs["bias"] else {})

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        groups, out = attrs["groups"], attrs["out"]
        if attrs.get("depthwise"):  # groups follow the width, even down to one
            return np.repeat(inputs[0], out // groups)
        if groups == 1:
            return labelling.fresh(out)
        labelling.unite_groups(inputs[0], groups)
        return np.tile(labelling.fresh(out // groups), groups)

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        changes = {"out": int(kept_out.sum())}
        if attrs.get("depthwise"):
            changes["groups"] = int(kept_in[0].sum())
        return {**attrs, **changes}


@register
class TransposedConvolution(Operator):
    """attrs: out, kernel, stride, padding, output_padding, dilation (pairs), groups (only 1), bias."""

    name = "conv_transpose"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        _, height, width = need_map(inputs)
        if attrs["groups"] != 1:
            raise UserError("transposed convolutions in groups are not supported")
        sizes = zip((height, width), pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]),
                    pair(attrs["output_padding"]), pair(attrs["dilation"]), strict=True)
        return (attrs["out"], *((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in sizes))

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        kh, kw = pair(attrs["kernel"])
        return int(np.prod(inputs[0])) * attrs["out"] * kh * kw

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (inputs[0][0], attrs["out"], *pair(attrs["kernel"]))}
        return shapes | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return {"weight": ("in", "out")} | ({"bias": ("out",)} if attrs["bias"] else {})

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return labelling.fresh(attrs["out"])

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        return {**attrs, "out": int(kept_out.sum())}


@register
class Linear(Operator):
    """attrs: out, bias. Reads a vector (features,)."""

    name = "linear"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if len(inputs[0]) != 1:
            raise UserError(f"needs a vector, not {inputs[0]}; flatten first")
        return (attrs["out"],)

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        return inputs[0][0] * attrs["out"]

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (attrs["out"], inputs[0][0])}
        return shapes | ({"bias": (attrs["out"],)} if attrs["bias"] else {})

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return {"weight": ("out", "in")} | ({"bias": ("out",)} if attrs["bias"] else {})

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return labelling.fresh(attrs["out"])

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        return {**attrs, "out": int(kept_out.sum())}


@register
class BatchNorm(Operator):
    """attrs: eps, momentum, affine. Folded into what it follows wherever that is a convolution or linear layer."""

    name = "batch_norm"
    pointwise = True

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return dict.fromkeys(self.axes(attrs), (inputs[0][0],))

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        affine = ("weight", "bias") if attrs["affine"] else ()
        return dict.fromkeys((*affine, "running_mean", "running_var"), ("out",))


@register
class GroupNorm(Operator):
    """attrs: groups, eps, affine."""

    name = "group_norm"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if inputs[0][0] % attrs["groups"]:
            raise UserError(f"{attrs['groups']} groups do not divide {inputs[0][0]} channels")
        return inputs[0]

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return dict.fromkeys(self.axes(attrs), (inputs[0][0],))

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(("weight", "bias") if attrs["affine"] else (), ("out",))

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        labelling.unite_groups(inputs[0], attrs["groups"])
        return inputs[0]


@register
class ChannelNorm(Operator):
    """attrs: eps, affine. A layer norm over the channels of every pixel by itself, as in ConvNeXt."""

    name = "channel_norm"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return need_map(inputs)

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return dict.fromkeys(self.axes(attrs), (inputs[0][0],))

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(("weight", "bias") if attrs["affine"] else (), ("out",))


@register
class PRelu(Operator):
    """attrs: shared. A leaky ReLU with a learnt slope, one a channel or one for all (shared)."""

    name = "prelu"
    pointwise = True

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": (1 if attrs["shared"] else inputs[0][0],)}

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return {"weight": () if attrs["shared"] else ("out",)}


@register
class Scale(Operator):
    """attrs: weight, bias (which of both it has), shared, learnt: x * weight + bias outside of a normalisation.

    One number a channel or one for all (shared). learnt: parameters (layer scale); else constants (a mean image).
    """

    name = "scale"
    pointwise = True

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return dict.fromkeys(self.axes(attrs), (1 if attrs["shared"] else inputs[0][0],))

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys([n for n in ("weight", "bias") if attrs[n]], () if attrs["shared"] else ("out",))

    def learnt(self, attrs: Attrs) -> tuple[str, ...]:
        return super().learnt(attrs) if attrs["learnt"] else ()
