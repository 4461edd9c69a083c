"""What measurements teach the cost model: its residuals, in logarithms, as Gaussian processes over graph descriptors.

A network's measured quantity is `predicted * exp(r)`, with r = common + smooth(descriptors) + own: what the board does
otherwise for all networks alike, what it does otherwise the more the more launches or MACs a network has, and what no
descriptor tells. Before any measurement r has the cost model's own uncertainty; each one narrows it, most for what is
like the network that was measured. Reference: Rasmussen and Williams (2006), chapters 2.2 and 5.4.1; Kennedy and
O'Hagan (2001) for the model discrepancy as a Gaussian process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from devices.support.reading import CORRECTED, Z95, Reading
from synth.objective.requirements import Requirement
from synth.search.decisions import FloatArray
from synth.space.quantities import logarithms, measured_reading

# hyperparameters that the evidence chooses among: spread over the cost model's own sigma, share of the common part in
# the variance, reach in units of the descriptors, and sd of what no descriptor tells
SPREADS, SHARES, REACHES, OWNS = (0.7, 1.0, 1.5, 2.2), (0.4, 0.6, 0.8), (1.5, 3.0, 6.0), (0.01, 0.03, 0.08)
USUAL = np.array([np.log(1.0), 0.6, np.log(3.0), np.log(0.03)])  # before anything is measured, with these spreads
USUAL_SPREAD = np.array([0.5, 0.2, 0.7, 1.0])


class Residuals:
    """The residuals of one quantity at one batch. prior_sd: relative standard error of the cost model."""

    def __init__(self, prior_sd: float):
        self.prior_sd = prior_sd
        self.features: FloatArray = np.zeros((0, 0))
        self._chosen = (1.0, 0.6, 3.0, 0.03)

    def __len__(self) -> int:
        return len(self.features)

    def fit(self, features: FloatArray, residual: FloatArray, noise: FloatArray) -> None:
        """Condition on `residual` [n] (natural logs) of networks [n, k], seen with standard errors `noise` [n]."""
        self.features = features
        best = -np.inf
        for chosen in itertools.product(SPREADS, SHARES, REACHES, OWNS):
            lower = np.linalg.cholesky(self._gram(chosen, noise))
            half = solve_triangular(lower, residual, lower=True)
            place = np.array([np.log(chosen[0]), chosen[1], np.log(chosen[2]), np.log(chosen[3])])
            evidence = -0.5 * (half @ half + ((place - USUAL) ** 2 / USUAL_SPREAD**2).sum())
            evidence -= np.log(np.diag(lower)).sum()
            if evidence > best:
                best, self._chosen, self._lower = evidence, chosen, lower
        self._weights = cho_solve((self._lower, True), residual)

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [m] of the residual of other networks [m, k], what is their own included."""
        if not len(self):
            return np.zeros(len(features)), np.full(len(features), self.prior_sd)
        cross = self._kernel(features, self.features)
        half = solve_triangular(self._lower, cross.T, lower=True)
        variance = self._variance() - (half**2).sum(axis=0)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 0.0) + self._chosen[3] ** 2)

    def covariance(self, features: FloatArray) -> FloatArray:
        """[m, m] of the residuals of networks, what is their own on the diagonal."""
        prior = self._kernel(features, features)
        if len(self):
            half = solve_triangular(self._lower, self._kernel(features, self.features).T, lower=True)
            prior = prior - half.T @ half
        prior[np.diag_indices_from(prior)] += self._chosen[3] ** 2 if len(self) else 0.0
        return prior

    def _variance(self) -> float:
        return (self._chosen[0] * self.prior_sd) ** 2

    def _kernel(self, a: FloatArray, b: FloatArray) -> FloatArray:
        return self._variance() * _correlation(a, b, self._chosen[1], self._chosen[2])

    def _gram(self, chosen: tuple[float, float, float, float], noise: FloatArray) -> FloatArray:
        spread, share, reach, own = chosen
        gram = (spread * self.prior_sd) ** 2 * _correlation(self.features, self.features, share, reach)
        gram[np.diag_indices_from(gram)] += own**2 + noise**2
        return gram


def _correlation(a: FloatArray, b: FloatArray, share: float, reach: float) -> FloatArray:
    apart = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return share + (1.0 - share) * np.exp(-0.5 * apart / reach**2)


@dataclass(frozen=True)
class Measurement:
    """One network measured once.

    network: its digest. batch. full: by the full protocol, else quick. readings: of edgesynth.result/1, as JSON.
    features: `quantities.descriptors`, [k]. predicted: {quantity: what the cost model says, uncorrected, in the unit of
    the reading}. about: where, when, file of the result, marks.
    """

    network: str
    batch: int
    full: bool
    readings: Mapping[str, Any]
    features: tuple[float, ...]
    predicted: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"features": list(self.features)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measurement:
        return cls(**{**value, "features": tuple(value["features"])})


class Correction:
    """All that was measured so far, and what it says of networks that were not.

    prior_sd: {(quantity, batch): relative standard error of the cost model}, for every quantity that may be asked for.
    """

    def __init__(self, prior_sd: Mapping[tuple[str, int], float]):
        self.models = {key: Residuals(sd) for key, sd in prior_sd.items()}
        self.known: dict[tuple[str, int], Measurement] = {}

    def learn(self, measurements: Iterable[Measurement]) -> None:
        """Take in measurements; a full one stands for a quick one of the same network, never the other way round."""
        for one in measurements:
            before = self.known.get((one.network, one.batch))
            if before is None or one.full or not before.full:
                self.known[one.network, one.batch] = one
        for (name, batch), model in self.models.items():
            rows = []
            for one in self.known.values():
                if one.batch == batch and name in one.predicted:
                    for value, noise in logarithms(one.readings, [name]).values():
                        rows.append((one.features, value - np.log(one.predicted[name]), noise))
            if rows:
                features, residual, noise_sd = zip(*rows, strict=True)
                model.fit(np.array(features), np.array(residual), np.array(noise_sd))

    def of(self, quantity: str, batch: int, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [n] of the log residual of networks [n, k]."""
        return self.models[quantity, batch].predict(features)

    def measured(self, item: Requirement, network: str) -> Reading | None:
        """What was measured of one network for a requirement."""
        one = self.known.get((network, item.batch or 1))
        return None if one is None else measured_reading(item, one.readings)

    def corrected(self, reading: Reading, quantity: str, sign: int, batch: int, features: FloatArray) -> Reading:
        """A prediction with what was measured of others in it; itself as long as nothing was."""
        model = self.models.get((quantity, batch))
        if model is None or not len(model):
            return reading
        mean, sd = (float(value[0]) for value in model.predict(features))
        value, factor = reading.value * np.exp(sign * mean), np.exp(Z95 * sd)
        times = f"{len(model)} measurement{'s' if len(model) > 1 else ''}"
        return Reading(float(value), reading.unit, CORRECTED, f"{reading.source}, corrected by {times}",
                       low=float(value / factor), high=float(value * factor), scope=reading.scope)
