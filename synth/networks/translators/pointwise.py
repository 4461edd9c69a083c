"""Activations and arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from synth.networks.recording import Value
from synth.networks.translators.call import Call, translates

Number = float | Tensor


@translates("relu", "relu6", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "mish")
def _activation(call: Call) -> Value:
    return call.pointwise("self", "activation", kind=call.name)


@translates("gelu")
def _gelu(call: Call) -> Value:
    return call.pointwise("self", "activation", kind="gelu", approximate=call["approximate"])


@translates("leaky_relu")
def _leaky_relu(call: Call) -> Value:
    return call.pointwise("self", "activation", kind="leaky_relu", negative_slope=float(call["negative_slope"]))


@translates("elu")
def _elu(call: Call) -> Value:
    alpha, scale, input_scale = float(call["alpha"]), float(call["scale"]), float(call["input_scale"])
    if (scale, input_scale) == (1.0, 1.0):
        return call.pointwise("self", "activation", kind="elu", alpha=alpha)
    if math.isclose(alpha, 1.6732632423543772) and math.isclose(scale, 1.0507009873554805) and input_scale == 1.0:
        return call.pointwise("self", "activation", kind="selu")
    raise call.refusal("has scales that are not supported; use nn.ELU or nn.SELU")


@translates("softplus")
def _softplus(call: Call) -> Value:
    if (call["beta"], call["threshold"]) != (1, 20):
        raise call.refusal("is supported with its default arguments only")
    return call.pointwise("self", "activation", kind="softplus")


@translates("hardtanh", "clamp", "clamp_min", "clamp_max", "threshold")
def _clamp(call: Call) -> Value:
    if call.name == "threshold":
        if (call["threshold"], call["value"]) != (0, 0):
            raise call.refusal("is supported as a ReLU only (threshold 0, value 0)")
        low, high = 0.0, None
    else:
        low, high = (call["min_val"], call["max_val"]) if call.name == "hardtanh" else (call["min"], call["max"])
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise call.refusal("clamps with a tensor; use numbers")
    if (low, high) == (0, None):
        return call.pointwise("self", "activation", kind="relu")
    if (low, high) == (0, 6):
        return call.pointwise("self", "activation", kind="relu6")
    if low is None or high is None:
        raise call.refusal("needs both a lower and an upper bound")
    return call.pointwise("self", "activation", kind="hardtanh", min_val=float(low), max_val=float(high))


@translates("_softmax", "_log_softmax")
def _softmax(call: Call) -> int:
    if call["dim"] not in (1, 1 - call["self"].dim()):
        raise call.refusal("is supported over the channels only (dim=1)")
    return call.add("softmax", call.node("self"), log=call.name == "_log_softmax")


@translates("add", "sub", "rsub", "mul", "div", "neg")
def _arithmetic(call: Call) -> int | Value:
    """Of two computed tensors: add, sub or mul; with a constant: scale * x + shift."""
    first, second = ("other", "self") if call.name == "rsub" else ("self", "other")  # rsub is other - alpha * self
    op, alpha = call.name.removeprefix("r"), call["alpha"] if call["alpha"] is not None else 1
    if call.depends(first) and call.depends(second):
        if op == "div":
            raise call.refusal("of two computed tensors is not supported; use addition, subtraction or multiplication")
        return _of_two(call, op, call[first], call[second], alpha)
    if op == "neg":
        return call.pointwise("self", "affine", scale=-1.0, shift=0.0)
    name = first if call.depends(first) else second
    constant = call[second if name == first else first]
    if op == "div" and (name == second or call["rounding_mode"] is not None):
        raise call.refusal("by a computed tensor, or with rounding, is not supported; multiply instead")
    if op in ("mul", "div"):
        return _scaled(call, name, constant if op == "mul" else 1 / constant, None, call.sources("self", "other"))
    scale = 1.0
    if name == second:
        scale = float(alpha) * (-1.0 if op == "sub" else 1.0)
    elif op == "sub" or alpha != 1:
        constant = constant * (-alpha if op == "sub" else alpha)
    return _scaled(call, name, scale, constant, call.sources("self", "other"))


def _of_two(call: Call, op: str, a: Tensor, b: Tensor, alpha: float) -> int | Value:
    first, second = call.value_of(a), call.value_of(b)
    together = first.index is not None and second.index is not None and torch.equal(first.index, second.index)
    nodes = [first.node, second.node] if together else [call.node_of(a, True), call.node_of(b, True)]
    if alpha != 1:
        nodes[1] = call.add("affine", nodes[1], scale=float(alpha), shift=0.0)
    node = call.add(op, *nodes)
    return call.carried(first, node) if together else node


def _scaled(call: Call, name: str, scale: Number, shift: Number | None, sources: frozenset[str]) -> Value:
    """scale * x + shift: an affine vertex where both are plain numbers, else one that stores what is a tensor."""
    value, shift = call.value_of(call[name]), 0.0 if shift is None else shift
    tensors = {key: t for key, t in (("weight", scale), ("bias", shift)) if isinstance(t, Tensor)}
    if not sources and all(t.numel() == 1 for t in tensors.values()):
        return call.pointwise(name, "affine", scale=float(scale), shift=float(shift))
    source = value.node
    if "bias" in tensors and scale != 1.0:
        source = call.add("affine", source, scale=float(scale), shift=0.0)
    (key, tensor), = tensors.items()
    by_channel = _by_channel(call, value, tensor)
    if call.recorder.called is functional.linear:  # torch adds the bias by itself where the rows are not contiguous
        node = call.recorder.nodes[source]
        node.attrs["bias"], node.tensors["bias"], node.sources = True, by_channel.clone(), node.sources | sources
        node.sample = None
        return value
    attrs = {"weight": key == "weight", "bias": key == "bias", "shared": tensor.numel() == 1 != len(by_channel),
             "learnt": any(call.recorder.is_parameter(s) for s in sources)}
    stored = by_channel[:1] if attrs["shared"] else by_channel
    return call.carried(value, call.recorder.add_node("scale", attrs, (source,), {key: stored}, sources))


def _by_channel(call: Call, value: Value, constant: Tensor) -> Tensor:
    """What a constant that is combined with a map holds for each channel of it, wherever the channels stand."""
    places, shape = call.recorder.place_in_image(value), call.recorder.nodes[value.node].shape
    found = constant.new_zeros(shape[0])
    if places is not None and call.out.shape[1:] == places.shape:
        spread = constant.expand(call.out.shape)
        channel = (places // math.prod(shape[1:])).to(constant.device)
        found[channel.reshape(-1)] = spread[0].reshape(-1)
        if torch.equal(found[channel].expand_as(spread), spread):
            return found
    raise call.refusal(f"combines a map with a constant of shape {tuple(constant.shape)}; only one number, or one a "
                       "channel, is supported")


@translates("pow", "square")
def _power(call: Call) -> int:
    if call.name == "pow" and call["exponent"] != 2:
        raise call.refusal("is supported with exponent 2 only")
    source = call.node("self")
    return call.add("mul", source, source)
