"""What is read off responses does not depend on how many stimuli are looked at together."""

from __future__ import annotations

import module_zoo
import numpy as np
import pytest
import torch

from devices.board import resolve_target
from synth.data.dataset import Split
from synth.networks.channels import channels_of
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.probing import probing
from synth.space import bank
from synth.space.bank import elastic_parent
from synth.space.prices import Prices
from synth.space.space import WIDTH, NetworkSpace

NETWORK, WEIGHTS = trace(module_zoo.make("resnet"), module_zoo.INPUT_SHAPE, "resnet")


def stimuli(count=24, scale=1):
    random = torch.Generator().manual_seed(1)
    channels, height, width = module_zoo.INPUT_SHAPE
    return Split(torch.randn(count, channels, height * scale, width * scale, generator=random),
                 torch.randint(0, NETWORK.output_shape[0], (count,), generator=random))


def test_stimuli_may_be_looked_at_in_parts(monkeypatch):
    module = build(NETWORK, WEIGHTS)
    names = [v.name for v in NETWORK.vertices if v.op in ("conv", "linear")]

    def read(at_once):
        monkeypatch.setattr(probing, "AT_ONCE", at_once)
        found = probing.probe(module, stimuli(), names)
        return ([(i.rank, i.dependence, i.redundancy) for i in found.values()],
                probing.importance(module, channels_of(NETWORK), stimuli()))

    whole, parts = read(24), read(5)
    assert len(whole[0]) == len(names) and whole[1].max() > 0
    for one, other in zip(whole, parts, strict=True):
        assert np.allclose(one, other, rtol=1e-4)


def test_importance_by_hand():
    """Where one linear layer reads the units: the slope of the loss there is known."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                                 torch.nn.Flatten(), torch.nn.Linear(4, 10))
    network, weights = trace(module, module_zoo.INPUT_SHAPE)
    channels, split = channels_of(network), stimuli()
    with torch.no_grad():
        wrong = module(split.images).softmax(1) - torch.nn.functional.one_hot(split.labels, 10)
        expected = (module[:4](split.images) * (wrong @ module[4].weight)).square().mean(0)
    found = probing.importance(build(network, weights), channels, split)
    assert found[channels.labels["0"]] == pytest.approx(expected.numpy(), rel=1e-4)


def test_of_large_stimuli_the_fit_looks_at_fewer(monkeypatch):
    seen = []
    monkeypatch.setattr(bank, "PIXELS", 24 * module_zoo.INPUT_SHAPE[1] * module_zoo.INPUT_SHAPE[2])
    monkeypatch.setattr(bank, "responses", lambda module, images: seen.append(len(images)) or real(module, images))
    real = probing.responses
    for scale in (1, 2):
        with torch.no_grad():
            elastic_parent(NETWORK, WEIGHTS, stimuli(24, scale).images)
    assert seen == [24, 6]


@pytest.mark.parametrize("expansion", [1, 2])
def test_swaps_are_of_the_prototype_and_one_decision_each(expansion):
    """However much wider the networks of the space may be."""
    wide = elastic_parent(NETWORK, WEIGHTS, stimuli().images).widened(expansion)
    units = probing.importance(build(wide.network, wide.weights()), wide.channels, stimuli())
    space = NetworkSpace(wide, probing.order_of_units(wide.channels, units),
                         Prices(Requirements.parse(()), resolve_target("tx2")))
    for name, own in wide.own_widths.items():
        group = next(g for g in wide.channels.groups if g.name == name)
        assert set(space.order[name][:own]) == set(group.units[:own]), "what nothing reads is the least important"
    swaps = probing.single_swaps(space, 1000)
    assert all(sum(a != b for a, b in zip(swap, space.own, strict=True)) == 1 for swap in swaps)
    assert all(choice <= own for swap in swaps for site, choice, own in zip(space.sites, swap, space.own, strict=True)
               if site.kind == WIDTH), "what is wider answers as the prototype does"
    probes = probing.Probes(space, units, {})
    probes.record(swaps[0], {}, 0.25)
    (told,) = zip(*np.nonzero(probes.table.values[:, :, 0] == 0.25), strict=True)
    changed = next(i for i, (a, b) in enumerate(zip(swaps[0], space.own, strict=True)) if a != b)
    assert told == (changed, swaps[0][changed])
    for swap in swaps:
        probes.record(swap, {}, 0.5)
    filled = probes.table.filled()
    for column, site in enumerate(space.sites):
        beyond = filled[column, space.own[column]:len(site.choices), 0]
        assert site.kind != WIDTH or np.abs(beyond).max() < 0.1, "as wide as the prototype, or wider: no damage"


def test_rows_that_are_sorted_by_class_do_not_set_the_norms_of_swaps_alone():
    """Batch norms of what is not trained see rows from all over the split."""
    from synth.run.candidates import Task, run_task

    images = torch.cat([torch.full((300, *module_zoo.INPUT_SHAPE), value) for value in (-1.0, 1.0)])
    images += 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(600) // 300
    shared = {"train.images": images, "train.labels": labels, "validation.images": images[::50],
              "validation.labels": labels[::50], "stimuli.images": images[::50], "stimuli.labels": labels[::50]}
    outcome = run_task(shared, Task(NETWORK, WEIGHTS, 0, None, None, 0, (), keep_weights=True))
    norm = next(v.name for v in NETWORK.vertices if v.op == "batch_norm")
    conv = next(v.name for v in NETWORK.vertices if v.op == "conv")
    with torch.no_grad():
        answers = probing.responses(build(NETWORK, WEIGHTS).eval(), images)[conv]
    variance = answers.var(dim=(0, 2, 3))
    assert outcome.weights is not None
    assert outcome.weights[f"{norm}.running_var"] == pytest.approx(variance, rel=0.1)
