"""Where trainings run: processes, and the device that they share. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from devices.support.errors import UserError

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
DEVICES = (AUTO, CPU, CUDA)


@dataclass(frozen=True)
class Compute:
    """workers: processes that train candidates. device: "cpu", or "cuda", which all of them share."""

    workers: int = 1
    device: str = CPU


def device_named(word: str) -> str:
    """The device that one of DEVICES means here: "auto" is a GPU where torch finds one. UserError for one that is not
    there."""
    import torch

    if word == AUTO:
        return CUDA if torch.cuda.is_available() else CPU
    if word == CUDA and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; use --device cpu")
    return word
