"""A small network as vertices, without tracing."""

from synth.networks.network import Network, Vertex

CONV = {"out": 16, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1,
        "bias": False}
NORM = {"eps": 1e-5, "momentum": 0.1, "affine": True}
POOL = {"size": [1, 1]}


def chain(width=16, block=True, separable=False):
    """input - stem (bn, relu) - [block with a skip] - pool - flatten - head."""
    conv = {**CONV, "out": width}
    vertices = [
        Vertex("input", "input", {"shape": [3, 8, 8]}),
        Vertex("stem", "conv", conv, ("input",)),
        Vertex("stem.bn", "batch_norm", NORM, ("stem",)),
        Vertex("stem.relu", "activation", {"kind": "relu"}, ("stem.bn",)),
    ]
    last = "stem.relu"
    if block:
        if separable:
            depthwise = {**conv, "groups": width, "depthwise": True}
            vertices += [
                Vertex("conv.depthwise", "conv", depthwise, (last,)),
                Vertex("conv.norm", "batch_norm", NORM, ("conv.depthwise",)),
                Vertex("conv", "conv", {**conv, "kernel": [1, 1], "padding": [0, 0]}, ("conv.norm",)),
            ]
        else:
            vertices.append(Vertex("conv", "conv", conv, (last,)))
        vertices.append(Vertex("add", "add", {}, ("conv", last)))
        last = "add"
    vertices += [
        Vertex("pool", "adaptive_avg_pool", POOL, (last,)),
        Vertex("flatten", "flatten", {}, ("pool",)),
        Vertex("head", "linear", {"out": 10, "bias": True}, ("flatten",)),
    ]
    return Network(tuple(vertices), ("head",))
