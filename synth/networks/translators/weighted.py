"""Convolutions, linear layers and normalisations."""

from __future__ import annotations

import torch

from synth.networks.operators.base import pair
from synth.networks.recording import Value
from synth.networks.translators.call import Call, translates


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
def _linear(call: Call) -> int | Value:
    """A linear layer; of a map with its channels last, a 1x1 convolution."""
    with_bias = call.name == "addmm"
    inputs, weight = call["mat1" if with_bias else "self"], call.constant("mat2")
    bias = call.constant("self") if with_bias else None
    assert weight is not None
    if bias is not None and (call["beta"] != 1 or call["alpha"] != 1 or bias.shape != weight.shape[1:]):
        raise call.refusal("is not a plain linear layer; use nn.Linear")
    tensors = {"weight": weight.t()} | ({} if bias is None else {"bias": bias})
    sources = call.sources("mat2", *(["self"] if with_bias else []))
    attrs = {"out": weight.shape[1], "bias": with_bias}
    pixels = call.pixels_of(inputs)
    if pixels is None:
        return call.recorder.add_node("linear", attrs, (call.node_of(inputs),), tensors, sources)
    attrs |= {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    tensors["weight"] = tensors["weight"][:, :, None, None]
    node = call.recorder.add_node("conv", attrs, (pixels,), tensors, sources)
    return call.arranged(node, call.channels_last(node).reshape(call.out.shape))


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
def _layer_norm(call: Call) -> int | Value:
    """Over all of a vector or map: a group norm of one group; over channels that stand last: a channel norm."""
    over, affine = tuple(call["normalized_shape"]), call["weight"] is not None
    if affine != (call["bias"] is not None):
        raise call.refusal("has only one of weight and bias; use both or none")
    stored, eps = {"weight": "weight", "bias": "bias"}, float(call["eps"])
    pixels = call.pixels_of(call["input"])
    if pixels is not None and len(over) == 1:
        node = call.add_layer("channel_norm", pixels, stored, eps=eps, affine=affine)
        return call.arranged(node, call.channels_last(node).reshape(call["input"].shape))
    source = call.node("input")
    if over != call.recorder.nodes[source].shape or (affine and len(over) > 1):
        raise call.refusal("normalises a part of a map, or scales every pixel by itself; use nn.GroupNorm or "
                           "nn.BatchNorm2d")
    return call.add_layer("group_norm", source, stored, groups=1, eps=eps, affine=affine)


@translates("_prelu_kernel", "prelu")
def _prelu(call: Call) -> int:
    source, weight = call.node("self"), call.constant("weight")
    assert weight is not None
    shared = weight.numel() == 1
    return call.recorder.add_node("prelu", {"shared": shared}, (source,), {"weight": weight.reshape(-1)},
                                  call.sources("weight"))
