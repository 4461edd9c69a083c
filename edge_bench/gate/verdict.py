"""Verdicts: what the gate says of one metric, of one model, and of all together; schema "edgesynth.check/1"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from devices.support.errors import CHECK_FAILED, COULD_NOT_MEASURE, OK
from edge_bench.agent import metrics
from edge_bench.agent.comparison import interval_words, percent
from edge_bench.agent.result import figure

__all__ = ["FAIL", "IMPROVEMENT", "INCONCLUSIVE", "INCONCLUSIVE_IS", "NEW", "PASS", "REGRESSION", "UNMEASURED", "WARN",
           "ModelVerdict", "document", "exit_code", "judge", "worst"]

SCHEMA = "edgesynth.check/1"
PASS, IMPROVEMENT, NEW, INCONCLUSIVE = "pass", "improvement", "new", "inconclusive"
UNMEASURED, REGRESSION = metrics.COULD_NOT_MEASURE, "regression"
ORDER = (PASS, IMPROVEMENT, NEW, INCONCLUSIVE, UNMEASURED, REGRESSION)  # the last one that occurs counts for all
INCONCLUSIVE_IS = WARN, FAIL, QUIET = "warn", "fail", "pass"  # what --inconclusive makes of it


@dataclass
class ModelVerdict:
    """What the gate says of one model. The fields are those of a model in edgesynth.check/1.

    file: the model file, for annotations; None where it is not known. identity: what was measured where (see
    `baseline.identity`). method: "sessions" (against a stored baseline), "interleaved", or None where nothing was
    compared. sessions: {"baseline", "present", "more"}: how many sessions, or trials in turns, each side has, and how
    many of the present ones were measured since the first look told nothing. notes: sentences about what was forced
    or is weak. metrics: rows as `agent.comparison.row` makes them, with verdict and tolerance. results: paths.
    """

    model: str
    file: str | None = None
    verdict: str = PASS
    line: str = ""
    identity: dict[str, Any] | None = None
    method: str | None = None
    sessions: dict[str, int] = field(default_factory=lambda: {"baseline": 0, "present": 0, "more": 0})
    notes: list[str] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] | None = None
    results: list[str] = field(default_factory=list)

    def judged(self) -> ModelVerdict:
        """Itself, with the verdict and the line that its metrics give."""
        self.verdict = worst(row["verdict"] for row in self.metrics)
        shown = [row for row in self.metrics if row["verdict"] == self.verdict]  # the worst metrics only
        text = "; ".join(_metric_words(row) for row in shown)
        if self.verdict in (REGRESSION, IMPROVEMENT) and self.layers:
            text += _layer_words(self.layers, self.verdict == REGRESSION)
        self.line = f"{self._name()}: {text}"
        return self

    def settled(self, verdict: str, reason: str) -> ModelVerdict:
        """Itself, with a verdict that rests on no metric."""
        self.verdict, self.line = verdict, f"{self._name()}: {reason}"
        return self

    def _name(self) -> str:
        if not self.identity:
            return self.model
        serial = str(self.identity["serial"] or "")
        place = f"{self.model} on {self.identity['module']}"
        return f"{place} ({serial if len(serial) < 6 else '…' + serial[-4:]})" if serial else place

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(row: dict[str, Any], tolerance: float) -> dict[str, Any]:
    """The row with the gate's verdict and its reason.

    A regression is an interval above 1 around a ratio beyond the tolerance; an improvement is the mirror image; pass
    is said only where the whole interval lies within the tolerance.
    """
    judged = {**row, "tolerance": tolerance}
    ratio, low, high = row["ratio"], row["low"], row["high"]
    if ratio is None or low is None or high is None:
        return {**judged, "verdict": UNMEASURED}
    limit = 1 + tolerance
    if ratio > limit and low > 1:
        return {**judged, "verdict": REGRESSION,
                "reason": f"worse by {ratio - 1:.1%}, beyond the tolerance of {tolerance:.1%} and the noise"}
    if ratio < 1 / limit and high < 1:
        return {**judged, "verdict": IMPROVEMENT, "reason": f"better by {1 - ratio:.1%}, beyond the noise"}
    if high <= limit:
        return {**judged, "verdict": PASS, "reason": f"within {tolerance:.1%}"}
    return {**judged, "verdict": INCONCLUSIVE, "reason": f"the noise hides whether it is within {tolerance:.1%}"}


def worst(verdicts: Any) -> str:
    """The verdict of all together: a regression first, then what could not be measured, then inconclusive."""
    return max(verdicts, key=ORDER.index, default=PASS)


def exit_code(verdict: str, inconclusive: str = WARN) -> int:
    """0, 1 or 3 of a verdict; inconclusive: "warn", "fail" or "pass"."""
    if verdict == INCONCLUSIVE:
        return CHECK_FAILED if inconclusive == FAIL else OK
    return {REGRESSION: CHECK_FAILED, UNMEASURED: COULD_NOT_MEASURE}.get(verdict, OK)


def document(models: Sequence[ModelVerdict], against: dict[str, Any], created: str,
             inconclusive: str = WARN) -> dict[str, Any]:
    """The body of edgesynth.check/1. against: {"kind": "baseline", "path"}, {"kind": "revision", "ref", "commit"} or
    {"kind": "comparison"}."""
    verdict = worst(model.verdict for model in models)
    return {"schema": SCHEMA, "created": created, "verdict": verdict, "exit_code": exit_code(verdict, inconclusive),
            "inconclusive": inconclusive, "against": against, "models": [model.to_json() for model in models]}


def _metric_words(row: dict[str, Any]) -> str:
    """"energy +7.9 % [6.1, 9.8], tolerance 5 %: 41.2 → 44.5 mJ/image"."""
    if row["ratio"] is None or row["low"] is None:
        return f"{row['metric']} could not be measured: {row['reason']}"
    change = percent(row["ratio"]) if row["more_is_worse"] else f"worse by {percent(row['ratio'])}"
    interval = interval_words(row).removesuffix(" %")
    words = (f"{row['metric']} {change} {interval}, tolerance {100 * row['tolerance']:g} %: "
             f"{figure(row['baseline'])} → {figure(row['present'])} {row['unit']}")
    return words + (", which the noise hides" if row["verdict"] == INCONCLUSIVE else "")


def _layer_words(layers: list[dict[str, Any]], worse: bool) -> str:
    """"; most of it in conv4_2", where the layers changed as the model did."""
    total = sum(layer["change_ms"] for layer in layers)
    first = max(layers, key=lambda layer: layer["change_ms"] if worse else -layer["change_ms"])
    if total == 0 or (total > 0) != worse or first["change_ms"] * total <= 0:
        return ""
    share = first["change_ms"] / total
    new = " (new)" if first["baseline_ms"] is None else " (gone)" if first["present_ms"] is None else ""
    if share > 0.5:
        return f"; most of it in {first['name']}{new}"
    return f"; {share:.0%} of it in {first['name']}{new}" if share >= 0.1 else ""
