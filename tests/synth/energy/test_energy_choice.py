"""What is worth a measurement: nothing that is clear, what matters, what tells of many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from synth.energy.choice import Question, choose, expected_doubt
from synth.space.correction import Residuals


def question(slack, features=None, noise=0.02, batch=8):
    features = np.random.default_rng(0).normal(size=(len(slack), 5)) if features is None else features
    return Question(np.asarray(slack, dtype=float), Residuals(0.3).covariance(features), noise, batch)


@pytest.mark.parametrize("place", [-1.5, 0.0, 0.4])
@pytest.mark.parametrize("explained", [0.0, 0.3, 0.9])
def test_the_expected_doubt_is_that_of_a_simulation(place, explained):
    random = np.random.default_rng(5)
    mean = place + np.sqrt(explained) * random.standard_normal(400_000)
    chance = norm.cdf(mean / np.sqrt(1 - explained))
    assert expected_doubt(np.array(place), np.array(explained)) == pytest.approx((chance * (1 - chance)).mean(),
                                                                                  abs=2e-3)


def test_a_measurement_that_tells_all_leaves_no_doubt():
    assert expected_doubt(np.array([0.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx(0.0, abs=1e-12)


def test_nothing_is_measured_where_nothing_is_in_doubt():
    assert choose([question(np.full(20, 5.0))], np.ones(20), 4) == []
    assert choose([], np.ones(3), 4) == []
    assert choose([question(np.zeros(3))], np.zeros(3), 4) == []


def test_what_is_in_doubt_and_matters_is_measured():
    apart = 40.0 * np.eye(6)[:, :5]  # networks that share only what is common to all
    slack = np.array([0.0, 3.0, 0.0, 3.0, 3.0, 3.0])
    weight = np.array([1.0, 1.0, 0.01, 1.0, 1.0, 1.0])
    assert choose([question(slack, apart)], weight, 1)[0].row == 0


def test_one_of_a_crowd_is_worth_more_than_a_loner():
    features = np.concatenate([np.random.default_rng(0).normal(0, 0.1, (9, 5)), np.full((1, 5), 30.0)])
    first, second = choose([question(np.zeros(10), features)], np.ones(10), 2)
    assert first.row < 9 and second.row == 9 and first.gain > second.gain


def test_what_is_known_is_not_measured_again_and_batches_are_kept_apart():
    two = [question(np.zeros(5), batch=1), question(np.full(5, 0.1), batch=16)]
    picked = choose(two, np.ones(5), 4, frozenset({(0, 1), (0, 16)}))
    assert {one.batch for one in picked} == {1, 16} and all(one.row for one in picked)
    assert len({(one.row, one.batch) for one in picked}) == len(picked)


def test_a_noisy_sensor_teaches_less():
    quiet, loud = (choose([question(np.zeros(8), noise=noise)], np.ones(8), 1)[0].gain for noise in (0.01, 0.5))
    assert quiet > 2 * loud
