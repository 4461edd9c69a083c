"""Changes of a network's graph: another operator in a convolution's place, residual blocks and activations left out,
activations of another kind, attention over channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from synth.networks.network import Network, Vertex
from synth.networks.operators.pointwise import IDEMPOTENT

# What may stand in a dense k x k convolution's place, cheapest first; "dense" is the convolution itself.
POINTWISE = "pointwise"
INVERTED = "inverted"
OPERATORS = (POINTWISE, "separable", "separable relu", INVERTED, "project", "dense")
SEPARABLE = ("separable", "separable relu")
WITH_RELU = ("separable relu", INVERTED)  # those that have an activation inside
# between two convolutions that see the same pixels
PASSING = ("batch_norm", "group_norm", "channel_norm", "activation", "prelu", "dropout")
NORM = {"eps": 1e-5, "momentum": 0.1, "affine": True}
EXCITE = {"weight": True, "bias": True, "shared": False, "learnt": True}
PROJECTION_RATIO, PROJECTION_LEAST = 4, 4


def projected_width(channels_in: int) -> int:
    """The width that "project" projects `channels_in` channels to."""
    return min(channels_in, max(PROJECTION_LEAST, -(-channels_in // PROJECTION_RATIO)))


def is_replaceable(network: Network, vertex: Vertex) -> bool:
    """Whether other operators may stand in a vertex's place: an undilated dense square convolution, k >= 3."""
    if vertex.op != "conv":
        return False
    a = vertex.attrs
    return (a["groups"] == 1 and not a.get("depthwise") and a["kernel"][0] == a["kernel"][1] >= 3
            and a["kernel"][0] % 2 == 1 and tuple(a["dilation"]) == (1, 1)
            and tuple(a["padding"]) == (a["kernel"][0] // 2, a["kernel"][0] // 2)
            and network.input_shapes(vertex)[0][0] > 1)


def may_be_pointwise(network: Network, vertex: Vertex) -> bool:
    """Whether a 1x1 convolution may stand in a replaceable vertex's place without making a part of the network blind to
    all but single pixels: one that passes over no pixel, does not read the images, and has, behind norm and activation,
    another replaceable convolution that may not."""
    if tuple(vertex.attrs["stride"]) != (1, 1) or network[vertex.inputs[0]].op == "input":
        return False
    while len(network.readers[vertex.name]) == 1 and vertex.name not in network.outputs:
        vertex = network[network.readers[vertex.name][0]]
        if vertex.op not in PASSING:
            return is_replaceable(network, vertex) and not may_be_pointwise(network, vertex)
    return False


def follows_a_stride(network: Network, vertex: Vertex) -> bool:
    """Whether a replaceable vertex that passes over no pixel reads, behind norm and activation, a replaceable
    convolution that strides: that one looks around, so that this one need not."""
    if tuple(vertex.attrs["stride"]) != (1, 1):
        return False
    vertex = network[vertex.inputs[0]]
    while vertex.op in PASSING:
        vertex = network[vertex.inputs[0]]
    return is_replaceable(network, vertex) and tuple(vertex.attrs["stride"]) != (1, 1)


def replaced(network: Network, name: str, choice: str) -> Network:
    """The network with another operator (of OPERATORS) in the place of the convolution `name`.

    pointwise: a 1x1 convolution of the same stride. separable: a depthwise convolution, a norm, a 1x1 convolution, with
    no activation between them, as in Xception (Chollet, arXiv 1610.02357); separable relu: with one, as in MobileNet
    (Howard et al., arXiv 1704.04861). Which is better depends on the place: in place of every convolution of ResNet-20
    (31 k parameters) the first is, on CIFAR-10 by 1.7 points of accuracy after 12 epochs; inside of inverted residuals
    the second, by 1.2 after 20 (validation, one seed).
    inverted: a 1x1 convolution, a norm, a ReLU and a depthwise convolution, which strides: what inverted residuals
    begin with where they stride (MobileNetV2, arXiv 1801.04381).
    project: a 1x1 convolution to a quarter of the input channels, a norm, the k x k convolution from there (PEP's
    projection, arXiv 1910.01271, in front of a dense convolution). The last vertex keeps the name.
    """
    if choice == "dense":
        return network
    vertex = network[name]
    a, channels_in = dict(vertex.attrs), network.input_shapes(vertex)[0][0]
    one = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    if choice == POINTWISE:
        new = [replace(vertex, attrs={**a, **one, "stride": a["stride"]})]
    elif choice in SEPARABLE:
        depthwise = {**a, "out": channels_in, "groups": channels_in, "bias": False, "depthwise": True}
        new = [Vertex(f"{name}.depthwise", "conv", depthwise, vertex.inputs),
               Vertex(f"{name}.norm", "batch_norm", NORM, (f"{name}.depthwise",))]
        if choice == "separable relu":
            new.append(Vertex(f"{name}.relu", "activation", {"kind": "relu"}, (f"{name}.norm",)))
        new.append(Vertex(name, "conv", {**a, **one}, (new[-1].name,)))
    elif choice == INVERTED:
        new = [Vertex(f"{name}.pointwise", "conv", {**a, **one, "bias": False}, vertex.inputs),
               Vertex(f"{name}.norm", "batch_norm", NORM, (f"{name}.pointwise",)),
               Vertex(f"{name}.relu", "activation", {"kind": "relu"}, (f"{name}.norm",)),
               Vertex(name, "conv", {**a, "groups": a["out"], "depthwise": True}, (f"{name}.relu",))]
    elif choice == "project":
        project = {**a, **one, "out": projected_width(channels_in), "bias": False}
        new = [Vertex(f"{name}.project", "conv", project, vertex.inputs),
               Vertex(f"{name}.norm", "batch_norm", NORM, (f"{name}.project",)),
               Vertex(name, "conv", a, (f"{name}.norm",))]
    else:
        raise ValueError(f"no operator {choice!r}")
    at = network.vertices.index(vertex)
    return replace(network, vertices=network.vertices[:at] + tuple(new) + network.vertices[at + 1:])


@dataclass(frozen=True)
class Block:
    """A residual branch that may be left out.

    addition: the vertex that adds it; entry: what the branch starts from and skips to; branch: its vertices;
    bypassed: the addition, and an activation behind it that would be the second of its kind.
    """

    addition: str
    entry: str
    branch: frozenset[str]
    bypassed: tuple[str, ...]

    @property
    def exit(self) -> str:
        return self.bypassed[-1]


def residual_blocks(network: Network) -> tuple[Block, ...]:
    """The residual branches that can be left out with nothing else changing, in graph order.

    The skip must be the plain identity, the branch must start from its one entry and end in the addition only, and
    an activation behind the addition must be of the kind that the entry already is (so that it can go as well).
    """
    blocks = []
    for vertex in network.vertices:
        if vertex.op != "add":
            continue
        for entry, end in (vertex.inputs, vertex.inputs[::-1]):
            branch = _branch(network, entry, end, vertex.name)
            bypassed = _bypassed(network, vertex, entry) if branch else None
            if branch and bypassed:
                blocks.append(Block(vertex.name, entry, branch, bypassed))
                break
    return tuple(blocks)


def _branch(network: Network, entry: str, end: str, addition: str) -> frozenset[str] | None:
    """The vertices between `entry` and `end`, None unless they form a branch with one entry and one exit."""
    if network.shapes[entry] != network.shapes[end]:
        return None
    found, stack = set(), [end]
    while stack:
        name = stack.pop()
        if name == entry or name in found:
            continue
        if network[name].op == "input":
            return None
        found.add(name)
        stack.extend(network[name].inputs)
    inside = found | {addition}
    leaks = any(reader not in inside for name in found for reader in network.readers[name])
    if not found or leaks or found & set(network.outputs):
        return None
    return frozenset(found)


def _bypassed(network: Network, addition: Vertex, entry: str) -> tuple[str, ...] | None:
    readers = network.readers[addition.name]
    activations = [r for r in readers if network[r].op == "activation"]
    if not activations:
        return (addition.name,)
    before, after = network[entry], network[activations[0]]
    same = before.op == "activation" and before.attrs == after.attrs and before.attrs["kind"] in IDEMPOTENT
    if len(readers) == 1 and same and addition.name not in network.outputs:
        return (addition.name, activations[0])
    return None


def without_blocks(network: Network, blocks: Sequence[Block]) -> Network:
    """The network without some of its `residual_blocks` (in the order in which those are given)."""
    for block in reversed(blocks):  # from the back, so that every entry is still there
        if block.addition in network:  # else an outer block took it along
            network = _without(network, block)
    return network


def _without(network: Network, block: Block) -> Network:
    """The network in which whoever read the block's exit reads its entry; the branch dies of it."""
    return _bridged(network, block.bypassed, block.entry).without_dead_vertices()


def activations_after_additions(network: Network) -> tuple[str, ...]:
    """The activations that alone read an addition, in graph order. Without one, what a residual block makes is handed
    on as it is, as a linear bottleneck does (MobileNetV2, Sandler et al., arXiv 1801.04381)."""
    return tuple(v.name for v in network.vertices
                 if v.op == "activation" and network[v.inputs[0]].op == "add"
                 and network.readers[v.inputs[0]] == (v.name,) and v.inputs[0] not in network.outputs)


def without_activations(network: Network, names: Sequence[str]) -> Network:
    """The network without some activations (those of them that it has)."""
    for name in names:
        if name in network:
            network = _bridged(network, (name,), network[name].inputs[0])
    return network


def with_nonlinearities(network: Network, kinds: Mapping[str, str]) -> Network:
    """The network with activations of other kinds, {vertex: kind} (those of them that it has)."""
    if not kinds:
        return network
    vertices = tuple(replace(v, attrs={"kind": kinds[v.name]}) if v.name in kinds else v for v in network.vertices)
    return replace(network, vertices=vertices)


def following_norm(network: Network, name: str) -> Vertex | None:
    """The batch norm that alone reads a vertex."""
    readers = [network[r] for r in network.readers[name]]
    return readers[0] if len(readers) == 1 and readers[0].op == "batch_norm" else None


def into_additions(network: Network) -> tuple[str, ...]:
    """The convolutions before which attention may stand, in graph order: those that an addition reads, or the norm
    behind them (they end a residual branch, or what one goes past), and that alone read a map of more than one pixel.
    One in a shortcut reads what the branch does as well."""
    found = []
    for vertex in network.vertices:
        if vertex.op != "conv" or network[vertex.inputs[0]].op == "input":
            continue
        source, norm = vertex.inputs[0], following_norm(network, vertex.name)
        last = vertex.name if norm is None else norm.name
        alone = network.readers[source] == (vertex.name,) and source not in network.outputs
        added = any(network[reader].op == "add" for reader in network.readers[last])
        if alone and added and network.shapes[source][1:] != (1, 1):
            found.append(vertex.name)
    return tuple(found)


def with_attention(network: Network, names: Sequence[str]) -> Network:
    """The network in which what the convolutions `names` read (those of them that it has) is weighed channel by
    channel: the mean of each over its map, scaled and shifted by two learnt numbers, says how much of it goes on. As
    squeeze and excitation (Hu et al., arXiv 1709.01507) without its two layers between channels, for two parameters a
    channel and no multiply-accumulates of convolutions."""
    vertices: list[Vertex] = []
    for vertex in network.vertices:
        if vertex.name in names:
            name, source = vertex.name, vertex.inputs[0]
            vertices += [Vertex(f"{name}.squeeze", "adaptive_avg_pool", {"size": [1, 1]}, (source,)),
                         Vertex(f"{name}.excite", "scale", EXCITE, (f"{name}.squeeze",)),
                         Vertex(f"{name}.gate", "activation", {"kind": "hardsigmoid"}, (f"{name}.excite",)),
                         Vertex(f"{name}.gated", "mul", {}, (source, f"{name}.gate"))]
            vertex = replace(vertex, inputs=(f"{name}.gated", *vertex.inputs[1:]))
        vertices.append(vertex)
    return replace(network, vertices=tuple(vertices)) if names else network


def _bridged(network: Network, gone: Sequence[str], source: str) -> Network:
    """The network without the vertices `gone`; whoever read the last of them reads `source`."""
    vertices = tuple(replace(v, inputs=tuple(source if s == gone[-1] else s for s in v.inputs))
                     for v in network.vertices if v.name not in gone)
    outputs = tuple(source if name == gone[-1] else name for name in network.outputs)
    return replace(network, vertices=vertices, outputs=outputs)
