"""Training by a recipe: the same seed on the same machine with one torch thread gives the same weights, bit for bit."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from devices.support.errors import UserError
from synth.data.dataset import Split
from synth.training.checkpoint import Checkpoint
from synth.training.epochs import Lesson, RecordedEpochs, plain_epoch, shrunk
from synth.training.lanes import check_open, side_stream
from synth.training.memory import keep_freed_memory
from synth.training.optimiser import FlatOptimiser
from synth.training.precision import layout
from synth.training.recipe import Recipe

Progress = Callable[[int, int], None]  # (epochs done, epochs in all)
RECALIBRATION_IMAGES = 10_000  # enough for means; all 45,000 of CIFAR-10 would cost a third of an epoch


class TrainingDiverged(UserError):
    """The loss is not finite any more."""


@dataclass(frozen=True)
class TrainingHistory:
    """losses: mean training loss of each epoch (views and distillation included). images: how many were stepped on."""

    losses: tuple[float, ...]
    seconds: float
    images: int

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "losses": list(self.losses)}


def train(
    module: nn.Module,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    view_seed: int | None = None,
    teacher: nn.Module | torch.Tensor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingHistory:
    """Train `module` in place, on its own device; it is left in evaluation mode.

    seed: of the order of images and of dropout. view_seed: of the augmented views (None: seed). teacher: a network, or
    its logits [different views, N, classes] of `view_seed` from `distillation.teacher_logits`. checkpoint: where a
    training that was cut goes on. The global random state is left as it was. TrainingDiverged when the loss is not
    finite, UserError when a batch of one image leaves a batch norm nothing to average over.
    """
    start = time.perf_counter()
    keep_freed_memory()
    view_seed = seed if view_seed is None else view_seed
    _check_teacher(teacher, recipe, split)
    device = next(module.parameters()).device
    optimiser = FlatOptimiser(
        module, recipe.optimiser, decay=recipe.decay, momentum=recipe.momentum,
        average_steps=recipe.average_epochs * recipe.steps(len(split)), layout=layout(recipe.precision, device.type),
    )
    identity = {"recipe": recipe.to_json(), "seeds": [seed, view_seed], "images": len(split)}
    shrinks = recipe.small_px > 0 and _reads(module, recipe.small_px, split)
    module.train()
    losses: list[float] = []
    lesson = Lesson(module, split.to(device), recipe, teacher, optimiser, seed, view_seed)
    try:
        gpus = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus), side_stream(device), _uncounted(module, optimiser), \
                _enough_for_norms(recipe, len(split)):
            torch.manual_seed(seed)
            if checkpoint is not None:
                losses = checkpoint.restore(identity, module, optimiser)
            one = RecordedEpochs(lesson) if device.type == "cuda" else functools.partial(plain_epoch, lesson)
            for epoch in range(len(losses), recipe.epochs):
                check_open()
                losses.append(one(epoch, shrinks and recipe.is_small(epoch)))
                if not math.isfinite(losses[-1]):
                    raise TrainingDiverged(
                        f"training diverged in epoch {epoch + 1} of {recipe.epochs} (the loss is {losses[-1]}): "
                        "use a lower learning rate, or check the data and the starting weights"
                    )
                if checkpoint is not None:
                    checkpoint.save(identity, module, optimiser, losses)
                if progress is not None:
                    progress(epoch + 1, recipe.epochs)
    finally:
        optimiser.release()
    if recipe.average_epochs:
        recalibrate_batch_norm(module, split.images, RECALIBRATION_IMAGES)
    module.eval()
    return TrainingHistory(tuple(losses), time.perf_counter() - start, recipe.epochs * len(split))


@torch.no_grad()
def recalibrate_batch_norm(module: nn.Module, images: torch.Tensor, count: int, *, batch: int = 256) -> None:
    """Set the running statistics of every batch norm to their mean over `count` images of these (float32 [N, C, H, W]).

    What weights that were averaged, sliced or factorised need. Images are drawn at random, the same every time:
    neighbours, or every third, may be of one class, and a batch of one class has another variance than all of them. The
    module's mode is left as it was.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    device = next(module.parameters()).device
    modes = [(part, part.training) for part in module.modules()]
    momenta = [norm.momentum for norm in norms]
    module.eval()  # dropout stays off
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # a plain mean over batches
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    for part in rows.tensor_split(math.ceil(len(rows) / batch)):
        drawn = images[part.to(images.device)].to(device)
        module(drawn.contiguous(memory_format=layout("fp32", device.type)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for child, mode in modes:
        child.training = mode


@torch.no_grad()
def _reads(module: nn.Module, px: int, split: Split) -> bool:
    """Whether a network reads images of this size as well; one with a linear layer over the whole map does not."""
    training = module.training
    try:
        module.eval()(shrunk(split.images[:2].to(next(module.parameters()).device), px))
    except RuntimeError:
        return False
    finally:
        module.train(training)
    return True


@contextlib.contextmanager
def _uncounted(module: nn.Module, optimiser: FlatOptimiser) -> Iterator[None]:
    """Inside, batch norms that average by a momentum leave it to the optimiser to count, which saves a kernel each."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    counts = [(norm, norm.num_batches_tracked) for norm in norms
              if norm.momentum is not None and norm.num_batches_tracked is not None]
    for norm, _ in counts:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, count in counts:
            norm.num_batches_tracked = count.fill_(optimiser.steps)


@contextlib.contextmanager
def _enough_for_norms(recipe: Recipe, images: int) -> Iterator[None]:
    """A batch norm over one value per channel, as of one image whose map is 1 x 1, has no variance."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        remedy = "use a larger batch (--set batch=64)" if images > 1 else "give more images for training"
        raise UserError(f"{images} images in batches of {recipe.batch}: a batch of one image whose map is 1 x 1 leaves "
                        f"batch norm nothing to average over; {remedy}") from error


def _check_teacher(teacher: nn.Module | torch.Tensor | None, recipe: Recipe, split: Split) -> None:
    """A wrong shape here is a mistake of the caller, not of a user."""
    expected = (recipe.different_views, len(split))
    if isinstance(teacher, torch.Tensor) and (teacher.ndim != 3 or teacher.shape[:2] != expected):
        raise ValueError(f"teacher logits [{expected[0]}, {expected[1]}, classes] expected, got {list(teacher.shape)}")
