"""Prototypes: the registered ones, a user's own, and one sentence for each that cannot be used."""

from __future__ import annotations

import textwrap

import pytest
import torch
from torch import nn

from devices.support.errors import UserError
from synth.data.dataset import from_arrays, load_dataset
from synth.prototypes.registry import PROTOTYPES, default_prototype, load_prototype


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def small_rgb():
    def part(count):
        random = torch.Generator().manual_seed(count)
        return torch.randint(0, 256, (count, 3, 10, 12), generator=random, dtype=torch.uint8), torch.arange(count) % 4

    splits = {"train": part(20), "validation": part(8), "test": part(9)}
    return from_arrays("made", splits, classes="abcd", source="a test", licence="none")


@pytest.mark.parametrize("name", PROTOTYPES)
def test_every_prototype_fits_any_data(name, digits, small_rgb):
    for dataset in (digits, small_rgb):
        module = load_prototype(name, dataset)
        assert module(dataset.test.images[:3]).shape == (3, len(dataset.classes))


def test_sizes_are_the_published_ones(digits):
    def params(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert params(load_prototype("resnet8", digits)) == 77_754
    cifar = PROTOTYPES["resnet20"]
    assert cifar.endswith(":resnet20")
    from synth.prototypes.resnet import resnet8, resnet20

    assert params(resnet20(3, (32, 32), 10)) == 272_474  # as osmr/imgclsmob counts it
    assert params(resnet8(3, (32, 32), 10)) == 78_042


def test_weights_come_from_the_seed_alone(digits):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = load_prototype("resnet8", digits, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    two, other = load_prototype("resnet8", digits, seed=3), load_prototype("resnet8", digits, seed=4)
    assert torch.equal(one.head.weight, two.head.weight) and not torch.equal(one.head.weight, other.head.weight)


def test_defaults():
    assert default_prototype("digits") == "resnet8" and default_prototype("mine") in PROTOTYPES


def test_unknown_names_suggest_the_nearest(digits):
    with pytest.raises(UserError, match="unknown prototype 'resnet': did you mean resnet"):
        load_prototype("resnet", digits)


OWN = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, channels=1, classes=10):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())
            self.head = nn.Linear(4, classes)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    def plain(): return Net(3, 4)
    def sized(size, channels, classes):
        assert size == (10, 12)
        return Net(channels, classes)
    def anything(**given): return Net(given["channels"], given["classes"])
    def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(4))
    def grey(): return Net(1, 4)
    def ten(): return Net(3, 10)
    def no_module(): return {"weights": 1}
    def flat(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    def odd(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(20))
    def maps(): return nn.Conv2d(3, 4, 3)
    def frozen(): return Net(3, 4).requires_grad_(False)
    def double(): return Net(3, 4).double()
    def large_kernel(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 11))
    def scripted(): return torch.jit.script(Net(3, 4))
    def partly_scripted(): return nn.Sequential(torch.jit.script(Net(3, 4)), nn.Linear(4, 4))
    def broken(): return missing_name
    made = Net(3, 4)
    def certain(): return nn.Sequential(Net(3, 4), nn.Softmax(1))
    def log_softmax(): return nn.Sequential(Net(3, 4), nn.LogSoftmax(1))
    def pair():
        class Two(Net):
            def forward(self, x): return x, x
        return Two(3, 4)
    def nan():
        net = Net(3, 4)
        net.head.weight.data[1, 1] = float("nan")
        return net
    def overflow():
        net = Net(3, 4)
        net.body[0].bias.data.fill_(3e38)
        net.head.weight.data.fill_(3e38)
        return net
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "nets.py"
    path.write_text(textwrap.dedent(OWN))
    return path


@pytest.mark.parametrize("name", ["plain", "sized", "anything", "Net", "lazy", "log_softmax"])
def test_a_users_own(own, small_rgb, name):
    module = load_prototype(f"{own}:{name}", small_rgb)
    assert module(small_rgb.test.images[:3]).shape == (3, 4) and module.training


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("grey", r"does not accept images \[2, 3, 10, 12\]: body\.0 expects 1 channels, found \[2, 3, 10, 12\]"),
        ("flat", r"1 expects 64 features, found \[2, 360\]"),
        ("odd", r"1 \(MaxPool2d\) found \[2, 4, 8, 10\]: .*RuntimeError"),
        ("ten", "gives 10 outputs, but made has 4 classes"),
        ("no_module", r"expected a torch\.nn\.Module, found dict"),
        ("maps", r"expected logits \[2, 4\], found \[2, 4, 8, 10\]"),
        ("pair", "returns tuple"),
        ("nan", r"head\.weight holds NaN or infinity"),
        ("overflow", "answers an image of made with NaN"),
        ("certain", "returns probabilities; return logits"),
        ("frozen", "no weights that can be trained"),
        ("double", r"body\.0\.weight is not float32; call \.float\(\)"),
        ("large_kernel", r"1 \(Conv2d\) found \[2, 4, 8, 10\]: .*Kernel size can't be greater"),
        ("scripted", "it is a scripted module; return the one that was scripted"),
        ("partly_scripted", "0 is a scripted module"),
        ("broken", r"nets\.py:\d+: NameError: name 'missing_name' is not defined"),
        ("plian", "did you mean plain"),
        ("made", "made: is a network, not a function that returns one; write def make"),
    ],
)
def test_one_that_cannot_be_used(own, small_rgb, name, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load_prototype(f"{own}:{name}", small_rgb)
    assert "\n" not in str(caught.value)
