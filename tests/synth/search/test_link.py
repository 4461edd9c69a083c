import numpy as np
import pytest

from synth.search.decisions import Observation
from synth.search.link import GAIN, LEAST_ERROR, SCATTER, SCATTER_WEIGHT, Link, least_error, log_error


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


def test_the_accuracy_of_a_short_training_goes_with_its_loss():
    losses = np.linspace(-2, -0.5, 40)
    link = Link()
    link.fit([observed(v) for v in losses], losses)
    assert link.short_accuracy(losses) == pytest.approx(1 - np.exp(0.9 * losses - 1.1), abs=0.005)
    assert link.short_accuracy(np.array([3.0])) == [0.0]


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


def taught(finals, likeness, images=5000, losses=(-0.5, -0.5, -0.4)):
    link, losses = Link(images=images), np.array(losses)
    short = [Observation((0,), float(v), 0.1, float(1 - np.exp(0.9 * v - 1.1)), f)
             for v, f in zip(losses, finals, strict=True)]
    link.fit(short, losses, likeness=np.asarray(likeness))
    return link


def test_what_full_training_made_beyond_the_line_is_believed_of_networks_like_it():
    apart = np.eye(3)
    link = taught([0.88, 0.86, 0.85], apart)
    assert 0.5 < link.alike < 1
    at, sd = np.full(4, -0.5), np.zeros(4)
    like = np.array([[1.0, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 1.0, 0]])
    error, spread = link.final_log_error(at, sd, like)
    itself, near, other, second = 1 - np.exp(error)
    assert itself == pytest.approx(0.88, abs=0.004) and second == pytest.approx(0.86, abs=0.004)
    assert other < near < itself  # half as like, half of what is beyond the line
    assert spread[0] < spread[1] < spread[2]
    unlike, apart_sd = link.final_log_error(at, sd)
    assert unlike[2] == pytest.approx(error[2]) and apart_sd[2] == pytest.approx(spread[2])


def test_two_that_are_alike_and_differ_agree_on_their_middle():
    link = taught([0.88, 0.86, 0.85], [[1.0, 1.0, 0], [1.0, 1.0, 0], [0, 0, 1.0]])
    error, _ = link.final_log_error(np.full(1, -0.5), np.zeros(1), np.array([[1.0, 1.0, 0.0]]))
    assert 1 - np.exp(error[0]) == pytest.approx(0.87, abs=0.005)


def test_scatter_that_counting_on_few_images_explains_says_nothing_of_others():
    few, plain = taught([0.88, 0.86, 0.85], np.eye(3), images=100), Link(images=100)
    plain.fit([Observation((0,), v, 0.1, float(1 - np.exp(0.9 * v - 1.1)), f)
               for v, f in ((-0.5, 0.88), (-0.5, 0.86), (-0.4, 0.85))], np.array([-0.5, -0.5, -0.4]))
    assert few.alike == 0
    at, sd, like = np.full(2, -0.5), np.zeros(2), np.array([[1.0, 0, 0], [0, 1, 0]])
    assert np.array_equal(few.final_log_error(at, sd, like)[0], plain.final_log_error(at, sd)[0])


def test_the_links_own_part_of_what_it_does_not_know():
    link = taught([0.88, 0.86, 0.85], np.eye(3))
    at, like = np.array([-0.5, -0.3]), np.array([[1.0, 0, 0], [0, 0, 0.3]])
    _, own = link.final_log_error(at, np.zeros(2), like)
    _, whole = link.final_log_error(at, np.array([0.1, 0.2]), like)
    assert link.common_sd(whole, np.array([0.1, 0.2])) == pytest.approx(own) and (whole > own).all()


@pytest.mark.parametrize(("images", "count", "least"), [(360, 3, 0.8), (360, 8, 0.88), (5000, 3, 0.9)])
def test_what_full_training_will_be_counted_to_lies_where_it_is_said_to(images, count, least):
    """The share of 95 % intervals that hold it, of networks at known losses, over many draws of networks and images."""
    random, inside = np.random.default_rng([images, count]), []
    for _ in range(200):
        losses = random.uniform(-2.5, -1.0, 24)
        error = np.exp(0.9 * losses - 1.1 + GAIN + SCATTER * random.standard_normal(24))
        accuracy = 1 - random.binomial(images, error) / images
        link = Link(images=images)
        link.fit([observed(v, a if i < count else None) for i, (v, a) in
                  enumerate(zip(losses, accuracy, strict=True))], losses, likeness=np.eye(count))
        mean, sd = link.final_log_error(losses[count:], np.zeros(24 - count), np.zeros((24 - count, count)))
        inside.append(np.abs(log_error(accuracy[count:], link.least_error) - mean) <= 1.96 * sd)
    assert least < np.mean(inside) < 0.99
