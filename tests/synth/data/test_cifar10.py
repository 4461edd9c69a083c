"""CIFAR-10's two original forms, from tiny files of equal layout, and from the real ones where they are at hand."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from devices.support.errors import UserError
from synth.data import cifar10

NAMES = (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH)
REAL = Path(os.environ.get("EDGESYNTH_CIFAR10", "/nonexistent"))


def python2_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """What Python 2's pickle protocol 2 wrote for a batch (str keys, numpy.core names, pixels as a raw str)."""
    count = len(images)
    head = b"\x80\x02}q\x01(U\x0bbatch_labelU\x07a batchU\x06labels]("
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        b"J" + struct.pack("<i", count) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", images.size) + images.tobytes() + b"tb"
    )
    return head + numbers + array + b"U\tfilenames](" + b"U\x05a.png" * count + b"eu."


def write(root: Path, monkeypatch, form: str, spoil: dict[str, bytes] | None = None) -> None:
    """Six batches of 40 images in one form, with their checksums made known."""
    random = np.random.default_rng(1)
    folder = root / (cifar10.PYTHON_FOLDER if form == "python" else cifar10.BINARY_FOLDER)
    folder.mkdir()
    sums = {}
    for name in NAMES:
        images = random.integers(0, 256, (40, 3072), dtype=np.uint8)
        labels = (np.arange(40) % 10).astype(np.uint8)
        if form == "python":
            data, path = python2_pickle(images, labels), folder / name
        else:
            data, path = np.concatenate([labels[:, None], images], axis=1).tobytes(), folder / f"{name}.bin"
        data = (spoil or {}).get(name, data)
        path.write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    monkeypatch.setattr(cifar10, "MD5" if form == "python" else "MD5_BINARY", sums)


def test_both_forms_give_the_same(tmp_path, monkeypatch):
    found = {}
    for form in ("python", "binary"):
        root = tmp_path / form
        root.mkdir()
        write(root, monkeypatch, form)
        found[form] = cifar10.load(root)
    one, two = found["python"], found["binary"]
    assert one.checksum == two.checksum and one.shape == (3, 32, 32)
    assert (len(one.train), len(one.validation), len(one.test)) == (180, 20, 40)
    assert torch.bincount(one.validation.labels).tolist() == [2] * 10
    for name in ("train", "validation", "test"):
        assert torch.equal(one.split(name).images, two.split(name).images)
        assert torch.equal(one.split(name).labels, two.split(name).labels)


def test_planes_are_red_green_blue(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, "binary")
    dataset = cifar10.load(tmp_path)
    record = np.fromfile(tmp_path / cifar10.BINARY_FOLDER / "test_batch.bin", np.uint8)[:3073]
    pixels = record[1:].reshape(3, 32, 32) / 255.0
    mean, std = (np.array(values)[:, None, None] for values in cifar10.STATISTICS)
    assert np.allclose(dataset.test.images[0], (pixels - mean) / std, atol=1e-5)


def test_the_folder_itself_may_be_named(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, "python")
    assert len(cifar10.load(tmp_path / cifar10.PYTHON_FOLDER).test) == 40


class Harm:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_read_without_running_what_it_asks_for(tmp_path, monkeypatch):
    mark = tmp_path / "was-here"
    write(tmp_path, monkeypatch, "python", spoil={"data_batch_2": pickle.dumps(Harm(str(mark)), protocol=2)})
    with pytest.raises(UserError, match=r"asks for posix\.mkdir"):
        cifar10.load(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1], protocol=2), pickle.dumps({"data": 1}, 2)])
def test_what_is_no_batch(tmp_path, monkeypatch, content):
    write(tmp_path, monkeypatch, "python", spoil={"data_batch_3": content})
    with pytest.raises(UserError, match="data_batch_3: is no CIFAR-10 batch"):
        cifar10.load(tmp_path)


def test_a_changed_file(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, "binary")
    path = tmp_path / cifar10.BINARY_FOLDER / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_4\.bin: wrong checksum"):
        cifar10.load(tmp_path)


def test_a_missing_file(tmp_path, monkeypatch):
    write(tmp_path, monkeypatch, "binary")
    (tmp_path / cifar10.BINARY_FOLDER / "data_batch_5.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_5\.bin: there is no such file"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize(("root", "sentence"), [("nowhere", "no such folder"), (".", "holds no CIFAR-10")])
def test_no_data_at_hand(tmp_path, root, sentence):
    with pytest.raises(UserError, match=f"{sentence}.*--data-root"):
        cifar10.load(tmp_path / root)


@pytest.mark.skipif(not REAL.is_dir(), reason="set EDGESYNTH_CIFAR10 to an unpacked copy to read the real files")
def test_the_real_files():
    one = cifar10.load(REAL)
    assert (len(one.train), len(one.validation), len(one.test)) == (45000, 5000, 10000)
    assert one.checksum == "013ba16d14ecc4829da62bf2af648ca30f600491ecb3e7f329c827db0dd17522"
    assert torch.bincount(one.validation.labels).tolist() == [500] * 10
