"""In which numbers a network is multiplied while it is trained or teaches."""

from __future__ import annotations

import functools

import torch
from torch import nn


def answers(module: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """float32 logits [N, classes]. precision: "fp32", "bf16" for bfloat16 where the hardware is fast at it, or
    "bf16-gpu" for the same on a GPU only."""
    device = images.device.type
    if precision == "fp32" or (precision == "bf16-gpu" and device == "cpu") or not is_fast_in_bf16(device):
        logits: torch.Tensor = module(images)
        return logits
    with torch.autocast(device, dtype=torch.bfloat16):
        half: torch.Tensor = module(images)
    return half.float()


@functools.cache
def is_fast_in_bf16(device: str) -> bool:
    """Whether this kind of device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it up to torch 2.13
    return device == "cpu" and supported is not None and bool(supported())
