"""Dropout in a user's module: what it is spelt with, and which of its calls drop something in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# function: whether it drops whole channels
DROPOUTS = {
    functional.dropout: False, torch.dropout: False, torch.dropout_: False,
    functional.dropout1d: True, functional.dropout2d: True, functional.dropout3d: True,
    torch.feature_dropout: True, torch.feature_dropout_: True,
}
# those that keep mean and variance, for which there is no vertex
ALPHA_DROPOUTS = {functional.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_, functional.feature_alpha_dropout,
                  torch.feature_alpha_dropout, torch.feature_alpha_dropout_}


def dropped_in_training(module: nn.Module, owners: Iterable[nn.Module], images: Tensor) -> list[float | None] | None:
    """Call by call, in their order, what share dropout would drop were its owner in training; None where it never does.

    Evaluation cannot tell F.dropout(x, p, False), which never drops, from F.dropout(x, p, self.training). So the
    module runs once more with these parts of it in training; all else stays in evaluation, and it is left as it was.
    None for all where it does not run so.
    """
    held = [(buffer, buffer.clone()) for buffer in module.buffers()]
    before = [(owner, owner.training) for owner in owners]
    watch = _Watch()
    try:
        for owner, _ in before:
            owner.training = True
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), watch:
            module(images)
    except Exception:  # whatever a user's code says to a state that it was not meant for
        return None
    finally:
        for owner, training in before:
            owner.training = training
        for buffer, values in held:
            buffer.copy_(values)
    return watch.dropped


class _Watch(TorchFunctionMode):
    """Notes what every dropout would drop, and passes its input through."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[float | None] = []

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in DROPOUTS:
            return func(*args, **kwargs)
        given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
        trains = given.get("training", given.get("train", True))
        self.dropped.append(float(given.get("p", 0.5)) if trains else None)
        return given["input"]
