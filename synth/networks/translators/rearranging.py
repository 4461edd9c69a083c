"""Concatenation, padding and shuffles, where torch executes them as operations of their own."""

from __future__ import annotations

from synth.networks.recording import Value
from synth.networks.translators.call import Call, translates


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


@translates("as_strided")
def _restrided(call: Call) -> int:
    """What torch itself does to keep the memory format of a pooled map; the elements stay where they are."""
    node = call.node("self")
    if not call.in_place or tuple(call["size"]) != (call.recorder.batch, *call.recorder.nodes[node].shape):
        raise call.refusal("is not supported; use slices and views")
    return node
