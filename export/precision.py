"""Reduced precision: FP16 and INT8 graphs, and the images that INT8 is calibrated on.

TensorRT 8 to 10 round to FP16 when the builder is told; 11 takes the types of the graph. INT8 is said in the graph for
all of them: symmetric, one scale per channel of the weights, QuantizeLinear and DequantizeLinear around the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.support.errors import UserError
from export.calibration import activation_scales, weight_scales
from export.document import inputs_of, opset_of
from export.graph import Graph, attribute, given, set_attribute, stem, subgraphs

if TYPE_CHECKING:
    import onnx

FP16_MAX = 65504.0
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # those that TensorRT has INT8 kernels for
FIRST_OPSET_PER_CHANNEL = 13
LEAST_CALIBRATION_IMAGES = 16


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in FP16 between FP32 inputs and outputs, so that callers need not change.

    Weights beyond the range of FP16 become its largest number. UserError for graphs within graphs.
    """
    copy = _copied(model)
    graph = Graph(copy)
    del graph.proto.value_info[:]
    for node in graph.nodes():
        if subgraphs(node):
            raise UserError(f"{node.op_type} holds a graph of its own, which edgesynth does not turn to FP16: use fp32")
    keep = {given(node, i) for node in graph.nodes() for i in _only_fp32(graph, node)[0]}
    _round_weights(graph, keep)
    _cast_ends(graph)
    _cast_islands(graph)
    return copy


def _only_fp32(graph: Graph, node: onnx.NodeProto) -> tuple[list[int], list[int]]:
    """Which inputs and outputs of a node are FP32 and not allowed in FP16, such as the scales of a Resize."""
    import onnx

    try:
        schema = onnx.defs.get_schema(node.op_type, opset_of(graph.model), node.domain)
    except onnx.defs.SchemaError:
        return [], []
    allowed = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}

    def kept(names: Sequence[str], forms: Sequence[Any]) -> list[int]:
        kinds = [forms[min(i, len(forms) - 1)].type_str for i in range(len(names))]
        types = [allowed.get(kind, {kind}) for kind in kinds]
        closed = [i for i, type_ in enumerate(types) if "tensor(float)" in type_ and "tensor(float16)" not in type_]
        return [i for i in closed if graph.dtype(names[i]) == np.float32]

    return kept(node.input, schema.inputs), kept(node.output, schema.outputs)


def _cast_islands(graph: Graph) -> None:
    """Cast to FP32 and back around the operators that ONNX does not allow FP16 in."""
    import onnx

    graph.refresh()
    make, types, nodes = onnx.helper.make_node, onnx.TensorProto, []
    for node in graph.proto.node:
        inputs, outputs = _only_fp32(graph, node)
        for i in inputs:
            name = node.input[i]
            if name and graph.constant(name) is None:
                node.input[i] = graph.free_name(f"{name}_fp32")
                nodes.append(make("Cast", [name], [node.input[i]], f"{stem(node)}/fp32_{i}", to=types.FLOAT))
        nodes.append(node)
        for i in outputs:
            name, node.output[i] = node.output[i], graph.free_name(f"{node.output[i]}_fp32")
            nodes.append(make("Cast", [node.output[i]], [name], f"{stem(node)}/fp16_{i}", to=types.FLOAT16))
    copies = [_copied(node) for node in nodes]
    del graph.proto.node[:]
    graph.proto.node.extend(copies)


def _round_weights(graph: Graph, keep: set[str]) -> None:
    import onnx

    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    for tensor in graph.proto.initializer:
        if tensor.data_type == float32 and tensor.name not in keep:
            tensor.CopyFrom(_rounded(tensor))
    for node in graph.nodes("Constant", "ConstantOfShape", "Cast"):
        if node.output[0] in keep:
            continue
        if node.op_type == "Cast" and attribute(node, "to") == float32:
            set_attribute(node, "to", float16)
        value = attribute(node, "value")
        if node.op_type != "Cast" and value is not None and value.data_type == float32:
            set_attribute(node, "value", _rounded(value))
        for name in ("value_float", "value_floats"):
            if attribute(node, name) is not None:
                numbers = np.asarray(attribute(node, name), np.float32)
                del node.attribute[:]
                set_attribute(node, "value", onnx.numpy_helper.from_array(_clip(numbers)))


def _rounded(tensor: onnx.TensorProto) -> onnx.TensorProto:
    import onnx

    return onnx.numpy_helper.from_array(_clip(onnx.numpy_helper.to_array(tensor)), tensor.name)


def _clip(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -FP16_MAX, FP16_MAX).astype(np.float16)


def _cast_ends(graph: Graph) -> None:
    """FP32 inputs are cast behind the door, FP32 outputs before it; inside, everything is FP16."""
    import onnx

    float32, float16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    first, last = [], []
    for value in inputs_of(graph.model):
        if value.type.tensor_type.elem_type == float32:
            inner = graph.free_name(f"{value.name}_fp16")
            for node in graph.users.get(value.name, []):
                node.input[:] = [inner if name == value.name else name for name in node.input]
            first.append(onnx.helper.make_node("Cast", [value.name], [inner], f"{value.name}/fp16", to=float16))
    for value in graph.proto.output:
        if value.type.tensor_type.elem_type == float32:
            inner = graph.free_name(f"{value.name}_fp16")
            for node in graph.proto.node:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            last.append(onnx.helper.make_node("Cast", [inner], [value.name], f"{value.name}/fp32", to=float32))
    nodes = [*first, *graph.proto.node, *last]
    del graph.proto.node[:]
    graph.proto.node.extend(nodes)


def to_int8(model: onnx.ModelProto, images: np.ndarray, *, origin: str) -> onnx.ModelProto:
    """A copy quantised to symmetric INT8, its activations' ranges taken from `images` (N, *input_shape).

    Inputs and weights of layers, and the skip branches of additions, pass a QuantizeLinear and a DequantizeLinear;
    outputs do not, so that TensorRT fuses what follows a layer. Weights stay FP32 in the file, the form that every
    TensorRT with INT8 reads; biases stay FP32. UserError when there are no real images, or too few.
    """
    import onnx

    if origin != "given":
        raise UserError("INT8 is calibrated on real images, noise would spoil it: give some with --samples FILE.npz")
    if len(images) < LEAST_CALIBRATION_IMAGES:
        raise UserError(f"INT8 needs at least {LEAST_CALIBRATION_IMAGES} images to calibrate on, not {len(images)}")
    if opset_of(model) < FIRST_OPSET_PER_CHANNEL:
        model = onnx.version_converter.convert_version(model, FIRST_OPSET_PER_CHANNEL)
    copy = _copied(model)
    del copy.graph.value_info[:]
    graph = Graph(copy)
    layers = [node for node in graph.nodes(*LAYERS) if graph.constant(node.input[1]) is not None]
    tensors = dict.fromkeys([*(node.input[0] for node in layers), *_skip_branches(graph)])
    activations = [name for name in tensors if graph.constant(name) is None]
    scales = activation_scales(model, activations, images)
    pairs = {name: _pair(graph, name, np.asarray(scales[name], np.float32), None) for name in activations}
    for node in list(copy.graph.node):
        for index, name in enumerate(node.input):
            if name in pairs and (index == 0 or node.op_type == "Add"):
                node.input[index] = pairs[name][1].output[0]
    added = [node for pair in pairs.values() for node in pair]
    quantised: dict[tuple[str, int | None], str] = {}  # weights may serve several layers
    for node in layers:
        weights, key = graph.constant(node.input[1]), (node.input[1], _channel_axis(node))
        if weights is None:
            continue
        if key not in quantised:
            pair = _pair(graph, node.input[1], weight_scales(weights, key[1]), key[1])
            quantised[key] = pair[1].output[0]
            added.extend(pair)
        node.input[1] = quantised[key]
    _sort(copy.graph, [*added, *copy.graph.node])
    return copy


def _skip_branches(graph: Graph) -> list[str]:
    """The inputs of additions that come from elsewhere than a layer, whose output TensorRT adds in higher precision."""
    found = []
    for node in graph.nodes("Add"):
        if all(graph.constant(name) is None for name in node.input):
            found += [n for n in node.input if graph.makers.get(n) is None or graph.makers[n].op_type not in LAYERS]
    return found


def _channel_axis(node: onnx.NodeProto) -> int | None:
    """The axis of a layer's weights that counts its output channels; None where one scale has to do for all."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return None


def _pair(graph: Graph, name: str, scale: np.ndarray, axis: int | None) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """QuantizeLinear and DequantizeLinear for one tensor, not wired to its users yet."""
    import onnx

    scale_name = graph.add_constant(f"{name}_scale", scale)
    zero_name = graph.add_constant(f"{name}_zero", np.zeros(scale.shape, np.int8))
    small, back = graph.free_name(f"{name}_int8"), graph.free_name(f"{name}_back")
    make = onnx.helper.make_node
    pair = (
        make("QuantizeLinear", [name, scale_name, zero_name], [small], f"{name}/quantise"),
        make("DequantizeLinear", [small, scale_name, zero_name], [back], f"{name}/dequantise"),
    )
    for node in pair if axis is not None else ():
        set_attribute(node, "axis", axis)
    return pair


def _sort(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Write the nodes so that each comes after what makes its inputs, otherwise in their order."""
    made = {output for node in nodes for output in node.output}
    ready = {"", *(v.name for v in graph.input), *(t.name for t in graph.initializer)}
    order: list[onnx.NodeProto] = []
    waiting = list(nodes)
    while waiting:
        rest = []
        for node in waiting:
            if all(name in ready or name not in made for name in node.input):
                order.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise ValueError("the graph has a cycle")
        waiting = rest
    copies = [_copied(node) for node in order]
    del graph.node[:]
    graph.node.extend(copies)


def _copied(message):
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
