"""Data sets: what is accepted, what is refused with which sentence, and that nothing about the shipped data drifts."""

from __future__ import annotations

import hashlib
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from hypothesis.extra import numpy as hypothesis_numpy

from devices.support.errors import UserError
from synth.data import digits
from synth.data.dataset import SPLITS, Dataset, from_arrays, load_dataset


def arrays(dtype=np.uint8, count: int = 12, classes: int = 3, shape=(1, 4, 4)):
    random = np.random.default_rng(0)
    splits = {}
    for split in SPLITS:
        images = random.integers(0, 256, (count, *shape)).astype(dtype)
        splits[split] = (images, np.arange(count) % classes)
    return splits


def build(splits, classes=("a", "b", "c"), **more) -> Dataset:
    return from_arrays("made", splits, classes=classes, source="a test", licence="none", **more)


def test_images_are_normalised_by_the_training_split():
    splits = arrays(shape=(2, 5, 3))
    dataset = build(splits)
    assert dataset.shape == (2, 5, 3)
    assert dataset.train.images.dtype == torch.float32 and dataset.train.labels.dtype == torch.int64
    assert torch.allclose(dataset.train.images.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(dataset.train.images.std(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-5)
    raw = splits["validation"][0]
    by_hand = (raw / 255.0 - np.array(dataset.mean)[:, None, None]) / np.array(dataset.std)[:, None, None]
    assert np.allclose(dataset.validation.images, by_hand, atol=1e-5)


def test_floating_point_is_taken_as_it_is_and_a_constant_channel_does_no_harm():
    splits = arrays(np.float64)
    for (images, _), value in zip(splits.values(), (0.25, 0.5, 0.75), strict=True):
        images[:] = value
    dataset = build(splits)
    assert dataset.pixel_scale == 1.0 and dataset.mean == (0.25,) and dataset.std == (1.0,)
    assert torch.count_nonzero(dataset.train.images) == 0 and (dataset.test.images == 0.5).all()


def test_what_the_user_holds_is_not_changed():
    splits = arrays(np.float32)
    before = splits["train"][0].copy()
    build(splits)
    assert np.array_equal(before, splits["train"][0])


def test_half_precision_is_read_without_a_warning(recwarn):
    assert torch.isfinite(build(arrays(np.float16)).train.images).all() and not recwarn.list


def test_the_checksum_tells_data_apart():
    one, two = arrays(), arrays()
    two["test"][0][0, 0, 0, 0] ^= 1
    assert build(one).checksum == build(arrays()).checksum != build(two).checksum


@pytest.mark.parametrize(
    ("split", "spoil", "sentence"),
    [
        ("train", lambda x, y: (x, y + 1), "train: label 3 of image 2 is out of range for 3 classes"),
        ("test", lambda x, y: (x, y - 1), "test: label -1 of image 0 is out of range"),
        ("validation", lambda x, y: (x[:0], y[:0]), "validation: there is no image in this split"),
        ("train", lambda x, y: (np.where(x == x.max(), np.nan, x.astype(float)), y), "NaN or infinity"),
        ("train", lambda x, y: (x[:, 0], y), r"train: images must be \[N, C, H, W\], found \[12, 4, 4\]"),
        ("train", lambda x, y: (x.astype(np.int64), y), "train: images are int64"),
        ("train", lambda x, y: (np.zeros((12, 8, 8, 3), np.uint8), y), "move the channels to the second place"),
        ("train", lambda x, y: (x, y.astype(float)), "train: labels are float64"),
        ("train", lambda x, y: (x, y > 0), "train: labels are bool"),
        ("train", lambda x, y: (x, y[:-1]), "train: 12 images but 11 labels"),
        ("train", lambda x, y: (x, np.eye(12)), r"one whole number an image, found an array \[12, 12\]"),
        ("test", lambda x, y: (x[:, :, :3], y), r"test: images of shape \[1, 3, 4\], but train has \[1, 4, 4\]"),
        ("test", lambda x, y: (x / 255.0, y), "some splits have uint8"),
    ],
)
def test_data_that_cannot_be_used_is_refused_in_one_sentence(split, spoil, sentence):
    splits = arrays()
    splits[split] = spoil(*splits[split])
    with pytest.raises(UserError, match=sentence) as caught:
        build(splits)
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'digit': did you mean digits"):
        load_dataset("digit")
    with pytest.raises(UserError, match="unknown split 'tests': did you mean test"):
        build(arrays()).split("tests")


OWN = """
    import numpy as np

    def data():
        random = np.random.default_rng(0)
        def part(count):
            return random.integers(0, 256, (count, 3, 6, 6), dtype=np.uint8), np.arange(count) % 4
        return {"train": part(40), "validation": part(12), "test": part(12), "classes": list("abcd")}

    def unnamed():
        return {key: value for key, value in data().items() if key != "classes"}

    def no_test():
        return {"train": data()["train"], "validation": data()["validation"]}

    def odd_pair():
        return {**data(), "test": data()["test"][0]}

    def broken():
        return {}["nothing"]

    def number():
        return 7

    def years():
        return {split: (images, labels + 2019) for split, (images, labels) in
                {"train": data()["train"], "validation": data()["validation"], "test": data()["test"]}.items()}

    def a_set():
        return {**data(), "classes": set("abcd")}

    def numbers_of_names():
        return {**data(), "classes": {"d": 3, "a": 0, "b": 1, "c": 2}}

    def lazy():
        return {**data(), "classes": (name for name in "abcd")}

    def how_many():
        return {**data(), "classes": 4.0}
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(OWN))
    return path


def test_a_users_factory(own):
    dataset = load_dataset(f"{own}:data")
    assert dataset.name == "mine" and dataset.classes == ("a", "b", "c", "d") and len(dataset.train) == 40
    assert load_dataset(f"{own}:unnamed").classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("no_test", "there is no 'test' split"),
        ("odd_pair", "test: expected a pair"),
        ("broken", r"mine.py:\d+: KeyError: 'nothing'"),
        ("number", "found int"),
        ("years", "train: 40 labels reach up to 2022; number the classes 0, 1, 2, ... without gaps"),
        ("a_set", "'classes' must be a list of two or more names, in the order of the labels, found {"),
        ("numbers_of_names", "'classes' must be a list of two or more names, in the order of the labels, found {"),
        ("lazy", "'classes' must be a list of two or more names, in the order of the labels, found <generator"),
        ("how_many", "'classes' must be a list of two or more names, in the order of the labels, found 4.0"),
        ("dat", "did you mean data"),
    ],
)
def test_a_factory_that_gives_something_else(own, factory, sentence):
    with pytest.raises(UserError, match=sentence):
        load_dataset(f"{own}:{factory}")


def test_a_factory_may_return_a_dataset_but_not_a_bad_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent("""
        import dataclasses, torch
        from synth.data.dataset import load_dataset

        def good():
            return load_dataset("digits")

        def bad():
            dataset = good()
            images = dataset.test.images.clone()
            images[5] = float("nan")
            return dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, images=images))
    """))
    assert load_dataset(f"{path}:good").name == "digits"
    with pytest.raises(UserError, match="test: image 5 holds NaN"):
        load_dataset(f"{path}:bad")


def test_digits_are_what_was_shipped_and_their_split_never_drifts():
    dataset = load_dataset("digits")
    assert [len(dataset.split(name)) for name in SPLITS] == [1078, 360, 359]
    assert dataset.shape == (1, 8, 8) and len(dataset.classes) == 10 and dataset.licence == "CC BY 4.0"
    for name in SPLITS:
        counts = torch.bincount(dataset.split(name).labels)
        assert counts.max() - counts.min() <= 6
    mean, std = dataset.mean[0], dataset.std[0]
    raw = [(dataset.split(name).images * std + mean).mul(16).round().to(torch.uint8) for name in SPLITS]
    digest = hashlib.sha256()
    for name, pixels in zip(SPLITS, raw, strict=True):
        digest.update(pixels.numpy().tobytes() + dataset.split(name).labels.numpy().tobytes())
    assert digest.hexdigest() == "366569244c7f70cddf6ef01ac48e7f21c34b21e43766ee11116589acb4e83e39"
    rows = torch.cat(raw).reshape(1797, -1)
    assert len(torch.unique(rows, dim=0)) == 1797  # no image in two splits


def test_a_changed_digits_file_is_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="not the copy that was shipped"):
        load_dataset("digits")


def test_a_factory_that_asks_for_the_data_root_gets_it(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent("""
        import numpy as np

        def data(root):
            images = np.load(f"{root}/images.npy")
            return {name: (images[part], np.arange(14)[part] % 2) for name, part in
                    (("train", slice(6)), ("validation", slice(6, 10)), ("test", slice(10, 14)))}
    """))
    np.save(tmp_path / "images.npy", np.arange(14 * 9, dtype=np.uint8).reshape(14, 1, 3, 3))
    assert len(load_dataset(f"{path}:data", tmp_path).train) == 6
    with pytest.raises(UserError, match=r"FileNotFoundError"):
        load_dataset(f"{path}:data", tmp_path / "nowhere")


WILD = hypothesis_numpy.arrays(
    dtype=strategies.sampled_from([np.uint8, np.float16, np.float32, np.float64, np.int32, np.bool_, np.complex64]),
    shape=hypothesis_numpy.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5),
)
WILD_LABELS = hypothesis_numpy.arrays(
    dtype=strategies.sampled_from([np.uint8, np.int64, np.uint64, np.float32, np.bool_]),
    shape=hypothesis_numpy.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5),
)


@settings(max_examples=100, deadline=None)
@given(WILD, WILD_LABELS)
def test_wild_arrays_are_sound_or_refused(images, labels):
    """Whatever comes: a data set whose every number is finite and in range, or one sentence."""
    try:
        with np.errstate(all="ignore"):
            dataset = build(dict.fromkeys(SPLITS, (images, labels)))
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert torch.isfinite(dataset.train.images).all() and dataset.train.images.ndim == 4
    assert 0 <= int(dataset.train.labels.min()) <= int(dataset.train.labels.max()) < 3


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(6, 1, 3, 3).to_sparse(), "no regular array"),
        ([[[[1.0, 2.0]]], [[[1.0]]]], "no regular array"),
        (np.full((6, 1, 3, 3), 1e200), "pixels reach 1e.200"),
        (np.zeros((1, 1, 3, 3), np.uint8), "1 image is too few"),
    ],
)
def test_other_containers(images, sentence):
    with pytest.raises(UserError, match=sentence):
        build({split: (images, np.zeros(len(images), int)) for split in SPLITS})
    fine = build({split: (torch.full((6, 1, 3, 3), value, dtype=torch.bfloat16), [0, 1, 2] * 2)
                  for split, value in zip(SPLITS, (0.25, 0.5, 0.75), strict=True)})
    assert fine.train.images.dtype == torch.float32


@pytest.mark.parametrize(("split", "spoil", "sentence"), [
    ("train", lambda x, y, train: (x, np.full_like(y, 2)), "train: all images have label 2; give it two classes or"),
    ("train", lambda x, y, train: (x, y % 2), "validation: there are images of label 2, but train has none"),
    ("validation", lambda x, y, train: train, "validation: its images are those of train"),
    ("test", lambda x, y, train: train, "test: its images are those of train"),
    ("validation", lambda x, y, train: (train[0][6:3:-1], train[1][6:3:-1]), "validation: its images are those of"),
])
def test_splits_that_do_not_go_together(split, spoil, sentence):
    splits = arrays()
    splits[split] = spoil(*splits[split], splits["train"])
    with pytest.raises(UserError, match=sentence):
        build(splits)


def test_validation_images_are_no_test():
    splits = arrays()
    images, labels = splits["validation"]
    with pytest.raises(UserError, match="test: its images are those of validation, by which networks are chosen"):
        build({**splits, "test": (images[::-1], labels[::-1])})
    assert len(build({**splits, "test": (np.concatenate([images, images[:1] + 1]), [*labels, 0])}).test) == 13
