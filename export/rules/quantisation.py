"""Rules about QuantizeLinear and DequantizeLinear: TensorRT wants INT8, symmetric, with all inputs written down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, attribute, given, label
from export.rules.finding import ERROR, MENDED, Finding

if TYPE_CHECKING:
    import onnx

    from export.dialect import Dialect

Q, DQ = "QuantizeLinear", "DequantizeLinear"


def _scale(graph: Graph, node: onnx.NodeProto, rank: int) -> np.ndarray | None:
    """The node's scale, shaped so that it broadcasts over a tensor of that rank."""
    scale = graph.constant(node.input[1])
    if scale is None or scale.size == 1:
        return None if scale is None else scale.reshape(())
    shape = [1] * rank
    shape[attribute(node, "axis", 1) % rank] = scale.size
    return scale.reshape(shape)


def integer_bias(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """A bias that is kept as INT32 with a scale: TensorRT dequantises no INT32, the product is the same bias."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes(DQ):
        stored = graph.constant(node.input[0])
        if stored is None or stored.dtype != np.int32:
            continue
        scale = _scale(graph, node, max(stored.ndim, 1))
        zero = graph.constant(given(node, 2)) if given(node, 2) else np.zeros((), np.int32)
        if scale is None or zero is None or zero.any():
            yield Finding("int32-bias", label(node), ERROR, "TensorRT dequantises no INT32", "keep the bias in FP32")
            continue
        name = graph.add_constant(f"{node.output[0]}_fp32", stored.astype(np.float32) * scale.astype(np.float32))
        for user in graph.users.get(node.output[0], []):
            for index, other in enumerate(user.input):
                if other == node.output[0]:
                    user.input[index] = name
        graph.proto.node.remove(node)
        graph.refresh()
        yield Finding("int32-bias", label(node), MENDED, "TensorRT dequantises no INT32", "the bias is now FP32")
    graph.drop_unused()


def missing_zero_point(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """8.2.1 wants three inputs. A DequantizeLinear without zero point means 0 of its input's type."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes(DQ):
        if given(node, 2):
            continue
        stored, scale = graph.constant(node.input[0]), graph.constant(node.input[1])
        maker = graph.makers.get(node.input[0])
        kind = stored.dtype if stored is not None else _quantised_type(graph, maker)
        if kind != np.int8 or scale is None:
            continue  # `symmetric` says what is wrong with it
        del node.input[2:]
        node.input.append(graph.add_constant(f"{node.output[0]}_zero", np.zeros(scale.shape, np.int8)))
        yield Finding("zero-point", label(node), MENDED, "TensorRT 8 wants the zero point written down", "0 was put in")
    graph.refresh()


def _quantised_type(graph: Graph, maker: onnx.NodeProto | None):
    """The type that a QuantizeLinear gives: that of its zero point, UINT8 without one; None for another operator."""
    if maker is None or maker.op_type != Q:
        return None
    zero = graph.constant(given(maker, 2)) if given(maker, 2) else np.zeros((), np.uint8)
    return None if zero is None else zero.dtype


def unsigned_weights(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Weights stored as UINT8 around 128 are the same numbers as INT8 around 0."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes(DQ):
        stored, zero = graph.constant(node.input[0]), graph.constant(given(node, 2)) if given(node, 2) else None
        if stored is None or zero is None or stored.dtype != np.uint8 or not (zero == 128).all():
            continue
        shifted = (stored.astype(np.int16) - 128).astype(np.int8)
        node.input[0] = graph.add_constant(f"{node.input[0]}_int8", shifted)
        node.input[2] = graph.add_constant(f"{node.output[0]}_zero", np.zeros(zero.shape, np.int8))
        yield Finding(
            "uint8-weights", label(node), MENDED, "TensorRT quantises to INT8 alone", "shifted to INT8 around 0"
        )
    graph.refresh()
    graph.drop_unused()


def symmetric(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Type INT8, zero point 0, positive constant scale; anything else is refused or computed wrongly."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes(Q, DQ):
        problem = _asymmetry(graph, node)
        if problem:
            yield Finding(
                "quantisation",
                label(node),
                ERROR,
                f"TensorRT takes symmetric INT8 alone, and {problem}",
                "quantise anew with --precision int8",
            )


def _asymmetry(graph: Graph, node: onnx.NodeProto) -> str | None:
    scale = graph.constant(node.input[1])
    if scale is None:
        return "its scale is computed"
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return "its scale is not positive"
    if not given(node, 2):
        return "its zero point is missing, which makes it UINT8"
    zero = graph.constant(given(node, 2))
    if zero is None:
        return "its zero point is computed"
    if zero.dtype != np.int8:
        return f"it is {zero.dtype.name.upper()}"
    return "its zero point is not 0" if zero.any() else None


def board(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """A quantised file on a board without INT8."""
    nodes = list(graph.nodes(Q, DQ))
    if nodes and dialect.tensorrt and not dialect.board.has("int8"):
        reason = dialect.board.data["precisions"].get("int8", {}).get("reason", "it computes in FP32 and FP16")
        yield Finding(
            "int8",
            label(nodes[0]),
            ERROR,
            f"{dialect.board.title} has no INT8: {reason}",
            "export the network before quantisation, with --precision fp16",
        )
