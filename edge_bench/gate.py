"""The gate: results against a baseline. A regression is a ratio that excludes 1 and exceeds the tolerance."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from devices.support.errors import UserError, unknown
from edge_bench import baseline
from edge_bench.agent import result as results
from edge_bench.agent import statistics

__all__ = ["Verdict", "check_results", "is_tolerance", "parse_tolerances", "update_baseline", "worst"]

PASS, REGRESSION, INCONCLUSIVE, COULD_NOT_MEASURE = "pass", "regression", "inconclusive", "could not measure"
DEFAULT_TOLERANCES = {"energy": 0.05, "latency": 0.05}
SESSIONS = 3  # of one board, from which on the spread between sessions is known
_TOLERANCE = re.compile(r"^([a-z_0-9]+)=(\d+(?:\.\d+)?)(%?)$")


@dataclass
class Verdict:
    """One metric of one result. ratio: how much worse than the baseline (1.05 is 5 % worse), with its 95 % interval;
    all None where it could not be measured; reason says in a sentence what the verdict rests on."""

    model: str
    metric: str
    verdict: str
    tolerance: float
    reason: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    present: float | None = None
    baseline: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def is_tolerance(word: str) -> bool:
    """Whether a command-line word is a tolerance such as energy=5%."""
    return bool(_TOLERANCE.match(word))


def parse_tolerances(words: Iterable[str]) -> dict[str, float]:
    """{metric: share} of words such as "energy=5%" or "latency_p99=0.1". UserError for a word that is none."""
    tolerances = {}
    for word in " ".join(words).replace(",", " ").split():
        match = _TOLERANCE.match(word)
        if not match:
            raise UserError(f"--tolerance {word} is not understood: write energy=5% or latency_p99=10%")
        if match.group(1) not in baseline.METRICS:
            raise unknown("metric", match.group(1), baseline.METRICS)
        tolerances[match.group(1)] = float(match.group(2)) / (100 if match.group(3) else 1)
    return tolerances


def check_results(paths: Sequence[str | os.PathLike[str]], baseline_path: str | os.PathLike[str],
                  tolerances: dict[str, float] | None = None, force: bool = False) -> list[Verdict]:
    """The verdicts of result files against a baseline file, one for each result and metric.

    tolerances: {metric: share}; None checks median latency and, where the baseline has it, energy, within 5 %.
    force: also compare what is marked quick, unlocked or not steady. UserError for files that are damaged.
    """
    entries = baseline.load(baseline_path)
    verdicts = []
    for path in paths:
        verdicts += check_result(results.load(path), entries, tolerances, force)
    return verdicts


def check_result(result: dict[str, Any], entries: list[dict[str, Any]], tolerances: dict[str, float] | None = None,
                 force: bool = False) -> list[Verdict]:
    """The verdicts of one result against a baseline's entries."""
    name = result["model"]["name"]
    entry = baseline.find(entries, baseline.key_of(result))
    asked = dict(DEFAULT_TOLERANCES if tolerances is None else tolerances)
    if tolerances is None and entry is not None and not any("energy_mj" in s["trials"] for s in entry["sessions"]):
        del asked["energy"]
    obstacle = _obstacle(result, entry, force)
    if obstacle:
        return [Verdict(name, metric, COULD_NOT_MEASURE, share, obstacle) for metric, share in asked.items()]
    assert entry is not None  # an absent entry is an obstacle
    return [_check_metric(name, metric, share, result, entry) for metric, share in asked.items()]


def _obstacle(result: dict[str, Any], entry: dict[str, Any] | None, force: bool) -> str | None:
    """Why this result cannot be compared at all, or None."""
    if entry is None:
        return "the baseline holds no such model, batch, precision, runner and board: add it with --update"
    present = baseline.conditions(result)
    different = [f"{what} is {present[what]}, was {entry['conditions'].get(what)}" for what in present
                 if present[what] != entry["conditions"].get(what)]
    if different:
        return f"not comparable: {'; '.join(different)}: measure under the baseline's conditions, or --update it"
    marks = [mark for mark in result["marks"] if mark in results.NOT_COMPARABLE]
    if marks and not force:
        return f"the result is marked {', '.join(marks)}: measure again, or compare all the same with --force"
    return None


def _check_metric(name: str, metric: str, tolerance: float, result: dict[str, Any], entry: dict[str, Any]) -> Verdict:
    field, more_is_worse = baseline.METRICS[metric]
    new = baseline.trial_values(result).get(field)
    sessions = [session["trials"][field] for session in entry["sessions"] if field in session["trials"]]
    if not new or not sessions:
        return Verdict(name, metric, COULD_NOT_MEASURE, tolerance,
                       f"{'the result' if not new else 'the baseline'} has no {metric}: measure it"
                       + (" with --power" if metric == "energy" else ""))
    if min(min(values) for values in [new, *sessions]) <= 0:
        return Verdict(name, metric, COULD_NOT_MEASURE, tolerance, "a value is zero or negative: measure again")
    ratio, low, high = worse_by(new, sessions, more_is_worse)
    verdict, reason = judge(ratio, low, high, tolerance)
    if verdict != REGRESSION and len(sessions) < SESSIONS:
        reason += f"; the baseline pools {len(sessions)} of {SESSIONS} sessions"
    old = [value for values in sessions for value in values]
    return Verdict(name, metric, verdict, tolerance, reason, ratio, low, high, statistics.median(new),
                   statistics.median(old))


def worse_by(new: list[float], sessions: list[list[float]], more_is_worse: bool = True) -> tuple[
        float, float | None, float | None]:
    """How much worse the new trials are than the baseline's sessions: ratio and its 95 % interval (None: unknown).

    Welch's interval on the logarithms of the trials. From three sessions on, the spread between sessions is known and
    the interval of a new session, t(k - 1) s sqrt(1 + 1/k), counts where it is the wider: a session differs from
    the next by more than its trials do among themselves.
    """
    pooled = [value for values in sessions for value in values]
    found = statistics.ratio_interval(new, pooled)
    ratio, low, high = found.centre, found.low, found.high
    if len(sessions) >= SESSIONS and low is not None:
        centres = [statistics.mean([math.log(value) for value in values]) for values in sessions]
        half = statistics.t_quantile(0.975, len(centres) - 1) * statistics.stdev(centres) * math.sqrt(
            1 + 1 / len(centres))
        low, high = min(low, ratio * math.exp(-half)), max(high, ratio * math.exp(half))
    if more_is_worse:
        return ratio, low, high
    return 1 / ratio, None if high is None else 1 / high, None if low is None else 1 / low


def judge(ratio: float, low: float | None, high: float | None, tolerance: float) -> tuple[str, str]:
    """(verdict, reason). Pass is only said where the interval lies within the tolerance."""
    if low is None or high is None:
        return COULD_NOT_MEASURE, "one trial shows no spread: measure at least 5"
    limit = 1 + tolerance
    if ratio > limit and low > 1:
        return REGRESSION, f"worse by {ratio - 1:.1%}, beyond the tolerance of {tolerance:.1%} and the noise"
    if high <= limit:
        return PASS, "better" if high < 1 else f"within {tolerance:.1%}"
    return INCONCLUSIVE, f"the noise hides whether it is within {tolerance:.1%}: more trials would tell"


def worst(verdicts: Sequence[Verdict]) -> str:
    """The verdict of all together: a regression first, then what could not be measured, then inconclusive."""
    found = {verdict.verdict for verdict in verdicts}
    return next((word for word in (REGRESSION, COULD_NOT_MEASURE, INCONCLUSIVE) if word in found), PASS)


def update_baseline(paths: Sequence[str | os.PathLike[str]], baseline_path: str | os.PathLike[str],
                    force: bool = False) -> list[dict[str, Any]]:
    """Put results into a baseline file (made where there is none), all or nothing; the entries that changed.

    UserError for a result that is marked quick, unlocked, not steady or throttled, unless forced.
    """
    entries = baseline.load(baseline_path) if os.path.exists(baseline_path) else []
    loaded = [(os.fspath(path), results.load(path)) for path in paths]
    for name, result in loaded:
        if not force:
            baseline.refuse_unsound(result, name)
    changed = [baseline.add_session(entries, result) for _, result in loaded]
    baseline.save(baseline_path, entries)
    return changed
