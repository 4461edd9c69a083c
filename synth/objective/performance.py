"""U: how good a network is, given its accuracy and its exact costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
FRUGAL = "img_per_joule"  # among a network's costs, where the target has a cost model


def netscore(accuracy: npt.ArrayLike, params: npt.ArrayLike, macs: npt.ArrayLike) -> FloatArray:
    """NetScore (Wong 2018, arXiv 1806.05512) with alpha = 2, beta = gamma = 1/2, in its unit, decibel-like:
    20 log10(a^2 / (p^0.5 m^0.5)).

    accuracy: fraction (0.89, used as 89 %). params, macs: plain counts (used as M and G). -inf at accuracy 0.
    """
    percent = 100.0 * np.asarray(accuracy, dtype=np.float64)
    millions = np.asarray(params, dtype=np.float64) / 1e6
    giga = np.asarray(macs, dtype=np.float64) / 1e9
    with np.errstate(divide="ignore"):
        return np.asarray(40.0 * np.log10(percent) - 10.0 * np.log10(millions) - 10.0 * np.log10(giga))


def information_density(accuracy: npt.ArrayLike, params: npt.ArrayLike) -> FloatArray:
    """Accuracy in % per million parameters (Canziani et al. 2016, arXiv 1605.07678).

    accuracy: fraction. params: plain count.
    """
    return np.asarray(100.0 * np.asarray(accuracy, dtype=np.float64) / (np.asarray(params, dtype=np.float64) / 1e6))


def performance(accuracy: npt.ArrayLike, costs: Mapping[str, FloatArray]) -> FloatArray:
    """U of networks with these accuracies (fractions, broadcast against the costs): NetScore."""
    return netscore(accuracy, costs["params"], costs["macs"])


def frugality(costs: Mapping[str, FloatArray]) -> FloatArray | float:
    """10 log10 of predicted images per joule, so that a tenth of the energy counts as a tenth of params x MACs does in
    NetScore; 0 where it is not priced."""
    return 10.0 * np.log10(costs[FRUGAL]) if FRUGAL in costs else 0.0
