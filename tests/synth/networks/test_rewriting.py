"""Operators replaced and blocks left out, on every structure of the zoo."""

import functools

import module_zoo
import pytest
import torch
from torch import nn

from synth.networks.module import build, check, responses
from synth.networks.rewriting import (
    OPERATORS,
    activations_after_additions,
    into_additions,
    is_replaceable,
    may_be_pointwise,
    projected_width,
    replaced,
    residual_blocks,
    with_attention,
    with_nonlinearities,
    without_activations,
    without_blocks,
)
from synth.networks.tracing import trace


@functools.cache
def traced(name):
    return trace(module_zoo.make(name), module_zoo.INPUT_SHAPE, name)[0]


@pytest.mark.parametrize("choice", OPERATORS)
@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_every_replaceable_convolution_can_be_every_operator(name, choice):
    network = traced(name)
    for vertex in [v for v in network.vertices if is_replaceable(network, v)]:
        network = replaced(network, vertex.name, choice)
    check(build(network))
    assert network.output_shape == traced(name).output_shape


@pytest.mark.parametrize(("name", "expected"), [
    ("resnet", ["layer1.0.conv1", "layer1.1.conv1", "layer2.1.conv1"]),  # not where a stride would pass over pixels
    ("vgg", ["features.4"]),  # every second of those in a row; none in front of a pool, and never the first
    ("mobilenet_v2", []),
])
def test_a_convolution_may_be_pointwise_where_the_one_behind_it_looks_around(name, expected):
    network = traced(name)
    found = [v.name for v in network.vertices if is_replaceable(network, v) and may_be_pointwise(network, v)]
    assert found == expected


def test_an_operator_keeps_the_name_and_the_shape_of_what_it_replaces():
    network = traced("resnet")
    vertex = next(v for v in network.vertices if is_replaceable(network, v) and v.attrs["stride"][0] == 2)
    for choice in OPERATORS[:-1]:
        other = replaced(network, vertex.name, choice)
        assert other.shapes[vertex.name] == network.shapes[vertex.name]
        assert other[network.readers[vertex.name][0]].inputs == network[network.readers[vertex.name][0]].inputs


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "preactivation"])
def test_residual_blocks_can_go_one_by_one_and_all_together(name):
    network = traced(name)
    blocks = residual_blocks(network)
    assert blocks, f"{name} has identity shortcuts"
    for chosen in [[block] for block in blocks] + [list(blocks)]:
        smaller = without_blocks(network, chosen)
        check(build(smaller))
        assert len(smaller.vertices) < len(network.vertices)
        assert not any(name in smaller for block in chosen for name in block.branch)


def test_a_projection_shortcut_is_no_block_that_can_go():
    network = traced("resnet")
    projected = [v for v in network.vertices if v.op == "add"
                 and all(network[s].op in ("batch_norm", "conv") for s in v.inputs)]
    assert projected, "the zoo's resnet has a projection"
    assert not {v.name for v in projected} & {block.addition for block in residual_blocks(network)}


@pytest.mark.parametrize("activation, goes", [(nn.ReLU, True), (nn.ReLU6, True), (nn.Hardswish, False)])
def test_a_block_between_activations_can_go_where_twice_is_the_same_as_once(activation, goes):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.after = nn.Conv2d(4, 4, 3, padding=1), activation()

        def forward(self, x):
            return self.after(x + self.conv(x))

    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), Block(), nn.Conv2d(4, 2, 3))
    assert len(residual_blocks(trace(module, module_zoo.INPUT_SHAPE)[0])) == goes


def test_separable_convolutions_with_relu_have_it_behind_the_norm_and_else_are_the_same():
    network = traced("resnet")
    name = next(v.name for v in network.vertices if is_replaceable(network, v))
    plain, active = (replaced(network, name, choice) for choice in ("separable", "separable relu"))
    assert [v.name for v in active.vertices if v.name not in plain] == [f"{name}.relu"]
    assert active[f"{name}.relu"].inputs == (f"{name}.norm",) and active[name].inputs == (f"{name}.relu",)
    assert active[name].attrs == plain[name].attrs


def test_activations_behind_additions_can_go_one_by_one_and_with_blocks():
    network = traced("resnet")
    found = activations_after_additions(network)
    assert found, "resnet has activations behind additions"
    assert all(network[network[activation].inputs[0]].op == "add" for activation in found)
    for chosen in [[activation] for activation in found] + [list(found)]:
        smaller = without_activations(network, chosen)
        check(build(smaller))
        assert [v.name for v in network.vertices if v.name not in smaller] == chosen
    shorter = without_blocks(network, residual_blocks(network))
    check(build(without_activations(shorter, found)))


def test_activations_of_another_kind_are_all_that_changes():
    network = traced("resnet")
    first, second = [v for v in network.vertices if v.op == "activation"][:2]
    changed = with_nonlinearities(network, {second.name: "hardswish", "not there": "silu"})
    assert [v.name for v, w in zip(network.vertices, changed.vertices, strict=True) if v != w] == [second.name]
    assert changed[second.name].attrs == {"kind": "hardswish"} and changed[second.name].inputs == second.inputs
    assert changed[first.name].attrs["kind"] == "relu"
    check(build(changed))


@pytest.mark.parametrize(("name", "expected"), [
    ("resnet", [f"layer{stage}.{block}.conv2" for stage, block in ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0))]),
    ("mobilenet_v2", ["features.1.conv.1.0", "features.2.conv.2.0", "features.3.conv.2.0"]),
    ("preactivation", ["block1.conv2", "block2.conv2"]), ("vgg", []), ("squeeze_excite", []),
])
def test_attention_may_stand_before_what_an_addition_reads_but_in_no_shortcut(name, expected):
    assert list(into_additions(traced(name))) == expected


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "preactivation"])
def test_attention_weighs_every_channel_by_its_mean(name):
    network = traced(name)
    places = into_additions(network)
    attentive = with_attention(network, [*places, "not there"])
    module = build(attentive).eval()
    check(module)
    images = torch.randn(4, *module_zoo.INPUT_SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for place in places:
            scale = module.layer(f"{place}.excite")
            scale.weight.uniform_(-3, 3), scale.bias.uniform_(-3, 3)
        answers = responses(module, images)
    for place in places:
        (source,), (gated,) = network[place].inputs, attentive[place].inputs
        scale = module.layer(f"{place}.excite")
        weights = (answers[source].mean((2, 3)) * scale.weight + scale.bias + 3).clamp(0, 6) / 6
        assert torch.allclose(answers[gated], answers[source] * weights[:, :, None, None], atol=1e-6)
        assert network.shapes[place] == attentive.shapes[place]
    assert len(attentive.vertices) == len(network.vertices) + 4 * len(places)
    assert with_attention(network, ()) is network


@pytest.mark.parametrize("name", ["mobilenet_v2", "preactivation"])
def test_linear_residual_blocks_have_no_activation_to_leave_out(name):
    assert activations_after_additions(traced(name)) == ()


@pytest.mark.parametrize("name", ["vgg", "densenet"])
def test_networks_without_additions_have_no_blocks(name):
    assert residual_blocks(traced(name)) == ()


def test_projection_is_a_quarter_but_at_least_four_and_never_wider():
    assert [projected_width(n) for n in (2, 4, 16, 17, 64)] == [2, 4, 4, 5, 16]
