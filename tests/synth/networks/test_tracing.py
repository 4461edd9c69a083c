"""Tracing modules of many structures, and refusing by name what cannot be a network."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from module_zoo import INPUT_SHAPE, ZOO, make, randomise
from torch import nn
from torch.nn import functional

from devices.support.errors import UserError
from devices.support.factories import load_factory
from synth.networks import verification
from synth.networks.module import build
from synth.networks.network import Network
from synth.networks.tracing import trace

SHAPE = (3, 8, 8)


class Body(nn.Module):
    """A convolution `conv` with 8 channels, then whatever `forward(self, x)` is given; more modules by keyword."""

    def __init__(self, after, **members) -> None:
        super().__init__()
        self.after, self.conv = after, nn.Conv2d(3, 8, 3, padding=1)
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x):
        return self.after(self, self.conv(x))


class ChannelsLast(nn.Sequential):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def ops(after, **members) -> list[str]:
    """The operators after the first convolution of a module that traces."""
    network, _ = trace(randomise(Body(after, **members)), SHAPE)
    return [v.op for v in network.vertices[2:]]


def refusal(after, **members) -> str:
    with pytest.raises(UserError) as caught:
        trace(Body(after, **members), SHAPE)
    return str(caught.value)


def same(module: nn.Module, network: Network, weights, batch: int, shape=INPUT_SHAPE) -> None:
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        expected = verification.tensors_in(module.eval()(images))
        found = verification.tensors_in(build(network, weights).eval()(images))
    assert len(expected) == len(found)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


@pytest.mark.parametrize("name", ZOO)
def test_a_traced_network_answers_as_its_module(name):
    module = make(name, seed=1)
    network, weights = trace(module, INPUT_SHAPE, name)
    assert network.name == name and network.input_shape == INPUT_SHAPE
    for batch in (1, 4):
        same(module, network, weights, batch)
    assert Network.from_json(network.to_json()) == network


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_of_the_zoo_is_in_the_weights(name):
    module = make(name)
    _, weights = trace(module, INPUT_SHAPE)
    stored = sum(w.numel() for key, w in weights.items() if ".running_" not in key)
    assert stored == sum(p.numel() for p in module.parameters())


def test_own_prototype_example():
    network = load_factory(f"{Path(__file__).parents[1] / 'examples' / 'own_prototype.py'}:network")
    module = randomise(network(channels=1, classes=10))
    traced, weights = trace(module, (1, 8, 8), "own")
    same(module, traced, weights, 3, (1, 8, 8))
    names = [v.name for v in traced.vertices]
    assert names[:4] == ["input", "stem.0", "stem.1", "stem.2"]
    assert {"blocks.1.conv1", "blocks.1.attention.down", "blocks.1.attention.mul", "blocks.1.pad", "head"} <= set(names)


# -- how it is named and written ------------------------------------------------------------------------------------


def test_vertices_are_named_after_modules():
    network, _ = trace(make("resnet"), INPUT_SHAPE)
    block = [(v.name, v.op) for v in network.vertices if v.name.startswith("layer3.0.")]
    assert block == [
        ("layer3.0.conv1", "conv"), ("layer3.0.bn1", "batch_norm"), ("layer3.0.relu", "activation"),
        ("layer3.0.conv2", "conv"), ("layer3.0.bn2", "batch_norm"), ("layer3.0.subsample", "subsample"),
        ("layer3.0.pad", "pad"), ("layer3.0.add", "add"), ("layer3.0.relu_2", "activation")]
    assert network["layer3.0.add"].inputs == ("layer3.0.bn2", "layer3.0.pad")
    assert "relu" in network and "flatten" in network  # functional calls of the root


def test_tracing_twice_gives_the_same():
    first, second = (trace(make("shufflenet_v2"), INPUT_SHAPE)[0] for _ in range(2))
    assert first == second and first.digest == second.digest


def test_a_wrapped_convolution_keeps_its_modules_name():
    member = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 1))
    network, weights = trace(Body(lambda m, x: m.normed(x), normed=member), SHAPE)
    assert network.vertices[-1].name == "normed" and torch.equal(weights["normed.weight"], member.weight)


@pytest.mark.parametrize("name", ["keys", "update", "type", "values", "forward_"])
def test_module_names_that_mean_something_to_torch(name):
    module = nn.Sequential()
    if hasattr(nn.Module, name):
        pytest.skip("torch itself refuses this name")
    module.add_module(name, nn.Conv2d(3, 4, 1))
    network, weights = trace(module, SHAPE)
    assert network.vertices[1].name == name
    same(module, network, weights, 2, SHAPE)


@pytest.mark.parametrize(("after", "expected"), [
    (lambda m, x: x.view(x.shape[0], 2, 4, 8, 8).transpose(1, 2).reshape(x.shape), ["channel_shuffle"]),
    (lambda m, x: x.unflatten(1, (4, 2)).permute(0, 2, 1, 3, 4).flatten(1, 2), ["channel_shuffle"]),
    (lambda m, x: x[:, [0, 4, 1, 5, 2, 6, 3, 7]], ["channel_shuffle"]),
    (lambda m, x: functional.channel_shuffle(x, 4), ["channel_shuffle"]),
    (lambda m, x: x.view(len(x), 2, 2, 2, 8, 8).permute(0, 1, 4, 2, 5, 3).reshape(len(x), 2, 16, 16),
     ["pixel_shuffle"]),
    (lambda m, x: x.view(len(x), 8, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(len(x), 32, 4, 4),
     ["pixel_unshuffle"]),
    (lambda m, x: functional.pixel_unshuffle(x, 2), ["pixel_unshuffle"]),
    (lambda m, x: x[:, :, ::2, ::2], ["subsample"]),
    (lambda m, x: x[:, 2:5], ["slice"]),
    (lambda m, x: torch.narrow(x, 1, 2, 3), ["slice"]),
    (lambda m, x: x.split([3, 5], 1)[1], ["slice"]),
    (lambda m, x: x[:, :, 1:-1, 2:], ["pad"]),
    (lambda m, x: x[:, 1:, 1::2, ::2], ["slice", "pad", "subsample"]),
    (lambda m, x: torch.cat([x, torch.zeros_like(x)], 1), ["pad"]),
    (lambda m, x: x.flatten(1).view(x.shape).relu(), ["activation"]),
    (lambda m, x: x.mean((2, 3)), ["adaptive_avg_pool", "flatten"]),
    (lambda m, x: x.mean(3).mean(2), ["adaptive_avg_pool", "adaptive_avg_pool", "flatten"]),
    (lambda m, x: x * x.mean(3, keepdim=True), ["adaptive_avg_pool", "mul"]),
    (lambda m, x: x.flatten(2).mean(-1), ["adaptive_avg_pool", "flatten"]),
    (lambda m, x: x.view(len(x), 8, -1).mean(2), ["adaptive_avg_pool", "flatten"]),
    (lambda m, x: functional.adaptive_avg_pool2d(x, 1).squeeze(), ["adaptive_avg_pool", "flatten"]),
    (lambda m, x: x.amax((-1, -2), keepdim=True), ["adaptive_max_pool"]),
    (lambda m, x: x.sum((2, 3), keepdim=True), ["adaptive_avg_pool", "affine"]),
    (lambda m, x: x.mean((2, 3))[:, :, None, None] * x, ["adaptive_avg_pool", "mul"]),
    (lambda m, x: x.clamp(0, 6), ["activation"]),
    (lambda m, x: x * torch.sigmoid(x), ["activation", "mul"]),
    (lambda m, x: x**2, ["mul"]),
    (lambda m, x: 1 - x, ["affine"]),
    (lambda m, x: (x - 0.5) / 0.25, ["affine", "affine"]),
    (lambda m, x: torch.add(x, x.relu(), alpha=2), ["activation", "affine", "add"]),
    (lambda m, x: functional.dropout(x, 0.1, m.training) + functional.dropout2d(x, 0.2, m.training),
     ["dropout", "dropout", "add"]),
    (lambda m, x: functional.interpolate(x, scale_factor=1.5), ["resize"]),
    (lambda m, x: functional.interpolate(x, size=13, mode="bilinear", align_corners=True), ["resize"]),
    (lambda m, x: functional.interpolate(x, scale_factor=0.5, recompute_scale_factor=True), ["resize"]),
    (lambda m, x: x.contiguous(memory_format=torch.channels_last).relu(), ["activation"]),
    (lambda m, x: x.data.relu(), ["activation"]),
    (lambda m, x: (x.permute(0, 2, 3, 1) * torch.arange(8.0)).relu().permute(0, 3, 1, 2), ["scale", "activation"]),
    (lambda m, x: (x.flatten(2) + x.relu().flatten(2)).view(x.shape), ["activation", "add"]),
    (lambda m, x: functional.dropout(x.transpose(1, 2), 0.1, m.training).transpose(1, 2).tanh(),
     ["dropout", "activation"]),
])
def test_spellings(after, expected):
    assert ops(after) == expected


@pytest.mark.parametrize(("module", "expected"), [
    (nn.Conv2d(8, 8, 4, padding="same"), ["pad", "conv"]),
    (nn.Conv2d(8, 16, 3, groups=8), ["conv"]),
    (nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), ["conv_transpose"]),
    (nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LayerNorm(8)),
     ["adaptive_max_pool", "flatten", "group_norm"]),
    (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8)),
     ["adaptive_avg_pool", "flatten", "batch_norm"]),
    (nn.Sequential(nn.Identity(), nn.SELU(), nn.ELU(0.5), nn.GELU("tanh"), nn.Mish(), nn.Softplus()),
     ["activation"] * 5),
    (nn.BatchNorm2d(8, affine=False), ["batch_norm"]),
    (nn.GroupNorm(2, 8, affine=False), ["group_norm"]),
    (nn.PReLU(), ["prelu"]),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), ["max_pool"]),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), ["avg_pool"]),
    (nn.Upsample(scale_factor=2, mode="bilinear"), ["resize"]),
    (nn.ZeroPad2d((1, 2, 3, 4)), ["pad"]),
    (ChannelsLast(nn.LayerNorm(8)), ["channel_norm"]),
    (ChannelsLast(nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 8, bias=False)), ["conv", "activation", "conv"]),
])
def test_modules(module, expected):
    assert ops(lambda m, x: m.member(x), member=module) == expected


@pytest.mark.parametrize("never", [
    lambda m, x: functional.dropout(x, 0.5, False).relu(),
    lambda m, x: functional.dropout(x, training=False).relu(),
    lambda m, x: functional.dropout2d(functional.dropout(x, 0.5, False), 0.5, False).relu(),
    lambda m, x: functional.dropout(functional.relu(x), 0.5, m.training and m.conv is None),
    lambda m, x: torch.dropout(x, 0.5, False).relu(),
])
def test_dropout_that_never_drops_is_no_vertex(never):
    assert ops(never) == ["activation"]


def test_dropouts_in_training_are_told_from_those_that_never_drop():
    def mixed(m, x):
        once = functional.dropout(m.member(x), 0.1, m.training)
        never = functional.dropout(once.relu(), 0.2, training=False)
        return functional.dropout(never, 0.3 if m.training else 0.0) + functional.batch_norm(
            x, m.norm.running_mean, m.norm.running_var, training=m.training)

    body = Body(mixed, member=nn.Sequential(nn.Dropout2d(0.4), nn.Dropout(0.0)), norm=nn.BatchNorm2d(8)).train()
    network, weights = trace(body, SHAPE)
    assert [v.attrs["p"] for v in network.vertices if v.op == "dropout"] == [0.4, 0.0, 0.1, 0.3]
    assert all(m.training for m in body.modules()) and not body.norm.running_mean.any()  # it is left as it was
    same(body, network, weights, 2, SHAPE)


def test_dropouts_stay_where_the_module_does_not_run_in_training():
    def failing(m, x):
        if m.training:
            raise RuntimeError("no labels")
        return functional.dropout(x, 0.1, m.training)

    assert ops(failing) == ["dropout"]


def test_alpha_dropout_is_left_out_by_name(caplog):
    with caplog.at_level(logging.WARNING, "edgesynth"):
        assert ops(lambda m, x: functional.alpha_dropout(m.member(x), 0.5, m.training).relu(),
                   member=nn.AlphaDropout(0.2)) == ["activation"]
    assert "left out: member (alpha_dropout), the module (alpha_dropout)" in caplog.text


def test_lazy_layers_are_made_first():
    network, weights = trace(Body(lambda m, x: m.lazy(x), lazy=nn.LazyConv2d(5, 3)), SHAPE)
    assert network.vertices[-1].op == "conv" and weights["lazy.weight"].shape == (5, 8, 3, 3)


def test_parameters_outside_of_layers_become_scales():
    layer_scale = ops(lambda m, x: x + m.gamma * x.tanh(), gamma=nn.Parameter(torch.randn(8, 1, 1)))
    assert layer_scale == ["activation", "scale", "add"]
    assert ops(lambda m, x: x * m.alpha, alpha=nn.Parameter(torch.ones(1))) == ["scale"]
    assert ops(lambda m, x: (x - m.mean) / m.std, mean=nn.Buffer(torch.rand(1, 8, 1, 1)),
               std=nn.Buffer(torch.rand(8, 1, 1) + 0.5)) == ["scale", "scale"]
    network, weights = trace(Body(lambda m, x: m.beta - x, beta=nn.Parameter(torch.randn(8, 1, 1))), SHAPE)
    assert [v.op for v in network.vertices[2:]] == ["affine", "scale"] and weights["scale.bias"].shape == (8,)


def test_the_size_of_a_skip_becomes_a_factor():
    network, _ = trace(make("encoder_decoder"), INPUT_SHAPE)
    assert network["resize"].attrs["scale"] == [2.0, 2.0] and "size" not in network["resize"].attrs


def test_depthwise_is_marked():
    network, _ = trace(make("mobilenet_v2"), INPUT_SHAPE)
    grouped = [v for v in network.vertices if v.op == "conv" and v.attrs["groups"] > 1]
    assert grouped and all(v.attrs["depthwise"] for v in grouped)
    shuffle, _ = trace(make("shufflenet_v2"), INPUT_SHAPE)
    assert not shuffle["conv5.0"].attrs.get("depthwise")


# -- in place -----------------------------------------------------------------------------------------------------


def test_in_place_on_one_half_leaves_the_other():
    def halves(m, x):
        a, b = x.chunk(2, 1)
        b.relu_()
        return torch.cat([a, b], 1)

    assert ops(halves) == ["slice", "slice", "activation", "cat"]


def test_in_place_changes_reach_every_name_of_the_memory():
    def aliased(m, x):
        other = x.detach()
        x.relu_()
        return other + 1

    assert ops(aliased) == ["activation", "affine"]


def test_in_place_on_a_part_loses_the_whole():
    def part(m, x):
        x[:, :4].relu_()
        return x + 1

    assert "relu_ changes a part of a tensor in place" in refusal(part)

    def assigned(m, x):
        out = torch.zeros(len(x), 16, 8, 8)
        out[:, :8] = x
        return out

    assert "__setitem__ changes a part of a tensor in place" in refusal(assigned)


# -- refusals -----------------------------------------------------------------------------------------------------


def swallowing(m, x):
    try:
        return torch.einsum("bchw,bdhw->bcd", x, x).flatten(1)
    except Exception:
        return x


@pytest.mark.parametrize(("after", "words"), [
    (lambda m, x: x if x.sum((2, 3)).flatten()[0] > 0 else -x, ["torch.Tensor.__bool__ looks at values"]),
    (lambda m, x: x if bool(x.relu().flatten(1)[0, 0]) else -x, ["torch.Tensor.__bool__ looks at values"]),
    (lambda m, x: x * x.relu()[0, 0, 0, 0].item(), ["torch.Tensor.item looks at values"]),
    (lambda m, x: x + torch.from_numpy(x.numpy()).mean(), ["torch.Tensor.numpy looks at values"]),
    (lambda m, x: x * x.tolist()[0][0][0][0], ["torch.Tensor.tolist looks at values"]),
    (lambda m, x: x + torch.rand_like(x), ["torch.rand_like is random in evaluation"]),
    (lambda m, x: x * torch.rand(1), ["torch.rand is random in evaluation"]),
    (lambda m, x: functional.dropout(x, 0.5, True), ["dropout is random in evaluation", "training=self.training"]),
    (lambda m, x: functional.dropout(x), ["dropout is random in evaluation", "training=self.training"]),
    (lambda m, x: functional.dropout2d(x, training=True), ["dropout2d is random", "training=self.training"]),
    (lambda m, x: functional.alpha_dropout(x, 0.5, True), ["alpha_dropout is random", "training=self.training"]),
    (lambda m, x: torch.einsum("bchw,bdhw->bcd", x, x).flatten(1), ["torch.functional.einsum is not supported"]),
    (swallowing, ["torch.functional.einsum is not supported"]),
    (lambda m, x: torch.where(x > 0, x, 0.1 * x), ["torch.Tensor.gt is not supported"]),
    (lambda m, x: x.softmax(-1), ["softmax is supported over the channels only"]),
    (lambda m, x: x * x.mean(1, keepdim=True), ["mean is supported over the whole of every map, its rows or its col"]),
    (lambda m, x: x.double(), ["changes the type to torch.float64"]),
    (lambda m, x: functional.interpolate(x, scale_factor=2, mode="bicubic"), ["interpolate", "bicubic"]),
    (lambda m, x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2), ["first result"]),
    (lambda m, x: x.flip(3), ["rearrangement"]),
    (lambda m, x: functional.avg_pool2d(x.flip(3), 2), ["avg_pool2d reads a rearrangement"]),
    (lambda m, x: x.reshape(len(x) * 2, -1), ["rearrangement"]),
    (lambda m, x: x.view(3, -1), ["does not run on a batch of 2"]),
    (lambda m, x: torch.zeros(3, 5), ["does not depend on the images"]),
    (lambda m, x: None, ["returns no tensor"]),
    (lambda m, x: x / 0, ["NaN or infinity"]),
    (lambda m, x: m.missing(x), ["does not run", "missing"]),
])
def test_refusals(after, words):
    message = refusal(after)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(("member", "words"), [
    (nn.InstanceNorm2d(8, affine=True), ["member", "instance_norm normalises with the statistics of the batch"]),
    (nn.BatchNorm2d(8, track_running_stats=False), ["member", "statistics of the batch"]),
    (nn.LayerNorm([8, 8, 8]), ["member", "layer_norm"]),
    *((nn.Conv2d(8, 8, 3, padding=1, padding_mode=mode),
       [f"member: torch.nn.functional.pad in mode '{mode}' is not supported", "take padding_mode='zeros'"])
      for mode in ("reflect", "replicate", "circular")),
    (nn.CircularPad2d(1), ["member: torch.nn.functional.pad in mode 'circular'", "or a constant, and train"]),
    (nn.ConvTranspose2d(8, 8, 2, 2, groups=8), ["member", "transposed convolutions in groups"]),
    (nn.Linear(8, 8), ["member: torch.nn.functional.linear"]),
    (nn.Conv2d(4, 8, 3), ["does not run", "expected input"]),
    (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 8)), ["member.1: torch.lstm is not supported"]),
    (nn.Conv2d(8, 8, 1).double(), ["member.weight is not float32"]),
])
def test_refused_modules(member, words):
    message = refusal(lambda m, x: m.member(x), member=member)
    assert all(word in message for word in words), message


def test_a_layer_called_twice_is_refused_by_name():
    message = refusal(lambda m, x: m.member(m.member(x).relu()), member=nn.Conv2d(8, 8, 1))
    assert "member.weight is used by both member and member_2" in message


def test_a_positional_embedding_is_refused_by_shape():
    message = refusal(lambda m, x: x + m.place, place=nn.Parameter(torch.randn(1, 8, 8, 8)))
    assert "torch.Tensor.add combines a map with a constant of shape (1, 8, 8, 8)" in message


def test_unused_parameters_are_named(caplog):
    with caplog.at_level(logging.WARNING, logger="edgesynth"):
        _, weights = trace(Body(lambda m, x: x.relu(), spare=nn.Linear(3, 3)), SHAPE)
    assert "are left out: spare.weight, spare.bias" in caplog.text
    assert not any(key.startswith("spare") for key in weights)


def test_idle_modules_are_named(caplog):
    class DropPath(nn.Module):
        def forward(self, x):
            return x * torch.rand(1) if self.training else x

    with caplog.at_level(logging.WARNING, logger="edgesynth"):
        assert ops(lambda m, x: m.relu(m.drop(m.same(x))), drop=DropPath(), relu=nn.ReLU(True), same=nn.Identity()) == [
            "activation"]
    assert "do nothing in evaluation are left out: drop (DropPath)" in caplog.text


def test_what_nobody_reads_may_be_anything():
    def with_statistics(m, x):
        m.seen = x.std()
        return x.relu()

    assert ops(with_statistics) == ["activation"]


def test_the_module_is_left_as_it_was():
    module = make("resnet").train()
    module.bn1.eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    trace(module, INPUT_SHAPE)
    assert module.training and module.fc.training and not module.bn1.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not module._forward_hooks and not nn.modules.module._global_forward_hooks


def test_a_wrong_translation_cannot_pass(monkeypatch):
    from synth.networks import module as modules

    monkeypatch.setitem(modules._BUILDERS, "add", lambda a, s: torch.sub)
    with pytest.raises(UserError, match=r"layer1\.0\.add \(add\) does not answer as the module does"):
        trace(make("resnet"), INPUT_SHAPE)


def test_dependence_on_the_batch_cannot_pass():
    message = refusal(lambda m, x: x * (1.0 if len(x) == 3 else 2.0))
    assert "does not answer a batch of 2 as the module does" in message


@pytest.mark.parametrize("shape", [(3, 8), (3, 8, 0)])
def test_a_bad_input_shape(shape):
    with pytest.raises(UserError, match="input shape"):
        trace(make("vgg"), shape)
