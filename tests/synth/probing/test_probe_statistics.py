"""Statistics of responses on cases whose answer is known."""

import pytest
import torch

from synth.probing.probe_statistics import effective_rank, label_dependence, redundancy

RANDOM = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=RANDOM, dtype=torch.float64)


def test_effective_rank_counts_directions_of_equal_strength():
    drawn = noise(500, 4)
    basis, _ = torch.linalg.qr(drawn - drawn.mean(0))
    for rank in (1, 2, 4):
        assert effective_rank(basis[:, :rank]) == pytest.approx(rank, abs=1e-6)
    mixed = basis[:, :2] @ torch.linalg.qr(noise(8, 2))[0].T
    assert effective_rank(mixed) == pytest.approx(2.0, abs=1e-6)  # eight channels, two directions
    assert effective_rank(torch.ones(50, 3)) == 0.0


def test_effective_rank_does_not_see_scale_or_shift():
    responses = noise(200, 5)
    assert effective_rank(7 * responses + 3) == pytest.approx(effective_rank(responses))


def test_dependence_is_one_on_the_label_itself_and_near_zero_on_noise():
    labels = torch.randint(0, 4, (2000,), generator=RANDOM)
    exact = torch.nn.functional.one_hot(labels).double()
    assert label_dependence(exact, labels) == pytest.approx(1.0)
    assert label_dependence(noise(2000, 4), labels) < 0.02
    weak, strong = exact + 3 * noise(2000, 4), exact + 0.3 * noise(2000, 4)
    assert label_dependence(weak, labels) < label_dependence(strong, labels) < 1


def test_redundancy_is_one_for_copies_and_near_zero_for_independent_channels():
    one = noise(1000, 1)
    assert redundancy(torch.cat([one, -2 * one + 1, 5 * one], dim=1)) == pytest.approx(1.0)
    assert redundancy(noise(5000, 6)) < 0.05
    half = torch.cat([one, one, noise(1000, 1)], dim=1)
    assert redundancy(half) == pytest.approx(1 / 3, abs=0.05)


def test_redundancy_passes_over_dead_channels():
    one = noise(100, 1)
    assert redundancy(torch.cat([one, one, torch.zeros(100, 1)], dim=1)) == pytest.approx(1.0)
    assert redundancy(torch.zeros(100, 3)) == 0.0
