"""Which networks are worth a measurement: by what it would teach about requirements that are in doubt.

The doubt about a requirement on a network is p (1 - p), p being the probability that it holds. A measurement of one
network narrows what is believed of its likes; before its result is known, the expected doubt afterwards has a closed
form. Bect, Ginsbourger, Li, Picheny and Vazquez (2012), "Sequential design of computer experiments for the estimation
of a probability of failure", Statistics and Computing 22: the stepwise uncertainty reduction J_SUR with p (1 - p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import owens_t

from synth.search.decisions import FloatArray

LEAST_GAIN = 2e-4  # of the mean doubt (at most 0.25): less is not worth a board's time
TINY = 1e-12


@dataclass(frozen=True)
class Question:
    """One requirement on n networks. slack: [n] expected log ratio to the bound. covariance: [n, n] of the logs.
    noise: standard error of one more measurement. batch: that a measurement must be taken at to answer it."""

    slack: FloatArray
    covariance: FloatArray
    noise: float
    batch: int


@dataclass(frozen=True)
class Chosen:
    """One measurement to take: the row of the network, the batch, and the doubt that it is expected to remove."""

    row: int
    batch: int
    gain: float


def expected_doubt(place: FloatArray, explained: FloatArray) -> FloatArray:
    """E[p (1 - p)] after a measurement that explains a share `explained` of the variance, with p = Phi(place) before.

    p' = Phi(m' / s') with m' normal; E[p'^2] is a bivariate normal probability with correlation `explained`, and with
    Owen's T (1956) the difference is 2 T(place, sqrt((1 - explained) / (1 + explained))).
    """
    share = np.clip(explained, 0.0, 1.0)
    doubt: FloatArray = 2.0 * owens_t(place, np.sqrt((1.0 - share) / (1.0 + share)))
    return doubt


def choose(questions: Sequence[Question], weight: FloatArray, count: int,
           known: frozenset[tuple[int, int]] = frozenset()) -> list[Chosen]:
    """Up to `count` measurements, greedily, each after the others: those that remove most of the doubt, summed over
    requirements and weighted over networks by how much they matter (`weight` [n], any scale).

    known: (row, batch) that are measured already. Fewer, or none, where nothing is left to learn.
    """
    total = weight.sum()
    if not questions or total <= 0:
        return []
    share = weight / total
    live = [[question, question.covariance.copy()] for question in questions]
    first = [np.maximum(np.diag(question.covariance), TINY) for question in questions]
    taken, chosen = set(known), []
    for _ in range(count):
        gains: dict[int, FloatArray] = {}
        for (question, covariance), variance in zip(live, first, strict=True):
            place = question.slack / np.sqrt(variance)
            now = np.diag(covariance)
            drop = covariance**2 / (now + question.noise**2)[:, None]  # [measured, network]
            before = expected_doubt(place, 1.0 - now / variance)
            after = expected_doubt(place[None, :], 1.0 - (now[None, :] - drop) / variance[None, :])
            gain = ((before[None, :] - after) * share[None, :]).sum(axis=1)
            gains[question.batch] = gains.get(question.batch, 0.0) + gain
        for row, batch in taken:
            if batch in gains:
                gains[batch][row] = -np.inf
        batch = max(gains, key=lambda one: gains[one].max())
        row = int(np.argmax(gains[batch]))
        gain = float(gains[batch][row])
        if not gain > LEAST_GAIN:
            break
        chosen.append(Chosen(row, batch, gain))
        taken.add((row, batch))
        for entry in live:
            question, covariance = entry
            if question.batch == batch:
                column = covariance[:, row]
                entry[1] = covariance - np.outer(column, column) / (column[row] + question.noise**2)
    return chosen
