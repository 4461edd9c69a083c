"""Operators that work element by element."""

from __future__ import annotations

from collections.abc import Sequence

from devices.support.errors import UserError, unknown
from synth.networks.operators.base import Attrs, Labelling, Labels, Operator, Shape, register

# kind: the names of its arguments, with torch's defaults
ACTIVATIONS: dict[str, dict[str, float | str | bool]] = {
    "relu": {}, "relu6": {}, "silu": {}, "hardswish": {}, "sigmoid": {}, "hardsigmoid": {}, "tanh": {}, "mish": {},
    "selu": {}, "softplus": {}, "gelu": {"approximate": "none"}, "elu": {"alpha": 1.0},
    "leaky_relu": {"negative_slope": 0.01}, "hardtanh": {"min_val": -1.0, "max_val": 1.0},
}
IDEMPOTENT = ("relu", "relu6")  # twice is the same as once


@register
class Activation(Operator):
    """attrs: kind (a key of ACTIVATIONS) and its arguments."""

    name = "activation"
    pointwise = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        if attrs["kind"] not in ACTIVATIONS:
            raise unknown("activation", attrs["kind"], ACTIVATIONS)
        return inputs[0]


@register
class Softmax(Operator):
    """attrs: log (whether the logarithm is wanted). Over the channels or features."""

    name = "softmax"


@register
class Dropout(Operator):
    """attrs: p, channelwise. Does nothing at inference."""

    name = "dropout"
    free = True
    pointwise = True


@register
class Identity(Operator):
    name = "identity"
    free = True
    pointwise = True


@register
class Affine(Operator):
    """attrs: scale, shift (constants): x * scale + shift."""

    name = "affine"
    pointwise = True


class _Binary(Operator):
    """Two maps of the same channels; one of them may be 1x1 or have a single channel (broadcast)."""

    arity = (2, 2)
    pointwise = True

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        a, b = inputs
        if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
            raise UserError(f"shapes {a} and {b} do not go together")
        return tuple(max(x, y) for x, y in zip(a, b, strict=True))

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        a, b = inputs
        if len(a) != len(b):  # one channel for all
            return a if len(a) > len(b) else b
        labelling.unite(a, b)
        return a


@register
class Addition(_Binary):
    name = "add"


@register
class Subtraction(_Binary):
    name = "sub"


@register
class Multiplication(_Binary):
    name = "mul"
