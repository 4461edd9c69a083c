"""Who may teach, and what several say together."""

from __future__ import annotations

import pytest
import torch

from devices.support.errors import UserError
from devices.support.files import sha256_file
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.prototypes.resnet import ResNet
from synth.storage.network_folder import save_network
from synth.zoo.teachers import teachers_named


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, digits):
    """Two untrained networks for digits, the second by its card trained on validation too; one for other images."""
    out = tmp_path_factory.mktemp("teachers")
    for number, (name, on, shape) in enumerate((("one", "train", (1, 8, 8)), ("two", "train+validation", (1, 8, 8)),
                                                ("other", "train", (3, 8, 8)))):
        torch.manual_seed(number)
        save_network(out / name, *trace(ResNet(shape[0], 10, widths=(4, 8), blocks=1), shape, name),
                     {**digits.to_card(), "on": on})
    return out


def test_one_teaches_by_itself_several_by_the_mean_of_their_probabilities(digits, folders):
    images, words = digits.validation.images[:8], [str(folders / name) for name in ("one", "two")]
    taught = teachers_named(words, digits)
    assert dict(taught.checksums) == {word: sha256_file(f"{word}/weights.safetensors") for word in words}
    each = [build(*taught.networks[word]).eval()(images).softmax(1) for word in words]
    both = taught.module().eval()(images)
    assert torch.allclose(both.exp(), sum(each) / 2, atol=1e-6)
    alone = teachers_named(words[:1], digits).module().eval()(images)
    assert torch.allclose(alone.softmax(1), each[0], atol=1e-6)
    assert teachers_named((), digits).module() is None


@pytest.mark.parametrize(("names", "said"), [
    (("one", "one"), "a teacher is named twice"),
    (("none",), "none: there is no such folder"),
    (("other",), r"reads \(3, 8, 8\) and gives \(10,\), but digits has images of \(1, 8, 8\)"),
    (("one", "two"), "two: was trained on the validation split as well, by which FermiNets are chosen"),
])  # fmt: skip
def test_who_may_not_teach(digits, folders, names, said):
    with pytest.raises(UserError, match=said):
        teachers_named([str(folders / name) for name in names], digits, "validation")
