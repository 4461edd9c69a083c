"""The embedded default: the optical digits of UCI, 1,797 images of 8x8 (see digits.md for source and licence)."""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from pathlib import Path

import numpy as np

from devices.support.errors import UserError
from synth.data.dataset import Dataset, from_arrays

# of the text inside digits.csv.gz
SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
SALT = b"edgesynth.digits/1"
SOURCE = "UCI Optical Recognition of Handwritten Digits, test part (Alpaydin and Kaynak 1998, doi 10.24432/C50P49)"
LICENCE = "CC BY 4.0"
CLASSES = tuple(str(digit) for digit in range(10))
TRAIN, VALIDATION = 0.6, 0.2  # the rest is the test split
PIXEL_MAX = 16


def load(root: Path | None = None, download: bool = True) -> Dataset:
    """The shipped copy; `root` and `download` are not needed. UserError when the file was changed."""
    packed = resources.files("synth.data").joinpath("digits.csv.gz").read_bytes()
    try:
        text = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise UserError(f"synth/data/digits.csv.gz is damaged ({error}); install edgesynth anew") from error
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise UserError("synth/data/digits.csv.gz is not the copy that was shipped; install edgesynth anew")
    lines = text.split()
    table = np.array([line.split(b",") for line in lines], dtype=np.uint8)
    images, labels = table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64)
    rows = split_rows(lines, labels)
    return from_arrays(
        "digits", {name: (images[chosen], labels[chosen]) for name, chosen in rows.items()},
        classes=CLASSES, pixel_scale=PIXEL_MAX, source=SOURCE, licence=LICENCE, checksum=SHA256,
    )


def split_rows(lines: list[bytes], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each split, about 60/20/20 of every class.

    Within a class the lines are put in the order of SHA-256(SALT + line), and cut; no random number generator takes
    part, so that the split can never drift.
    """
    ranks = [hashlib.sha256(SALT + line).digest() for line in lines]
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in np.unique(labels):
        rows = sorted(np.flatnonzero(labels == label).tolist(), key=ranks.__getitem__)
        first, second = round(len(rows) * TRAIN), round(len(rows) * (TRAIN + VALIDATION))
        parts["train"] += rows[:first]
        parts["validation"] += rows[first:second]
        parts["test"] += rows[second:]
    return {name: np.sort(np.array(rows)) for name, rows in parts.items()}
