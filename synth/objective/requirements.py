"""1r: the operational requirements, each with a slack, as a set that says of many networks at once what holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from devices.support.errors import UserError
from devices.support.reading import COMPUTED, Z95, Reading
from devices.units import format_quantity, parse_quantity
from synth.objective import requirement_language as language
from synth.objective.requirement_language import AT_LEAST, METRICS, Clause, Metric
from synth.objective.share import least_share

FloatArray = npt.NDArray[np.float64]

YES, NO, UNCERTAIN = "yes", "no", "uncertain"
MARGIN = 1.0  # standard errors that an estimate must clear its bound by
LIMIT = 20.0  # of a slack, so that nothing infinite reaches the inquisitor; e^20 is half a billion times the bound
ERROR_FLOOR = 1e-4  # added to error rates, so that an accuracy of 100 % has a finite slack


def sigma_key(key: str) -> str:
    """The name under which a cost's relative standard error stands beside it, where every network has its own."""
    return f"sigma of {key}"


@dataclass(frozen=True)
class Verdict:
    """Whether one requirement holds for one reading. slack: see `Requirement.slack`. margin: what one standard error of
    the reading, towards the bound, is in slack; 0 for what is exact. holds: "uncertain" when the slack is smaller than
    the margin."""

    holds: str
    slack: float
    margin: float


@dataclass(frozen=True)
class Requirement:
    """One requirement. metric: a name of METRICS. relation: ">=" or "<=". bound: in the metric's base unit.

    batch: None where the metric does not depend on it. scope: "module" or "board" for energy and power, else None.
    text: as the user wrote it. Equal requirements say the same, whatever the words.
    """

    metric: str
    relation: str
    bound: float
    batch: int | None = None
    scope: str | None = None
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """UserError underlines the wrong word and suggests the nearest metric."""
        clause = language.parse(text)
        return cls(clause.metric, clause.relation, clause.bound, clause.batch, clause.scope, text)

    @property
    def kind(self) -> Metric:
        return METRICS[self.metric]

    @property
    def key(self) -> str:
        """The name of the cost that decides it: "params", "latency_p99@1", "img_per_joule@8:module"."""
        batch = f"@{self.batch}" if self.batch is not None else ""
        scope = f":{self.scope}" if self.scope is not None else ""
        return self.metric + batch + scope

    @property
    def lower(self) -> bool:
        """Whether the bound is a lower one."""
        return self.relation == AT_LEAST

    def slack(self, value: npt.ArrayLike) -> FloatArray:
        """How far inside the bound `value` (base unit) is, relative: >= 0 exactly where the requirement holds.

        For positive metrics the log of the ratio to the bound, so 0.1 is about 10 % to spare and twice and half the
        bound are equally far. For accuracy the log of the ratio of error rates: 0.1 is about 10 % fewer errors than are
        allowed. Limited to +-LIMIT; a value that is not a number does not hold.
        """
        values = np.asarray(value, dtype=np.float64)
        if self.metric == "accuracy":
            slack = _log(1.0 - self.bound + ERROR_FLOOR) - _log(np.maximum(1.0 - values, 0.0) + ERROR_FLOOR)
        else:
            slack = (_log(np.maximum(values, 0.0)) - math.log(self.bound)) * (1.0 if self.lower else -1.0)
        holds = values >= self.bound if self.lower else values <= self.bound
        # the logarithms round: next to the bound the sign is the comparison's own
        signed = np.where(holds, np.maximum(slack, 0.0), np.minimum(slack, -np.finfo(np.float64).tiny))
        return np.asarray(np.where(np.isnan(values), -LIMIT, np.clip(signed, -LIMIT, LIMIT)))

    def judge(self, reading: Reading) -> Verdict:
        """Whether it holds for a reading, with a margin of one standard error for what is estimated."""
        if self.scope is not None and reading.scope not in (None, self.scope):
            raise ValueError(f"'{self}' is about the {self.scope}, the reading about the {reading.scope}")
        factor = _factor(reading, self.kind)
        value = reading.value * factor
        slack = float(self.slack(value))
        if reading.low is None or reading.high is None:
            margin = 0.0
        elif self.metric == "accuracy":
            # an interval ends at 0 and 1: the longer half tells the standard error, which counts towards the bound
            sigma = MARGIN * factor * max(reading.value - reading.low, reading.high - reading.value) / Z95
            margin = abs(slack - float(self.slack(value - sigma if slack >= 0 else value + sigma)))
        else:  # intervals of positive metrics are symmetric in the logarithm, as the slack is
            ends = self.slack(np.array([reading.low * factor, reading.high * factor]))
            margin = MARGIN * abs(float(ends[1] - ends[0])) / (2 * Z95)
        holds = (YES if slack >= 0 else NO) if abs(slack) >= margin else UNCERTAIN
        return Verdict(holds, slack, margin)

    def __str__(self) -> str:
        return language.phrase(Clause(self.metric, self.relation, self.bound, self.batch, self.scope))


@dataclass(frozen=True)
class Requirements:
    """A set of requirements that do not contradict each other: 1r as the cycle needs it (`search.decisions.Indicator`).

    validation_images: size of the split that accuracy is read on; the margin of its standard error follows from it.
    relative_sigma: {cost key: relative standard error} of what is predicted.
    """

    items: tuple[Requirement, ...] = ()
    validation_images: int | None = None
    relative_sigma: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Requirements:
        """UserError for a wrong word, a requirement that is said twice, and a contradiction."""
        items = tuple(Requirement.parse(text) for text in texts)
        _refuse_duplicates(items)
        _refuse_contradictions(items)
        return cls(items)

    def with_margins(self, validation_images: int, relative_sigma: Mapping[str, float] | None = None) -> Requirements:
        """The same requirements, with margins for a validation split of this size and these predictions."""
        return replace(self, validation_images=validation_images, relative_sigma=dict(relative_sigma or {}))

    @property
    def on_costs(self) -> tuple[Requirement, ...]:
        """Those that costs decide, in order: the columns of `exact`."""
        return tuple(item for item in self.items if item.metric != "accuracy")

    @property
    def keys(self) -> tuple[str, ...]:
        """The cost keys that `exact` needs, each once."""
        return tuple(dict.fromkeys(item.key for item in self.on_costs))

    @property
    def accuracy_bound(self) -> float | None:
        """The least validation accuracy (fraction) that counts as holding, None when none is required.

        With a known split size: the least that `judge` calls "yes", MARGIN standard errors above the bound, but never
        more than 1.
        """
        bounds = [item.bound for item in self.items if item.metric == "accuracy"]
        if not bounds:
            return None
        bound, n = bounds[0], self.validation_images
        if not n:
            return bound
        return min(1.0, max(bound, least_share(bound, n, MARGIN)))

    def cost_slack(self, costs: Mapping[str, FloatArray], relative_sigma: Mapping[str, float] | None = None
                   ) -> FloatArray:
        """[n, r] slack of every requirement on costs (`on_costs`), less its margin; >= 0 where it holds.

        costs: {key: [n]}, in base units, and under `sigma_key` the relative standard errors of single networks, where
        they have them. relative_sigma: overrides both these and the set's own.
        """
        sigma = self.relative_sigma if relative_sigma is None else relative_sigma
        n = len(next(iter(costs.values()))) if costs else 0
        columns = []
        for item in self.on_costs:
            if item.key not in costs:
                raise ValueError(f"'{item}' needs the cost {item.key!r}; there are {', '.join(costs) or 'none'}")
            own = costs.get(sigma_key(item.key)) if relative_sigma is None else None
            columns.append(item.slack(costs[item.key]) - MARGIN * (sigma.get(item.key, 0.0) if own is None else own))
        return np.stack(columns, axis=1) if columns else np.zeros((n, 0))

    def infeasible(self, best_by_key: Mapping[str, Reading]) -> list[str]:
        """A sentence for every requirement that even the best of the space does not reach; [] when all are in reach.

        best_by_key: {cost key or "accuracy": the best reading that any network of the space has}. Requirements without
        a reading, and those against the grain ("params >= 1k"), are passed over.
        """
        sentences = []
        for item in self.items:
            best = best_by_key.get(item.key)
            if best is None or item.relation != item.kind.natural or item.judge(best).holds != NO:
                continue
            how = "" if best.provenance == COMPUTED else f" ({best.provenance})"
            reach = format_quantity(best.value * _factor(best, item.kind), item.kind.dimension)
            sentences.append(
                f"'{item}' cannot be met: the best that this space can reach is {reach}{how}; "
                "relax it, or give another prototype or target"
            )
        return sentences

    def to_json(self) -> list[str]:
        return [str(item) for item in self.items]

    @classmethod
    def from_json(cls, value: Iterable[str]) -> Requirements:
        return cls.parse(value)

    def __iter__(self) -> Iterator[Requirement]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return ", ".join(self.to_json()) or "nothing required"


def _factor(reading: Reading, metric: Metric) -> float:
    """From the reading's unit to the metric's base unit; UserError when it is no unit of the metric."""
    return parse_quantity(f"1 {reading.unit.removesuffix('/image')}", metric.dimension)


def _log(values: npt.ArrayLike) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.asarray(values, dtype=np.float64))


def _refuse_duplicates(items: tuple[Requirement, ...]) -> None:
    seen: dict[tuple[str, str], Requirement] = {}
    for item in items:
        other = seen.setdefault((item.key, item.relation), item)
        if other is not item:
            raise UserError(f"'{other}' and '{item}' bound the same thing twice: keep one")


def _refuse_contradictions(items: tuple[Requirement, ...]) -> None:
    floors: dict[str, tuple[float, Requirement]] = {}
    ceilings: dict[str, tuple[float, Requirement]] = {}
    for item in items:
        key, bound, lower = item.key, item.bound, item.lower
        if item.metric == "img_per_joule":  # the same as a bound on the energy of an image, the other way round
            key, bound, lower = key.replace("img_per_joule", "energy"), 1000.0 / bound, not lower
        (floors if lower else ceilings).setdefault(key, (bound, item))
    for key, (floor, item) in floors.items():
        if key in ceilings and floor > ceilings[key][0] * (1 + 1e-9):
            raise UserError(f"'{item}' and '{ceilings[key][1]}' contradict each other: no network can satisfy both")
