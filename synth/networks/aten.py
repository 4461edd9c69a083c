"""From torch's operations, as the dispatcher executes them, to vertices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from synth.networks.operators.base import pair
from synth.networks.recording import REMEDY, Constant, Lost, Recorder, Value

Translator = Callable[["Call"], int]
_TRANSLATORS: dict[str, Translator] = {}


class Call:
    """One operation that reads at least one value that depends on the images."""

    def __init__(self, recorder: Recorder, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        self.recorder, self.out = recorder, out
        parameters = func._schema.arguments
        self.arguments = {a.name: a.default_value for a in parameters}
        self.arguments.update(zip(self.arguments, args, strict=False))
        self.arguments.update(kwargs)
        self.written = [self.arguments[a.name] for a in parameters if a.alias_info and a.alias_info.is_write]
        self.name = func.overloadpacket.__name__.rstrip("_") if self.written else func.overloadpacket.__name__

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def refusal(self, why: str) -> Exception:
        return self.recorder.refusal(f"{self.recorder.function or self.name} {why}")

    def depends(self, name: str) -> bool:
        """Whether an argument is a tensor that depends on the images."""
        return isinstance(self[name], Tensor) and isinstance(self.recorder.known(self[name]), Value)

    def node(self, name: str, broadcast: bool = False) -> int:
        return self.node_of(self[name], broadcast)

    def node_of(self, tensor: Tensor, broadcast: bool = False) -> int:
        """The node whose output a tensor is. broadcast: its equal rows or columns may stand for one."""
        value = self.recorder.known(tensor)
        if not isinstance(value, Value):
            raise self.refusal("takes a constant where the network's own values are expected; " + REMEDY)
        if value.index is not None and broadcast:
            value = self._narrowed(value, value.index)
        if value.index is not None:
            raise self.refusal(f"reads a rearrangement of {tuple(tensor.shape[1:])} values that is not supported; "
                               "channel shuffles, slices, crops, flatten and pixel shuffles are")
        return value.node

    def _narrowed(self, value: Value, index: Tensor) -> Value:
        """The value before it was expanded."""
        root = self.recorder.places(value)[1]
        for axis in range(1, index.dim()):
            if index.shape[axis] > 1 and bool((index == index.narrow(axis, 0, 1)).all()):
                index, root = index.narrow(axis, 0, 1), root.narrow(axis, 0, 1)
        return self.recorder.rearranged(value, index, root)

    def constant(self, name: str) -> Tensor | None:
        """A tensor that does not depend on the images, such as a weight."""
        tensor = self[name]
        if tensor is not None and self.depends(name):
            raise self.refusal(f"computes its {name} from the image; dynamic weights are not supported")
        return tensor

    def sources(self, *names: str) -> frozenset[str]:
        known = [self.recorder.known(self[name]) for name in names if isinstance(self[name], Tensor)]
        return frozenset().union(*(k.sources for k in known if isinstance(k, Constant)))

    def add(self, op: str, *inputs: int, **attrs: Any) -> int:
        return self.recorder.add_node(op, attrs, inputs)

    def add_layer(self, op: str, source: int, stored: dict[str, str], made: dict[str, Tensor] | None = None,
                  **attrs: Any) -> int:
        """A node that stores tensors. stored: the argument each comes from; made: those that have no argument."""
        tensors = {name: self[argument] for name, argument in stored.items() if self[argument] is not None}
        return self.recorder.add_node(op, attrs, (source,), tensors | (made or {}), self.sources(*stored.values()))


def translate(recorder: Recorder, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Write down one operation and bind its results. UserError, naming operation and module, where it has no meaning
    for a network."""
    call = Call(recorder, func, args, kwargs, out)
    if call.name in _READS_VALUES:
        raise call.refusal("looks at values, so that the network would depend on the image; decide on shapes only")
    if call.name in _REARRANGEMENTS and not call.written:
        _rearrange(call, func, args, kwargs)
        return
    if func.namespace != "aten" or call.name not in _TRANSLATORS:
        inner = "" if call.name in recorder.function else f" (as {func})"
        raise call.refusal(f"is not supported{inner}; {REMEDY}")
    value = Value(_TRANSLATORS[call.name](call))
    if call.written:
        recorder.write(call.written[0], value)
        return
    first, *others = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    recorder.bind(first, value)
    for tensor in others:
        recorder.bind(tensor, Lost(f"the second result of {recorder.function} (indices or statistics) is not supported"))


_READS_VALUES = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "unique2", "_unique2"}
_REARRANGEMENTS = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "slice", "select", "split",
    "split_with_sizes", "unbind", "unsqueeze", "squeeze", "expand", "clone", "alias", "detach", "lift_fresh", "index",
    "index_select", "flip", "roll", "repeat", "_to_copy", "contiguous", "view_as", "unfold",
}


def _rearrange(call: Call, func: Any, args: Any, kwargs: Any) -> None:
    """Apply the operation to the places of the elements instead of the elements."""
    recorder = call.recorder
    operand = args[0]
    value = recorder.known(operand)
    results = [t for t in tree_leaves(call.out) if isinstance(t, Tensor)]
    if not isinstance(value, Value) or any(isinstance(recorder.known(t), Value) for t in tree_leaves((args[1:], kwargs))
                                           if isinstance(t, Tensor)):
        raise call.refusal("chooses by values, so that the network would depend on the image")
    if any(t.dtype != operand.dtype for t in results):
        raise call.refusal(f"changes the type to {results[0].dtype}; keep the network in {operand.dtype}")

    def apply(places: Tensor) -> list[Tensor]:
        if call.name in ("clone", "_to_copy", "alias", "detach", "lift_fresh", "contiguous"):
            return [places]
        if call.name in ("view", "_unsafe_view", "_reshape_alias", "reshape"):
            return [places.reshape(results[0].shape)]
        rest = [a.cpu() if isinstance(a, Tensor) else a for a in args[1:]]
        if call.name == "index":
            rest = [[i if i is None else i.cpu() for i in args[1]]]
        return [t for t in tree_leaves(func(places, *rest, **kwargs)) if isinstance(t, Tensor)]

    index, from_root = recorder.places(value)
    for tensor, own, root in zip(results, apply(index), apply(from_root), strict=True):
        recorder.bind(tensor, recorder.rearranged(value, own, root))


def translates(*names: str) -> Callable[[Translator], Translator]:
    def register(function: Translator) -> Translator:
        _TRANSLATORS.update(dict.fromkeys(names, function))
        return function

    return register


# -- layers --------------------------------------------------------------------------------------------------------


@translates("convolution")
def _convolution(call: Call) -> int:
    source, weight = call.node("input"), call.constant("weight")
    assert weight is not None
    if weight.dim() != 4:
        raise call.refusal("is not 2-D; only convolutions over height and width are supported")
    groups, transposed = call["groups"], call["transposed"]
    attrs = {"kernel": list(weight.shape[2:]), "stride": list(pair(call["stride"])),
             "padding": list(pair(call["padding"])), "dilation": list(pair(call["dilation"])), "groups": groups,
             "bias": call["bias"] is not None}
    call.constant("bias")
    stored = {"weight": "weight", "bias": "bias"}
    if transposed:
        return call.add_layer("conv_transpose", source, stored, out=weight.shape[1] * groups,
                              output_padding=list(pair(call["output_padding"])), **attrs)
    if groups > 1 and groups == call.recorder.nodes[source].shape[0]:
        attrs["depthwise"] = True
    return call.add_layer("conv", source, stored, out=weight.shape[0], **attrs)


@translates("addmm", "mm")
def _linear(call: Call) -> int:
    matrix = "mat2"
    source = call.node("mat1" if call["mat1"] is not None else "self")
    weight = call.constant(matrix)
    assert weight is not None
    bias = call["self"] if call.name == "addmm" else None
    if call.name == "addmm" and (call["beta"] != 1 or call["alpha"] != 1 or call.constant("self").shape
                                 != weight.shape[1:]):
        raise call.refusal("is not a plain linear layer; use nn.Linear")
    made = {"weight": weight.t()} | ({} if bias is None else {"bias": bias})
    names = (matrix, "self") if bias is not None else (matrix,)
    return call.recorder.add_node("linear", {"out": weight.shape[1], "bias": bias is not None}, (source,), made,
                                  call.sources(*names))


@translates("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit",
            "cudnn_batch_norm", "_batch_norm_no_update")
def _batch_norm(call: Call) -> int:
    if call["training"] or call["running_mean"] is None:
        raise call.refusal("normalises with the statistics of the batch, also in evaluation; "
                           "use nn.BatchNorm2d with track_running_stats=True, or nn.GroupNorm")
    source = call.node("input")
    stored = {"weight": "weight", "bias": "bias", "running_mean": "running_mean", "running_var": "running_var"}
    made = {}
    affine = call["weight"] is not None or call["bias"] is not None
    if affine:  # one of them alone: the other is neutral
        made = {name: neutral for name, neutral in (("weight", torch.ones_like(call["running_mean"])),
                                                    ("bias", torch.zeros_like(call["running_mean"])))
                if call[name] is None}
    eps = call["eps"] if call["eps"] is not None else call["epsilon"]
    return call.add_layer("batch_norm", source, stored, made, eps=float(eps), momentum=float(call["momentum"] or 0.1),
                          affine=affine)


@translates("native_group_norm")
def _group_norm(call: Call) -> int:
    source = call.node("input")
    affine = call["weight"] is not None
    if affine != (call["bias"] is not None):
        raise call.refusal("has only one of weight and bias; use both or none")
    return call.add_layer("group_norm", source, {"weight": "weight", "bias": "bias"}, groups=call["group"],
                          eps=float(call["eps"]), affine=affine)


@translates("native_layer_norm")
def _layer_norm(call: Call) -> int:
    """Over all of a vector or map: a group norm of one group."""
    source = call.node("input")
    shape, affine = call.recorder.nodes[source].shape, call["weight"] is not None
    if tuple(call["normalized_shape"]) != shape or (affine and len(shape) > 1) or affine != (call["bias"] is not None):
        raise call.refusal("normalises a part of a map, or scales every pixel by itself; use nn.GroupNorm or "
                           "nn.BatchNorm2d")
    return call.add_layer("group_norm", source, {"weight": "weight", "bias": "bias"}, groups=1, eps=float(call["eps"]),
                          affine=affine)


@translates("_prelu_kernel", "prelu")
def _prelu(call: Call) -> int:
    source, weight = call.node("self"), call.constant("weight")
    assert weight is not None
    shared = weight.numel() == 1
    return call.recorder.add_node("prelu", {"shared": shared}, (source,), {"weight": weight.reshape(-1)},
                                  call.sources("weight"))


# -- element by element ----------------------------------------------------------------------------------------------

for _kind in ("relu", "relu6", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "mish"):
    translates(_kind)(lambda call, kind=_kind: call.add("activation", call.node("self"), kind=kind))


@translates("gelu")
def _gelu(call: Call) -> int:
    return call.add("activation", call.node("self"), kind="gelu", approximate=call["approximate"])


@translates("leaky_relu")
def _leaky_relu(call: Call) -> int:
    return call.add("activation", call.node("self"), kind="leaky_relu", negative_slope=float(call["negative_slope"]))


@translates("elu")
def _elu(call: Call) -> int:
    alpha, scale, input_scale = float(call["alpha"]), float(call["scale"]), float(call["input_scale"])
    if (scale, input_scale) == (1.0, 1.0):
        return call.add("activation", call.node("self"), kind="elu", alpha=alpha)
    if math.isclose(alpha, 1.6732632423543772) and math.isclose(scale, 1.0507009873554805) and input_scale == 1.0:
        return call.add("activation", call.node("self"), kind="selu")
    raise call.refusal("has scales that are not supported; use nn.ELU or nn.SELU")


@translates("softplus")
def _softplus(call: Call) -> int:
    if (call["beta"], call["threshold"]) != (1, 20):
        raise call.refusal("is supported with its default arguments only")
    return call.add("activation", call.node("self"), kind="softplus")


@translates("hardtanh", "clamp", "clamp_min", "clamp_max", "threshold")
def _clamp(call: Call) -> int:
    if call.name == "threshold":
        if (call["threshold"], call["value"]) != (0, 0):
            raise call.refusal("is supported as a ReLU only (threshold 0, value 0)")
        low, high = 0.0, None
    else:
        low, high = (call["min_val"], call["max_val"]) if call.name == "hardtanh" else (call["min"], call["max"])
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise call.refusal("clamps with a tensor; use numbers")
    if (low, high) == (0, None):
        return call.add("activation", call.node("self"), kind="relu")
    if (low, high) == (0, 6):
        return call.add("activation", call.node("self"), kind="relu6")
    if low is None or high is None:
        raise call.refusal("needs both a lower and an upper bound")
    return call.add("activation", call.node("self"), kind="hardtanh", min_val=float(low), max_val=float(high))


@translates("_softmax", "_log_softmax")
def _softmax(call: Call) -> int:
    if call["dim"] not in (1, 1 - call["self"].dim()):
        raise call.refusal("is supported over the channels only (dim=1)")
    return call.add("softmax", call.node("self"), log=call.name == "_log_softmax")


@translates("add", "sub", "rsub", "mul", "div", "neg")
def _arithmetic(call: Call) -> int:
    a, b = ("self", "other") if call.name != "rsub" else ("other", "self")
    if call.depends(a) and call.depends(b):
        if call.name == "div" or (call["alpha"] or 1) != 1:
            raise call.refusal("of two computed tensors is not supported; use addition, subtraction or multiplication")
        return call.add(call.name.removeprefix("r"), call.node(a, True), call.node(b, True))
    if call.name == "neg":
        return _affine(call, "self", -1.0, 0.0)
    value = "self" if call.depends("self") else "other"
    number = _number(call, "other" if value == "self" else "self")
    number *= float(call["alpha"] or 1) if value == "self" and call.name in ("add", "sub") else 1.0
    if call.name == "add":
        return _affine(call, value, 1.0, number)
    if call.name == "mul":
        return _affine(call, value, number, 0.0)
    if call.name == "div" and value == "self" and call["rounding_mode"] is None:
        return _affine(call, value, 1.0 / number, 0.0)
    if call.name in ("sub", "rsub"):  # self - other; rsub: other - self
        positive = value == a
        return _affine(call, value, 1.0, -number) if positive else _affine(call, value, -1.0, number)
    raise call.refusal("with these arguments is not supported; " + REMEDY)


def _affine(call: Call, name: str, scale: float, shift: float) -> int:
    return call.add("affine", call.node(name), scale=float(scale), shift=float(shift))


def _number(call: Call, name: str) -> float:
    constant = call[name]
    if isinstance(constant, Tensor):
        sources = sorted(call.sources(name))
        if sources:
            raise call.refusal(f"uses {sources[0]} outside of a layer, which is not supported; put it into a layer")
        if constant.numel() != 1:
            raise call.refusal("combines a map with a constant tensor; only single numbers are supported")
        return float(constant.reshape(()))
    return float(constant)


@translates("pow", "square")
def _power(call: Call) -> int:
    if call.name == "pow" and call["exponent"] != 2:
        raise call.refusal("is supported with exponent 2 only")
    source = call.node("self")
    return call.add("mul", source, source)


# -- pooling, resizing, rearranging ----------------------------------------------------------------------------------


@translates("max_pool2d_with_indices", "max_pool2d")
def _max_pool(call: Call) -> int:
    kernel = list(pair(call["kernel_size"]))
    return call.add("max_pool", call.node("self"), kernel=kernel, stride=list(pair(call["stride"] or kernel)),
                    padding=list(pair(call["padding"])), dilation=list(pair(call["dilation"])), ceil=call["ceil_mode"])


@translates("avg_pool2d")
def _avg_pool(call: Call) -> int:
    if call["divisor_override"] is not None:
        raise call.refusal("with divisor_override is not supported")
    kernel = list(pair(call["kernel_size"]))
    return call.add("avg_pool", call.node("self"), kernel=kernel, stride=list(pair(call["stride"] or kernel)),
                    padding=list(pair(call["padding"])), ceil=call["ceil_mode"], count_padding=call["count_include_pad"])


@translates("_adaptive_avg_pool2d")
def _adaptive_avg_pool(call: Call) -> int:
    return call.add("adaptive_avg_pool", call.node("self"), size=list(pair(call["output_size"])))


@translates("adaptive_max_pool2d")
def _adaptive_max_pool(call: Call) -> int:
    return call.add("adaptive_max_pool", call.node("self"), size=list(pair(call["output_size"])))


@translates("mean", "sum", "amax")
def _global_pool(call: Call) -> int:
    """A reduction over all of the map: global pooling, also where the map was flattened before."""
    recorder, value = call.recorder, call.recorder.known(call["self"])
    assert isinstance(value, Value)
    rank = call["self"].dim()
    axes = sorted(axis % rank for axis in ([call["dim"]] if isinstance(call["dim"], int) else call["dim"] or range(rank)))
    places, shape = recorder.place_in_image(value), recorder.nodes[value.node].shape
    whole = torch.arange(math.prod(shape)).reshape(shape[0], -1)
    if places is None or 0 in axes or len(shape) != 3 or call["dtype"] is not None:
        raise call.refusal("reduces over the batch or over what is no map; only whole maps can be averaged")
    kept = [axis for axis in range(rank - 1) if axis + 1 not in axes]
    reduced = places.permute(*kept, *(axis - 1 for axis in axes)).reshape(math.prod(places.shape[k] for k in kept), -1)
    if reduced.shape != whole.shape or not torch.equal(reduced.sort(1).values, whole):
        raise call.refusal("is supported over the whole of every map (dims 2 and 3) only")
    node = call.add("adaptive_max_pool" if call.name == "amax" else "adaptive_avg_pool", value.node, size=[1, 1])
    if call.name == "sum":
        node = call.add("affine", node, scale=float(whole.shape[1]), shift=0.0)
    return node if call.out.dim() == 4 else call.add("flatten", node)


@translates("upsample_nearest2d", "upsample_bilinear2d")
def _resize(call: Call) -> int:
    source = call.node("self")
    before, after = call.recorder.nodes[source].shape[1:], pair(call["output_size"])
    scales = [call["scales_h"], call["scales_w"]]
    if None in scales and all(b % a == 0 for a, b in zip(before, after, strict=True)):
        scales = [b / a for a, b in zip(before, after, strict=True)]
    size: dict[str, Any] = {"size": list(after)} if None in scales else {"scale": [float(s) for s in scales]}
    mode = "nearest" if call.name == "upsample_nearest2d" else "bilinear"
    return call.add("resize", source, mode=mode, align_corners=bool(call["align_corners"]), **size)


@translates("constant_pad_nd")
def _pad(call: Call) -> int:
    widths = [int(w) for w in call["pad"]] + [0] * (8 - len(call["pad"]))
    if any(widths[6:]) or call["self"].dim() != 4:
        raise call.refusal("pads the batch or what is no map; pad channels, rows or columns")
    return call.add("pad", call.node("self"), channels=widths[4:6], rows=widths[2:4], columns=widths[:2],
                    value=float(call["value"] or 0.0))


@translates("cat")
def _concatenate(call: Call) -> int:
    tensors = [t for t in call["tensors"] if t.numel()]
    if call["dim"] % tensors[0].dim() != 1:
        raise call.refusal("is supported along the channels only (dim=1)")
    made = [isinstance(call.recorder.known(t), Value) for t in tensors]
    if all(made):
        if len(tensors) == 1:
            return call.node_of(tensors[0])
        return call.add("cat", *(call.node_of(t) for t in tensors))
    zeros = all(m or not t.any() for m, t in zip(made, tensors, strict=True))
    if sum(made) != 1 or not zeros or tensors[0].dim() != 4:
        raise call.refusal("mixes computed maps with constants; only zero channels around one map are supported")
    place = made.index(True)
    channels = [sum(t.shape[1] for t in part) for part in (tensors[:place], tensors[place + 1:])]
    return call.add("pad", call.node_of(tensors[place]), channels=channels, rows=[0, 0], columns=[0, 0], value=0.0)


@translates("pixel_shuffle")
def _pixel_shuffle(call: Call) -> int:
    return call.add("pixel_shuffle", call.node("self"), factor=call["upscale_factor"])


@translates("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> int:
    return call.add("pixel_unshuffle", call.node("self"), factor=call["downscale_factor"])


@translates("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call) -> int:
    return call.add("channel_shuffle", call.node("self"), groups=call["groups"])


@translates("copy")
def _copy(call: Call) -> int:
    if tuple(call["self"].shape) != tuple(call["src"].shape):
        raise call.refusal("assigns with broadcasting; make the new tensor from whole tensors")
    return call.node("src")
