"""What a network costs, exactly, from its graph: parameters, multiply-accumulates, bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from devices.layer_cost import Operation
from synth.networks.network import Network, Vertex
from synth.networks.operators import Shape, operator
from synth.networks.operators.base import pair

BYTES = 4  # of an fp32 element
WEIGHTED = ("conv", "conv_transpose", "linear")
GATED = ("silu", "hardswish", "mish", "gelu")  # in ONNX x times a function of x, which no convolution takes in

KINDS = {
    "input": "input", "conv": "conv", "conv_transpose": "conv", "linear": "linear",
    "batch_norm": "batch_norm", "group_norm": "norm", "channel_norm": "norm",
    "activation": "activation", "prelu": "activation", "affine": "activation", "scale": "activation",
    "add": "add", "sub": "add", "mul": "mul", "cat": "concat", "softmax": "softmax",
    "max_pool": "pool", "avg_pool": "pool", "adaptive_avg_pool": "pool", "adaptive_max_pool": "pool",
    "resize": "resize", "channel_shuffle": "shuffle", "pixel_shuffle": "shuffle", "pixel_unshuffle": "shuffle",
    "subsample": "pool", "pad": "shuffle", "slice": "shuffle",
    "dropout": "identity", "identity": "identity", "flatten": "identity", "to_map": "identity",
}


@dataclass(frozen=True)
class Costs:
    """One image, fp32.

    params: with batch norm folded into the convolution or linear layer that it alone follows, which then has a bias.
    params_raw: all learnt numbers as stored. macs: multiply-accumulates of convolutions and linear layers; 1 MAC = 2
    FLOPs. weight_bytes: of params. activation_bytes: of the input and every tensor that is written; views (flatten,
    slices, dropout) are not. peak_memory_bytes: the most that live activations take at one time in the graph's order,
    where a pointwise operator works in place unless the memory that it reads is needed later. params_of, macs_of: by
    vertex (a folded norm counts with what it follows).
    """

    params: int
    params_raw: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    peak_memory_bytes: int
    params_of: Mapping[str, int]
    macs_of: Mapping[str, int]


def costs(network: Network) -> Costs:
    params_of: dict[str, int] = {}
    macs_of: dict[str, int] = {}
    raw = 0
    for vertex in network.vertices:
        shapes = network.input_shapes(vertex)
        op = operator(vertex.op)
        learnt = op.learnt(vertex.attrs)
        stored = sum(int(np.prod(s)) for name, s in op.weights(vertex.attrs, shapes).items() if name in learnt)
        raw += stored
        params_of[vertex.name] = stored
        macs_of[vertex.name] = op.macs(vertex.attrs, shapes, network.shapes[vertex.name])
    for vertex in network.vertices:
        norm = folded_norm(network, vertex.name)
        if norm is not None:
            params_of[norm] = 0
            params_of[vertex.name] += 0 if vertex.attrs["bias"] else vertex.attrs["out"]
    params = sum(params_of.values())
    return Costs(params, raw, sum(macs_of.values()), BYTES * params, BYTES * sum(
        _elements(network, v) for v in network.vertices if not _is_view(v)), BYTES * _peak(network), params_of, macs_of)


def folded_norm(network: Network, name: str) -> str | None:
    """The batch norm that folds into a convolution or linear layer: the only reader of its output."""
    readers = network.readers[name]
    if network[name].op not in WEIGHTED or name in network.outputs or len(readers) != 1:
        return None
    return readers[0] if network[readers[0]].op == "batch_norm" else None


def operations_of(network: Network) -> list[Operation]:
    """The network as the cost model reads it, one operation a vertex.

    `devices.layer_cost.fuse` makes the same layers of it as of the network's ONNX file, but for names, the shapes in
    which shuffles and group norms are written there, and channel norms, which are many small operations there.
    """
    operations = []
    for vertex in network.vertices:
        shapes, output = network.input_shapes(vertex), network.shapes[vertex.name]
        op, weighted = operator(vertex.op), vertex.op in WEIGHTED
        kernel, stride = _window(vertex, shapes, output)
        operations.append(Operation(
            name=vertex.name, kind="mul" if vertex.attrs.get("kind") in GATED else KINDS[vertex.op],
            inputs=vertex.inputs, output_shape=output,
            macs=op.macs(vertex.attrs, shapes, output),
            weights=int(np.prod(op.weights(vertex.attrs, shapes)["weight"])) if weighted else 0,
            groups=vertex.attrs.get("groups", 1) if weighted else 1, kernel=kernel, stride=stride))
    return operations


def _window(vertex: Vertex, inputs: list[Shape], output: Shape) -> tuple[tuple[int, int], int]:
    """Kernel and stride of a convolution or pool; (1, 1) and 1 of all else, and of global pooling."""
    attrs = vertex.attrs
    if "stride" in attrs:
        return pair(attrs.get("kernel", 1)), pair(attrs["stride"])[0]
    if KINDS[vertex.op] == "pool" and output[1:] != (1, 1):
        (height, width), (rows, columns) = inputs[0][1:], output[1:]
        if height % rows == width % columns == 0:
            return (height // rows, width // columns), height // rows
    return (1, 1), 1


def _elements(network: Network, vertex: Vertex) -> int:
    return int(np.prod(network.shapes[vertex.name]))


def _is_view(vertex: Vertex) -> bool:
    return vertex.op != "input" and operator(vertex.op).free


def _peak(network: Network) -> int:
    """Elements alive at the worst moment: the inputs and the output of the vertex that runs, and what is read later."""
    end = len(network.vertices)
    place = {v.name: i for i, v in enumerate(network.vertices)}
    read = {name: end if name in network.outputs else max((place[r] for r in readers), default=place[name])
            for name, readers in network.readers.items()}
    owner: dict[str, str] = {}  # vertex: the vertex whose memory holds its output
    last: dict[str, int] = {}  # memory: when it is needed for the last time, by what is known so far
    for i, vertex in enumerate(network.vertices):
        reusable = list(vertex.inputs[:1]) if _is_view(vertex) else [
            s for s in vertex.inputs if operator(vertex.op).pointwise and last[owner[s]] == i
            and network.shapes[s] == network.shapes[vertex.name]]
        memory = owner[vertex.name] = owner[reusable[0]] if reusable else vertex.name
        last[memory] = max(last.get(memory, i), read[vertex.name])
    alive: dict[str, int] = {}
    peak = 0
    for i, vertex in enumerate(network.vertices):
        if owner[vertex.name] == vertex.name:
            alive[vertex.name] = _elements(network, vertex)
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > i}
    return peak
