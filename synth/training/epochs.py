"""One epoch of a training: step by step on a CPU, as replayed recordings on a GPU. Both see the same views in the same
order, by the same rates."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import nn

from synth.data.augmentation import generator_for
from synth.data.dataset import Split
from synth.training.cuda_graph import Body, Pace, Recorder
from synth.training.optimiser import FlatOptimiser
from synth.training.precision import answers, layout
from synth.training.recipe import Recipe

Teacher = nn.Module | torch.Tensor | None
LOOK = 8192  # images whose views are made at once


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
    def layout(self) -> torch.memory_format:
        return layout(self.recipe.precision, self.split.images.device.type)

    @property
    def steps_per_epoch(self) -> int:
        return self.recipe.steps(len(self.split))

    def rate(self, step: int) -> float:
        """Of this step, counted from 0."""
        return self.recipe.rate * one_cycle(step, self.recipe.epochs * self.steps_per_epoch, self.recipe.warmup)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None) -> torch.Tensor:
        """(1 - distil) cross-entropy + distil T² KL(teacher || student at temperature T) (Hinton et al., 1503.02531),
        the mean over a batch."""
        hard = functional.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
        if taught is None:
            return hard
        heat = self.recipe.temperature
        soft = functional.kl_div(
            functional.log_softmax(logits / heat, dim=1), functional.log_softmax(taught / heat, dim=1),
            reduction="batchmean", log_target=True,
        )
        return (1 - self.recipe.distil) * hard + self.recipe.distil * heat * heat * soft


def plain_epoch(lesson: Lesson, epoch: int, small: bool) -> float:
    """Train for one epoch, on images that are shrunk where they are to be `small`; its mean loss."""
    recipe, optimiser = lesson.recipe, lesson.optimiser
    total = torch.zeros((), device=lesson.split.labels.device)
    for rows, images, labels in batches(lesson.split, recipe, lesson.seed, lesson.view_seed, epoch):
        taught = _taught(lesson.teacher, recipe, epoch, rows, images)
        seen = shrunk(images, recipe.small_px) if small else images
        loss = lesson.loss(answers(lesson.module, seen, recipe.precision), labels, taught)
        loss.backward()
        optimiser.step(lesson.rate(optimiser.steps))
        total += loss.detach() * len(rows)
    return float(total) / len(lesson.split)


class RecordedEpochs:
    """The same, where a step reads off the device all that differs from the one before, and so can be recorded.

    All batches are of one size, since each size would be a recording of its own; so the last may end with the first few
    images again. The GPU must hold the split; the current stream must not be the default one.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._lesson = lesson
        split, recipe, optimiser = lesson.split, lesson.recipe, lesson.optimiser
        device, steps = split.images.device, recipe.epochs * lesson.steps_per_epoch
        moves = [optimiser.coefficients(step + 1, lesson.rate(step)) for step in range(steps)]
        self._moves = torch.tensor(moves, dtype=torch.float32, device=device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)  # images of the epoch that were seen
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        self._seen: dict[bool, _Seen] = {}
        self._recorder = Recorder([*optimiser.vectors().values(), *lesson.module.buffers(), self._at, self._step,
                                   self._total])
        self._recorded: dict[bool, Body] = {}
        self._pace = Pace(device)

    def __call__(self, epoch: int, small: bool) -> float:
        """As `plain_epoch`."""
        optimiser, steps = self._lesson.optimiser, self._lesson.steps_per_epoch
        self._look(epoch, small)
        self._at.zero_()
        self._total.zero_()
        self._step.fill_(optimiser.steps)
        body = self._body(small)
        for _ in range(steps):
            body()
            self._pace()
        self._pace.finish()
        optimiser.steps += steps
        return float(self._total) / steps

    def _look(self, epoch: int, small: bool) -> None:
        """Lay out what the steps of an epoch see, in their order and where they look for it."""
        lesson, recipe, count = self._lesson, self._lesson.recipe, len(self._lesson.split)
        order, drawn = _drawn(recipe, count, lesson.seed, lesson.view_seed, epoch)
        for place in torch.arange(count).split(LOOK):
            rows = order[place]
            views = recipe.augmentation.apply(lesson.split.images[rows.to(self._at.device)],
                                              drawn[rows].to(self._at.device))
            views = views.contiguous(memory_format=lesson.layout)
            taught = _taught(lesson.teacher, recipe, epoch, rows, views)
            views = shrunk(views, recipe.small_px) if small else views
            if small not in self._seen:
                self._seen[small] = _Seen.like(count, views, lesson.split.labels, taught)
            self._seen[small].put(place[0], views, lesson.split.labels[rows.to(self._at.device)], taught)

    def _body(self, small: bool) -> Body:
        if small not in self._recorded:
            self._recorded[small] = self._recorder.record(functools.partial(self._learn, self._seen[small]))
        return self._recorded[small]

    def _learn(self, seen: _Seen) -> None:
        lesson, optimiser = self._lesson, self._lesson.optimiser
        count = math.ceil(len(seen.labels) / lesson.steps_per_epoch)
        rows = (self._at + torch.arange(count, device=self._at.device)) % len(seen.labels)
        images = seen.images[rows].contiguous(memory_format=lesson.layout)
        logits = answers(lesson.module, images, lesson.recipe.precision)
        loss = lesson.loss(logits, seen.labels[rows], None if seen.taught is None else seen.taught[rows])
        slopes = torch.autograd.grad(loss, optimiser.parameters, materialize_grads=True)
        optimiser.collect(slopes)
        with torch.no_grad():
            step = self._step.clamp(max=len(self._moves) - 1)  # runs that only warm up may reach beyond the last
            optimiser.move(*self._moves[step].reshape(-1).unbind())
            self._total += loss.detach()
            self._at += count
            self._step += 1


@dataclass(frozen=True)
class _Seen:
    """What the steps of an epoch see, in their order: views [N, C, H, W], labels [N], a teacher's logits
    [N, classes]."""

    images: torch.Tensor
    labels: torch.Tensor
    taught: torch.Tensor | None

    @classmethod
    def like(cls, count: int, views: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None) -> _Seen:
        """Room for so many."""
        images = views.new_empty((count, *views.shape[1:]))
        logits = None if taught is None else taught.new_empty(count, taught.shape[1])
        return cls(images, torch.zeros_like(labels), logits)

    def put(self, start: torch.Tensor, views: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None) -> None:
        place = slice(int(start), int(start) + len(labels))
        self.images[place], self.labels[place] = views, labels
        if self.taught is not None and taught is not None:
            self.taught[place] = taught


def batches(
    split: Split, recipe: Recipe, seed: int, view_seed: int, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(rows, views, labels) of one epoch, in batches whose sizes differ by one at most (never a lonely last image)."""
    device = split.images.device
    order, drawn = _drawn(recipe, len(split), seed, view_seed, epoch)
    for rows in order.tensor_split(recipe.steps(len(split))):
        images = recipe.augmentation.apply(split.images[rows], drawn[rows].to(device))
        yield rows, images.contiguous(memory_format=layout(recipe.precision, device.type)), split.labels[rows]


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at this step: linear up over `warmup` of all steps, then a half cosine down to zero."""
    position = (step + 0.5) / steps
    if position < warmup:
        return position / warmup
    return 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


def shrunk(images: torch.Tensor, px: int) -> torch.Tensor:
    """In the layout of the images."""
    return functional.interpolate(images, (px, px), mode="bilinear", align_corners=False)


def _drawn(recipe: Recipe, count: int, seed: int, view_seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows in their order, what is done to each image) of one epoch."""
    order = torch.randperm(count, generator=generator_for(seed, epoch, "order"))
    return order, recipe.augmentation.draw(count, generator_for(view_seed, epoch % recipe.different_views, "views"))


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
