"""Pooling and up-sampling."""

from __future__ import annotations

import math
from typing import Any

import torch

from synth.networks.operators.base import pair
from synth.networks.recording import Value
from synth.networks.translators.call import Call, translates


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
                    padding=list(pair(call["padding"])), ceil=call["ceil_mode"],
                    count_padding=call["count_include_pad"])


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
    dims = [call["dim"]] if isinstance(call["dim"], int) else call["dim"] or range(rank)
    axes = sorted(axis % rank for axis in dims)
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
