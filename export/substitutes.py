"""What torch's exporter cannot write at the opsets of TensorRT 8, said in operations that it can; while it writes.

Each stand-in computes what torch documents of the function, from torch's own operations, so that the parity check sees
any difference. They are put in the place of the functions for the time of the trace alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def writable() -> Iterator[None]:
    """Inside, torch's functions are traced in their writable form."""
    import torch
    from torch.nn import functional

    stand_ins: dict[str, Callable[..., Any]] = {
        "local_response_norm": _local_response_norm(functional.local_response_norm),
        "scaled_dot_product_attention": scaled_dot_product_attention,
        "channel_shuffle": channel_shuffle,
        "adaptive_avg_pool2d": _adaptive_pool(functional.adaptive_avg_pool2d, lambda x, dim: x.mean(dim, keepdim=True)),
        "adaptive_max_pool2d": _adaptive_pool(functional.adaptive_max_pool2d, lambda x, dim: x.amax(dim, keepdim=True)),
    }
    honest = {name: getattr(functional, name) for name in stand_ins}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator for a whole encoder layer
    for name, stand_in in stand_ins.items():
        setattr(functional, name, stand_in)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for name, function in honest.items():
            setattr(functional, name, function)


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False):  # fmt: skip
    """softmax(q kᵀ · scale + mask) v, as torch documents it; dropout is for training."""
    import torch

    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    weights = (query @ key.transpose(-2, -1)) * (1 / math.sqrt(int(query.size(-1))) if scale is None else scale)
    if is_causal:  # from numpy: a constant of the trace, not operations in it
        attn_mask = torch.from_numpy(np.tri(int(query.size(-2)), int(key.size(-2)), dtype=bool))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # instead of infinity, which FP16 engines are known to turn to NaN; its exponential is 0 as well
        weights = torch.where(attn_mask, weights, torch.full((), torch.finfo(weights.dtype).min))
    elif attn_mask is not None:
        weights = weights + attn_mask
    return torch.softmax(weights, -1) @ value


def channel_shuffle(inputs: torch.Tensor, groups: int) -> torch.Tensor:
    """(N, C, ...): channel g·(C/groups) + i goes to i·groups + g."""
    channels = inputs.size(1) // groups
    shape = inputs.shape[2:]
    parted = inputs.reshape(inputs.size(0), groups, channels, *shape)
    return parted.transpose(1, 2).reshape(inputs.size(0), groups * channels, *shape)


def _adaptive_pool(honest: Callable[..., Any], reduce: Callable[..., Any]) -> Callable[..., Any]:
    """Adaptive pooling; where the windows differ in size, each is cut out and reduced, one axis after the other.

    Output i of n covers floor(i·size/n) to ceil((i+1)·size/n), in each axis for itself.
    """
    import torch

    def pool(inputs, output_size, return_indices=False):
        sizes = [int(size) for size in inputs.shape[-2:]]
        pair = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        wanted = [have if want is None else int(want) for have, want in zip(sizes, pair, strict=True)]
        if return_indices or all(have % want == 0 for have, want in zip(sizes, wanted, strict=True)):
            return honest(inputs, output_size, return_indices) if return_indices else honest(inputs, output_size)
        for dim, have, want in ((-2, sizes[0], wanted[0]), (-1, sizes[1], wanted[1])):
            windows = [(i * have // want, -(-(i + 1) * have // want)) for i in range(want)]
            parts = [reduce(inputs.narrow(dim, start, end - start), dim) for start, end in windows]
            inputs = torch.cat(parts, dim) if want > 1 else parts[0]
        return inputs

    return pool


def _local_response_norm(honest: Callable[..., Any]) -> Callable[..., Any]:
    """torch writes local response normalisation as twenty operators and a branch; ONNX has one for it.

    Their windows agree for odd sizes only: LRN of ONNX reaches further to the right, torch's to the left. For even
    sizes the squares of the channels in reach are added up.
    """
    import torch
    from torch.nn import functional

    class Lrn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, inputs, size, alpha, beta, k):
            return honest(inputs, size, alpha, beta, k)

        @staticmethod
        def symbolic(g, inputs, size, alpha, beta, k):
            return g.op("LRN", inputs, size_i=size, alpha_f=alpha, beta_f=beta, bias_f=k).setType(inputs.type())

    def written(inputs, size, alpha=1e-4, beta=0.75, k=1.0):
        if size % 2:
            return Lrn.apply(inputs, size, alpha, beta, k)
        around = (0, 0) * (inputs.ndim - 2) + (size // 2, (size - 1) // 2)
        squares = functional.pad(inputs * inputs, around)
        channels = inputs.size(1)
        total = sum(squares.narrow(1, start, channels) for start in range(size))
        return inputs / (total * (alpha / size) + k) ** beta

    return written
