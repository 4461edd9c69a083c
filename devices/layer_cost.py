"""What a network asks of a device, layer by layer.

An `Operation` is one step of a network as it was written; both an ONNX file and a `Network` give a list of them.
`fuse` turns that list into the layers that TensorRT would launch, each with its cost for one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from devices.support.errors import UserError, unknown

__all__ = ["FREE_KINDS", "LAYER_KINDS", "OPERATION_KINDS", "LayerCost", "Operation", "fuse"]

FREE_KINDS = ("identity",)  # dropout, flatten, reshape, squeeze, cast: no data moves
OPERATION_KINDS = (
    "input",  # what the host gives; no inputs
    "conv",  # also transposed; grouped when groups > 1
    "linear",
    "matmul",  # of two activations
    "batch_norm",
    "activation",  # any unary pointwise function, scale and shift by constants included
    "add",  # binary pointwise sum or difference of two activations
    "mul",  # other binary pointwise functions of two activations
    "concat",
    "pool",  # also global
    "resize",
    "shuffle",  # transposes, channel shuffle, space-to-depth, slices, pads: data moves, nothing is computed
    "norm",  # layer, instance, group, local response
    "softmax",
    *FREE_KINDS,
    "unknown",  # has no cost model: counted as bandwidth only
)
POINTWISE = ("batch_norm", "activation", "add", "mul")
HEAVY_KINDS = ("dense", "oblong", "grouped", "depthwise", "linear")  # layers that take in what follows them
LAYER_KINDS = (
    "dense",
    "oblong",  # dense, with a kernel that is not square: 1x7, 7x1
    "grouped",
    "depthwise",
    "linear",
    "matmul",
    "pool",
    "elementwise",
    "concat",
    "resize",
    "shuffle",
    "norm",
    "softmax",
    "unknown",
)


@dataclass(frozen=True)
class Operation:
    """One step of a network, for one image.

    name: unique in the network. kind: one of OPERATION_KINDS. inputs: names of the operations whose output it reads
    (constants and weights are none). output_shape: without the batch, (C, H, W) or (C,). macs: multiply-accumulates
    of conv, linear and matmul, 0 otherwise. weights: stored elements of the kernel, without the bias and the batch
    norm (which fold away). groups, kernel (height, width), stride: of a convolution or pool.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: tuple[int, ...]
    macs: int = 0
    weights: int = 0
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    @property
    def elements(self) -> int:
        """Elements of the output."""
        return prod(self.output_shape)


@dataclass(frozen=True)
class LayerCost:
    """One launch on the device, for one image (a batch multiplies all but `weights`).

    input_elements: activations read, each tensor once. output_elements: activations written. host_elements: those of
    both that come from the host or go to it (the network's inputs and outputs). operations: what was fused into it.
    reads: the operations whose output it reads. head_reads: those of them that its first operation reads.
    """

    name: str
    kind: str
    macs: int
    weights: int
    input_elements: int
    output_elements: int
    output_shape: tuple[int, ...]
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    host_elements: int = 0
    operations: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    head_reads: tuple[str, ...] = ()


@dataclass(slots=True)
class _Layer:
    """A layer that still grows: `tail` is the operation whose output is the layer's output."""

    head: Operation
    kind: str
    tail: Operation
    members: list[str]
    head_reads: tuple[str, ...]
    reads: set[str]


def fuse(operations: Iterable[Operation], siblings: bool = True) -> list[LayerCost]:
    """The layers that TensorRT launches for `operations` (in an order in which every input comes before its reader).

    Rules, after TensorRT's developer guide ("Layer Fusion"): a convolution or linear layer takes in the batch norm,
    residual addition and activation that follow it, as long as nobody else reads what lies between; a norm takes in
    its scale and shift, which an ONNX file has apart, and an activation; pointwise operations in a chain become one
    launch; a concatenation is written in place by its producers, and only an input
    that others read too (or that comes from the host) is copied; 1x1 convolutions that read the same tensor and end
    alike become one, as in Inception modules (unless `siblings` is False); identity, dropout, flatten and reshape are
    free.
    UserError for an unknown kind, a name used twice or an input that is not there (before its reader).
    """
    costs = _Fusion(list(operations)).costs()
    return _merge_siblings(costs) if siblings else costs


class _Fusion:
    """One pass over a network. A tensor goes by the name of the operation that writes it."""

    def __init__(self, operations: list[Operation]):
        self.operations = operations
        self.by_name = _checked(operations)
        self.elements = {op.name: op.elements for op in operations}
        self.sources: dict[str, tuple[str, ...]] = {}  # operation -> the tensors that hold its output
        self.readers = dict.fromkeys(self.by_name, 0)  # tensor -> how many operations read it
        self.layers: list[_Layer] = []
        self.layer_of: dict[str, _Layer] = {}  # tensor -> the layer that writes it last
        outputs = set(self.by_name).difference(*(op.inputs for op in operations))
        for op in operations:  # see readers through what is free
            if op.kind in FREE_KINDS and op.inputs:
                self.sources[op.name] = self.sources[op.inputs[0]]
            else:
                self.sources[op.name] = (op.name,)
                for tensor in self._read(op):
                    self.readers[tensor] += 1
        self.outputs = {tensor for output in outputs for tensor in self.sources[output]}
        for op in operations:
            if op.kind in FREE_KINDS:
                self.sources[op.name] = self.sources[op.inputs[0]] if op.inputs else (op.name,)
            elif op.kind == "concat":
                self._concatenate(op)
            elif op.kind != "input":
                self._launch(op)

    def _read(self, op: Operation) -> tuple[str, ...]:
        """The tensors that an operation reads, each once."""
        if len(op.inputs) == 1:
            return self.sources[op.inputs[0]]
        return tuple(dict.fromkeys(tensor for name in op.inputs for tensor in self.sources[name]))

    def _concatenate(self, op: Operation) -> None:
        tensors, repeated = self._read(op), len(op.inputs) != len(set(op.inputs))
        copied = [t for t in tensors if repeated or self.readers[t] > 1 or t in self.outputs
                  or self.by_name[t].kind == "input"]
        parts = (*(t for t in tensors if t not in copied), *((op.name,) if copied else ()))
        self.sources[op.name] = parts
        for tensor in parts:  # whoever reads the concatenation reads its parts
            self.readers[tensor] = max(self.readers[tensor], self.readers[op.name])
        if op.name in self.outputs:
            self.outputs.update(parts)
        if copied:
            self.layers.append(_Layer(op, "concat", op, [op.name], tuple(copied), set(copied)))

    def _launch(self, op: Operation) -> None:
        tensors = self._read(op)
        layer = self._absorbing(op) if op.kind in POINTWISE else None
        if layer is None:
            layer = _Layer(op, self._kind(op, tensors), op, [op.name], tensors, set(tensors))
            self.layers.append(layer)
        else:
            del self.layer_of[layer.tail.name]
            layer.reads.update(t for t in tensors if t != layer.tail.name)
            layer.members.append(op.name)
            layer.tail = op
        self.layer_of[op.name] = layer

    def _absorbing(self, op: Operation) -> _Layer | None:
        """The layer that a pointwise operation is fused into, or None when it is launched by itself."""
        if op.kind == "mul" and len(set(op.inputs)) == 1:
            return None  # a gated activation (x * sigmoid(x)) reads its input twice
        chain = None
        for name in reversed(op.inputs):
            tensor = self.sources[name][0]
            layer = self.layer_of.get(tensor)
            # what is spread over a concatenation is written by several layers
            if layer is None or len(self.sources[name]) > 1 or self.readers[tensor] > 1 or tensor in self.outputs:
                continue
            if (layer.kind in HEAVY_KINDS and op.kind != "mul") or (layer.kind == "norm" and op.kind == "activation"):
                return layer
            if layer.kind == "elementwise" and chain is None:
                chain = layer
        return chain

    def _kind(self, op: Operation, tensors: Sequence[str]) -> str:
        if op.kind in POINTWISE:
            return "elementwise"
        if op.kind != "conv":
            return op.kind
        if op.groups == 1:
            return "dense" if op.kernel[0] == op.kernel[1] else "oblong"
        if op.weights == op.output_shape[0] * prod(op.kernel):  # a reshape may hide the channels that it reads
            return "depthwise"
        shapes = (self.by_name[t].output_shape for t in tensors)
        return "depthwise" if op.groups == sum(shape[0] if shape else 1 for shape in shapes) else "grouped"

    def costs(self) -> list[LayerCost]:
        costs = []
        for layer in self.layers:
            head, tail = layer.head, layer.tail
            read = sum(self.elements[t] for t in layer.reads)
            written = read if layer.kind == "concat" else self.elements[tail.name]
            host = sum(self.elements[t] for t in layer.reads if self.by_name[t].kind == "input")
            if tail.name in self.outputs:
                host += written
            costs.append(LayerCost(
                head.name, layer.kind, head.macs, head.weights, read, written, tail.output_shape, head.groups,
                head.kernel, head.stride, host, tuple(layer.members), tuple(sorted(layer.reads)), layer.head_reads))
        return costs


def _checked(operations: Sequence[Operation]) -> dict[str, Operation]:
    seen: dict[str, Operation] = {}
    for op in operations:
        if op.kind not in OPERATION_KINDS:
            raise unknown(f"kind of operation {op.name}:", op.kind, OPERATION_KINDS)
        if op.name in seen:
            raise UserError(f"two operations are named {op.name}: every operation needs a name of its own")
        for name in op.inputs:
            if name not in seen:
                raise UserError(f"operation {op.name} reads {name}, which no operation before it makes")
        seen[op.name] = op
    return seen


def _merge_siblings(layers: Sequence[LayerCost]) -> list[LayerCost]:
    """1x1 convolutions with the same input and the same kind of output, as one wider convolution."""
    families: dict[tuple, list[int]] = {}
    for index, layer in enumerate(layers):
        fits = layer.kind == "dense" and layer.kernel == (1, 1) and not layer.host_elements
        key = (layer.reads, layer.output_shape[1:], layer.stride, len(layer.operations)) if fits else (index,)
        families.setdefault(key, []).append(index)
    merged = []
    for members in families.values():
        first, *rest = (layers[index] for index in members)
        merged.append(first if not rest else replace(
            first,
            name=" || ".join(layer.name for layer in (first, *rest)),
            **{what: sum(getattr(layer, what) for layer in (first, *rest))
               for what in ("macs", "weights", "output_elements")},
            output_shape=(sum(layer.output_shape[0] for layer in (first, *rest)), *first.output_shape[1:]),
            operations=tuple(name for layer in (first, *rest) for name in layer.operations)))
    return merged
