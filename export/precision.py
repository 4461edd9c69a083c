"""Reduced precision: FP16 and INT8 graphs, and the images that INT8 is calibrated on.

TensorRT 8 to 10 round to FP16 when the builder is told; 11 takes the types of the graph. INT8 is said in the graph for
all of them: symmetric, one scale per channel of the weights, QuantizeLinear and DequantizeLinear around the layers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from devices.support.errors import UserError
from export.document import inputs_of
from export.graph import Graph, attribute, given, set_attribute, subgraphs

if TYPE_CHECKING:
    import onnx

FP16_MAX = 65504.0
# inputs that stay FP32 whatever the tensors are: operator -> indices
ALWAYS_FP32 = {"Resize": (1, 2), "Upsample": (1,), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
# what is quantised: the layers that TensorRT has INT8 kernels for, and the additions that join them
QUANTISED = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add"]
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
    keep = {given(n, i) for n in graph.nodes(*ALWAYS_FP32) for i in ALWAYS_FP32[n.op_type]}
    _round_weights(graph, keep)
    _cast_ends(graph)
    return copy


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

    Weights stay FP32 behind a QuantizeLinear and a DequantizeLinear with one scale per channel, the form that every
    TensorRT with INT8 reads. UserError when there are no real images, or too few.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if origin != "given":
        raise UserError(
            "INT8 is calibrated on real images, and noise would spoil it: give some with --samples FILE.npz"
        )
    if len(images) < LEAST_CALIBRATION_IMAGES:
        raise UserError(
            f"INT8 needs at least {LEAST_CALIBRATION_IMAGES} images to calibrate on, {len(images)} are given"
        )
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True}
    with tempfile.TemporaryDirectory(prefix="edgesynth-") as folder, _quiet():
        path = os.path.join(folder, "int8.onnx")
        quantize_static(
            _copied(model),
            path,
            _Feed(inputs_of(model)[0], images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=options,
        )
        import onnx

        quantised = onnx.load(path)
    quantised.ir_version = model.ir_version
    return quantised


class _Feed:
    """Calibration images as onnxruntime's quantiser asks for them, in batches of the size that the file takes."""

    def __init__(self, value: onnx.ValueInfoProto, images: np.ndarray):
        from export.document import shape_of

        size = shape_of(value)[0]
        self.step = size if isinstance(size, int) else 8
        self.name, self.images, self.start = value.name, images, 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self.start >= len(self.images):
            return None
        indices = np.arange(self.start, self.start + self.step) % len(self.images)
        self.start += self.step
        return {self.name: self.images[indices]}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while (feed := self.get_next()) is not None:
            yield feed


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser gives advice about models in general through the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
