"""The elastic parent: what candidates inherit, and what they write back."""

import functools

import module_zoo
import numpy as np
import pytest
import torch

from synth.networks.module import build, check, responses, weights_of
from synth.networks.rewriting import INVERTED, OPERATORS, following_norm
from synth.networks.tracing import trace
from synth.space.bank import _regress, elastic_parent
from synth.space.parent import Design

ALL_KEPT: dict = {}
OTHERS = OPERATORS[:-1]


@functools.cache
def parent_of(name):
    network, weights = trace(module_zoo.make(name), module_zoo.INPUT_SHAPE, name)
    images = torch.randn(48, *module_zoo.INPUT_SHAPE, generator=torch.Generator().manual_seed(0))
    return elastic_parent(network, weights, images), images


def design(parent, choice="dense", share=1.0, attention=()):
    kept = {g.name: list(g.units[: max(1, round(share * g.width))]) for g in parent.channels.groups if not g.frozen}
    return Design(kept, dict.fromkeys(parent.replaceable, choice), (), attention=attention)


def test_the_whole_network_inherits_its_own_weights():
    parent, images = parent_of("resnet")
    network, origins = parent.draw(design(parent))
    assert network.digest == parent.network.digest
    with torch.no_grad():
        mine = build(network, parent.inherit(origins)).eval()(images)
        own = build(parent.network, parent.weights()).eval()(images)
    assert torch.equal(mine, own)


@pytest.mark.parametrize("name", module_zoo.ZOO)
@pytest.mark.parametrize("choice", OTHERS)
def test_every_structure_inherits_for_every_operator(name, choice):
    parent, images = parent_of(name)
    network, origins = parent.draw(design(parent, choice, 0.6))
    module = build(network, parent.inherit(origins)).eval()
    check(module)
    with torch.no_grad():
        for value in responses(module, images[:4]).values():
            assert torch.isfinite(value).all()


@pytest.mark.parametrize("expansion", [1, 2])
@pytest.mark.parametrize("choice", OPERATORS)
def test_attention_is_inherited_nearly_open_by_every_operator(choice, expansion):
    parent, images = parent_of("resnet")
    parent = parent.widened(expansion)
    places = parent.into_additions
    module = build(*(attentive := inherited(parent, design(parent, choice, 0.6, places)))).eval()
    check(module)
    answers = responses(module, images[:4])
    for name in places:
        gated, (source, _) = answers[f"{name}.gated"], attentive[0][f"{name}.gated"].inputs
        assert torch.allclose(gated, answers[source] * 11 / 12, atol=1e-6) and gated.abs().max() > 0
    answers[places[-1]].square().sum().backward()
    for kind in ("weight", "bias"):  # and can learn
        assert getattr(module.layer(f"{places[-1]}.excite"), kind).grad.abs().max() > 0


def inherited(parent, wanted):
    network, origins = parent.draw(wanted)
    return network, parent.inherit(origins)


@pytest.mark.parametrize("choice", OTHERS)
def test_a_fitted_operator_answers_better_than_the_mean(choice):
    """On φ's own activations the fit explains part of what the convolution answers; "project" explains the most."""
    parent, images = parent_of("resnet")
    name = parent.replaceable[2]
    network, origins = parent.draw(Design(design(parent).kept, {name: choice}, ()))
    with torch.no_grad():
        wanted = responses(build(parent.network, parent.weights()).eval(), images)[name]
        found = responses(build(network, parent.inherit(origins)).eval(), images)
    centred = wanted - wanted.mean(dim=(0, 2, 3), keepdim=True)
    left = (found[name] - found[name].mean(dim=(0, 2, 3), keepdim=True)) - centred
    assert left.square().mean() < 0.98 * centred.square().mean()
    if choice != INVERTED:  # there each channel is fitted on its own
        last = network[name]
        read = torch.nn.functional.unfold(found[last.inputs[0]], last.attrs["kernel"], padding=last.attrs["padding"],
                                          stride=last.attrs["stride"]).transpose(1, 2).flatten(0, 1)
        target = centred.permute(0, 2, 3, 1).flatten(0, 2)
        read = read - read.mean(0)
        best = target - read @ torch.linalg.lstsq(read, target).solution
        assert left.square().mean() < 1.05 * best.square().mean(), "of what the last convolution reads"


def test_without_a_constant_the_regression_goes_through_the_origin():
    random = torch.Generator().manual_seed(4)
    x, y = 1 + torch.randn(4, 3, 10, 10, generator=random), 3 + torch.randn(4, 2, 10, 10, generator=random)
    weight, _ = _regress(x, y, 1, (1, 1), False)
    design, target = (each.permute(0, 2, 3, 1).flatten(0, 2) for each in (x, y))
    torch.testing.assert_close(weight.flatten(1), torch.linalg.lstsq(design, target).solution.T, rtol=0, atol=0.01)


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 2), (5, 1)])
def test_the_regression_finds_the_convolution_that_made_the_answers(kernel, stride):
    """From rows that are chosen among more than it takes."""
    convolution = torch.nn.Conv2d(3, 5, kernel, stride, kernel // 2)
    x = torch.randn(12, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        weight, bias = _regress(x, convolution(x), kernel, (stride, stride), True)
    torch.testing.assert_close(weight, convolution.weight, rtol=0, atol=0.02)
    torch.testing.assert_close(bias, convolution.bias, rtol=0, atol=0.02)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (5, 2)])
def test_the_regression_finds_a_depthwise_convolution(kernel, stride):
    convolution = torch.nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=4)
    x = torch.randn(12, 4, 40, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        weight, bias = _regress(x, convolution(x), kernel, (stride, stride), True, depthwise=True)
    torch.testing.assert_close(weight, convolution.weight, rtol=0, atol=0.02)
    torch.testing.assert_close(bias, convolution.bias, rtol=0, atol=0.02)


def test_norms_are_kept_for_each_operator():
    parent, _ = parent_of("resnet")
    name = parent.replaceable[0]
    norm = following_norm(parent.network, name)
    assert norm is not None
    own = parent.bank[f"{norm.name}.running_var"]
    assert not torch.equal(own, parent.bank[f"pointwise:{norm.name}.running_var"])
    for choice in OTHERS:
        _, origins = parent.draw(Design(ALL_KEPT, {name: choice}, ()))
        assert {origins[f"{norm.name}.{t}"].key for t in ("weight", "bias", "running_mean", "running_var")} == {
            f"{choice}:{norm.name}.{t}" for t in ("weight", "bias", "running_mean", "running_var")}


def test_write_back_moves_just_the_slice_that_was_used_and_by_its_step():
    parent, _ = parent_of("vgg")
    parent.bank = {key: tensor.clone() for key, tensor in parent.bank.items()}
    before = {key: tensor.clone() for key, tensor in parent.bank.items()}
    _, origins = parent.draw(design(parent, "separable", 0.5))
    learnt = {key: tensor + 1.0 for key, tensor in parent.inherit(origins).items()}
    parent.write_back([(origins, learnt)], 0.1)
    for key, origin in origins.items():
        assert torch.allclose(parent.inherit({key: origin})[key], learnt[key] - 0.9, atol=1e-6)
    touched = {origin.key for origin in origins.values()}
    assert all(torch.equal(before[key], parent.bank[key]) for key in before if key not in touched)
    weight = f"separable:{parent.replaceable[1]}.weight"
    changed = (before[weight] != parent.bank[weight]).sum()
    assert 0 < changed < before[weight].numel()


def test_training_a_candidate_leaves_the_bank_alone():
    parent, images = parent_of("vgg")
    before = {key: tensor.clone() for key, tensor in parent.bank.items()}
    network, origins = parent.draw(design(parent, "dense", 0.5))
    module = build(network, parent.inherit(origins)).train()
    module(images).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert weights_of(module)
    assert all(torch.equal(before[key], parent.bank[key]) for key in before)


def test_units_can_be_kept_in_any_order():
    parent, _ = parent_of("resnet")
    random = np.random.default_rng(0)
    kept = {g.name: random.permutation(g.units)[: max(1, g.width // 2)] for g in parent.channels.groups if not g.frozen}
    network, origins = parent.draw(Design(kept, {}, ()))
    check(build(network, parent.inherit(origins)))


@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_a_widened_parent_computes_what_the_prototype_does(name):
    parent, images = parent_of(name)
    wide = parent.widened(2)
    with torch.no_grad():
        wanted = build(parent.network, parent.weights()).eval()(images[:4])
        found = build(wide.network, wide.weights()).eval()(images[:4])
    for one, other in zip(as_tuple(wanted), as_tuple(found), strict=True):
        torch.testing.assert_close(one, other)
    assert parent.widened(1) is parent


def as_tuple(answer):
    return answer if isinstance(answer, tuple) else (answer,)


@pytest.mark.parametrize("choice", OPERATORS)
def test_what_a_widened_parent_has_at_own_widths_is_the_prototypes(choice):
    """For every operator: the same tensors."""
    parent, _ = parent_of("resnet")
    wide = parent.widened(2)
    assert wide.own_widths and wide.network.digest != parent.network.digest
    kept = {g.name: list(g.units[:wide.own_widths[g.name]]) for g in wide.channels.groups if g.name in wide.own_widths}
    for mine, own in ((kept, {}), ({**kept, **halves(wide, kept)}, halves(parent, {}))):
        (network, origins), (plain, wanted) = (
            p.draw(Design(some, dict.fromkeys(p.replaceable, choice), ()))
            for p, some in ((wide, mine), (parent, own)))
        assert network.digest == plain.digest
        found, expected = wide.inherit(origins), parent.inherit(wanted)
        assert all(torch.equal(found[key], expected[key]) for key in expected) and found.keys() == expected.keys()


def halves(parent, own):
    """The first half of φ's units everywhere."""
    return {g.name: list(g.units[:max(1, len(own.get(g.name, g.units)) // 2)])
            for g in parent.channels.groups if not g.frozen}


def test_new_channels_of_a_widened_parent_can_learn():
    """Nothing reads them yet, but what they answer is something, and so is the slope of their weights to come."""
    parent, images = parent_of("resnet")
    wide = parent.widened(2)
    module = build(wide.network, wide.weights()).eval()
    name, own = next(iter(wide.own_widths.items()))
    assert responses(module, images[:4])[name].detach()[:, own:].abs().mean() > 0.01
    module(images[:4]).square().sum().backward()
    read = [parameter for parameter in module.parameters() if parameter.dim() == 4
            and parameter.shape[1] == 2 * own and not parameter[:, own:].any()]
    assert read and read[0].grad[:, own:].abs().max() > 0


def test_no_two_operators_share_a_tensor():
    parent, _ = parent_of("resnet")
    places = [tensor.data_ptr() for tensor in parent.bank.values()]
    assert len(set(places)) == len(places)
