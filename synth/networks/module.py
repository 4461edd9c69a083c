"""A Network built into an `nn.Module`, and its weights as a flat dict of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from devices.support.errors import UserError
from synth.networks.network import Network
from synth.networks.operators import Shape
from synth.networks.operators.base import pair

Weights = dict[str, Tensor]  # "vertex.tensor": the tensor, e.g. "stage1.conv.weight"


class NetworkModule(nn.Module):
    """Runs the vertices of a network in order. Reads (N, C, H, W); gives one tensor, or a tuple for several outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleDict()
        slots = {vertex.name: i for i, vertex in enumerate(network.vertices)}
        last_reader = {source: i for i, v in enumerate(network.vertices) for source in v.inputs}
        self._program: list[tuple[Callable[..., Tensor], tuple[int, ...], int, tuple[int, ...]]] = []
        for i, vertex in enumerate(network.vertices):
            if vertex.op == "input":
                continue
            layer = _BUILDERS[vertex.op](vertex.attrs, network.input_shapes(vertex))
            if isinstance(layer, nn.Module):
                self.layers[_key(vertex.name)] = layer
            dead = {s for s in vertex.inputs if last_reader[s] == i and s not in network.outputs}
            self._program.append((layer, tuple(slots[s] for s in vertex.inputs), i, tuple(slots[s] for s in dead)))
        self._input = next(slots[v.name] for v in network.vertices if v.op == "input")
        self._outputs = tuple(slots[name] for name in network.outputs)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        values: list[Any] = [None] * len(self.network.vertices)
        values[self._input] = images
        for layer, sources, target, dead in self._program:
            values[target] = layer(*(values[s] for s in sources))
            for slot in dead:
                values[slot] = None
        results = tuple(values[slot] for slot in self._outputs)
        return results[0] if len(results) == 1 else results

    def layer(self, name: str) -> nn.Module:
        """The torch module of a vertex that has one."""
        return self.layers[_key(name)]


def _key(name: str) -> str:
    """The key of a vertex in an nn.ModuleDict, which takes neither dots nor the names of its own methods."""
    return name.replace(".", "/") + ("/" if hasattr(_EMPTY, name) else "")


def _name(key: str) -> str:
    return key.rstrip("/").replace("/", ".")


_EMPTY = nn.ModuleDict()


def build(network: Network, weights: Mapping[str, Tensor] | None = None) -> NetworkModule:
    """The module of a network, with `weights` loaded where given, else initialised as torch does.

    UserError where a tensor is missing or of another shape, naming it.
    """
    module = NetworkModule(network)
    if weights is not None:
        load_weights(module, weights)
    return module


def fresh_weights(network: Network, seed: int) -> Weights:
    """Drawn from the seed as torch initialises layers; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return weights_of(build(network))


def weights_of(module: NetworkModule) -> Weights:
    """Copies of all tensors of a module, parameters and running statistics, by "vertex.tensor"."""
    found: Weights = {}
    for key, layer in module.layers.items():
        for name, tensor in layer.state_dict().items():
            if name != "num_batches_tracked":
                found[f"{_name(key)}.{name}"] = tensor.detach().clone()
    return found


def load_weights(module: NetworkModule, weights: Mapping[str, Tensor]) -> None:
    for key, layer in module.layers.items():
        vertex = _name(key)
        with torch.no_grad():
            for name, tensor in layer.state_dict(keep_vars=True).items():
                if name == "num_batches_tracked":
                    continue
                given = weights.get(f"{vertex}.{name}")
                if given is None:
                    raise UserError(f"the weights hold no {vertex}.{name}; they belong to another network")
                if given.shape != tensor.shape:
                    raise UserError(f"{vertex}.{name} has shape {tuple(given.shape)} in the weights and "
                                    f"{tuple(tensor.shape)} in the network; they belong to another network")
                tensor.copy_(given)


def check(module: NetworkModule, batch: int = 2) -> None:
    """Run the network once and compare every vertex's shape with the one computed from the graph.

    UserError naming the first vertex that differs or fails. Called after every change of a network.
    """
    network = module.network
    training = module.training
    with torch.no_grad():
        for vertex, value in _run(module.eval(), torch.zeros(batch, *network.input_shape)):
            expected = (batch, *network.shapes[vertex.name])
            if tuple(value.shape) != expected:
                raise UserError(f"{vertex.name} ({vertex.op}) gives {tuple(value.shape)}, not {expected}")
    module.train(training)


def _run(module: NetworkModule, images: Tensor):
    """Yields (vertex, value) for every vertex."""
    values: list[Any] = [None] * len(module.network.vertices)
    values[module._input] = images
    program = {target: (layer, sources) for layer, sources, target, _ in module._program}
    for i, vertex in enumerate(module.network.vertices):
        if i in program:
            layer, sources = program[i]
            try:
                values[i] = layer(*(values[s] for s in sources))
            except RuntimeError as error:
                raise UserError(f"{vertex.name} ({vertex.op}) cannot run: {error}") from None
        yield vertex, values[i]


def responses(module: NetworkModule, images: Tensor) -> dict[str, Tensor]:
    """Y: what every vertex answers to the stimuli `images`, by vertex name."""
    return {vertex.name: value for vertex, value in _run(module, images)}


_ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "hardswish": nn.Hardswish, "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "mish": nn.Mish, "selu": nn.SELU, "softplus": nn.Softplus,
    "gelu": nn.GELU, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU, "hardtanh": nn.Hardtanh,
}


def _activation(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return _ACTIVATION_MODULES[attrs["kind"]](**{k: v for k, v in attrs.items() if k != "kind"})


def _conv(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return nn.Conv2d(inputs[0][0], attrs["out"], pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]),
                     pair(attrs["dilation"]), attrs["groups"], attrs["bias"])


def _conv_transpose(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return nn.ConvTranspose2d(inputs[0][0], attrs["out"], pair(attrs["kernel"]), pair(attrs["stride"]),
                              pair(attrs["padding"]), pair(attrs["output_padding"]), attrs["groups"], attrs["bias"],
                              pair(attrs["dilation"]))


def _batch_norm(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    kind = nn.BatchNorm2d if len(inputs[0]) == 3 else nn.BatchNorm1d
    return kind(inputs[0][0], attrs["eps"], attrs["momentum"], attrs["affine"])


def _max_pool(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return nn.MaxPool2d(pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]), pair(attrs["dilation"]),
                        ceil_mode=attrs["ceil"])


def _avg_pool(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return nn.AvgPool2d(pair(attrs["kernel"]), pair(attrs["stride"]), pair(attrs["padding"]), attrs["ceil"],
                        attrs["count_padding"])


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelScale(nn.Module):
    """x * weight + bias, one number a channel or one for all."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, attrs: Mapping[str, Any], shape: Shape) -> None:
        super().__init__()
        self.count, self.rank = 1 if attrs["shared"] else shape[0], len(shape)
        for name, start in (("weight", torch.ones(self.count)), ("bias", torch.zeros(self.count))):
            if attrs[name] and attrs["learnt"]:
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start if attrs[name] else None)

    def forward(self, x: Tensor) -> Tensor:
        along_channels = (1, self.count, *[1] * (self.rank - 1))
        if self.weight is not None:
            x = x * self.weight.view(along_channels)
        return x if self.bias is None else x + self.bias.view(along_channels)


def _channel_shuffle(attrs: Mapping[str, Any], inputs: list[Shape]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.unflatten(1, (attrs["groups"], -1)).transpose(1, 2).flatten(1, 2)


def _subsample(attrs: Mapping[str, Any], inputs: list[Shape]) -> Callable[[Tensor], Tensor]:
    stride = pair(attrs["stride"])
    return lambda x: functional.max_pool2d(x, 1, stride)  # one launch; x[:, :, ::sh, ::sw] becomes two slices in ONNX


def _pad(attrs: Mapping[str, Any], inputs: list[Shape]) -> Callable[[Tensor], Tensor]:
    widths = [*attrs["columns"], *attrs["rows"], *attrs["channels"]]
    return lambda x: functional.pad(x, widths, value=attrs["value"])


def _resize(attrs: Mapping[str, Any], inputs: list[Shape]) -> Callable[[Tensor], Tensor]:
    size = None if attrs.get("size") is None else pair(attrs["size"])
    scale = None if size else [float(s) for s in attrs["scale"]]
    corners = bool(attrs["align_corners"]) if attrs["mode"] == "bilinear" else None
    return lambda x: functional.interpolate(x, size, scale, attrs["mode"], corners)


def _softmax(attrs: Mapping[str, Any], inputs: list[Shape]) -> nn.Module:
    return nn.LogSoftmax(dim=1) if attrs["log"] else nn.Softmax(dim=1)


_BUILDERS: dict[str, Callable[[Mapping[str, Any], list[Shape]], Callable[..., Tensor]]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": lambda a, s: nn.Linear(s[0][0], a["out"], a["bias"]),
    "batch_norm": _batch_norm,
    "group_norm": lambda a, s: nn.GroupNorm(a["groups"], s[0][0], a["eps"], a["affine"]),
    "channel_norm": lambda a, s: ChannelNorm(s[0][0], a["eps"], a["affine"]),
    "prelu": lambda a, s: nn.PReLU(1 if a["shared"] else s[0][0]),
    "scale": lambda a, s: ChannelScale(a, s[0]),
    "activation": _activation,
    "softmax": _softmax,
    "dropout": lambda a, s: (nn.Dropout2d if a["channelwise"] else nn.Dropout)(a["p"]),
    "identity": lambda a, s: nn.Identity(),
    "affine": lambda a, s: lambda x: x * a["scale"] + a["shift"],
    "add": lambda a, s: torch.add,
    "sub": lambda a, s: torch.sub,
    "mul": lambda a, s: torch.mul,
    "cat": lambda a, s: lambda *x: torch.cat(x, 1),
    "slice": lambda a, s: lambda x: x[:, a["start"]:a["stop"]],
    "flatten": lambda a, s: lambda x: torch.flatten(x, 1),
    "to_map": lambda a, s: lambda x: x[:, :, None, None],
    "channel_shuffle": _channel_shuffle,
    "subsample": _subsample,
    "pad": _pad,
    "pixel_shuffle": lambda a, s: nn.PixelShuffle(a["factor"]),
    "pixel_unshuffle": lambda a, s: nn.PixelUnshuffle(a["factor"]),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": lambda a, s: nn.AdaptiveAvgPool2d(pair(a["size"])),
    "adaptive_max_pool": lambda a, s: nn.AdaptiveMaxPool2d(pair(a["size"])),
    "resize": _resize,
}
