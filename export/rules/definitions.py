"""Operators that a parser does not have, written by their definition in ONNX, out of operators that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from export.document import opset_of
from export.graph import Graph, attribute, given, label, stem
from export.rules.finding import MENDED, Finding
from export.rules.operators import refused

if TYPE_CHECKING:
    import onnx

    from export.dialect import Dialect

FIRST_OPSET_OF_AXES_INPUT = 18  # of ReduceMean
FIRST_OPSET_OF_PARTIAL_SHAPE = 15
FIRST_OPSET_OF_CHANNEL_SCALES = 21  # of GroupNormalization, which had them for each group before


class _Steps:
    """The nodes that stand for one: each call adds one and returns the name of its output."""

    def __init__(self, graph: Graph, node: onnx.NodeProto):
        self.graph, self.node, self.nodes = graph, node, []  # type: ignore[var-annotated]
        self.dtype = graph.dtype(node.input[0])

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        name = self.graph.free_name(f"{self.node.output[0]}_{kind}")
        title = f"{stem(self.node)}/{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], title, **attributes))
        return name

    def number(self, value: float) -> str:
        """A constant of the type of the node's input."""
        return self.graph.add_constant("number", np.asarray(value, self.dtype))

    def end(self) -> list[onnx.NodeProto]:
        """The nodes; the last makes the output of the one that they stand for."""
        self.nodes[-1].output[0] = self.node.output[0]
        return self.nodes


def _hard_swish(steps: _Steps, x: str) -> None:
    """HardSwish(x) = x HardSigmoid(x; 1/6, 1/2)."""
    steps("Mul", x, steps("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def _reciprocal(steps: _Steps, x: str) -> None:
    steps("Div", steps.number(1), x)


def _gelu(steps: _Steps, x: str) -> None:
    """Gelu(x) = x (1 + erf(x / sqrt 2)) / 2, or with tanh(sqrt(2/pi) (x + 0.044715 x^3)) for the erf."""
    if attribute(steps.node, "approximate", "none") == "none":
        curve = steps("Erf", steps("Div", x, steps.number(math.sqrt(2))))
    else:
        cube = steps("Mul", steps("Mul", steps("Mul", x, x), x), steps.number(0.044715))
        curve = steps("Tanh", steps("Mul", steps("Add", x, cube), steps.number(math.sqrt(2 / math.pi))))
    steps("Mul", steps("Mul", x, steps("Add", curve, steps.number(1))), steps.number(0.5))


def _mish(steps: _Steps, x: str) -> None:
    """Mish(x) = x tanh(log(1 + e^x))."""
    steps("Mul", x, steps("Tanh", steps("Softplus", x)))


def _sign(steps: _Steps, x: str) -> None:
    """(x > 0) - (x < 0)."""
    import onnx

    kind, zero = onnx.helper.np_dtype_to_tensor_dtype(steps.dtype), steps.number(0)
    above, below = steps("Greater", x, zero), steps("Less", x, zero)
    steps("Sub", steps("Cast", above, to=kind), steps("Cast", below, to=kind))


def _layer_normalisation(steps: _Steps, x: str) -> bool:
    """(x - mean) / sqrt(variance + epsilon) scale + bias, over the axes from `axis` on. Not where the statistics are
    asked for too."""
    node, graph = steps.node, steps.graph
    shape, axis = graph.shape(x), attribute(node, "axis", -1)
    if any(node.output[1:]) or (axis >= 0 and shape is None):
        return False
    axes = list(range(axis if axis < 0 else axis - len(shape or ()), 0))

    def mean(name: str) -> str:
        if opset_of(graph.model) < FIRST_OPSET_OF_AXES_INPUT:
            return steps("ReduceMean", name, axes=axes, keepdims=1)
        return steps("ReduceMean", name, graph.add_constant("axes", np.asarray(axes, np.int64)), keepdims=1)

    centred = steps("Sub", x, mean(x))
    variance = mean(steps("Mul", centred, centred))
    deviation = steps("Sqrt", steps("Add", variance, steps.number(attribute(node, "epsilon", 1e-5))))
    scaled = steps("Mul", steps("Div", centred, deviation), node.input[1])
    if given(node, 2):
        steps("Add", scaled, node.input[2])
    return True


def _group_normalisation(steps: _Steps, x: str) -> bool:
    """Instances of each group brought to mean 0 and variance 1; scale and bias of each channel, as from opset 21 on."""
    node, graph, shape = steps.node, steps.graph, steps.graph.shape(x)
    groups = attribute(node, "num_groups")
    if opset_of(graph.model) < FIRST_OPSET_OF_CHANNEL_SCALES or not shape:
        return False
    if not all(isinstance(size, int) for size in shape[1:]):
        return False
    apart, together = np.asarray([0, groups, -1], np.int64), np.asarray([-1, *shape[1:]], np.int64)
    ones, zeros = (
        graph.add_constant(name, np.full(groups, value, steps.dtype)) for name, value in (("one", 1), ("zero", 0))
    )
    grouped = steps("Reshape", x, graph.add_constant("groups", apart))
    epsilon = attribute(node, "epsilon", 1e-5)
    normal = steps("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
    whole = steps("Reshape", normal, graph.add_constant("shape", together))
    across = graph.add_constant("channels", np.asarray([-1, *[1] * (len(shape) - 2)], np.int64))
    scale, bias = (steps("Reshape", name, across) for name in node.input[1:3])
    steps("Add", steps("Mul", whole, scale), bias)
    return True


def _attention(steps: _Steps, x: str) -> bool:
    """softmax(q kᵀ · scale + mask) v of queries, keys and values (N, heads, length, size); no caches, no caps."""
    node, graph = steps.node, steps.graph
    shape, mask = graph.shape(x), given(node, 3)
    asked = {item.name for item in node.attribute if item.name not in ("scale", "softmax_precision")}
    asked = {name for name in asked if attribute(node, name) not in (0, 0.0)}
    if any(given(node, i) for i in range(4, 8)) or any(node.output[1:]) or asked or not shape or len(shape) != 4:
        return False
    if not isinstance(shape[3], int) or (graph.shape(node.input[1]) or [0, 0])[1] != shape[1]:
        return False  # fewer heads of keys than of queries: each serves a group
    scale = steps.number(attribute(node, "scale", 1 / math.sqrt(shape[3])))
    turned = steps("Transpose", node.input[1], perm=[0, 1, 3, 2])
    weights = steps("Mul", steps("MatMul", x, turned), scale)
    if mask and graph.dtype(mask) == np.bool_:
        weights = steps("Where", mask, weights, steps.number(float(np.finfo(steps.dtype).min)))
    elif mask:
        weights = steps("Add", weights, mask)
    steps("MatMul", steps("Softmax", weights, axis=-1), node.input[2])
    return True


def _triangle(steps: _Steps, x: str) -> bool:
    """Trilu: a mask of the size of the last two axes, which have to be known."""
    node, shape = steps.node, steps.graph.shape(x)
    shift = steps.graph.constant(node.input[1]) if given(node, 1) else np.zeros((), np.int64)
    if shift is None or shape is None or not all(isinstance(size, int) for size in shape[-2:]):
        return False
    ones = np.ones([int(size) for size in shape[-2:] if size is not None], bool)
    mask = np.triu(ones, int(shift)) if attribute(node, "upper", 1) else np.tril(ones, int(shift))
    steps("Where", steps.graph.add_constant("mask", mask), x, steps.number(0))
    return True


def _partial_shape(steps: _Steps, x: str) -> None:
    """A part of a shape: the whole of it, cut."""
    node, int64 = steps.node, np.int64
    ends = [attribute(node, "start", 0), attribute(node, "end", np.iinfo(np.int32).max)]
    places = [steps.graph.add_constant("end", np.asarray([place], int64)) for place in ends]
    steps("Slice", steps("Shape", x), *places)


DEFINITIONS: dict[str, Callable[[_Steps, str], bool | None]] = {
    "HardSwish": _hard_swish, "Reciprocal": _reciprocal, "Gelu": _gelu, "Mish": _mish, "Sign": _sign,
    "LayerNormalization": _layer_normalisation, "GroupNormalization": _group_normalisation, "Attention": _attention,
    "Trilu": _triangle, "Shape": _partial_shape,
}  # fmt: skip


def rewritten(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Operators, or forms of them, that the parser does not have, but whose definition it can be given."""
    for node in list(graph.nodes(*DEFINITIONS)):
        partial = node.op_type == "Shape" and any(item.name in ("start", "end") for item in node.attribute)
        if node.op_type == "Shape" and not (partial and dialect.opset < FIRST_OPSET_OF_PARTIAL_SHAPE):
            continue
        if node.op_type != "Shape" and _reads(graph, dialect, node.op_type):
            continue
        steps = _Steps(graph, node)
        if DEFINITIONS[node.op_type](steps, node.input[0]) is False:
            continue
        kinds = dict.fromkeys(part.op_type for part in steps.end())
        yield Finding(
            "rewritten",
            label(node),
            MENDED,
            f"{dialect.reader} has no {'parts of a ' if partial else ''}{node.op_type}",
            f"written as {' and '.join(kinds)}",
        )
        graph.replace(node, steps.nodes)


def _reads(graph: Graph, dialect: Dialect, operator: str) -> bool:
    """Whether the target has the operator, and means the same by it as the file does."""
    import onnx

    if refused(dialect, operator):
        return False
    if operator == "GroupNormalization" and dialect.opset < FIRST_OPSET_OF_CHANNEL_SCALES <= opset_of(graph.model):
        return False
    try:
        onnx.defs.get_schema(operator, dialect.opset)
    except onnx.defs.SchemaError:
        return False
    return True
