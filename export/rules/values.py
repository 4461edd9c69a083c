"""Rules about values: weights, types and sizes that TensorRT changes or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from export.document import inputs_of, shape_of
from export.graph import Graph, attribute, given, label
from export.rules.finding import ERROR, MENDED, WARNING, Finding

if TYPE_CHECKING:
    from export.dialect import Dialect

INT32 = np.iinfo(np.int32)
WEIGHING = {"BatchNormalization", "Conv", "ConvTranspose", "Gemm", "GRU", "LSTM", "MatMul", "Mul", "PRelu", "RNN"}


def listed_weights(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Files before IR 4 list their weights as inputs too, which makes them changeable instead of constant."""
    stored = [value for value in graph.proto.input if value.name in graph.initializers]
    for value in stored:
        graph.proto.input.remove(value)
    if stored:
        yield Finding("inputs", "file", MENDED, f"{len(stored)} weights are listed as inputs", "taken from the inputs")


def not_finite(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """NaN anywhere, and infinity in weights, is an unsound network; infinity elsewhere is how masks are made."""
    for name in [*graph.initializers, *(node.output[0] for node in graph.nodes("Constant"))]:
        value = graph.constant(name)
        if value is None or value.dtype.kind != "f" or np.isfinite(value).all():
            continue
        weighs = any(user.op_type in WEIGHING and name in user.input[1:] for user in graph.users.get(name, []))
        if weighs or np.isnan(value).any():
            yield Finding("not-finite", name, ERROR, "the weights hold NaN or infinity", "export a sound network")
        elif dialect.tensorrt:
            yield Finding(
                "not-finite",
                name,
                WARNING,
                "infinity, such as of a mask, is outside FP16, where sums with it turn to NaN",
                "use a large finite number, such as -60000",
            )


def int64(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """TensorRT before 9.0 has no INT64 and clamps to INT32: harmless for the ends of a Slice, wrong elsewhere."""
    if not dialect.before(9):
        return
    constants = [n.output[0] for n in graph.nodes("Constant")]
    for name in [*graph.initializers, *constants]:
        value = graph.constant(name)
        if value is None or value.dtype not in (np.int64, np.uint64):
            continue
        if value.size == 0 or (value.min() >= INT32.min and value.max() <= INT32.max):
            continue
        users = graph.users.get(name, [])
        if users and all(u.op_type == "Slice" and name in (given(u, 1), given(u, 2)) for u in users):
            clamped = graph.add_constant(f"{name}_int32", np.clip(value, INT32.min, INT32.max).astype(np.int64))
            for user in users:
                for index, other in enumerate(user.input):
                    if other == name:
                        user.input[index] = clamped
            graph.refresh()
            yield Finding(
                "int64",
                name,
                MENDED,
                "a Slice ends beyond INT32, which TensorRT clamps to with a warning",
                "written as the largest INT32",
            )
        else:
            yield Finding(
                "int64",
                name,
                ERROR,
                f"{dialect.reader} has no INT64 and would clamp its values to INT32",
                "export the network with smaller integers there",
            )
    graph.drop_unused()


def double(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    import onnx

    if not dialect.tensorrt:
        return
    names = [name for name, tensor in graph.initializers.items() if tensor.data_type == onnx.TensorProto.DOUBLE]
    names += [label(n) for n in graph.nodes("Cast") if attribute(n, "to") == onnx.TensorProto.DOUBLE]
    for name in names:
        yield Finding("double", name, WARNING, "TensorRT computes DOUBLE as FP32", "export the network in FP32")


def input_types(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    import onnx

    if not dialect.tensorrt:
        return
    types = onnx.TensorProto
    refused = {types.DOUBLE, types.STRING, types.UINT16, types.UINT32, types.UINT64, types.INT16, types.BFLOAT16}
    if dialect.before(8, 5):
        refused.add(types.UINT8)
    for value in inputs_of(graph.model):
        kind = value.type.tensor_type.elem_type
        name = onnx.TensorProto.DataType.Name(kind)
        if kind in refused:
            yield Finding("input-type", value.name, ERROR, f"{dialect.reader} takes no {name} input", "feed FP32")
        elif kind == types.INT64 and dialect.before(9):
            yield Finding(
                "input-type",
                value.name,
                WARNING,
                f"{dialect.reader} takes this INT64 input as INT32",
                "feed INT32 on the board",
            )


def free_sizes(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Sizes other than the batch that vary: each needs its own range at build time, and the engine gets slower."""
    for value in inputs_of(graph.model):
        free = [i for i, size in enumerate(shape_of(value)) if i > 0 and not isinstance(size, int)]
        if free:
            yield Finding(
                "free-sizes",
                value.name,
                WARNING,
                f"its sizes {free} vary besides the batch",
                "fix them with --input, such as --input 3x224x224",
            )
