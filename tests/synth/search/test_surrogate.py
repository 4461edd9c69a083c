import numpy as np
import pytest
from scipy.optimize import check_grad
from toy_problem import SITES, ToyProblem

import synth.search.surrogate
from synth.search.moves import Moves
from synth.search.surrogate import PRIOR_LOG_SD, SiteKernel, Surrogate
from synth.search.theory import Theory

PROBLEM = ToyProblem()
THEORY = Theory(PROBLEM)


def drawn(count, seed):
    return Moves(PROBLEM.space).random(count, np.random.default_rng(seed))


def fitted(count, noise=0.05, seed=0, tune=True):
    decisions = drawn(count, seed)
    inputs = THEORY.inputs(decisions)
    target = PROBLEM.log_loss(decisions) + noise * np.random.default_rng(seed + 1).standard_normal(count)
    old = THEORY.surrogate
    surrogate = Surrogate(old.prior_mean, old.prior_sd, THEORY.smooth_scale, PRIOR_LOG_SD)
    surrogate.fit(inputs, target, np.full(count, noise), tune)
    return surrogate, inputs, target


def test_the_site_kernel_counts_shared_choices():
    kernel = SiteKernel(SITES)
    decisions = np.array([[0] * 9, [0] * 9, [3, 3, 3, 3, 3, 2, 2, 2, 1]])
    per_site = kernel.features(decisions)
    same = per_site @ per_site.T
    assert same[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert 0 < same[0, 2] < 0.3
    half = decisions[:1].copy()
    half[0, 5] = 1  # a choice without order shares nothing
    other = kernel.features(half)
    assert (per_site[:1] @ other.T)[0, 0] == pytest.approx(8 / 9, abs=1e-6)


def test_it_learns_an_additive_truth():
    surrogate, _, _ = fitted(64)
    test = drawn(300, 99)
    mean, sd = surrogate.predict(THEORY.inputs(test))
    truth = PROBLEM.log_loss(test)
    error = mean - truth
    assert np.sqrt((error**2).mean()) < 0.35 * truth.std()
    assert 0.85 <= (np.abs(error) < 1.96 * sd).mean() <= 1.0


def test_more_observations_help_and_noise_hurts():
    test = drawn(300, 99)

    def rmse(count, noise):
        mean, _ = fitted(count, noise)[0].predict(THEORY.inputs(test))
        return np.sqrt(((mean - PROBLEM.log_loss(test)) ** 2).mean())

    assert rmse(96, 0.05) < rmse(12, 0.05)
    assert rmse(96, 0.02) < rmse(96, 0.5)


def test_the_covariance_agrees_with_the_standard_deviations():
    surrogate, _, _ = fitted(30)
    inputs = THEORY.inputs(drawn(10, 5))
    mean, sd = surrogate.predict(inputs)
    mean_again, covariance = surrogate.covariance(inputs)
    assert mean_again == pytest.approx(mean)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(sd, rel=1e-6)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_the_slope_of_the_marginal_likelihood_is_right(monkeypatch):
    found = {}

    def spy(function, start, jac, **rest):
        found["function"], found["start"] = function, start
        return minimize(function, start, jac=jac, **rest)

    minimize = synth.search.surrogate.minimize
    monkeypatch.setattr(synth.search.surrogate, "minimize", spy)
    fitted(25)
    value, slope = (lambda x: found["function"](x)[0]), (lambda x: found["function"](x)[1])
    at = PRIOR_LOG_SD + 0.3
    assert check_grad(value, slope, at) < 1e-4 * max(1.0, np.abs(slope(at)).max())


def test_without_observations_the_prior_speaks_with_known_signs():
    surrogate = THEORY.surrogate
    whole = np.array([[3, 3, 3, 3, 3, 2, 2, 2, 1]])
    small = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 1]])
    mean, sd = surrogate.predict(THEORY.inputs(np.concatenate([whole, small])))
    assert mean[1] > mean[0] and (sd > 0.3).all()
