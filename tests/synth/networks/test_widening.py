"""More channels inside residual blocks: where, and that nothing else changes."""

import module_zoo
import pytest
import torch

from synth.networks.channels import channels_of
from synth.networks.module import build, check
from synth.networks.tracing import trace
from synth.networks.widening import inner_groups, widened
from synth.prototypes.resnet import ResNet


def channels(name):
    return channels_of(trace(module_zoo.make(name), module_zoo.INPUT_SHAPE, name)[0])


def inner(name):
    return [group.name for group in inner_groups(channels(name))]


def test_what_blocks_have_inside_is_found():
    network, _ = trace(ResNet(3, 10, widths=(8, 16), blocks=2), (3, 8, 8), "net")
    assert [g.name for g in inner_groups(channels_of(network))] == [
        "stages.0.0.conv1", "stages.0.1.conv1", "stages.1.0.conv1", "stages.1.1.conv1"]


def test_where_a_group_must_stay_as_it_is():
    assert inner("vgg") == [], "everything goes through every layer"
    narrow = channels("mobilenet_v2")
    passing = {v.name for v in narrow.network.vertices if v.op == "add"}
    for group in inner_groups(narrow):
        assert not passing.intersection(group.vertices) and not group.frozen


@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_every_structure_is_widened_inside_alone(name):
    before = channels(name)
    inside = {vertex for group in inner_groups(before) for vertex in group.vertices}
    network = widened(before, 3)
    check(build(network))
    for vertex, shape in before.network.shapes.items():
        times = 3 if vertex in inside else 1
        assert network.shapes[vertex] == (times * shape[0], *shape[1:])


def test_some_structures_are_widened():
    assert {name for name in module_zoo.ZOO if inner(name)} >= {"resnet", "mobilenet_v2", "triple"}


class Deep(torch.nn.Module):
    """Two and three ways in turn, eighty times, more than any float can count; what goes through `on_all` goes twice
    to the addition behind it, and one branch is a single channel wide."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.inner = torch.nn.ModuleList(torch.nn.Conv2d(4, 6, 1) for _ in range(80))
        self.outer = torch.nn.ModuleList(torch.nn.Conv2d(6, 4, 1) for _ in range(80))
        self.on_all, self.behind = torch.nn.Conv2d(4, 5, 1), torch.nn.Conv2d(5, 4, 1)
        self.one, self.wide = torch.nn.Conv2d(4, 1, 1), torch.nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        for number, (first, last) in enumerate(zip(self.inner, self.outer, strict=True)):
            x = x + last(first(x)) + (x if number % 2 else 0.5 * x)
        x = self.behind(self.on_all(x))
        x = x + x
        return (x + self.wide(self.one(x))).mean((2, 3))


def test_paths_are_counted_exactly():
    network, _ = trace(Deep(), (3, 4, 4), "deep")
    assert [g.name for g in inner_groups(channels_of(network))] == [f"inner.{i}" for i in range(80)]
