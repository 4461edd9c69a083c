"""Operators that change the size of a map: pooling and up-sampling."""

from __future__ import annotations

from collections.abc import Sequence

from devices.support.errors import UserError
from synth.networks.operators.base import Attrs, Operator, Shape, need_map, pair, register, window_size


class _Window(Operator):
    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = need_map(inputs)
        sizes = zip((height, width), pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]),
                    pair(attrs.get("dilation", 1)), strict=True)
        return (channels, *(window_size(*size, ceil=attrs["ceil"]) for size in sizes))


@register
class MaxPool(_Window):
    """attrs: kernel, stride, padding, dilation (pairs), ceil."""

    name = "max_pool"


@register
class AveragePool(_Window):
    """attrs: kernel, stride, padding (pairs), ceil, count_padding."""

    name = "avg_pool"


class _Adaptive(Operator):
    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return (need_map(inputs)[0], *pair(attrs["size"]))


@register
class AdaptiveAveragePool(_Adaptive):
    """attrs: size (pair): that many equal windows; (1, 1) is global average pooling."""

    name = "adaptive_avg_pool"


@register
class AdaptiveMaxPool(_Adaptive):
    """attrs: size (pair)."""

    name = "adaptive_max_pool"


@register
class Resize(Operator):
    """attrs: size (pair) or scale (pair), mode ("nearest" or "bilinear"), align_corners."""

    name = "resize"

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = need_map(inputs)
        if attrs.get("size") is not None:
            return (channels, *pair(attrs["size"]))
        sh, sw = attrs["scale"]
        size = (int(height * sh), int(width * sw))
        if min(size) < 1:
            raise UserError(f"a map of {height}x{width} scaled by {attrs['scale']} vanishes")
        return (channels, *size)
