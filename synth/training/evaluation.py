"""How good a network is on a split, with the standard errors that decisions need."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from devices.support.errors import UserError
from synth.data.dataset import Split
from synth.objective.share import share_error

SMALLEST_LOSS = 1e-9  # below this a cross-entropy is rounding, and its logarithm would say too much


@dataclass(frozen=True)
class Metrics:
    """cross_entropy: mean, in nats. log_loss: its natural logarithm, with standard error log_loss_se (delta method:
    standard error of the mean over the mean). accuracy: share of right answers, with standard error accuracy_se
    (`share_error`). count: images."""

    cross_entropy: float
    log_loss: float
    log_loss_se: float
    accuracy: float
    accuracy_se: float
    count: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(module: nn.Module, split: Split, *, batch: int = 256) -> Metrics:
    """Metrics of `module` in evaluation mode (its mode is left as it was). UserError when an output is not finite."""
    outputs = logits(module, split.images, batch=batch)
    labels = split.labels.cpu()
    losses = functional.cross_entropy(outputs.double(), labels, reduction="none")
    count = len(labels)
    mean = max(float(losses.mean()), SMALLEST_LOSS)
    spread = float(losses.std()) if count > 1 else mean
    right = int((outputs.argmax(dim=1) == labels).sum())
    return Metrics(
        cross_entropy=mean,
        log_loss=math.log(mean),
        log_loss_se=spread / math.sqrt(count) / mean,
        accuracy=right / count,
        accuracy_se=share_error(right / count, count),
        count=count,
    )


@torch.no_grad()
def logits(module: nn.Module, images: torch.Tensor, *, batch: int = 256) -> torch.Tensor:
    """float32 [N, classes] of images [N, C, H, W], on the CPU. UserError when one is not finite."""
    device = next(module.parameters()).device
    training = module.training
    module.eval()
    try:
        outputs = torch.cat([module(part.to(device)).float().cpu() for part in images.split(batch)])
    finally:
        module.train(training)
    if not torch.isfinite(outputs).all():
        row = int(torch.nonzero(~torch.isfinite(outputs).all(dim=1))[0])
        raise UserError(f"the network answers image {row} with NaN or infinity: its weights are damaged or diverged")
    return outputs
