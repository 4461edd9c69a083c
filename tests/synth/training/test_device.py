"""Where trainings run. No GPU is needed: torch's "meta" device has shapes and no numbers, and refuses, as a GPU does,
to work with a tensor that was left on the CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from devices.support.errors import UserError
from synth.data.dataset import Split
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.run.candidates import Task, run_task, shared_arrays, stimuli_of
from synth.training.device import AUTO, CPU, CUDA, Compute, device_named
from synth.training.distillation import teacher_logits
from synth.training.recipe import RECIPES
from synth.training.training import train
from synth.training.workers import Pool

RECIPE = replace(RECIPES["cifar10"]["final"], epochs=2, batch=16, view_epochs=2, small_px=12, small_share=0.5)
SHAPE = (3, 16, 16)


def traced():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                           nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return trace(module, SHAPE, "small")


def split(count: int) -> Split:
    return Split(torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 10)


@pytest.fixture
def elsewhere(monkeypatch):
    """The name of a device whose numbers come back as zeros where they are asked for."""
    to_cpu, to_float = torch.Tensor.cpu, torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: torch.zeros(t.shape, dtype=t.dtype) if t.is_meta else to_cpu(t))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: 1.0 if t.is_meta else to_float(t))
    return "meta"


def test_the_stand_in_refuses_what_a_gpu_refuses():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    with pytest.raises(RuntimeError, match="is not on the expected device"):
        here + there


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named(AUTO) == CUDA == device_named(CUDA) and device_named(CPU) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named(AUTO) == CPU
    with pytest.raises(UserError, match="no GPU here; use --device cpu"):
        device_named(CUDA)


def test_a_training_leaves_nothing_on_the_cpu(elsewhere):
    network, weights = traced()
    there = split(40).to(elsewhere)
    logits = teacher_logits(build(network, weights).to(elsewhere), there, RECIPE, view_seed=0)
    assert logits.shape == (2, 40, 10) and not logits.is_meta  # kept for all who learn from it
    module = build(network, weights).to(elsewhere)
    history = train(module, there, RECIPE, seed=0, view_seed=0, teacher=logits.to(elsewhere))
    assert history.images == 80 and all(p.is_meta for p in module.parameters())


@pytest.mark.parametrize("recipe", [None, RECIPE])
def test_a_candidate_is_trained_where_the_shared_arrays_are(elsewhere, recipe):
    network, weights = traced()
    shared = shared_arrays(split(40), split(20), stimuli_of(split(300), 0)) | {"logits": torch.zeros(2, 40, 10)}
    names = tuple(v.name for v in network.vertices if v.op == "conv")
    task = Task(network, weights, 0, recipe, "logits", 0, names, keep_weights=True)
    (outcome,) = Pool(Compute(1, elsewhere), shared).map(run_task, [task])
    assert set(outcome.insights) == set(names) and outcome.metrics.count == 20
    assert not any(tensor.is_meta for tensor in outcome.weights.values())
