"""In which numbers a network is multiplied while it is trained or teaches."""

from __future__ import annotations

import functools

import torch
from torch import nn


def answers(module: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """float32 logits [N, classes]. precision: "fp32", or "bf16" for bfloat16 where the hardware is fast at it."""
    device = images.device.type
    if not in_half(precision, device):
        logits: torch.Tensor = module(images)
        return logits
    with torch.autocast(device, dtype=torch.bfloat16):
        half: torch.Tensor = module(images)
    return half.float()


def in_half(precision: str, device: str) -> bool:
    """Whether a recipe's precision means bfloat16 on a kind of device."""
    return precision == "bf16" and is_fast_in_bf16(device)


def layout(precision: str, device: str) -> torch.memory_format:
    """How images lie in memory while a network is trained. On a GPU, channels last pays in bfloat16 alone: in float32
    cuDNN takes seconds to choose kernels for a new network of depthwise convolutions, and they are no faster."""
    if device == "cuda" and not in_half(precision, device):
        return torch.contiguous_format
    return torch.channels_last


@functools.cache
def is_fast_in_bf16(device: str) -> bool:
    """Whether this kind of device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it up to torch 2.13
    return device == "cpu" and supported is not None and bool(supported())
