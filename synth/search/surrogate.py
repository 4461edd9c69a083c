"""A Gaussian process over decisions: a linear part with priors of known sign, an additive part per site, interactions
of sites, and a smooth part over the summary of the network.

All is one composite kernel, so that the linear part is Bayesian too. With at most a few hundred observations every
solve is small; amplitudes are set by the marginal likelihood under log-normal priors.
Reference: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from synth.search.decisions import FloatArray, IntArray, Site, choice_counts

JITTER = 1e-8
INTERACTION = 6.0  # how fast the interaction kernel forgets with the share of sites that differ
CHOICE_REACH = 0.5  # of an ordered site's range: over this distance neighbouring choices share their effect
# log standard deviation of each part (sites, interactions, smooth, noise), in natural log of the loss: mean and spread
# of the prior
PRIOR_LOG_SD = np.log(np.array([0.20, 0.10, 0.10, 0.05]))
PRIOR_SPREAD = np.array([0.7, 0.8, 0.8, 0.7])


@dataclass(frozen=True)
class Inputs:
    """What the kernel sees of n networks: sites [n, w] as `SiteKernel.features` has them, linear [n, d] features,
    smooth [n, k] features."""

    sites: FloatArray
    linear: FloatArray
    smooth: FloatArray

    def take(self, index: Sequence[int]) -> Inputs:
        """Those of some of the networks."""
        rows = np.asarray(index, dtype=np.int64)
        return Inputs(self.sites[rows], self.linear[rows], self.smooth[rows])

    def joined(self, others: Inputs) -> Inputs:
        """These networks, then the others."""
        pairs = ((self.sites, others.sites), (self.linear, others.linear), (self.smooth, others.smooth))
        return Inputs(*(np.concatenate(pair) for pair in pairs))


class SiteKernel:
    """Correlation of two networks, [n, m]: the mean over sites of the correlation of their two choices, 1 on equal
    decisions."""

    def __init__(self, sites: Sequence[Site]):
        counts = choice_counts(sites)
        self.starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        width = int(counts.sum())
        self.per_site = np.zeros((width, width))  # factor: row of a (site, choice) in features
        for site, start in zip(sites, self.starts, strict=True):
            n = len(site.choices)
            factor = np.linalg.cholesky(_choice_correlation(n, site.ordered) + JITTER * np.eye(n))
            self.per_site[start : start + n, start : start + n] = factor / np.sqrt(len(sites))

    def features(self, decisions: IntArray) -> FloatArray:
        """[n, w] a feature map whose inner products are the kernel."""
        hot = np.zeros((len(decisions), len(self.per_site)))
        np.put_along_axis(hot, decisions + self.starts[None, :], 1.0, axis=1)
        return hot @ self.per_site


def _choice_correlation(n: int, ordered: bool) -> FloatArray:
    """[n, n] correlation of the effects of a site's choices."""
    if not ordered or n < 2:
        return np.eye(n)
    position = np.arange(n) / (n - 1)
    return np.exp(-np.abs(position[:, None] - position[None, :]) / CHOICE_REACH)


class Surrogate:
    """Posterior of the log loss given noisy observations.

    prior_mean, prior_sd: [d] of the linear weights; the sign of the mean is what is known beforehand.
    smooth_scale: [k] spread of every summary dimension over the space. log_sd: [4] log amplitudes of the parts.
    """

    def __init__(
        self, prior_mean: FloatArray, prior_sd: FloatArray, smooth_scale: FloatArray, log_sd: FloatArray,
    ):  # fmt: skip
        self.prior_mean, self.prior_sd = prior_mean, prior_sd
        self.scale = np.maximum(smooth_scale, 1e-3) * np.sqrt(len(smooth_scale))
        self.log_sd = log_sd

    def fit(self, inputs: Inputs, target: FloatArray, noise_sd: FloatArray, tune: bool = True) -> None:
        """Condition on `target` [n] seen with standard errors `noise_sd` [n]; `tune` sets the amplitudes anew."""
        self.inputs, self.target, self.noise = inputs, target, noise_sd
        parts = self._kernels(inputs, inputs)
        if tune and len(target) >= 4:
            self.log_sd = self._tune(parts)
        gram = self._combine(parts)
        gram[np.diag_indices_from(gram)] += self.noise**2 + np.exp(2 * self.log_sd[-1]) + JITTER
        self.lower = np.linalg.cholesky(gram)
        self.residual = target - inputs.linear @ self.prior_mean
        self.weights = cho_solve((self.lower, True), self.residual)

    def predict(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [m] of the true log loss (without the noise of one training)."""
        cross, prior = self._cross(inputs)
        mean = inputs.linear @ self.prior_mean + cross @ self.weights
        half = solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        return mean, np.sqrt(np.maximum(prior - np.einsum("ij,ij->j", half, half), 1e-10))

    def covariance(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and covariance [m, m] of the true log loss."""
        cross, _ = self._cross(inputs)
        own = self._combine(self._kernels(inputs, inputs))
        half = solve_triangular(self.lower, cross.T, lower=True, check_finite=False)
        return inputs.linear @ self.prior_mean + cross @ self.weights, own - half.T @ half

    def likeness(self, a: Inputs, b: Inputs) -> FloatArray:
        """[n, m] in [0, 1], 1 where networks are equal: half by shared decisions, half by their summaries."""
        _, together, smooth = self._alike(a, b)
        return 0.5 * (together + smooth)

    def _alike(self, a: Inputs, b: Inputs) -> list[FloatArray]:
        """Sites, interactions and summary, each with unit amplitude, [n, m]."""
        same = a.sites @ b.sites.T
        left, right = a.smooth / self.scale, b.smooth / self.scale
        square = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2 * left @ right.T
        return [same, np.exp(INTERACTION * (same - 1.0)), np.exp(-0.5 * np.maximum(square, 0.0))]

    def _kernels(self, a: Inputs, b: Inputs) -> list[FloatArray]:
        """The linear part and the three parts with unit amplitude, each [n, m]."""
        return [(a.linear * self.prior_sd**2) @ b.linear.T, *self._alike(a, b)]

    def _combine(self, parts: list[FloatArray]) -> FloatArray:
        total = parts[0].copy()
        for part, log_sd in zip(parts[1:], self.log_sd, strict=False):
            total += np.exp(2 * log_sd) * part
        return total

    def _cross(self, inputs: Inputs) -> tuple[FloatArray, FloatArray]:
        """Kernel with the observations [m, n], and of every network with itself [m]."""
        amplitude = np.exp(2 * self.log_sd)
        own = (inputs.linear**2) @ self.prior_sd**2 + amplitude[:-1].sum()
        return self._combine(self._kernels(inputs, self.inputs)), own

    def _tune(self, parts: list[FloatArray]) -> FloatArray:
        """Amplitudes at the maximum of marginal likelihood times prior."""
        residual = self.target - self.inputs.linear @ self.prior_mean
        base = parts[0] + np.diag(self.noise**2 + JITTER)
        stack = [*parts[1:], np.eye(len(residual))]

        def negative(log_sd: FloatArray) -> tuple[float, FloatArray]:
            scaled = [np.exp(2 * value) * part for value, part in zip(log_sd, stack, strict=True)]
            gram = base + sum(scaled)
            lower = np.linalg.cholesky(gram)
            inverse = cho_solve((lower, True), np.eye(len(residual)), check_finite=False)
            weights = inverse @ residual
            pull = (log_sd - PRIOR_LOG_SD) / PRIOR_SPREAD
            value = 0.5 * residual @ weights + np.log(np.diag(lower)).sum() + 0.5 * (pull**2).sum()
            inner = inverse - np.outer(weights, weights)
            slope = np.array([np.einsum("ij,ij->", inner, part) for part in scaled])
            return float(value), slope + pull / PRIOR_SPREAD

        bounds = [(value - 3, value + 2.5) for value in PRIOR_LOG_SD]
        found = minimize(negative, self.log_sd, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25})
        return np.asarray(found.x)
