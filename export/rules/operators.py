"""Rules about operators: which ones a TensorRT has, and which of their forms it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, all_nodes, attribute, drop_attribute, given, is_standard, label
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


def _refused(dialect: Dialect, operator: str) -> bool:
    return bool(dialect.tensorrt) and dialect.before(*first_versions().get(operator, (math.inf,)))


def _exists(operator: str, opset: int) -> bool:
    import onnx

    try:
        onnx.defs.get_schema(operator, opset)
    except onnx.defs.SchemaError:
        return False
    return True


def _hard_swish(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """HardSwish(x) = x HardSigmoid(x; 1/6, 1/2), its definition in ONNX."""
    import onnx

    gate = graph.free_name(f"{node.output[0]}_gate")
    return [
        onnx.helper.make_node("HardSigmoid", [node.input[0]], [gate], f"{node.name}/gate", alpha=1 / 6, beta=0.5),
        onnx.helper.make_node("Mul", [node.input[0], gate], node.output, f"{node.name}/mul"),
    ]


def _reciprocal(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    import onnx

    one = graph.add_constant("one", np.ones((), np.float32))
    return [onnx.helper.make_node("Div", [one, node.input[0]], node.output, node.name)]


def _gelu(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Gelu(x) = x (1 + erf(x / sqrt 2)) / 2, its definition in ONNX without the approximation."""
    import onnx

    if attribute(node, "approximate", "none") != "none":
        return None
    root = graph.add_constant("sqrt_2", np.asarray(math.sqrt(2), np.float32))
    one, half = (
        graph.add_constant("one", np.ones((), np.float32)),
        graph.add_constant("half", np.asarray(0.5, np.float32)),
    )
    names = [graph.free_name(f"{node.output[0]}_{part}") for part in ("scaled", "erf", "shifted", "gated")]
    steps = [
        ("Div", [node.input[0], root], names[0]),
        ("Erf", [names[0]], names[1]),
        ("Add", [names[1], one], names[2]),
        ("Mul", [node.input[0], names[2]], names[3]),
        ("Mul", [names[3], half], node.output[0]),
    ]
    return [
        onnx.helper.make_node(kind, inputs, [out], f"{node.name}/{i}") for i, (kind, inputs, out) in enumerate(steps)
    ]


REWRITES = {"HardSwish": _hard_swish, "Reciprocal": _reciprocal, "Gelu": _gelu}


def rewritten(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Operators that the parser does not have, but whose definition it can be given."""
    for node in graph.nodes(*REWRITES):
        if _exists(node.op_type, dialect.opset) and not _refused(dialect, node.op_type):
            continue
        nodes = REWRITES[node.op_type](graph, node)
        if nodes is not None:
            yield Finding(
                "rewritten",
                label(node),
                MENDED,
                f"{dialect.reader} has no {node.op_type}",
                f"written as {' and '.join(dict.fromkeys(n.op_type for n in nodes))}",
            )
            graph.replace(node, nodes)


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
        elif _refused(dialect, node.op_type):
            known = first_versions().get(node.op_type)
            later = f"TensorRT has it from {'.'.join(map(str, known))} on; " if known else ""
            yield Finding(
                "operator",
                label(node),
                ERROR,
                f"{dialect.reader} has no {node.op_type}",
                f"{later}use ordinary operations instead",
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
    """Edge and reflect padding from TensorRT 8.2 on, wrap from 10.0 on."""
    if not dialect.tensorrt:
        return
    since = {"constant": (0,), "edge": (8, 2), "reflect": (8, 2), "wrap": (10, 0)}
    for node in graph.nodes("Pad"):
        mode = attribute(node, "mode", "constant")
        if dialect.before(*since.get(mode, (math.inf,))):
            yield Finding(
                "padding",
                label(node),
                ERROR,
                f"{dialect.reader} has no {mode} padding",
                "pad with zeros, or name a later JetPack with --jetpack",
            )


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
