"""Pooling and up-sampling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from synth.networks.operators import Shape
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
def _reduction(call: Call) -> Value:
    """Over all of every map: global pooling, also where the map was flattened before; over rows or columns: pooling
    to one of them."""
    recorder, value = call.recorder, call.recorder.known(call["self"])
    assert isinstance(value, Value)
    rank, shape = call["self"].dim(), recorder.nodes[value.node].shape
    dims = [call["dim"]] if isinstance(call["dim"], int) else call["dim"] or range(rank)
    axes = sorted(axis % rank for axis in dims)
    if 0 in axes or len(shape) != 3 or call["dtype"] is not None:
        raise call.refusal("reduces over the batch or over what is no map; only whole maps can be averaged")
    size = [1, 1] if _covers_maps(recorder.place_in_image(value), axes, shape) else None
    if value.index is None and axes in ([2], [3]):
        size = [1, shape[2]] if axes == [2] else [shape[1], 1]
    if size is None:
        raise call.refusal("is supported over the whole of every map, its rows or its columns only")
    node = call.add("adaptive_max_pool" if call.name == "amax" else "adaptive_avg_pool", value.node, size=size)
    if call.name == "sum":
        count = shape[1] * shape[2] // math.prod(size)
        node = call.add("affine", node, scale=float(count), shift=0.0)
    index = recorder.all_places(node).reshape(call.out.shape)
    return recorder.rearranged(Value(node), index, index)


def _covers_maps(places: Tensor | None, axes: list[int], shape: Shape) -> bool:
    """Whether a reduction over `axes` (the batch being axis 0) takes exactly one whole map after the other."""
    if places is None:
        return False
    whole = torch.arange(math.prod(shape)).reshape(shape[0], -1)
    kept = [axis for axis in range(places.dim()) if axis + 1 not in axes]
    reduced = places.permute(*kept, *(axis - 1 for axis in axes)).reshape(math.prod(places.shape[k] for k in kept), -1)
    return reduced.shape == whole.shape and torch.equal(reduced.sort(1).values, whole)


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
