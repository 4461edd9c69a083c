"""Rules about operators: which ones a TensorRT has, and which of their forms it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, all_nodes, attribute, drop_attribute, given, is_standard, label, stem
from export.rules.finding import ERROR, MENDED, WARNING, Finding

if TYPE_CHECKING:
    import onnx

    from export.dialect import Dialect

INTEGER_ARITHMETIC = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
# inputs that the parser wants as constants: operator -> indices (docs/operators.md of onnx-tensorrt)
CONSTANT_INPUTS = {
    "CumSum": (1,),
    "InstanceNormalization": (1, 2),
    "Slice": (3,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    **{
        f"Reduce{kind}": (1,)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}
RESIZE_COORDINATES = {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}


@cache
def first_versions() -> dict[str, tuple[int, ...]]:
    """Operator -> the first TensorRT whose documents name it as supported."""
    table = json.loads((Path(__file__).parent / "operators.json").read_text())["since"]
    return {name: tuple(map(int, version.split("."))) for version, names in table.items() for name in names.split()}


def refused(dialect: Dialect, operator: str) -> bool:
    """Whether one of the target's TensorRTs does not import the operator."""
    return bool(dialect.tensorrt) and dialect.before(*first_versions().get(operator, (math.inf,)))


def unknown_operators(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Operators of other domains, and those that the target's TensorRT does not import."""
    for node in all_nodes(graph.proto):
        if not is_standard(node):
            yield Finding(
                "operator",
                label(node),
                ERROR,
                f"{node.domain}.{node.op_type} is no operator of ONNX",
                "export the model without the tool that put it in, or write it in ordinary operators",
            )
        elif node.op_type in INTEGER_ARITHMETIC and dialect.tensorrt:
            yield Finding(
                "operator",
                label(node),
                ERROR,
                f"{dialect.reader} has no {node.op_type}",
                "quantise in the QDQ format (QuantizeLinear and DequantizeLinear around the layers)",
            )
        elif refused(dialect, node.op_type):
            known = first_versions().get(node.op_type)
            since = f"TensorRT has it from {'.'.join(map(str, known))} on; " if known else ""
            yield Finding(
                "operator",
                label(node),
                ERROR,
                f"{dialect.reader} has no {node.op_type}",
                f"{since}use ordinary operations instead{dialect.later(*known) if known else ''}",
            )


def resize(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Resize in the modes that TensorRT has; what it would pass over silently is taken out or refused."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes("Resize", "Upsample"):

        def refuse(problem: str, remedy: str, node=node) -> Finding:
            return Finding("resize", label(node), ERROR, problem, remedy)

        if attribute(node, "mode", "nearest") not in ("nearest", "linear"):
            yield refuse(f"TensorRT has no {attribute(node, 'mode')} interpolation", "use bilinear or nearest")
        coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel")
        if coordinates not in RESIZE_COORDINATES:
            yield refuse(f"TensorRT has no coordinates {coordinates}", "use half_pixel, asymmetric or align_corners")
        for name, neutral in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch"), ("exclude_outside", 0)):
            value = attribute(node, name)
            if value is None:
                continue
            if value != neutral:
                yield refuse(
                    f"TensorRT passes over {name}={value} and resizes without", f"export with {name}={neutral}"
                )
            elif dialect.before(10) and name != "exclude_outside":
                drop_attribute(node, name)
                yield Finding(
                    "resize",
                    label(node),
                    MENDED,
                    f"{dialect.reader} does not know {name}",
                    f"{name}={neutral}, which changes nothing, was taken out",
                )


def pooling(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Pooling gives no indices and knows no dilation."""
    if not dialect.tensorrt:
        return
    for node in graph.nodes("MaxPool", "AveragePool", "LpPool"):
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            if graph.users.get(node.output[1]) or node.output[1] in {v.name for v in graph.proto.output}:
                yield Finding(
                    "pooling",
                    label(node),
                    ERROR,
                    "TensorRT gives no indices of a MaxPool",
                    "pool without return_indices, up-sample by Resize instead of unpooling",
                )
            else:
                del node.output[1:]
                yield Finding("pooling", label(node), MENDED, "TensorRT gives no indices", "unused, taken out")
        if any(step != 1 for step in attribute(node, "dilations", [])):
            yield Finding(
                "pooling", label(node), ERROR, f"TensorRT has no dilated {node.op_type}", "pool without dilation"
            )


def padding(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Edge and reflect padding from TensorRT 8.2 on, wrap from 10.0 on; before, their rows and columns are gathered."""
    if not dialect.tensorrt:
        return
    since = {"constant": (0,), "edge": (8, 2), "reflect": (8, 2), "wrap": (10, 0)}
    for node in graph.nodes("Pad"):
        mode = attribute(node, "mode", "constant")
        version = since.get(mode, (math.inf,))
        if not dialect.before(*version):
            continue
        problem = f"{dialect.reader} has no {mode} padding"
        steps = _gathered(graph, node, mode) if mode in since else None
        if steps is not None:
            graph.replace(node, steps)
            yield Finding("padding", label(node), MENDED, problem, "written as Gather")
        else:
            yield Finding("padding", label(node), ERROR, problem, f"pad with zeros{dialect.later(*version)}")


def _gathered(graph: Graph, node: onnx.NodeProto, mode: str) -> list[onnx.NodeProto] | None:
    """The same padding as one Gather an axis; None where sizes vary or something is cut off."""
    import onnx

    pads, shape = graph.constant(given(node, 1)), graph.shape(node.input[0])
    if pads is None or shape is None or given(node, 3) or len(pads) != 2 * len(shape) or (pads < 0).any():
        return None
    steps, tensor = [], node.input[0]
    for axis, (size, before, after) in enumerate(zip(shape, pads[: len(shape)], pads[len(shape) :], strict=True)):
        if not (before or after):
            continue
        if not isinstance(size, int):
            return None
        places = np.pad(np.arange(size), (int(before), int(after)), mode)  # type: ignore[call-overload]
        name = graph.add_constant(f"{node.output[0]}_places_{axis}", places.astype(np.int64))
        padded = graph.free_name(f"{node.output[0]}_{axis}")
        steps.append(onnx.helper.make_node("Gather", [tensor, name], [padded], f"{stem(node)}/{axis}", axis=axis))
        tensor = padded
    if steps:
        steps[-1].output[0] = node.output[0]
    return steps or None


def training(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Operators that were exported as they train, not as they infer."""
    for node in graph.nodes("BatchNormalization", "Dropout"):
        batch_statistics = attribute(node, "training_mode", 0) == 1
        mode = graph.constant(given(node, 2)) if node.op_type == "Dropout" else None
        if batch_statistics or (mode is not None and mode.any()):
            yield Finding(
                "training",
                label(node),
                ERROR,
                f"{node.op_type} is in training mode",
                "export the network in evaluation mode (module.eval())",
            )


def constant_inputs(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Inputs that the parser reads at build time, but that this file computes at run time."""
    if not dialect.tensorrt:
        return
    wanted = dict(CONSTANT_INPUTS)
    if dialect.before(8, 6):
        wanted["TopK"] = (1,)
    for node in graph.nodes(*wanted):
        for index in wanted[node.op_type]:
            name = given(node, index)
            if name and graph.constant(name) is None:
                yield Finding(
                    "constants",
                    label(node),
                    ERROR,
                    f"TensorRT wants its input {index} constant",
                    "export with fixed sizes, or fold constants first",
                )


def control_flow(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    for node in graph.nodes("If", "Loop", "Scan"):
        yield Finding(
            "control-flow",
            label(node),
            WARNING,
            f"{node.op_type} is read with restrictions only",
            "inner graphs are checked for operators and opset alone; write the network without it",
        )
