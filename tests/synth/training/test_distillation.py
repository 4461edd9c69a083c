import pytest
import torch
from torch import nn

from synth.training.distillation import Committee


class Says(nn.Module):
    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_a_committee_answers_the_mean_of_its_members_probabilities():
    sure, unsure = Says(0.0, 20.0, 0.0), Says(1.0, 0.0, 0.0)
    images = torch.zeros(4, 3, 2, 2)
    with torch.no_grad():
        answer = Committee([sure, unsure])(images)
        expected = (sure(images).softmax(1) + unsure(images).softmax(1)) / 2
    assert answer.shape == (4, 3) and answer.exp().numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert torch.allclose(answer.softmax(1), answer.exp())  # log probabilities are logits too


def test_a_committee_of_one_answers_as_its_member_does():
    member = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    images = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(Committee([member])(images).softmax(1), member(images).softmax(1), atol=1e-6)
