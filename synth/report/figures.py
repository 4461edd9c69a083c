"""The figures of a run's report: the paper's comparison, the front, the search, and what the inquisitor foresaw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devices.units import format_quantity
from edge_bench.report.chart import Axis, Chart
from edge_bench.report.rows import Bar, bars
from synth.objective.performance import netscore
from synth.objective.requirements import Requirement
from synth.report.columns import column, name_in_words
from synth.report.summary import FERMINET, PROTOTYPE, Candidate, NetworkRow, RunSummary

PAPER = ("accuracy", "information_density", "macs", "netscore")  # of the paper's figure for classification
WHY = {"improve": "to improve on the best", "uncertain": "where 1r is uncertain", "fresh": "from fresh seeds"}
POINTS_BELOW = 0.10  # how far below the named networks' accuracies the front still shows candidates
MOST_CANDIDATES = 1500  # that are drawn: each is a few hundred bytes in four figures
LETTER, NAMES, LONGEST = 6.3, 76.0, 28  # room for names beside bars: of a letter, the least, and letters at most


@dataclass(frozen=True)
class Foresight:
    """How well accuracies were foreseen before they were seen. covered: how many of `count` lay in their 95 %
    interval. error: mean absolute error (fraction). rank: Spearman's correlation, None below 3 candidates."""

    count: int
    covered: int
    error: float
    rank: float | None


def foresight(candidates: Sequence[Candidate]) -> Foresight | None:
    """None when nothing was foreseen."""
    seen = [(c.predicted, c.low, c.high, c.accuracy) for c in candidates
            if c.predicted is not None and c.low is not None and c.high is not None]
    if not seen:
        return None
    covered = sum(low <= accuracy <= high for _, low, high, accuracy in seen)
    error = sum(abs(predicted - accuracy) for predicted, _, _, accuracy in seen) / len(seen)
    rank = _correlation(_ranks([foreseen for foreseen, *_ in seen]), _ranks([came for *_, came in seen]))
    return Foresight(len(seen), covered, error, rank if len(seen) > 2 else None)


def drawn_every(summary: RunSummary) -> int:
    """One in how many candidates is drawn, so that the page of a long search is not made of them."""
    return max(-(-len(summary.candidates) // MOST_CANDIDATES), 1)


def comparison(summary: RunSummary) -> list[str]:
    """The paper's four figures for classification: accuracy, information density, MACs, NetScore."""
    figures, called = [], {row.name: _short(name_in_words(row.name)) for row in summary.networks}
    names = max([NAMES, *(LETTER * len(name) + 12 for name in called.values())])
    for key in PAPER:
        shown = column(key)
        rows = []
        for row in summary.networks:
            reading = row.readings.get(key)
            if reading is not None:
                low, high = shown.ends(reading) or (None, None)
                rows.append(Bar(called[row.name], shown.value(reading), shown.number(reading), row.role,
                                f"{reading.provenance}: {reading.source}", low, high))
        if rows:
            title = {"information_density": "density, % per M parameters", "accuracy": "test accuracy"}
            figures.append(bars(title.get(key, shown.title), rows, zoomed=key == "accuracy", width=186 + names,
                                names=names))
    return figures


def front(summary: RunSummary) -> list[str]:
    """Accuracy against parameters and against MACs."""
    return [_front(summary, "params", lambda candidate: candidate.params),
            _front(summary, "macs", lambda candidate: candidate.macs)]


def _front(summary: RunSummary, key: str, cost_of: Callable[[Candidate], float]) -> str:
    named = [(row, row.readings[key].value, column("accuracy").value(row.readings["accuracy"]))
             for row in summary.networks if key in row.readings and "accuracy" in row.readings]
    least = min((accuracy for _, _, accuracy in named), default=0.0) - POINTS_BELOW
    shown = [candidate for candidate in summary.candidates if candidate.accuracy >= least]
    bound = _accuracy_bound(summary)
    levels = [accuracy for _, _, accuracy in named] + [c.accuracy for c in shown] + ([bound] if bound else [])
    costs = [cost for _, cost, _ in named] + [cost_of(c) for c in shown]
    title = {"params": "accuracy against parameters", "macs": "accuracy against MACs"}[key]
    chart = Chart(title, Axis.around(column(key).title, costs, log=True, words=_count),
                  Axis.around("accuracy", levels, words=_percent))
    if bound:
        chart.level(bound, "bound", f"required: {_percent(bound)}")
    for candidate in shown:
        chart.dot((cost_of(candidate), candidate.accuracy), "candidate" if candidate.feasible else "candidate misses",
                  f"cycle {candidate.cycle}: {_percent(candidate.accuracy)} validation after short training, "
                  f"{_count(cost_of(candidate))}", 2.6)
    for row, cost, accuracy in named:
        words = f"{name_in_words(row.name)}: {_percent(accuracy)} test, {_count(cost)}"
        chart.dot((cost, accuracy), row.role, words, 5, _letter(row))
    return chart.svg()


def reasons(candidates: Sequence[Candidate]) -> str:
    """What they were chosen for, and how many; "" where that is not known."""
    counts = Counter(candidate.reason for candidate in candidates)
    return ", ".join(f"{words} ({counts[reason]})" for reason, words in WHY.items() if counts[reason])


def search(summary: RunSummary) -> list[str]:
    """Best NetScore and feasible share over the cycles; [] when there were none."""
    if not summary.cycles:
        return []
    last = max([c.cycle for c in summary.cycles] + [c.cycle for c in summary.candidates])
    across = Axis("cycle", -0.4, last + 0.4, whole=True)
    best = [(float(c.cycle), c.best_netscore) for c in summary.cycles if c.best_netscore is not None]
    tried = [(float(c.cycle), float(netscore(c.accuracy, c.params, c.macs)), c) for c in summary.candidates
             if c.accuracy > 0]
    phi = summary.phi.readings.get("netscore") if summary.phi else None
    levels = [value for _, value in best] + ([phi.value] if phi else [])
    levels += sorted(value for _, value, _ in tried)[len(tried) // 20:]  # the worst few would squash the rest
    score = Chart("NetScore: candidates after short training; line: best, as believed", across,
                  Axis.around("NetScore", levels))
    if phi:
        score.level(phi.value, "prototype", "prototype")
    for cycle, value, candidate in tried:
        score.dot((cycle, value), "candidate" if candidate.feasible else "candidate misses",
                  f"cycle {candidate.cycle}: NetScore {value:.1f} with {_percent(candidate.accuracy)} validation "
                  f"after short training{_why(candidate)}", 2.6)
    score.line(best, "best", steps=True)
    shares = [(float(c.cycle), c.feasible) for c in summary.cycles if c.feasible is not None]
    feasible = Chart("fresh seeds that satisfy the exact requirements (95 % interval)", across,
                     Axis("feasible seeds", 0.0, 1.0, words=_percent))
    feasible.band([(x, s.low, s.high) for x, s in shares if s.low is not None and s.high is not None], "share")
    feasible.line([(x, share.value) for x, share in shares], "share")
    for x, share in shares:
        feasible.dot((x, share.value), "share", f"cycle {x:g}: {_percent(share.value)}, {share.source}", 2.5)
    return [score.svg(), *([feasible.svg()] if shares else [])]


def predictions(summary: RunSummary) -> list[str]:
    """What the inquisitor foresaw of each candidate against what came; [] when it foresaw none."""
    seen = [(c, c.predicted, c.low, c.high) for c in summary.candidates
            if c.predicted is not None and c.low is not None and c.high is not None]
    if not seen:
        return []
    axis = Axis.around("foreseen accuracy", [v for c, p, _, _ in seen for v in (c.accuracy, p)], words=_percent)
    chart = Chart("validation accuracy: foreseen and seen", Axis("seen", axis.low, axis.high, words=_percent), axis)
    chart.line([(axis.low, axis.low), (axis.high, axis.high)], "equal")
    for candidate, predicted, low, high in seen:
        chart.whisker(candidate.accuracy, low, high, "candidate")
        inside = low <= candidate.accuracy <= high
        chart.dot((candidate.accuracy, predicted), "candidate" if inside else "candidate outside",
                  f"cycle {candidate.cycle}: foreseen {_percent(predicted)} [{_percent(low)}, {_percent(high)}], "
                  f"seen {_percent(candidate.accuracy)}", 2.8)
    return [chart.svg()]


def _accuracy_bound(summary: RunSummary) -> float | None:
    parsed = (Requirement.parse(text) for text in summary.requirements)
    return next((item.bound for item in parsed if item.metric == "accuracy"), None)


def _why(candidate: Candidate) -> str:
    return f"; chosen {WHY[candidate.reason]}" if candidate.reason in WHY else ""


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _letter(row: NetworkRow) -> str:
    if row.role == PROTOTYPE:
        return "φ"
    return row.name.rpartition("-")[2].upper() if row.role == FERMINET else row.name


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _count(value: float) -> str:
    return format_quantity(value, "count", 2)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, ties sharing their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for place in order[start:end]:
                ranks[place] = (start + end - 1) / 2
            start = end
    return ranks


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    spread = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / spread if spread else None
