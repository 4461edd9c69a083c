"""The operations of an ONNX file, for one image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Any

from devices.layer_cost import Operation
from devices.support.errors import UserError
from devices.support.files import explain

if TYPE_CHECKING:
    import onnx

__all__ = ["operations_of_onnx"]


def _kinds() -> dict[str, str]:
    kinds = {
        "conv": "Conv ConvTranspose",
        "linear": "Gemm",
        "matmul": "MatMul",
        "batch_norm": "BatchNormalization",
        "activation": "Relu LeakyRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Clip Elu Celu Selu Gelu Softplus "
                      "Softsign Mish ThresholdedRelu Exp Log Sqrt Neg Abs Erf Reciprocal Floor Ceil Round "
                      "Sign Not Sin Cos",
        "add": "Add Sub Sum Mean",
        "mul": "Mul Div Max Min Pow Where Equal Greater Less GreaterOrEqual LessOrEqual And Or Mod",
        "concat": "Concat",
        "pool": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceMean ReduceMax "
                "ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ArgMax ArgMin",
        "resize": "Resize Upsample",
        "shuffle": "Transpose DepthToSpace SpaceToDepth Slice Split Pad Gather Tile Expand",
        "norm": "LRN LayerNormalization InstanceNormalization GroupNormalization LpNormalization "
                "MeanVarianceNormalization RMSNormalization",
        "softmax": "Softmax LogSoftmax Hardmax",
        "identity": "Identity Dropout Flatten Reshape Squeeze Unsqueeze Cast QuantizeLinear DequantizeLinear",
    }
    return {name: kind for kind, names in kinds.items() for name in names.split()}


KIND_OF = _kinds()
_CONSTANTS = ("Constant", "ConstantOfShape", "Shape", "Size", "Range")


def operations_of_onnx(path: str | os.PathLike[str]) -> list[Operation]:
    """The operations of the ONNX file at `path`, inputs first; a symbolic batch counts as 1.

    An operator that has no cost becomes an operation of kind "unknown" whose name ends with the operator's.
    UserError for a file that is missing, damaged, lacks its external data, or has shapes that cannot be inferred.
    """
    return _Reader(_load(os.fspath(path)), os.fspath(path)).operations()


def _load(path: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise explain(error, path) from None
    except (DecodeError, ValueError, RuntimeError):
        raise UserError(f"{path}: not an ONNX file, or a damaged one; export it again") from None
    if not model.graph.output or not model.opset_import:
        raise UserError(f"{path}: not an ONNX file, or a damaged one; export it again")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and not os.path.isfile(os.path.join(os.path.dirname(path), entry.value)):
                raise UserError(f"{path}: its weights file {entry.value} is missing; put it beside the model")
    _fix_batch(model)
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx raises several kinds, InferenceError among them, which is no ValueError
        raise UserError(f"{path}: its shapes cannot be inferred: {str(error).splitlines()[0]}") from None


def _fix_batch(model: onnx.ModelProto) -> None:
    """Give a symbolic first dimension of the inputs (and whatever shares its name) the value 1."""
    weights = {tensor.name for tensor in model.graph.initializer}
    symbols = set()
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and len(dims) and not dims[0].HasField("dim_value"):
            if dims[0].dim_param:
                symbols.add(dims[0].dim_param)
            dims[0].dim_value = 1
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols and dim.dim_param:
                dim.dim_value = 1


class _Reader:
    """Walks one graph; `constants` are tensors that do not depend on the image, `maker` the operation of a tensor."""

    def __init__(self, model: onnx.ModelProto, path: str):
        self.graph, self.path = model.graph, path
        self.constants = {tensor.name for tensor in self.graph.initializer}
        self.constants |= {tensor.values.name for tensor in self.graph.sparse_initializer}
        self.shapes: dict[str, list[int] | None] = {t.name: list(t.dims) for t in self.graph.initializer}
        for value in [*self.graph.value_info, *self.graph.output, *self.graph.input]:
            dims = value.type.tensor_type.shape.dim
            known = value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims)
            self.shapes.setdefault(value.name, [d.dim_value for d in dims] if known else None)
        self.images = [value.name for value in self.graph.input if value.name not in self.constants]
        self.maker: dict[str, str] = {}
        self.names: set[str] = set()
        if not self.images:
            raise UserError(f"{path}: the model has no input: nothing to predict")
        shape = self._shape(self.images[0])
        self.batch = shape[0] if shape else 1

    def operations(self) -> list[Operation]:
        found = [self._operation(name, "input", (), name) for name in self.images]
        for node in self.graph.node:
            inputs = [name for name in node.input if name]
            outputs = [name for name in node.output if name]
            moving = [name for name in inputs if name not in self.constants]
            if node.op_type in _CONSTANTS or not moving:
                self.constants.update(outputs)
                for name, shape in self._constant_shapes(node):
                    self.shapes[name] = shape
                continue
            found += self._of_node(node, inputs, moving, outputs)
        if len(found) == len(self.images):
            raise UserError(f"{self.path}: nothing in the model depends on its input: nothing to predict")
        read = {name for operation in found for name in operation.inputs}
        for value in self.graph.output:  # an output that the network itself goes on with must be written all the same
            maker = self.maker.get(value.name)
            if maker in read:
                found.append(Operation(f"output {value.name}", "identity", (maker,), self._image_shape(value.name)))
        return found

    def _of_node(self, node: Any, inputs: list[str], moving: list[str], outputs: list[str]) -> list[Operation]:
        kind = KIND_OF.get(node.op_type, "unknown") if node.domain in ("", "ai.onnx") else "unknown"
        unmade = [name for name in moving if name not in self.maker]
        if unmade:
            raise UserError(f"{self.path}: {node.op_type} {node.name} reads {unmade[0]}, which nothing before it makes")
        read = tuple(self.maker[name] for name in moving)
        if kind != "concat":  # which copies a tensor that it is given twice
            read = tuple(dict.fromkeys(read))
        details: dict[str, Any] = {}
        if kind == "conv":
            details = self._convolution(node, inputs, outputs[0])
        elif kind in ("linear", "matmul"):
            kind, details = self._product(node, inputs, moving, outputs[0])
        elif kind in ("add", "mul") and len(moving) == 1:  # with a constant
            kind = "activation"
        elif kind == "pool":
            details = {"kernel": self._pair(node, "kernel_shape"), "stride": self._pair(node, "strides")[0]}
        if kind not in ("shuffle", "unknown"):
            outputs = outputs[:1]  # the masks, indices and statistics that some operators also give
        label = node.name or outputs[0]
        if kind == "unknown":
            label = f"{label} ({node.op_type})"
        return [self._operation(label, kind, read, name, **details) for name in outputs]

    def _operation(self, label: str, kind: str, read: tuple[str, ...], tensor: str, **details: Any) -> Operation:
        name, number = label, 1
        while name in self.names:
            number += 1
            name = f"{label}:{number}"
        self.names.add(name)
        self.maker[tensor] = name
        return Operation(name, kind, read, self._image_shape(tensor), **details)

    def _convolution(self, node: Any, inputs: list[str], output: str) -> dict[str, Any]:
        weight = self._shape(inputs[1])
        groups = int(self._attribute(node, "group", 1))
        spatial = (1, 1, *weight[2:])[-2:]
        per_element = prod(weight[1:])
        elements = prod(self._image_shape(output if node.op_type == "Conv" else inputs[0]))
        return {"macs": elements * per_element, "weights": prod(weight), "groups": groups,
                "kernel": (spatial[0], spatial[1]), "stride": self._pair(node, "strides")[0]}

    def _product(self, node: Any, inputs: list[str], moving: list[str], output: str) -> tuple[str, dict[str, Any]]:
        left = self._shape(inputs[0])
        depth = left[0] if node.op_type == "Gemm" and self._attribute(node, "transA", 0) else left[-1]
        macs = prod(self._image_shape(output)) * depth
        if inputs[1] in moving and inputs[0] in moving:
            return "matmul", {"macs": macs}
        return "linear", {"macs": macs, "weights": prod(self._shape(inputs[1] if inputs[0] in moving else inputs[0]))}

    def _shape(self, tensor: str) -> list[int]:
        shape = self.shapes.get(tensor)
        if shape is None:
            raise UserError(f"{self.path}: the shape of {tensor} is unknown; export the model with fixed input sizes "
                            "(only the batch may be symbolic)")
        return shape

    def _image_shape(self, tensor: str) -> tuple[int, ...]:
        shape = self._shape(tensor)
        return tuple(shape[1:]) if shape and shape[0] == self.batch else tuple(shape)

    def _attribute(self, node: Any, name: str, default: Any) -> Any:
        import onnx

        for attribute in node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return default

    def _pair(self, node: Any, name: str) -> tuple[int, int]:
        values = (1, 1, *self._attribute(node, name, ()))
        return int(values[-2]), int(values[-1])

    def _constant_shapes(self, node: Any) -> Iterable[tuple[str, list[int]]]:
        value = self._attribute(node, "value", None) if node.op_type == "Constant" else None
        if value is not None:
            yield node.output[0], list(value.dims)
