"""A training that was cut goes on where it stood, and gives the very same weights."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devices.support.errors import UserError
from synth.storage.tensors import load_tensors, save_tensors
from synth.training.optimiser import FlatOptimiser

SCHEMA = "edgesynth.checkpoint/2"
EVERY_S = 60.0  # what a cut costs at most, beside one epoch


@dataclass
class Checkpoint:
    """The state of one training in a file, written after an epoch when the last one is `every_s` seconds old.

    about: what else decides the training beside its recipe and seeds, such as the network and the teacher; JSON.
    """

    path: Path
    every_s: float = EVERY_S
    about: Mapping[str, Any] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)

    def restore(self, identity: Mapping[str, Any], module: nn.Module, optimiser: FlatOptimiser) -> list[float]:
        """Bring everything to where it stood; the losses of the epochs done, none when there is no file.

        identity: what the training is determined by (recipe, seeds, data); UserError when the file is of another.
        """
        if not self.path.exists():
            return []
        tensors, card = load_tensors(self.path, SCHEMA)
        if card["identity"] != {**identity, "about": dict(self.about)}:
            raise UserError(f"{self.path}: belongs to a training with other settings; remove it to start anew")
        optimiser.restore({name.removeprefix("optimiser."): tensor for name, tensor in tensors.items()
                           if name.startswith("optimiser.")})
        for name, buffer in module.named_buffers():
            buffer.copy_(tensors[f"buffer.{name}"])
        torch.set_rng_state(tensors["random"])
        losses: list[float] = card["losses"]
        return losses

    def save(self, identity: Mapping[str, Any], module: nn.Module, optimiser: FlatOptimiser,
             losses: Sequence[float]) -> None:
        """After an epoch; does nothing when the last one was saved, or the training began, a moment ago."""
        if time.monotonic() - self._saved < self.every_s:
            return
        tensors = {f"optimiser.{name}": tensor for name, tensor in optimiser.state().items()}
        tensors |= {f"buffer.{name}": buffer for name, buffer in module.named_buffers()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(self.path, {**tensors, "random": torch.get_rng_state()}, SCHEMA,
                     {"identity": {**identity, "about": dict(self.about)}, "losses": list(losses)})
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Its training is done, and what came of it is kept elsewhere."""
        if self.path.exists():
            os.remove(self.path)
