"""Metrics against hand counts, and their standard errors against simulation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from devices.support.errors import UserError
from synth.data.dataset import Split
from synth.training.evaluation import evaluate, logits


class Told(nn.Module):
    """Answers with what the images hold."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x.flatten(1) * self.one


def told(answers: torch.Tensor, labels: torch.Tensor) -> Split:
    return Split(answers[:, :, None, None], labels)


def test_metrics_by_hand():
    answers = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    metrics = evaluate(Told(), told(answers, torch.tensor([0, 0, 0])), batch=2)
    losses = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(1)), math.log(1 + math.exp(-3))]
    mean = sum(losses) / 3
    spread = math.sqrt(sum((loss - mean) ** 2 for loss in losses) / 2)
    assert metrics.accuracy == pytest.approx(2 / 3) and metrics.count == 3
    assert metrics.cross_entropy == pytest.approx(mean) and metrics.log_loss == pytest.approx(math.log(mean))
    assert metrics.log_loss_se == pytest.approx(spread / math.sqrt(3) / mean)
    assert set(metrics.to_json()) >= {"log_loss", "log_loss_se", "accuracy", "accuracy_se", "count"}


def test_standard_errors_are_the_spread_of_repeated_draws():
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(300):
        answers = torch.randn(200, 3, generator=random) * 2
        labels = torch.multinomial(torch.softmax(answers, 1), 1, generator=random)[:, 0]
        found.append(evaluate(Told(), told(answers, labels)))
    for value, error in (("log_loss", "log_loss_se"), ("accuracy", "accuracy_se")):
        spread = torch.tensor([getattr(metrics, value) for metrics in found]).std()
        mean = torch.tensor([getattr(metrics, error) for metrics in found]).mean()
        assert float(mean / spread) == pytest.approx(1, abs=0.15)


def test_a_perfect_answer_is_not_called_certain():
    metrics = evaluate(Told(), told(torch.tensor([[99.0, 0.0]] * 20), torch.zeros(20, dtype=torch.long)))
    assert metrics.accuracy == 1.0 and metrics.accuracy_se > 0.02 and math.isfinite(metrics.log_loss)
    assert math.isfinite(metrics.log_loss_se)
    one = evaluate(Told(), told(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)))
    assert one.count == 1 and one.log_loss_se == pytest.approx(1.0)


def test_an_answer_that_is_not_finite_is_said():
    answers = torch.zeros(5, 2)
    answers[3, 1] = float("nan")
    with pytest.raises(UserError, match="answers image 3 with NaN"):
        logits(Told(), answers[:, :, None, None])


def test_the_mode_is_left_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Dropout(0.9))
    split = told(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    assert evaluate(module.train(), split) == evaluate(module, split) and module.training
    evaluate(module.eval(), split)
    assert not module.training
