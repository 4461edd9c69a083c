"""What probing said about every (site, choice): a table that grows with every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from synth.search.decisions import FloatArray, IntArray, Site

RIDGE = 1e-2  # of the smooth fit, in units of a standardised feature
SHRINK = 1.0  # one visit weighs as much as the fit
# Prior of the log loss per standard deviation of a statistic, times its sign: mean and standard deviation.
SLOPE, SLOPE_SD = 0.10, 0.15
# Where candidates start from fresh weights, what probing says of inherited ones is less to go by, and the sign is held
# more firmly. On CIFAR-10 nine observations had turned one about; networks of 3 k parameters, which lie ten standard
# deviations away, were then foretold 90 %, and a whole cycle went after them.
FIRM_SLOPE_SD = 0.07


class ProbeTable:
    """Statistics over (site, choice): running means of what was seen, a smooth fit where nothing was.

    names: [p] what each statistic is ("damage of the swap", "rank deficit"). signs: [p] +1 where a greater value
    means a greater loss, -1 where a smaller, 0 where nothing is known beforehand.
    slope_sd: how firmly the sign holds (see SLOPE).
    values: [sites, max_choices, p] means; NaN = never visited. visits: [sites, max_choices, p] how often.
    """

    def __init__(self, sites: Sequence[Site], names: Sequence[str], signs: Sequence[int], slope_sd: float = SLOPE_SD):
        if len(names) != len(signs):
            raise ValueError("every statistic has a name and a sign")
        self.sites = tuple(sites)
        self.names = tuple(names)
        self.signs: npt.NDArray[np.int64] = np.array(signs, dtype=np.int64)
        self.slope_sd = slope_sd
        shape = (len(self.sites), max(len(site.choices) for site in self.sites), len(self.names))
        self.values: FloatArray = np.full(shape, np.nan)
        self.visits: IntArray = np.zeros(shape, dtype=np.int64)

    def record(self, site: int, choice: int, values: Sequence[float]) -> None:
        """Add one visit: [p] statistics of this choice at this site; NaN for what could not be told."""
        new = np.asarray(values, dtype=np.float64)
        seen = np.isfinite(new)
        visits = self.visits[site, choice]
        old = np.where(visits > 0, self.values[site, choice], 0.0)
        mean = old + (np.where(seen, new, 0.0) - old) / (visits + 1)
        self.values[site, choice] = np.where(seen, mean, self.values[site, choice])
        self.visits[site, choice] += seen

    def filled(self) -> FloatArray:
        """[sites, max_choices, p] without NaN: what was seen, drawn a little to the smooth fit over (kind, position of
        the choice, descriptor); the fit alone where nothing was seen; 0 for choices that a site does not have."""
        design, exists = self._design()
        full = np.zeros_like(self.values)
        for p in range(len(self.names)):
            seen = exists & np.isfinite(self.values[:, :, p])
            fit = _ridge(design[seen], self.values[:, :, p][seen], design) if seen.any() else np.zeros(exists.shape)
            weight = self.visits[:, :, p] / (self.visits[:, :, p] + SHRINK)
            full[:, :, p] = np.where(seen, weight * np.where(seen, self.values[:, :, p], 0) + (1 - weight) * fit, fit)
        full[~exists] = 0.0
        return full

    def features(self, decisions: IntArray, filled: FloatArray | None = None) -> FloatArray:
        """[n, p] the table summed over the sites of every network."""
        table = self.filled() if filled is None else filled
        total: FloatArray = table[np.arange(len(self.sites))[None, :], decisions].sum(axis=1)
        return total

    def _design(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """[sites, max_choices, d] what the fit stands on, and which choices exist."""
        kinds = sorted({site.kind for site in self.sites})
        most = self.values.shape[1]
        exists = np.array([[c < len(site.choices) for c in range(most)] for site in self.sites])
        built: list[list[list[float]]] = []
        for site in self.sites:
            one = [float(site.kind == kind) for kind in kinds]
            own = max(site.own % len(site.choices), 1)
            per_choice = []
            for c in range(most):
                distance = 1.0 - min(c / own, 1.0)  # from the prototype's own choice, or what holds more
                if site.ordered:
                    local = [k * distance for k in one] + [k * distance**2 for k in one]
                    local += [distance * value for value in site.descriptor]
                else:
                    local = [0.0] * (2 * len(one) + len(site.descriptor))
                choice = [k * float(not site.ordered and c == i) for k in one for i in range(most)]
                per_choice.append([1.0, *one, *site.descriptor, *local, *choice])
            built.append(per_choice)
        return np.array(built), exists


def _ridge(design: FloatArray, target: FloatArray, everywhere: FloatArray) -> FloatArray:
    """Ridge regression of `target` on standardised `design`, evaluated at `everywhere`."""
    mean, scale = design.mean(axis=0), design.std(axis=0)
    scale = np.where(scale > 1e-12, scale, np.inf)  # what does not vary says nothing
    centred = (design - mean) / scale
    level = target.mean()
    gram = centred.T @ centred + RIDGE * max(len(target), 1) * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (target - level))
    fit: FloatArray = level + ((everywhere - mean) / scale) @ weights
    return fit
