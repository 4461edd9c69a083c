"""A classification data set in memory: its splits, normalised and checked, whoever it came from."""

from __future__ import annotations

import hashlib
import importlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.support.errors import EdgesynthError, UserError, unknown
from devices.support.factories import accepted, is_factory, load_factory

SPLITS = ("train", "validation", "test")
LEAST_TRAIN = 2  # batch norm has no statistics of one image
LARGEST = 1e30  # of a pixel: its square must fit float32 sums
# what an accuracy would be worth on a split whose images are all in one before it
SEEN_BEFORE = (
    ("validation", "train", "so that it would tell nothing"),
    ("test", "train", "so that it would tell nothing"),
    ("test", "validation", "by which networks are chosen, so that it would flatter them"),
)

# One line a data set: its loader takes the folder that holds the user's copy (None: not given) and whether it may be
# downloaded, and gives a Dataset.
DATASETS = {
    "cifar10": "synth.data.cifar10:load",
    "digits": "synth.data.digits:load",
}


@dataclass(frozen=True, eq=False)
class Split:
    """images: float32 [N, C, H, W], normalised. labels: int64 [N], each in 0 .. classes - 1."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> Split:
        """On another device; itself where it is there already."""
        images, labels = self.images.to(device), self.labels.to(device)
        return self if images is self.images and labels is self.labels else Split(images, labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one shape.

    classes: their names, in the order of the labels. mean, std: one number a channel, of the training split, in units
    of raw pixels divided by `pixel_scale`; images = (raw / pixel_scale - mean) / std. source, licence: for people.
    checksum: SHA-256 of the raw data, which a run records. word: what `load_dataset` loads them by again, from whatever
    folder; "" for what it did not load.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_scale: float
    source: str
    licence: str
    checksum: str
    word: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def normalisation(self) -> dict[str, Any]:
        """What turns raw pixels into a network's input, as JSON."""
        return {"mean": list(self.mean), "std": list(self.std), "pixel_scale": self.pixel_scale}

    def to_card(self) -> dict[str, Any]:
        """What the card of a network says of the data that it was trained on."""
        return {"data": self.word, "data_sha256": self.checksum, "normalisation": self.normalisation,
                "labels": list(self.classes)}

    def split(self, name: str) -> Split:
        """The split of this name; UserError for another word."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        chosen: Split = getattr(self, name)
        return chosen


def load_dataset(name: str, root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset:
    """The data set of this registered name, or what a factory (`file.py:name`, `package.module:name`) returns.

    root: folder with the user's copy, for data sets that are not shipped. A factory may take it as `root` and returns
    a Dataset or a dict of arrays, see `from_factory`. download: whether what is not here may be fetched. UserError for
    an unknown name and for data that cannot be used.
    """
    if is_factory(name) or name.endswith(".py"):
        place, _, attribute = name.rpartition(":")
        dataset = from_factory(name, root)
        return replace(dataset, word=f"{os.path.abspath(place)}:{attribute}" if place.endswith(".py") else name)
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    place, _, attribute = DATASETS[name].partition(":")
    loader: Callable[[Path | None, bool], Dataset] = getattr(importlib.import_module(place), attribute)
    return replace(loader(None if root is None else Path(root), download), word=name)


def from_factory(text: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set of a user's own factory: a Dataset, or a dict of arrays or tensors

        {"train": (images, labels), "validation": (images, labels), "test": (images, labels), "classes": [...]}

    images: [N, C, H, W], uint8 (divided by 255) or floating point (taken as it is); both are then normalised by mean
    and standard deviation of the training split. labels: whole numbers [N] from 0. "classes" (names) may be left out,
    and so may "name", "source" and "licence".
    """
    factory = load_factory(text)
    try:
        value = factory(**accepted(factory, {"root": root}))
    except EdgesynthError:
        raise
    except Exception as error:
        raise UserError(f"{text}: {blame(error)}; mend the factory") from error
    if isinstance(value, Dataset):
        return _checked(value, text)
    if not isinstance(value, Mapping):
        raise UserError(f"{text}: expected a Dataset or a dict of arrays, found {type(value).__name__}")
    missing = [split for split in SPLITS if split not in value]
    if missing:
        raise UserError(f"{text}: there is no '{missing[0]}' split; return train, validation and test")
    pairs = {split: _pair(value[split], f"{text}: {split}") for split in SPLITS}
    try:
        return from_arrays(
            str(value.get("name", Path(text.rpartition(":")[0]).stem)),
            pairs,
            classes=_class_names(value.get("classes"), pairs["train"][1]),
            source=str(value.get("source", text)),
            licence=str(value.get("licence", "the user's own")),
        )
    except UserError as error:
        raise UserError(f"{text}: {error}") from error


def from_arrays(
    name: str,
    splits: Mapping[str, tuple[Any, Any]],
    *,
    classes: Sequence[str],
    source: str,
    licence: str,
    pixel_scale: float | None = None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
    checksum: str | None = None,
) -> Dataset:
    """Check raw arrays and normalise them.

    splits: "train", "validation" and "test", each (images [N, C, H, W], labels [N]). pixel_scale: what raw values are
    divided by; None: 255 for uint8, 1 for floating point. statistics: (mean, std) a channel; None: of the training
    split. checksum: None: SHA-256 over all arrays. UserError for data that cannot be used.
    """
    raw = {split: (_array(splits[split][0]), _array(splits[split][1])) for split in SPLITS}
    for split, (images, labels) in raw.items():
        _check_images(split, images)
        _check_labels(split, labels, len(images), len(classes))
    _check_alike({split: tuple(images.shape[1:]) for split, (images, _) in raw.items()})
    _check_together(raw)
    if checksum is None:
        checksum = _checksum(array for split in SPLITS for array in raw[split])
    if pixel_scale is None:
        pixel_scale = 255.0 if raw["train"][0].dtype == np.uint8 else 1.0
    if any((images.dtype == np.uint8) != (raw["train"][0].dtype == np.uint8) for images, _ in raw.values()):
        raise UserError("some splits have uint8 images and some have floating point: use one kind for all")
    mean, std = statistics if statistics is not None else _statistics(raw["train"][0], pixel_scale)

    def normalised(images: np.ndarray, labels: np.ndarray) -> Split:
        pixels = torch.from_numpy(np.array(images, dtype=np.float32))
        shift = torch.tensor(mean, dtype=torch.float32)[:, None, None] * pixel_scale
        scale = torch.tensor(std, dtype=torch.float32)[:, None, None] * pixel_scale
        return Split(pixels.sub_(shift).div_(scale), torch.from_numpy(labels.astype(np.int64)))

    return Dataset(
        name, normalised(*raw["train"]), normalised(*raw["validation"]), normalised(*raw["test"]), tuple(classes),
        tuple(mean), tuple(std), pixel_scale, source, licence, checksum,
    )


def blame(error: BaseException) -> str:
    """Where a user's own code raised, and what: "own.py:12: ValueError: no such column"."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""
    lines = str(error).strip().splitlines()
    return f"{where}{type(error).__name__}" + (f": {lines[0]}" if lines else "")


def _array(values: Any) -> np.ndarray:
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            return (values.float() if values.is_floating_point() else values).numpy()
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different length, a sparse tensor
        raise UserError(f"images or labels are no regular array: {error}") from error


def _pair(value: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise UserError(f"{where}: expected a pair (images, labels), found {type(value).__name__}")
    return value[0], value[1]


def _class_names(given: Any, labels: Any) -> tuple[str, ...]:
    """The names that were given, or "0", "1", ... up to the highest training label."""
    if given is not None:
        if not isinstance(given, (list, tuple, np.ndarray)) or len(given) < 2:  # a set has no order, a dict another
            raise UserError("'classes' must be a list of two or more names, in the order of the labels, found "
                            f"{given!r}")
        return tuple(str(name) for name in given)
    numbers = _array(labels)
    if numbers.size == 0 or numbers.dtype.kind not in "iu":
        return ("0", "1")  # what is wrong is said by the checks of the labels
    highest = int(numbers.max())
    if highest >= numbers.size:  # codes or years: a network would have an output for each number up to them
        raise UserError(f"train: {numbers.size} labels reach up to {highest}; number the classes 0, 1, 2, ... without "
                        "gaps, or name all of them with 'classes'")
    return tuple(str(number) for number in range(max(2, highest + 1)))


def _check_images(split: str, images: np.ndarray) -> None:
    if images.ndim != 4:
        raise UserError(f"{split}: images must be [N, C, H, W], found {list(images.shape)}")
    if len(images) == 0:
        raise UserError(f"{split}: there is no image in this split; give it some")
    if len(images) < LEAST_TRAIN and split == "train":
        raise UserError(f"{split}: {len(images)} image is too few to train on; give it more")
    if 0 in images.shape:
        raise UserError(f"{split}: images of no pixel, {list(images.shape)}; [N, C, H, W] is expected")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"{split}: images are {images.dtype}; use uint8 (0..255) or floating point")
    channels, height, width = images.shape[1:]
    if channels > 4 and width in (1, 3, 4) and height > 4:
        found = list(images.shape)
        raise UserError(f"{split}: images look like [N, H, W, C], {found}; move the channels to the second place")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        bad = int(np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))[0])
        raise UserError(f"{split}: image {bad} holds NaN or infinity; clean the data")
    if images.dtype.kind == "f" and (most := float(np.abs(images).max())) > LARGEST:
        raise UserError(f"{split}: pixels reach {most:.3g}; scale them to about 0..1")


def _check_labels(split: str, labels: np.ndarray, images: int, classes: int) -> None:
    if labels.ndim != 1:
        raise UserError(f"{split}: labels must be one whole number an image, found an array {list(labels.shape)}")
    if len(labels) != images:
        raise UserError(f"{split}: {images} images but {len(labels)} labels; give one label an image")
    if labels.dtype.kind not in "iu":
        raise UserError(f"{split}: labels are {labels.dtype}; use whole numbers from 0")
    if labels.min() < 0 or labels.max() >= classes:
        row = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise UserError(
            f"{split}: label {int(labels[row])} of image {row} is out of range for {classes} classes (0..{classes - 1})"
        )


def _check_alike(shapes: Mapping[str, tuple[int, ...]]) -> None:
    for split, shape in shapes.items():
        if shape != shapes["train"]:
            known = list(shapes["train"])
            raise UserError(f"{split}: images of shape {list(shape)}, but train has {known}; use one shape")


def _check_together(raw: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """What no training and no accuracy can be made of, though each split is sound."""
    known = np.unique(raw["train"][1])
    if len(known) < 2:
        raise UserError(f"train: all images have label {int(known[0])}; give it two classes or more")
    for split in ("validation", "test"):
        unseen = np.setdiff1d(raw[split][1], known)
        if len(unseen):
            raise UserError(f"{split}: there are images of label {int(unseen[0])}, but train has none; put some into "
                            "train")
    seen = {split: {hash(image.tobytes()) for image in raw[split][0]} for split in SPLITS}
    for split, before, so in SEEN_BEFORE:
        if seen[split] <= seen[before]:
            raise UserError(f"{split}: its images are those of {before}, {so}; give it others")


def _checked(dataset: Dataset, where: str) -> Dataset:
    """A Dataset that a user built, held to the same rules."""
    splits = {name: dataset.split(name) for name in SPLITS}
    raw = {name: (_array(split.images), _array(split.labels)) for name, split in splits.items()}
    try:
        for name, (images, labels) in raw.items():
            _check_images(name, images)
            _check_labels(name, labels, len(images), len(dataset.classes))
            if splits[name].images.dtype != torch.float32 or splits[name].labels.dtype != torch.int64:
                raise UserError(f"{name}: a Dataset holds float32 images and int64 labels; return a dict of arrays "
                                "instead")
        _check_alike({name: images.shape[1:] for name, (images, _) in raw.items()})
        _check_together(raw)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return dataset


def _statistics(images: np.ndarray, pixel_scale: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation a channel, of raw values divided by `pixel_scale`; 1 for a constant channel."""
    total = np.zeros(images.shape[1])
    squares = np.zeros(images.shape[1])
    for start in range(0, len(images), 1024):  # in parts, since float64 copies of everything would not fit
        part = images[start : start + 1024].astype(np.float64) / pixel_scale
        total += part.sum(axis=(0, 2, 3))
        squares += np.square(part).sum(axis=(0, 2, 3))
    count = images.size / images.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    # 1e-6 of the mean is what rounding leaves of a constant
    return [float(m) for m in mean], [float(s) if s > 1e-6 * abs(m) else 1.0 for m, s in zip(mean, std, strict=True)]


def _checksum(arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
