"""Operators that move values without computing: inputs, concatenation, slices, shuffles, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from devices.support.errors import UserError
from synth.networks.operators.base import Attrs, Labelling, Labels, Operator, Shape, need_map, pair, register


@register
class Input(Operator):
    """attrs: shape (channels, height, width)."""

    name = "input"
    arity = (0, 0)
    free = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        shape = tuple(int(n) for n in attrs["shape"])
        if not shape or min(shape) < 1:
            raise UserError(f"the input shape {shape} must be positive")
        return shape

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return labelling.fresh(attrs["shape"][0])


@register
class Concatenation(Operator):
    """Along the channels."""

    name = "cat"
    arity = (1, 1 << 16)

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if len({shape[1:] for shape in inputs}) != 1:
            raise UserError(f"maps of different sizes cannot be concatenated: {list(inputs)}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return np.concatenate(inputs)


@register
class Slice(Operator):
    """attrs: start, stop: some of the channels (what chunk and split give)."""

    name = "slice"
    free = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        start, stop = attrs["start"], attrs["stop"]
        if not 0 <= start < stop <= inputs[0][0]:
            raise UserError(f"channels {start} to {stop} are not within {inputs[0][0]}")
        return (stop - start, *inputs[0][1:])

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return inputs[0][attrs["start"]:attrs["stop"]]

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        start = int(kept_in[0][:attrs["start"]].sum())
        return {**attrs, "start": start, "stop": start + int(kept_out.sum())}


@register
class Flatten(Operator):
    """(C, H, W) to (C * H * W,)."""

    name = "flatten"
    free = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return (int(np.prod(inputs[0])),)

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return np.repeat(inputs[0], int(np.prod(shapes[0][1:])))


@register
class ToMap(Operator):
    """(C,) to (C, 1, 1): what squeeze-excite does before it scales a map."""

    name = "to_map"
    free = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if len(inputs[0]) != 1:
            raise UserError(f"needs a vector, not {inputs[0]}")
        return (inputs[0][0], 1, 1)


@register
class ChannelShuffle(Operator):
    """attrs: groups. Reads channels as (groups, n) and writes them as (n, groups)."""

    name = "channel_shuffle"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if need_map(inputs)[0] % attrs["groups"]:
            raise UserError(f"{attrs['groups']} groups do not divide {inputs[0][0]} channels")
        return inputs[0]

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        labelling.unite_groups(inputs[0], attrs["groups"])
        return inputs[0].reshape(attrs["groups"], -1).T.reshape(-1)


@register
class Subsample(Operator):
    """attrs: stride (pair). Every n-th row and column: x[:, :, ::sh, ::sw]."""

    name = "subsample"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = need_map(inputs)
        sh, sw = pair(attrs["stride"])
        return (channels, -(-height // sh), -(-width // sw))


@register
class Pad(Operator):
    """attrs: channels (before, after), rows (top, bottom), columns (left, right), value; mode is constant."""

    name = "pad"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        sizes = zip(need_map(inputs), (attrs["channels"], attrs["rows"], attrs["columns"]), strict=True)
        shape = tuple(n + before + after for n, (before, after) in sizes)
        if min(shape) < 1:
            raise UserError(f"nothing is left of {inputs[0]} after padding")
        return shape

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        before, after = attrs["channels"]
        if before < 0 or after < 0:
            raise UserError("a negative padding of channels is not supported; use a slice")
        return np.concatenate([labelling.fresh(before), inputs[0], labelling.fresh(after)])

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        before, after = attrs["channels"]
        return {**attrs, "channels": [int(kept_out[:before].sum()), int(kept_out[len(kept_out) - after:].sum())]}


@register
class PixelShuffle(Operator):
    """attrs: factor. (C r^2, H, W) to (C, H r, W r)."""

    name = "pixel_shuffle"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (channels, height, width), r = need_map(inputs), attrs["factor"]
        if channels % (r * r):
            raise UserError(f"{channels} channels are not a multiple of {r * r}")
        return (channels // (r * r), height * r, width * r)

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        blocks = inputs[0].reshape(-1, attrs["factor"] ** 2)
        for column in blocks.T[1:]:
            labelling.unite(blocks[:, 0], column)
        return blocks[:, 0].copy()


@register
class PixelUnshuffle(Operator):
    """attrs: factor. Space to depth: (C, H, W) to (C r^2, H / r, W / r)."""

    name = "pixel_unshuffle"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        (channels, height, width), r = need_map(inputs), attrs["factor"]
        if height % r or width % r:
            raise UserError(f"a map of {height}x{width} does not divide by {r}")
        return (channels * r * r, height // r, width // r)

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        return np.repeat(inputs[0], attrs["factor"] ** 2)
