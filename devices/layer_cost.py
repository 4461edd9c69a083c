"""What a network asks of a device, layer by layer.

An `Operation` is one step of a network as it was written; both an ONNX file and a `Network` give a list of them.
`fuse` turns that list into the layers that TensorRT would launch, each with its cost for one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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
LAYER_KINDS = (
    "dense",
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
    reads: the operations whose output it reads.
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


@dataclass
class _Layer:
    """A layer that still grows: `tail` is the operation whose output is the layer's output."""

    head: Operation
    kind: str
    tail: Operation
    members: list[str] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)


def _layer_kind(operation: Operation, channels_in: int) -> str:
    if operation.kind != "conv":
        return {"batch_norm": "elementwise", "activation": "elementwise", "add": "elementwise",
                "mul": "elementwise"}.get(operation.kind, operation.kind)
    if operation.groups == 1:
        return "dense"
    # a reshape before it may hide the channels that it reads; its weights do not
    alone = operation.weights == operation.output_shape[0] * prod(operation.kernel)
    return "depthwise" if alone or operation.groups == channels_in else "grouped"


def fuse(operations: Iterable[Operation], siblings: bool = True) -> list[LayerCost]:
    """The layers that TensorRT launches for `operations` (in an order in which every input comes before its reader).

    Rules, after TensorRT's developer guide ("Layer Fusion"): a convolution or linear layer takes in the batch norm,
    residual addition and activation that follow it, as long as nobody else reads what lies between; pointwise
    operations in a chain become one launch; a concatenation is written in place by its producers, and only an input
    that others read too (or that comes from the host) is copied; identity, dropout, flatten and reshape are free.
    UserError for an unknown kind, a name used twice or an input that is not there (before its reader).
    """
    ordered = list(operations)
    by_name = _checked(ordered)
    sources: dict[str, tuple[str, ...]] = {}  # operation -> the tensors (by their producer's name) that hold its output
    readers: dict[str, int] = dict.fromkeys(by_name, 0)
    outputs = set(by_name)
    for op in ordered:
        for name in op.inputs:
            outputs.discard(name)
    for op in ordered:  # count who reads a tensor, seen through what is free
        if op.kind in FREE_KINDS:
            sources[op.name] = sources[op.inputs[0]] if op.inputs else (op.name,)
        else:
            sources[op.name] = (op.name,)
            for name in dict.fromkeys(source for i in op.inputs for source in sources[i]):
                readers[name] += 1
    output_tensors = {name for output in outputs for name in sources[output]}

    layers: list[_Layer] = []
    layer_of_tail: dict[str, _Layer] = {}  # tensor -> the layer that writes it last
    for op in ordered:
        if op.kind in FREE_KINDS:
            sources[op.name] = sources[op.inputs[0]] if op.inputs else (op.name,)
            continue
        if op.kind == "input":
            continue
        tensors = tuple(dict.fromkeys(source for name in op.inputs for source in sources[name]))
        if op.kind == "concat":
            copied = [t for t in tensors if readers[t] > 1 or by_name[t].kind == "input" or t in output_tensors
                      or len(op.inputs) != len(set(op.inputs))]
            sources[op.name] = tuple(t for t in tensors if t not in copied) + ((op.name,) if copied else ())
            # whoever reads the concatenation reads its parts: they have as many readers as it has
            for t in sources[op.name]:
                readers[t] = max(readers[t], readers[op.name])
            if op.name in outputs or op.name in output_tensors:
                output_tensors.update(sources[op.name])
            if copied:
                layer = _Layer(op, "concat", op, [op.name], set(copied))
                layers.append(layer)
            continue
        whole = [sources[name][0] for name in op.inputs if len(sources[name]) == 1]  # not spread over a concatenation
        absorbing = _absorbing_layer(op, whole, layer_of_tail, readers, output_tensors)
        if absorbing is None:
            layer = _Layer(op, _layer_kind(op, _channels(tensors, by_name)), op, [op.name], set(tensors))
            layers.append(layer)
        else:
            layer = absorbing
            layer.reads |= set(tensors) - {layer.tail.name}
            layer_of_tail.pop(layer.tail.name)
            layer.tail = op
            layer.members.append(op.name)
        layer_of_tail[op.name] = layer
    costs = _costs(layers, by_name, output_tensors)
    return _merge_siblings(costs) if siblings else costs


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


def _channels(tensors: Sequence[str], by_name: dict[str, Operation]) -> int:
    return sum(by_name[t].output_shape[0] if by_name[t].output_shape else 1 for t in tensors)


def _absorbing_layer(
    op: Operation, tensors: Sequence[str], tails: dict[str, _Layer], readers: dict[str, int], outputs: set[str]
) -> _Layer | None:
    """The layer that `op`, which reads `tensors`, is fused into, or None when it is launched by itself."""
    if op.kind not in ("batch_norm", "activation", "add", "mul"):
        return None
    free = [tails[t] for t in tensors if t in tails and readers[t] == 1 and t not in outputs]
    heavy = [layer for layer in free if layer.kind in ("dense", "grouped", "depthwise", "linear")]
    if heavy and op.kind != "mul":
        return heavy[-1]
    chains = [layer for layer in free if layer.kind == "elementwise"]
    return chains[-1] if chains else None


def _costs(layers: Sequence[_Layer], by_name: dict[str, Operation], output_tensors: set[str]) -> list[LayerCost]:
    costs = []
    for layer in layers:
        head, tail = layer.head, layer.tail
        from_host = sum(by_name[t].elements for t in layer.reads if by_name[t].kind == "input")
        read = sum(by_name[t].elements for t in layer.reads)
        written = read if layer.kind == "concat" else tail.elements
        costs.append(LayerCost(
            name=head.name, kind=layer.kind, macs=head.macs, weights=head.weights, input_elements=read,
            output_elements=written, output_shape=tail.output_shape, groups=head.groups, kernel=head.kernel,
            stride=head.stride, host_elements=from_host + (written if tail.name in output_tensors else 0),
            operations=tuple(layer.members), reads=tuple(sorted(layer.reads))))
    return costs


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
