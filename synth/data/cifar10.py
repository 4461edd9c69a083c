"""CIFAR-10 (Krizhevsky 2009) from the user's own copy, in its python or its binary form, or from its official page."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from devices.support.errors import UserError
from devices.support.files import explain, write_bytes
from synth.data.dataset import Dataset, from_arrays
from synth.data.download import cache_folder, download
from synth.storage.folder_lock import FolderLock

PYTHON_FOLDER, BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_MD5, ARCHIVE_BYTES = "c58f30108f718f92721af3b95e74349a", 170_498_071
# of the binary form: the same images in the same order
MD5_BINARY = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STATISTICS = ((0.49140, 0.48216, 0.44653), (0.24703, 0.24349, 0.26159))
SOURCE = "CIFAR-10 (Krizhevsky 2009), www.cs.toronto.edu/~kriz/cifar.html"
LICENCE = "none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
SALT = b"edgesynth.cifar10/1"
RECORD = 1 + 3 * 32 * 32
HOW_TO = "give the folder that holds cifar-10-batches-py or cifar-10-batches-bin with --data-root"
VALIDATION_PART = 10  # one image in ten of every class: 5,000 of 50,000

# What a batch's pickle may call for; anything else is refused before it runs.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
RECONSTRUCT = np.empty(0).__reduce__()[0]  # numpy's own _reconstruct, wherever this version keeps it


def load(root: Path | None = None, download: bool = True) -> Dataset:
    """The user's copy below `root`; None: the one that was downloaded, which is fetched where it is not there yet and
    `download` allows it.

    UserError when there is none, when it cannot be fetched, and when a file is cut, changed or no batch.
    """
    read, folder = _find(fetch(download) if root is None else root)
    batches = [read(folder, name) for name in (*TRAIN_BATCHES, TEST_BATCH)]
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch)
    fit, test = np.concatenate(batches[:-1]), batches[-1]
    chosen = validation_rows(fit)
    arrays = {"train": fit[~chosen], "validation": fit[chosen], "test": test}
    return from_arrays(
        "cifar10",
        {name: (rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)) for name, rows in arrays.items()},
        classes=CLASSES, pixel_scale=255.0, statistics=STATISTICS, source=SOURCE, licence=LICENCE,
        checksum=digest.hexdigest(),
    )


def validation_rows(records: np.ndarray) -> np.ndarray:
    """[N] bool: which records (uint8 [N, 3073], label first) validate: one in ten of every class, by the order of
    SHA-256(SALT + record), so that the split can never drift."""
    ranks = [hashlib.sha256(SALT + record.tobytes()).digest() for record in records]
    chosen = np.zeros(len(records), dtype=bool)
    for label in np.unique(records[:, 0]):
        rows = sorted(np.flatnonzero(records[:, 0] == label).tolist(), key=ranks.__getitem__)
        chosen[rows[: len(rows) // VALIDATION_PART]] = True
    return chosen


def fetch(download_it: bool = True) -> Path:
    """The folder of the downloaded copy, filled from the official page where it is not whole; UserError in place of
    that where it must not be."""
    root = cache_folder("cifar10")
    folder, names = root / PYTHON_FOLDER, (*TRAIN_BATCHES, TEST_BATCH)
    if all(_is_sound(folder / name, MD5[name]) for name in names):
        return root  # what is damaged or missing is fetched anew
    if not download_it:
        raise UserError(f"cifar10 has not been downloaded yet; {HOW_TO}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    lock = FolderLock(root)
    try:
        archive = root / ARCHIVE_URL.rpartition("/")[2]
        if not archive.is_file():
            download(ARCHIVE_URL, archive, ARCHIVE_MD5, ARCHIVE_BYTES, HOW_TO)
        _unpack(archive, folder, names)
        archive.unlink()
    finally:
        lock.release()
    return root


def _unpack(archive: Path, folder: Path, names: tuple[str, ...]) -> None:
    """The six batches of the archive, each whole or not there; nothing else of it is written."""
    try:
        with tarfile.open(archive) as packed:
            for name in names:
                member = packed.extractfile(f"{PYTHON_FOLDER}/{name}")
                if member is None:
                    raise KeyError(name)
                write_bytes(folder / name, member.read())
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        archive.unlink(missing_ok=True)
        raise UserError(f"{archive}: cannot be unpacked ({error}); run the same command again") from error


def _find(root: Path) -> tuple[Any, Path]:
    """The reader and the folder of the form that `root` holds; the python form when both are there."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; {HOW_TO}")
    for folder in (root, root / PYTHON_FOLDER, root / BINARY_FOLDER):
        if (folder / TEST_BATCH).is_file():
            return read_python_batch, folder
        if (folder / f"{TEST_BATCH}.bin").is_file():
            return read_binary_batch, folder
    raise UserError(f"{root}: holds no CIFAR-10; {HOW_TO}")


def read_python_batch(folder: Path, name: str) -> np.ndarray:
    """uint8 [N, 3073], label first, of one batch in the original python form (a Python 2 pickle)."""
    path = folder / name
    data = _verified(path, MD5[name])
    try:
        content = _Reader(io.BytesIO(data), encoding="latin1").load()
        images, labels = content["data"], content["labels"]
        records = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], images], axis=1)
    except UserError:
        raise
    except Exception as error:  # a pickle can go wrong in any way
        raise UserError(f"{path}: is no CIFAR-10 batch ({type(error).__name__}); unpack the archive anew") from error
    if records.dtype != np.uint8 or records.shape[1] != RECORD:
        raise UserError(f"{path}: is no CIFAR-10 batch; unpack the archive anew")
    return records


def read_binary_batch(folder: Path, name: str) -> np.ndarray:
    """uint8 [N, 3073], label first, of one batch in the binary form."""
    path = folder / f"{name}.bin"
    data = np.frombuffer(_verified(path, MD5_BINARY[name]), dtype=np.uint8)
    if data.size == 0 or data.size % RECORD:
        raise UserError(f"{path}: {data.size} bytes are not records of {RECORD}; unpack the archive anew")
    return data.reshape(-1, RECORD)


class _Reader(pickle.Unpickler):
    """Reads a pickled numpy array and plain containers; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise UserError(f"a batch file asks for {module}.{name}, which CIFAR-10 does not need: it was not read")
        return {"_reconstruct": RECONSTRUCT, "ndarray": np.ndarray, "dtype": np.dtype}[name]


def _is_sound(path: Path, md5: str) -> bool:
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5
    except OSError:
        return False


def _verified(path: Path, md5: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise explain(error, path) from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(f"{path}: wrong checksum (MD5 {found}, expected {md5}); unpack the archive anew")
    return data
