"""In which numbers a network is multiplied while it is trained or teaches."""

from __future__ import annotations

import functools

import torch
from torch import nn

from synth.optimiser import FlatOptimiser


def answers(module: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """float32 logits [N, classes]. precision: as in `in_half`."""
    device = images.device.type
    if not in_half(precision, device):
        logits: torch.Tensor = module(images)
        return logits
    with torch.autocast(device, dtype=torch.bfloat16):
        half: torch.Tensor = module(images)
    return half.float()


def in_half(precision: str, device: str) -> bool:
    """Whether a kind of device multiplies in bfloat16. precision: "fp32", "bf16" where the hardware is fast at it, or
    "bf16-gpu" for the same on a GPU only."""
    if precision == "fp32" or (precision == "bf16-gpu" and device == "cpu"):
        return False
    return is_fast_in_bf16(device)


class HalfStudent:
    """A module that answers by bfloat16 copies of its convolutions and matrices, all of them made at once.

    `answers` casts them one by one, which is a kernel for each. parameters: in the optimiser's order, the copies first.
    """

    def __init__(self, module: nn.Module, optimiser: FlatOptimiser) -> None:
        self._module, self._optimiser = module, optimiser
        self._half = torch.empty(optimiser.decayed, dtype=torch.bfloat16, device=optimiser.weights.device)
        names = {parameter: name for name, parameter in module.named_parameters()}
        copies = [view.detach().requires_grad_() for view in optimiser.views(self._half)]
        self._copies = {names[p]: copy for p, copy in zip(optimiser.parameters, copies, strict=False)}
        self.parameters = [*copies, *optimiser.parameters[len(copies):]]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """float32 logits [N, classes]."""
        with torch.no_grad():
            self._half.copy_(self._optimiser.weights[: len(self._half)])
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            half: torch.Tensor = torch.func.functional_call(self._module, self._copies, (images,))
        return half.float()


@functools.cache
def is_fast_in_bf16(device: str) -> bool:
    """Whether this kind of device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it up to torch 2.13
    return device == "cpu" and supported is not None and bool(supported())
