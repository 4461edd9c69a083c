import numpy as np
import pytest

from synth.search.decisions import Observation
from synth.search.link import LEAST_ERROR, SCATTER, SCATTER_WEIGHT, Link, least_error, log_error


def observed(loss, final=None):
    return Observation((0,), float(loss), 0.1, float(1 - np.exp(0.9 * loss - 1.1)), final)


def test_log_error_is_bounded_where_a_split_shows_no_error():
    assert log_error(1.0) == pytest.approx(np.log(LEAST_ERROR))
    assert log_error(0.9) == pytest.approx(np.log(0.1))


def test_a_split_without_an_error_stands_for_half_an_image():
    assert least_error(50) == 0.01 and least_error(None) == LEAST_ERROR
    losses = np.array([np.log(0.02), np.log(0.3), np.log(0.5)])
    right = [1.0, 0.9, 0.84]
    link = Link(images=50)
    link.fit([Observation((0,), float(loss), 0.1, a, a) for loss, a in zip(losses, right, strict=True)], losses)
    accuracy = 1 - np.exp(link.final_log_error(np.log(np.array([0.3, 0.6])), np.zeros(2))[0])
    assert accuracy[0] == pytest.approx(0.9, abs=0.03) and accuracy[1] > 0.7  # -0.4 where it stands for 1e-4


def test_the_prior_is_wide_and_narrows_with_full_trainings():
    losses = np.linspace(-2, -0.5, 12)
    blind, taught = Link(), Link()
    blind.fit([observed(v) for v in losses], losses)
    final = 1 - np.exp(0.9 * losses - 1.1 - 0.6)
    taught.fit([observed(v, f) for v, f in zip(losses, final, strict=True)], losses)
    at, sd = np.array([-1.2]), np.array([0.0])
    _, before = blind.final_log_error(at, sd)
    mean, after = taught.final_log_error(at, sd)
    assert after[0] < 0.5 * before[0]
    assert mean[0] == pytest.approx(0.9 * -1.2 - 1.7, abs=0.05)


def test_the_error_falls_with_the_loss():
    losses = np.linspace(-2, -0.5, 8)
    link = Link()
    link.fit([observed(v, 1 - np.exp(0.9 * v - 1.5)) for v in losses], losses)
    mean, _ = link.final_log_error(np.array([-2.0, -1.0]), np.full(2, 0.05))
    assert mean[0] < mean[1]


def test_uncertainty_of_the_loss_comes_through():
    link = Link()
    link.fit([observed(v, 1 - np.exp(0.9 * v - 1.5)) for v in (-2.0, -1.0, -0.5)], np.array([-2.0, -1.0, -0.5]))
    _, narrow = link.final_log_error(np.array([-1.0]), np.array([0.0]))
    _, wide = link.final_log_error(np.array([-1.0]), np.array([0.5]))
    assert wide[0] == pytest.approx(np.hypot(narrow[0], 0.9 * 0.5), rel=0.1)


def test_a_network_that_turned_out_unlike_the_link_widens_its_scatter():
    losses = np.linspace(-2, -0.5, 8)
    exact = [observed(v, 1 - np.exp(0.9 * v - 1.5)) for v in losses]
    rough = [observed(v, 1 - np.exp(0.9 * v - 1.5 + 0.4 * (-1) ** i)) for i, v in enumerate(losses)]
    smooth, scattered = Link(), Link()
    smooth.fit(exact, losses)
    scattered.fit(rough, losses)
    assert scattered.scatter > 2 * smooth.scatter


@pytest.mark.parametrize("count", [3, 6, 20])
def test_the_scatter_of_few_full_trainings_is_not_called_small(count):
    """Mean square over many draws: what is left beside the line, over the freedom that the line leaves, and a prior."""
    random, true, found = np.random.default_rng(count), 0.2, []
    for _ in range(200):
        losses = random.uniform(-2, -0.5, count)
        final = 1 - np.exp(0.9 * losses - 1.5 + true * random.standard_normal(count))
        link = Link()
        link.fit([observed(v, f) for v, f in zip(losses, final, strict=True)], losses)
        found.append(link.scatter**2)
    free = max(count - 2, 0)
    expected = (SCATTER_WEIGHT * SCATTER**2 + free * true**2) / (SCATTER_WEIGHT + free)
    assert 0.9 * expected < np.mean(found) < true**2 * 1.1
