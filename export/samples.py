"""Images to compare, calibrate and judge on, their labels, and what a conversion costs in accuracy."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from devices.support.errors import CheckFailed, UserError
from devices.support.files import explain

Metric = Callable[[list[np.ndarray], np.ndarray], float]

# What a precision may cost of a metric between 0 and 1 before the export fails. One image of a small split is more.
ALLOWED_LOSS = {"fp32": 0.001, "fp16": 0.005, "int8": 0.02}


def top1(outputs: list[np.ndarray], labels: np.ndarray) -> float:
    """Share of images whose largest answer is at their label. outputs[0]: (N, classes); labels: (N,)."""
    return float((outputs[0].argmax(1) == labels).mean())


@dataclass(frozen=True)
class Samples:
    """images: (N, *input_shape) float32, normalised as the network takes them. labels: (N, ...) or None.
    metric: what the task judges by, higher is better; name: of the metric."""

    images: np.ndarray
    labels: np.ndarray | None = None
    metric: Metric = top1
    name: str = "top-1 accuracy"


@dataclass(frozen=True)
class Accuracy:
    """The task's metric on the same images before and after the conversion; loss is before - after."""

    metric: str
    before: float
    after: float
    images: int

    @property
    def loss(self) -> float:
        return self.before - self.after

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.metric} {self.before:.2%} before, {self.after:.2%} after, on {self.images} images"


def judge(samples: Samples, before: list[np.ndarray], after: list[np.ndarray], precision: str) -> Accuracy:
    """`measure`, and CheckFailed when the conversion costs more than its precision may."""
    found = measure(samples, before, after)
    if found.loss > max(ALLOWED_LOSS[precision], 1.001 / found.images):
        raise CheckFailed(f"the conversion to {precision} costs too much: {found}; nothing was kept")
    return found


def measure(samples: Samples, before: list[np.ndarray], after: list[np.ndarray]) -> Accuracy:
    """The metric of two sets of answers. UserError for labels that do not fit them."""
    labels = samples.labels
    if labels is None:
        raise UserError("--verify-accuracy needs labels: put them beside the images, in an .npz with images and labels")
    if samples.metric is top1 and (before[0].ndim != 2 or labels.ndim != 1):
        raise UserError(
            f"top-1 accuracy needs answers (N, classes) and labels (N,), not {before[0].shape} and {labels.shape}"
        )
    if samples.metric is top1 and not (labels.min() >= 0 and labels.max() < before[0].shape[1]):
        raise UserError(
            f"the labels reach from {labels.min()} to {labels.max()}, the network has {before[0].shape[1]} classes"
        )
    return Accuracy(samples.name, samples.metric(before, labels), samples.metric(after, labels), len(labels))


def read_samples(path: str | os.PathLike[str]) -> Samples:
    """Samples of an .npy file (images) or an .npz file (images, and labels). Nothing pickled is read."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise explain(error, path) from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not an .npy or .npz file of numbers; write one with numpy.savez(path, images=...)"
        ) from error
    if isinstance(loaded, np.ndarray):
        return Samples(loaded)
    with loaded:
        if "images" not in loaded.files:
            raise UserError(
                f"{path}: holds no array called images, but {', '.join(loaded.files) or 'nothing'}; rename it"
            )
        try:
            labels = loaded["labels"] if "labels" in loaded.files else None
            samples = Samples(loaded["images"], labels)
        except (ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: damaged, or holds objects instead of numbers; write it anew") from error
    if labels is not None and len(labels) != len(samples.images):
        raise UserError(f"{path}: {len(samples.images)} images but {len(labels)} labels; give one label for each image")
    return samples
