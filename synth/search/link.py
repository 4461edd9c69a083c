"""From the log loss of a short training to the error after full training: a learnt link, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synth.search.decisions import FloatArray, Observation

LEAST_ERROR = 1e-4  # where nobody says how many images accuracy is counted on
# log error after full training = log error of the short one + gain + tilt * (log loss - its mean) + scatter
GAIN, GAIN_SD = -0.3, 0.3
TILT, TILT_SD = 0.0, 0.2
SCATTER, SCATTER_WEIGHT = 0.08, 4.0  # prior standard deviation, and how many observations it counts for
# cross-entropy and error of one training: log error = log loss - 1.1 for well calibrated networks
SHORT_SLOPE, SHORT_SLOPE_SD, SHORT_LEVEL, SHORT_LEVEL_SD = 0.9, 0.3, -1.1, 0.5
SHORT_SCATTER = 0.1


def least_error(images: int | None) -> float:
    """What a split of so many images that shows no error stands for: half an image."""
    return 0.5 / images if images else LEAST_ERROR


def log_error(accuracy: float | FloatArray, least: float = LEAST_ERROR) -> FloatArray:
    """Natural log of 1 - accuracy, bounded where a split shows no error at all."""
    return np.log(np.maximum(1.0 - np.asarray(accuracy, dtype=np.float64), least))


class Link:
    """Two Bayesian regressions on the log loss: error of the short training (every candidate tells it), and what full
    training changes (the few candidates that had one tell it). least_error: the least that accuracies can show."""

    def __init__(self, gain: float = GAIN, gain_sd: float = GAIN_SD, least_error: float = LEAST_ERROR):
        self.least_error = least_error
        self.centre = 0.0
        self.short = (np.array([SHORT_LEVEL, SHORT_SLOPE]), np.diag([SHORT_LEVEL_SD**2, SHORT_SLOPE_SD**2]))
        self.prior = (np.array([gain, TILT]), np.diag([gain_sd**2, TILT_SD**2]))
        self.full = self.prior
        self.scatter = SCATTER

    def fit(self, observations: Sequence[Observation], log_loss: FloatArray,
            unseen: tuple[FloatArray, FloatArray] | None = None) -> None:
        """Learn from observations whose log loss is believed to be `log_loss` [n] (smoothed). unseen: of networks that
        had only the full training, the believed log loss of a short one and the accuracy, each [m]."""
        if not observations:
            return
        self.centre = float(np.mean(log_loss))
        shift = SHORT_LEVEL + SHORT_SLOPE * self.centre
        prior = np.array([shift, SHORT_SLOPE]), np.diag([SHORT_LEVEL_SD**2, SHORT_SLOPE_SD**2])
        errors = log_error(np.array([o.accuracy for o in observations]), self.least_error)
        raw = np.array([o.log_loss for o in observations])  # the same training's: their noise is shared
        self.short = _regress(raw - self.centre, errors, prior, SHORT_SCATTER)
        done = [i for i, o in enumerate(observations) if o.final_accuracy is not None]
        believed, accuracy = log_loss[done], np.array([observations[i].final_accuracy for i in done], dtype=np.float64)
        if unseen is not None:
            believed, accuracy = np.concatenate([believed, unseen[0]]), np.concatenate([accuracy, unseen[1]])
        self.full, self.scatter = self.prior, SCATTER
        if len(believed):
            at, final = believed - self.centre, log_error(accuracy, self.least_error)
            gain = final - (self.short[0][0] + self.short[0][1] * at)
            self.full = _regress(at, gain, self.prior, self.scatter)
            left = gain - (self.full[0][0] + self.full[0][1] * at)
            basis = _basis(at)
            taken = np.einsum("ij,jk,ik->", basis, self.full[1], basis) / self.scatter**2  # by the two of the line
            squares = SCATTER_WEIGHT * SCATTER**2 + (left**2).sum()
            self.scatter = float(np.sqrt(squares / (SCATTER_WEIGHT + len(believed) - taken)))

    def short_accuracy(self, log_loss: FloatArray) -> FloatArray:
        """The accuracy that goes with these log losses after the short training."""
        level, slope = self.short[0]
        return np.asarray(1.0 - np.exp(np.minimum(level + slope * (log_loss - self.centre), 0.0)))

    def final_log_error(self, mean: FloatArray, sd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of log(1 - accuracy after full training), given those of the log loss."""
        (intercept, slope) = self.short[0] + self.full[0]
        level = intercept + slope * (mean - self.centre)
        return level, np.hypot(slope * sd, self.common_sd(mean))

    def common_sd(self, mean: FloatArray) -> FloatArray:
        """Standard deviation of the error at exactly known log losses: the link's own, and each network's scatter."""
        basis = _basis(mean - self.centre)
        return np.sqrt(np.einsum("ij,jk,ik->i", basis, self.short[1] + self.full[1], basis) + self.scatter**2)


def _basis(at: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(at), at], axis=1)


def _regress(
    at: FloatArray, target: FloatArray, prior: tuple[FloatArray, FloatArray], scatter: float
) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and covariance of (level, slope), Gaussian prior, known scatter."""
    basis = _basis(at)
    precision = np.linalg.inv(prior[1]) + basis.T @ basis / scatter**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.linalg.solve(prior[1], prior[0]) + basis.T @ target / scatter**2)
    return mean, covariance
