"""What is done with one candidate network."""

from __future__ import annotations

import torch

from synth.data.dataset import Split
from synth.run.candidates import STIMULI, stimuli_of


def test_stimuli_are_equally_many_of_each_class_and_each_once_more_with_noise():
    """As far as there are: of a rare class all."""
    labels = torch.tensor([0] * 400 + [1] * 300 + [2] * 10)
    images = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    found = stimuli_of(Split(images, labels), seed=0)
    plain, noisy = found.images.chunk(2)
    assert len(found.images) == STIMULI and torch.equal(*found.labels.chunk(2))
    rows = plain[:, 0, 0, 0].long()
    assert len(set(rows.tolist())) == len(rows) and torch.equal(labels[rows], found.labels[: len(rows)])
    assert torch.bincount(labels[rows]).tolist() == [59, 59, 10]
    assert 0.4 < float((noisy - plain).std()) < 0.6
    again = stimuli_of(Split(images, labels), seed=0)
    assert torch.equal(found.images, again.images)
