"""Activations and arithmetic."""

from __future__ import annotations

import math

from torch import Tensor

from synth.networks.translators.call import Call, translates

Number = float | Tensor


@translates("relu", "relu6", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "mish")
def _activation(call: Call) -> int:
    return call.add("activation", call.node("self"), kind=call.name)


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
    """Of two computed tensors: add, sub or mul; with a constant: scale * x + shift."""
    first, second = ("other", "self") if call.name == "rsub" else ("self", "other")  # rsub is other - alpha * self
    op, alpha = call.name.removeprefix("r"), call["alpha"] if call["alpha"] is not None else 1
    if call.depends(first) and call.depends(second):
        if op == "div":
            raise call.refusal("of two computed tensors is not supported; use addition, subtraction or multiplication")
        nodes = {name: call.node(name, True) for name in (first, second)}
        if alpha != 1:
            nodes[second] = call.add("affine", nodes[second], scale=float(alpha), shift=0.0)
        return call.add(op, nodes[first], nodes[second])
    if op == "neg":
        return call.add("affine", call.node("self"), scale=-1.0, shift=0.0)
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


def _scaled(call: Call, name: str, scale: Number, shift: Number | None, sources: frozenset[str]) -> int:
    """scale * x + shift: an affine vertex where both are plain numbers, else one that stores what is a tensor."""
    source = call.node(name)
    shift = 0.0 if shift is None else shift
    tensors = {key: t for key, t in (("weight", scale), ("bias", shift)) if isinstance(t, Tensor)}
    if not sources and all(t.numel() == 1 for t in tensors.values()):
        return call.add("affine", source, scale=float(scale), shift=float(shift))
    if "bias" in tensors and scale != 1.0:
        source, scale = call.add("affine", source, scale=float(scale), shift=0.0), 1.0
    (key, tensor), = tensors.items()
    channels, rank = call.recorder.nodes[source].shape[0], call[name].dim()
    aligned = tensor.reshape([1] * (rank - tensor.dim()) + list(tensor.shape)) if tensor.dim() <= rank else tensor
    if aligned.numel() not in (1, channels) or aligned.shape[1:2] != (aligned.numel(),):
        raise call.refusal(f"combines a map with a constant of shape {tuple(tensor.shape)}; only one number, or one a "
                           f"channel, is supported")
    attrs = {"weight": key == "weight", "bias": key == "bias", "shared": aligned.numel() == 1 != channels,
             "learnt": any(call.recorder.is_parameter(s) for s in sources)}
    return call.recorder.add_node("scale", attrs, (source,), {key: aligned.reshape(-1)}, sources)


@translates("pow", "square")
def _power(call: Call) -> int:
    if call.name == "pow" and call["exponent"] != 2:
        raise call.refusal("is supported with exponent 2 only")
    source = call.node("self")
    return call.add("mul", source, source)
