"""From the log loss of a short training to the error after full training: a learnt link, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synth.search.decisions import FloatArray, Observation

LEAST_ERROR = 1e-4  # where nobody says how many images accuracy is counted on
# log error after full training = log error of the short one + gain + tilt * (log loss - its mean) + scatter
GAIN, GAIN_SD = -0.3, 0.3
TILT, TILT_SD = 0.0, 0.2
SCATTER, SCATTER_WEIGHT = 0.08, 4.0  # prior standard deviation beside counting, and observations that it counts for
# cross-entropy and error of one training: log error = log loss - 1.1 for well calibrated networks
SHORT_SLOPE, SHORT_SLOPE_SD, SHORT_LEVEL, SHORT_LEVEL_SD = 0.9, 0.3, -1.1, 0.5
SHORT_SCATTER = 0.1
JITTER = 1e-9


def least_error(images: int | None) -> float:
    """What a split of so many images that shows no error stands for: half an image."""
    return 0.5 / images if images else LEAST_ERROR


def log_error(accuracy: float | FloatArray, least: float = LEAST_ERROR) -> FloatArray:
    """Natural log of 1 - accuracy, bounded where a split shows no error at all."""
    return np.log(np.maximum(1.0 - np.asarray(accuracy, dtype=np.float64), least))


class Link:
    """Two Bayesian regressions on the log loss: error of the short training (every candidate tells it), and what full
    training changes (the few candidates that had one tell it). What full training made of a network beyond the line is
    said, as far as it is more than counting errors on `images` explains, of networks like it too: universal kriging
    (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.7)."""

    def __init__(self, gain: float = GAIN, gain_sd: float = GAIN_SD, images: int | None = None):
        self.images, self.least_error = images, least_error(images)
        self.centre = 0.0
        self.short = (np.array([SHORT_LEVEL, SHORT_SLOPE]), np.diag([SHORT_LEVEL_SD**2, SHORT_SLOPE_SD**2]))
        self.prior = (np.array([gain, TILT]), np.diag([gain_sd**2, TILT_SD**2]))
        self._forget()

    def _forget(self) -> None:
        """No full training is known. beyond [m]: what full trainings made beyond the line; alike: share of the scatter
        that networks which are alike have in common; inverse: of the correlation of their scatter, [m, m]."""
        self.full, self.scatter, self.alike = self.prior, SCATTER, 0.0
        self.beyond: FloatArray = np.zeros(0)
        self.inverse: FloatArray = np.zeros((0, 0))

    def fit(self, observations: Sequence[Observation], log_loss: FloatArray,
            unseen: tuple[FloatArray, FloatArray] | None = None, likeness: FloatArray | None = None) -> None:
        """Learn from observations whose log loss is believed to be `log_loss` [n] (smoothed). unseen: of networks that
        had only the full training, the believed log loss of a short one and the accuracy, each [k]. likeness: [m, m]
        in [0, 1] between the networks that had a full training, the observed ones first."""
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
        self._forget()
        if len(believed):
            self._fit_full(believed - self.centre, log_error(accuracy, self.least_error), likeness)

    def _fit_full(self, at: FloatArray, final: FloatArray, likeness: FloatArray | None) -> None:
        """Line, scatter and what is beyond the line, of log errors `final` [m] after full training. The line is drawn
        as if few images were no reason for scatter, since what is known of it beforehand is worth little; how surely
        it is known is another matter (of 166 trained digits networks, 49 % had been within 95 % intervals by three
        full trainings, 81 % are now)."""
        basis = _basis(at)
        gain = final - basis @ self.short[0]
        line, covariance = _regress(at, gain, self.prior, SCATTER)
        left = gain - basis @ line
        taken = np.einsum("ij,jk,ik->", basis, covariance, basis) / SCATTER**2  # by the two of the line
        counting = _counting(final, self.images) if self.images else np.zeros(1)
        expected = SCATTER**2 + float(np.median(counting))
        variance = (SCATTER_WEIGHT * expected + (left**2).sum()) / (SCATTER_WEIGHT + len(at) - taken)
        self.scatter = float(np.sqrt(variance))
        if likeness is not None and self.images:
            self.alike = float(np.clip(1.0 - counting.mean() / variance, 0.0, 1.0))
        correlation = np.eye(len(at)) if likeness is None else likeness
        self.inverse = np.asarray(np.linalg.inv(self._correlation(correlation)), dtype=np.float64)
        mean, _ = _regress(at, gain, self.prior, SCATTER, self.inverse)
        self.full = mean, _regress(at, gain, self.prior, self.scatter, self.inverse)[1]
        self.beyond = gain - basis @ mean

    def short_accuracy(self, log_loss: FloatArray) -> FloatArray:
        """The accuracy that goes with these log losses after the short training."""
        level, slope = self.short[0]
        return np.asarray(1.0 - np.exp(np.minimum(level + slope * (log_loss - self.centre), 0.0)))

    def final_log_error(self, mean: FloatArray, sd: FloatArray, likeness: FloatArray | None = None
                        ) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of log(1 - accuracy after full training), given those of the log loss [n] and
        the likeness [n, m] to the networks that had one (None: like none of them)."""
        (intercept, slope) = self.short[0] + self.full[0]
        level = intercept + slope * (mean - self.centre)
        if likeness is not None:
            level = level + self._beyond(likeness)
        return level, np.hypot(slope * sd, self._own_sd(mean, likeness))

    def draw(self, losses: FloatArray, random: np.random.Generator, together: FloatArray | None = None,
             likeness: FloatArray | None = None) -> FloatArray:
        """[k, n] draws of the log error of networks, whose drawn log losses are `losses` [k, n]: one line for all
        networks of a draw, and scatter that networks which are alike have in common. together: their likeness to each
        other [n, n]; likeness: as in `final_log_error`; None where scatter is each network's own."""
        (intercept, slope), spread = self.short[0] + self.full[0], self.short[1] + self.full[1]
        line = random.multivariate_normal([intercept, slope], spread, len(losses), method="cholesky")
        level, scatter = line[:, :1] + line[:, 1:] * (losses - self.centre), random.standard_normal(losses.shape)
        if together is not None and likeness is not None:
            level = level + self._beyond(likeness)
            correlation = self._correlation(together) - self.alike**2 * likeness @ self.inverse @ likeness.T
            scatter = scatter @ np.linalg.cholesky(correlation).T
        return level + self.scatter * scatter

    def common_sd(self, error_sd: FloatArray, loss_sd: FloatArray) -> FloatArray:
        """Of standard deviations that `final_log_error` gave for those of log losses, what is the link's own."""
        slope = self.short[0][1] + self.full[0][1]
        return np.sqrt(np.maximum(error_sd**2 - (slope * loss_sd) ** 2, 0.0))

    def _beyond(self, likeness: FloatArray) -> FloatArray:
        """[n] what is believed beyond the line, by the likeness [n, m] to networks that had a full training."""
        beyond: FloatArray = self.alike * likeness @ (self.inverse @ self.beyond)
        return beyond

    def _correlation(self, likeness: FloatArray) -> FloatArray:
        """[n, n] of the scatter of networks, by their likeness to each other."""
        return (1.0 - self.alike + JITTER) * np.eye(len(likeness)) + self.alike * likeness

    def _own_sd(self, mean: FloatArray, likeness: FloatArray | None) -> FloatArray:
        """Standard deviation of the error at exactly known log losses: the line's, and each network's scatter."""
        basis, free = _basis(mean - self.centre), np.ones(len(mean))
        if likeness is not None:
            free = 1.0 - self.alike**2 * np.einsum("ij,jk,ik->i", likeness, self.inverse, likeness)
        line = np.einsum("ij,jk,ik->i", basis, self.short[1] + self.full[1], basis)
        return np.sqrt(line + self.scatter**2 * np.maximum(free, 0.0))


def _basis(at: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(at), at], axis=1)


def _counting(log_errors: FloatArray, images: int) -> FloatArray:
    """Variance of log errors that are counted on so many images (binomial, to first order)."""
    errors = np.exp(log_errors)
    return (1.0 - errors) / (errors * images)


def _regress(
    at: FloatArray, target: FloatArray, prior: tuple[FloatArray, FloatArray], scatter: float,
    inverse: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Posterior mean and covariance of (level, slope): Gaussian prior, known scatter, and the inverse of its
    correlation (None: independent)."""
    basis = _basis(at)
    weighed = basis.T / scatter**2 if inverse is None else basis.T @ inverse / scatter**2
    precision = np.linalg.inv(prior[1]) + weighed @ basis
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.linalg.solve(prior[1], prior[0]) + weighed @ target)
    return mean, covariance
