"""One epoch of a training: step by step on a CPU, as replayed recordings on a GPU. Both see the same images in the same
order by the same rates."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import nn

from synth.cuda_graph import Body, Pace, Recorder
from synth.data.augmentation import generator_for
from synth.data.dataset import Split
from synth.optimiser import FlatOptimiser
from synth.precision import answers
from synth.recipe import Recipe

Teacher = nn.Module | torch.Tensor | None


@dataclass(frozen=True)
class Lesson:
    """What is trained, on what, how. teacher: as in `training.train`. seed: of the order. view_seed: of the views."""

    module: nn.Module
    split: Split
    recipe: Recipe
    teacher: Teacher
    optimiser: FlatOptimiser
    seed: int
    view_seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.split) / self.recipe.batch)

    def rate(self, step: int) -> float:
        """Of this step, counted from 0."""
        return self.recipe.rate * one_cycle(step, self.recipe.epochs * self.steps_per_epoch, self.recipe.warmup)

    def learn(self, images: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None, small: bool
              ) -> torch.Tensor:
        """The mean loss on views, whose gradients are added up; images are shrunk where they are to be `small`."""
        seen = shrunk(images, self.recipe.small_px) if small else images
        loss = _loss(answers(self.module, seen, self.recipe.precision), labels, taught, self.recipe)
        loss.backward()
        return loss.detach()


def plain_epoch(lesson: Lesson, epoch: int, small: bool) -> float:
    """Train for one epoch; its mean loss."""
    recipe, optimiser = lesson.recipe, lesson.optimiser
    total = torch.zeros((), device=lesson.split.labels.device)
    for rows, images, labels in batches(lesson.split, recipe, lesson.seed, lesson.view_seed, epoch):
        taught = _taught(lesson.teacher, recipe, epoch, rows, images)
        loss = lesson.learn(images, labels, taught, small)
        optimiser.step(lesson.rate(optimiser.steps))
        total += loss * len(rows)
    return float(total) / len(lesson.split)


class RecordedEpochs:
    """The same, where a step reads off the device all that differs from the one before, and so can be recorded.

    The GPU must hold the split; the current stream must not be the default one.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._lesson = lesson
        split, recipe, optimiser = lesson.split, lesson.recipe, lesson.optimiser
        device, steps = split.images.device, recipe.epochs * lesson.steps_per_epoch
        self._order = torch.arange(len(split), device=device)
        self._drawn = torch.zeros(len(split), 7, device=device)
        self._logits = torch.empty_like(lesson.teacher[0]) if isinstance(lesson.teacher, torch.Tensor) else None
        self._moves = torch.tensor([optimiser.coefficients(step + 1, lesson.rate(step)) for step in range(steps)],
                                   dtype=torch.float32, device=device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)  # rows of the epoch that are done
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        changed = [part for name, part in optimiser.state().items() if name != "steps"]
        self._recorder = Recorder([*changed, optimiser.gradients, *lesson.module.buffers(), self._at, self._step,
                                   self._total])
        self._recorded: dict[tuple[int, bool], Body] = {}
        self._pace = Pace(device)

    def __call__(self, epoch: int, small: bool) -> float:
        """As `plain_epoch`."""
        lesson, optimiser, count = self._lesson, self._lesson.optimiser, len(self._order)
        order, drawn = _drawn(lesson.recipe, count, lesson.seed, lesson.view_seed, epoch)
        self._order.copy_(order)
        self._drawn.copy_(drawn)
        if self._logits is not None:
            assert isinstance(lesson.teacher, torch.Tensor)
            self._logits.copy_(lesson.teacher[epoch % len(lesson.teacher)])
        self._at.zero_()
        self._total.zero_()
        self._step.fill_(optimiser.steps)
        for rows in order.tensor_split(lesson.steps_per_epoch):
            self._body(len(rows), small)()
            self._pace()
        optimiser.steps += lesson.steps_per_epoch
        return float(self._total) / count

    def _body(self, count: int, small: bool) -> Body:
        if (count, small) not in self._recorded:
            body = functools.partial(self._learn, count, small)
            self._recorded[count, small] = self._recorder.record(body)
        return self._recorded[count, small]

    def _learn(self, count: int, small: bool) -> None:
        lesson, device = self._lesson, self._order.device
        # runs that only warm up may reach beyond the last row and the last step
        rows = self._order[(self._at + torch.arange(count, device=device)) % len(self._order)]
        views = lesson.recipe.augmentation.apply(lesson.split.images[rows], self._drawn[rows])
        views = views.contiguous(memory_format=torch.channels_last)
        taught = self._logits[rows] if self._logits is not None else \
            _taught(lesson.teacher, lesson.recipe, 0, rows, views)
        loss = lesson.learn(views, lesson.split.labels[rows], taught, small)
        with torch.no_grad():
            lesson.optimiser.move(*self._moves[self._step.clamp(max=len(self._moves) - 1)].reshape(-1).unbind())
            self._total += loss * count
            self._at += count
            self._step += 1


def batches(
    split: Split, recipe: Recipe, seed: int, view_seed: int, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(rows, views, labels) of one epoch, in batches whose sizes differ by one at most (never a lonely last image)."""
    device = split.images.device
    order, drawn = _drawn(recipe, len(split), seed, view_seed, epoch)
    for rows in order.tensor_split(math.ceil(len(split) / recipe.batch)):
        images = recipe.augmentation.apply(split.images[rows], drawn[rows].to(device))
        yield rows, images.contiguous(memory_format=torch.channels_last), split.labels[rows]


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at this step: linear up over `warmup` of all steps, then a half cosine down to zero."""
    position = (step + 0.5) / steps
    if position < warmup:
        return position / warmup
    return 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


def shrunk(images: torch.Tensor, px: int) -> torch.Tensor:
    small = functional.interpolate(images, (px, px), mode="bilinear", align_corners=False)
    return small.contiguous(memory_format=torch.channels_last)


def _drawn(recipe: Recipe, count: int, seed: int, view_seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows in their order, what is done to each image) of one epoch."""
    order = torch.randperm(count, generator=generator_for(seed, epoch, "order"))
    return order, recipe.augmentation.draw(count, generator_for(view_seed, epoch % recipe.different_views, "views"))


def _loss(logits: torch.Tensor, labels: torch.Tensor, teaching: torch.Tensor | None, recipe: Recipe) -> torch.Tensor:
    """(1 - distil) cross-entropy + distil T² KL(teacher || student at temperature T) (Hinton et al., 1503.02531)."""
    if teaching is None:
        return functional.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
    heat = recipe.temperature
    soft = functional.kl_div(
        functional.log_softmax(logits / heat, dim=1), functional.log_softmax(teaching / heat, dim=1),
        reduction="batchmean", log_target=True,
    )
    hard = functional.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
    return (1 - recipe.distil) * hard + recipe.distil * heat * heat * soft


def _taught(
    teacher: Teacher, recipe: Recipe, epoch: int, rows: torch.Tensor, images: torch.Tensor
) -> torch.Tensor | None:
    if teacher is None or recipe.distil == 0:
        return None
    if isinstance(teacher, torch.Tensor):
        return teacher[epoch % len(teacher)][rows].to(images.device)
    with torch.no_grad():
        logits: torch.Tensor = teacher.eval()(images)
    return logits
