"""Modules built from networks, and their weights."""

from __future__ import annotations

import pytest
import torch
from module_zoo import INPUT_SHAPE, ZOO, make
from torch import nn

from devices.support.errors import UserError
from synth.networks.module import _BUILDERS, build, check, load_weights, responses, weights_of
from synth.networks.network import Network, Vertex
from synth.networks.operators import operator_names
from synth.networks.tracing import trace

IMAGES = torch.randn(2, *INPUT_SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def resnet():
    return trace(make("resnet"), INPUT_SHAPE)


def test_every_operator_can_be_built():
    assert set(_BUILDERS) == set(operator_names()) - {"input"}


@pytest.mark.parametrize("name", ZOO)
def test_weights_go_out_and_in(name):
    network, weights = trace(make(name), INPUT_SHAPE)
    module = build(network, weights).eval()
    found = weights_of(module)
    assert found.keys() == weights.keys() and all(torch.equal(found[k], weights[k]) for k in weights)
    other = build(network).eval()
    with torch.no_grad():
        assert not same(other(IMAGES), module(IMAGES))
        load_weights(other, found)
        assert same(other(IMAGES), module(IMAGES))
    check(other, batch=3)


def same(a, b) -> bool:
    pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
    return all(torch.equal(x, y) for x, y in pairs)


def test_weights_are_copies(resnet):
    network, weights = resnet
    module = build(network, weights)
    taken = weights_of(module)
    with torch.no_grad():
        module.layer("conv1").weight.zero_()
    assert taken["conv1.weight"].any() and weights["conv1.weight"].any()


def test_wrong_weights_are_named(resnet):
    network, weights = resnet
    missing = {k: v for k, v in weights.items() if k != "fc.bias"}
    with pytest.raises(UserError, match=r"hold no fc\.bias"):
        build(network, missing)
    with pytest.raises(UserError, match=r"fc\.weight has shape \(10, 23\) in the weights and \(10, 24\)"):
        build(network, {**weights, "fc.weight": torch.zeros(10, 23)})


def test_layers_by_vertex(resnet):
    module = build(*resnet)
    assert isinstance(module.layer("layer2.0.project.0"), nn.Conv2d)
    with pytest.raises(KeyError):
        module.layer("layer2.0.add")


@pytest.mark.parametrize("name", ZOO)
def test_responses_of_every_vertex(name):
    network, weights = trace(make(name), INPUT_SHAPE)
    module = build(network, weights).eval()
    with torch.no_grad():
        found = responses(module, IMAGES)
        answer = module(IMAGES)
    assert {n: tuple(r.shape[1:]) for n, r in found.items()} == network.shapes
    outputs = tuple(found[n] for n in network.outputs)
    assert same(outputs if len(outputs) > 1 else outputs[0], answer)


def test_several_outputs_come_as_a_tuple():
    network, weights = trace(make("shape_controlled"), INPUT_SHAPE)
    answer = build(network, weights).eval()(IMAGES)
    assert isinstance(answer, tuple) and [a.shape for a in answer] == [(2, 10), (2, 10)]


def test_dropout_and_statistics_train():
    network, weights = trace(make("vgg"), INPUT_SHAPE)
    module = build(network, weights).train()
    assert not torch.equal(module(IMAGES), module(IMAGES))
    loss = module(IMAGES).square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert not torch.equal(weights_of(module)["features.1.running_mean"], weights["features.1.running_mean"])


def test_a_training_step_moves_as_the_original_does():
    original = make("resnet")
    network, weights = trace(original, INPUT_SHAPE)
    module = build(network, weights)
    for m in (original, module):
        m.train()(IMAGES).square().mean().backward()
    gradient = dict(original.named_parameters())["layer2.0.conv1.weight"].grad
    assert torch.allclose(module.layer("layer2.0.conv1").weight.grad, gradient, rtol=1e-3, atol=1e-5)
    assert torch.allclose(module.layer("bn1").running_var, original.bn1.running_var, rtol=1e-4)


def test_check_names_what_cannot_run(resnet, monkeypatch):
    network, weights = resnet
    module = build(network, weights).train()
    check(module)
    assert module.training
    monkeypatch.setitem(_BUILDERS, "subsample", lambda a, s: lambda x: x)
    with pytest.raises(UserError, match=r"layer3\.0\.subsample \(subsample\) gives \(2, 16, 8, 8\), not"):
        check(build(network, weights))
    monkeypatch.setitem(_BUILDERS, "subsample", lambda a, s: lambda x: x @ x.new_zeros(3, 3))
    with pytest.raises(UserError, match=r"layer3\.0\.subsample \(subsample\) cannot run"):
        check(build(network, weights))


def test_values_are_dropped_as_soon_as_nobody_reads_them():
    network, weights = trace(make("densenet"), INPUT_SHAPE)
    module = build(network, weights)
    dropped = {slot for *_, dead in module._program for slot in dead}
    kept = {i for i, v in enumerate(network.vertices) if v.name in network.outputs}
    assert dropped == set(range(len(network.vertices))) - kept


def test_vertices_named_like_methods_of_torch():
    relu = Vertex("keys", "activation", {"kind": "relu"}, ("input",))
    conv = Vertex("update", "linear", {"out": 3, "bias": True}, ("flat",))
    network = Network((Vertex("input", "input", {"shape": [1, 2, 2]}), relu, Vertex("flat", "flatten", {}, ("keys",)),
                       conv), ("update",))
    module = build(network)
    assert set(weights_of(module)) == {"update.weight", "update.bias"}
    assert isinstance(module.layer("update"), nn.Linear)
    load_weights(module, weights_of(module))
