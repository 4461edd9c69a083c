"""Coupled channels, on networks whose couplings are known, and on every structure of the zoo."""

import functools

import module_zoo
import numpy as np
import pytest
import torch

from devices.support.errors import UserError
from synth.networks.channels import channels_of, shrink
from synth.networks.inheritance import axis_masks, sliced
from synth.networks.module import build, check, responses
from synth.networks.network import Network, Vertex
from synth.networks.tracing import trace
from synth.networks.verification import tensors_in

CONV = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "bias": True}


@functools.cache
def traced(name):
    return trace(module_zoo.make(name), module_zoo.INPUT_SHAPE, name)


def conv(name, source, out, **attrs):
    return Vertex(name, "conv", {**CONV, "out": out, **attrs}, (source,))


def network(*vertices, outputs, shape=(3, 8, 8)):
    return Network((Vertex("input", "input", {"shape": list(shape)}), *vertices), outputs)


def slice_weights(channels, weights, kept):
    """The tensors of `shrink(channels, kept)`, cut from those of the whole network."""
    return {f"{vertex.name}.{tensor}": sliced(weights[f"{vertex.name}.{tensor}"], indices)
            for vertex in channels.network.vertices for tensor, indices in axis_masks(channels, vertex, kept).items()}


def groups_of(net):
    return {group.name: group for group in channels_of(net).groups}


def test_addition_couples_its_two_producers():
    net = network(conv("a", "input", 8), conv("b", "a", 8), Vertex("sum", "add", {}, ("a", "b")),
                  conv("out", "sum", 4), outputs=("out",))
    groups = groups_of(net)
    assert set(groups["a"].vertices) == {"a", "b", "sum"} and groups["a"].width == 8
    assert groups["out"].frozen and groups["input"].frozen and not groups["a"].frozen


def test_concatenation_keeps_its_parts_apart_even_through_a_flattening():
    net = network(conv("a", "input", 4), conv("b", "input", 6), Vertex("cat", "cat", {}, ("a", "b")),
                  Vertex("flat", "flatten", {}, ("cat",)), Vertex("fc", "linear", {"out": 5, "bias": True}, ("flat",)),
                  outputs=("fc",))
    channels = channels_of(net)
    unit = channels.groups[1].units[0]
    kept = channels.keep({"a": channels.groups[1].units[1:]})
    smaller = shrink(channels, kept)
    assert not kept[unit]
    assert (smaller["a"].attrs["out"], smaller["b"].attrs["out"]) == (3, 6)
    assert smaller.shapes["flat"] == (9 * 64,)


def test_depthwise_follows_its_input_and_groups_keep_their_number():
    net = network(conv("a", "input", 8), conv("dw", "a", 8, groups=8, depthwise=True), conv("g", "dw", 8, groups=4),
                  conv("out", "g", 2), outputs=("out",))
    channels = channels_of(net)
    by_name = {group.name: group for group in channels.groups}
    assert by_name["a"].width == 2  # four channels a unit: one of every group of the convolution behind it
    smaller = shrink(channels, channels.keep({"a": by_name["a"].units[:1]}))
    assert smaller["dw"].attrs["groups"] == smaller["dw"].attrs["out"] == 4
    assert smaller["g"].attrs["groups"] == 4


def test_frozen_unknown_and_empty_groups_are_refused():
    net = network(conv("a", "input", 4), conv("out", "a", 4), outputs=("out",))
    channels = channels_of(net)
    with pytest.raises(UserError, match="input or output"):
        channels.keep({"out": [0]})
    with pytest.raises(UserError, match="no group"):
        channels.keep({"nowhere": [0]})
    with pytest.raises(UserError, match="without channels"):
        channels.keep({"a": []})


@pytest.mark.parametrize("name", module_zoo.ZOO)
@pytest.mark.parametrize("seed", [0, 1])
def test_any_choice_of_units_gives_a_network_that_runs(name, seed):
    net, weights = traced(name)
    channels = channels_of(net)
    random = np.random.default_rng(seed)
    chosen = {g.name: random.permutation(g.units)[: random.integers(1, g.width + 1)]
              for g in channels.groups if not g.frozen}
    kept = channels.keep(chosen)
    smaller = shrink(channels, kept)
    check(build(smaller, slice_weights(channels, weights, kept)))
    assert smaller.output_shape == net.output_shape


@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_dropping_channels_that_answer_nothing_changes_no_output(name):
    """Units whose producers are silenced may go: the network without them answers the same."""
    net, weights = traced(name)
    channels = channels_of(net)
    silenced = {key: tensor.clone() for key, tensor in weights.items()}
    dropped = {}
    for group in channels.groups:
        if group.frozen or group.width < 2 or not _only_producers_and_linear_readers(net, group):
            continue
        unit = group.units[-1]
        dropped[group.name] = group.units[:-1]
        for vertex in group.vertices:
            rows = torch.from_numpy(channels.labels[vertex] == unit)
            for tensor in ("weight", "bias"):
                key = f"{vertex}.{tensor}"
                if key in silenced and net[vertex].op in ("conv", "batch_norm", "linear"):
                    silenced[key][rows] = 0.0
            if f"{vertex}.running_mean" in silenced:
                silenced[f"{vertex}.running_mean"][rows] = 0.0
    images = torch.randn(2, *net.input_shape)
    with torch.no_grad():
        before = build(net, silenced).eval()(images)
        kept = channels.keep(dropped)
        after = build(shrink(channels, kept), slice_weights(channels, silenced, kept)).eval()(images)
    for a, b in zip(tensors_in(before), tensors_in(after), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name


def _only_producers_and_linear_readers(net, group):
    """Whether a silenced unit of the group is 0 everywhere it occurs: nothing in it turns 0 into something else."""
    harmless = {"conv", "linear", "batch_norm", "add", "cat", "flatten", "max_pool", "avg_pool", "adaptive_avg_pool",
                "channel_shuffle", "slice", "resize", "dropout", "pixel_shuffle", "subsample", "to_map", "mul"}
    zero_keeping = {"relu", "relu6", "silu", "hardswish", "gelu", "leaky_relu", "elu", "tanh"}
    return all(net[v].op in harmless or (net[v].op == "activation" and net[v].attrs["kind"] in zero_keeping)
               for v in group.vertices)


def test_slices_of_one_tensor_part_its_units():
    net = network(conv("a", "input", 8), Vertex("left", "slice", {"start": 0, "stop": 4}, ("a",)),
                  Vertex("right", "slice", {"start": 4, "stop": 8}, ("a",)),
                  conv("l", "left", 3), conv("r", "right", 3), Vertex("sum", "add", {}, ("l", "r")),
                  conv("out", "sum", 2), outputs=("out",))
    channels = channels_of(net)
    halves = [g for g in channels.groups if "a" in g.vertices]
    assert [g.width for g in halves] == [4, 4]
    smaller = shrink(channels, channels.keep({halves[0].name: halves[0].units[:1]}))
    assert dict(smaller["left"].attrs) == {"start": 0, "stop": 1}
    assert dict(smaller["right"].attrs) == {"start": 1, "stop": 5}
    check(build(smaller))


def test_responses_are_those_of_every_vertex():
    net, weights = traced("resnet")
    module = build(net, weights).eval()
    images = torch.randn(2, *net.input_shape)
    with torch.no_grad():
        answers = responses(module, images)
    assert set(answers) == {v.name for v in net.vertices}
    assert torch.equal(answers[net.outputs[0]], module(images))
