"""What the report says of a check and of a comparison: verdicts, a forest of ratios, the trials in time order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_bench.agent.pair import SIDES
from edge_bench.report.chart import Axis, Chart
from edge_bench.report.figures import BY_TRIAL
from edge_bench.report.measurement import Measurement
from edge_bench.report.number import MINUS, NO_BREAK, words
from edge_bench.report.rows import Effect, forest
from edge_bench.report.sections import result_table
from edge_bench.report.table import Cell, Table, phrase, quantity

KINDS = {"regression": "worse", "worse": "worse", "improvement": "better", "better": "better", "pass": "fine",
         "new": "fine"}  # the rest is unclear
ANSWER = ("energy", "latency")


def check_section(check: dict[str, Any]) -> dict[str, Any]:
    """Of a check, schema edgesynth.check/1."""
    models = check["models"]
    return {"title": "Energy gate", "verdict": check["verdict"], "against": _against(check.get("against") or {}),
            "created": check.get("created", ""),
            "models": [{"name": str(model["model"]), "verdict": model["verdict"], "line": model["line"],
                        "notes": list(model.get("notes") or []), "sessions": _sessions(model)} for model in models],
            "forest": _forest("how much worse than before, 95 % interval; shaded: beyond the tolerance",
                              [(model["model"] if len(models) > 1 else "", metric)
                               for model in models for metric in model["metrics"]]),
            "table": _metric_table(models), "layers": [table for table in map(_layer_table, models) if table]}


def compare_section(comparison: dict[str, Any], two: list[Measurement]) -> dict[str, Any]:
    """Of a comparison, schema edgesynth.compare/1, and its two sides."""
    names = side_names(two)
    model = {**comparison, "model": "", "verdict": ""}
    layers = _layer_table(model)
    return {"title": f"{names[1]} beside {names[0]}, interleaved on {two[0].where}",
            "names": names, "answer": _answer(comparison, names), "created": comparison["created"],
            "warnings": comparison["warnings"],
            "order": " ".join("AB"[SIDES.index(side)] for side in comparison["order"]),
            "forest": _forest(f"how much worse {names[1]} is, 95 % interval", [("", m) for m in comparison["metrics"]]),
            "in_order": in_order(comparison, names), "table": _metric_table([model]),
            "results": result_table(two, names), "layers": [layers] if layers else []}


def _answer(comparison: dict[str, Any], names: Sequence[str]) -> str:
    """The headline metrics in a sentence."""
    found = [f"{metric['metric']} {change(metric)}" for metric in comparison["metrics"]
             if metric["metric"] in ANSWER and metric.get("ratio") is not None]
    return f"{names[1]} beside {names[0]}: {', '.join(found)}; + is worse." if found else ""


def side_names(two: list[Measurement]) -> list[str]:
    """Of both sides: the models', told apart where they are one."""
    names = [side.name for side in two]
    return names if names[0] != names[1] else [f"{name} ({side})" for name, side in zip(names, SIDES, strict=True)]


def in_order(comparison: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Every trial of both sides in the order in which they ran, so that a drift of the board can be seen."""
    rows = {side: sorted(comparison[side]["trials"], key=lambda row: row["start_s"]) for side in SIDES}
    ran = sorted(((row["start_s"], side, i) for side in SIDES for i, row in enumerate(rows[side])))
    found = []
    for field, (title, unit) in BY_TRIAL.items():
        points = [(number + 1, side, rows[side][i].get(field)) for number, (_, side, i) in enumerate(ran)]
        values = [value for _, _, value in points if value is not None]
        if len(values) < len(points) or not values:
            continue
        chart = Chart(f"{title}, {unit}", Axis("trial, in the order in which they ran", 0.5, len(points) + 0.5,
                                               whole=True), Axis.around("", values, room=0.15), 357, 240,
                      right=8.0 * max(len(_brief(name)) for name in names) + 12,
                      words="; ".join(f"{side} {words(value, unit)}" for _, side, value in points))
        ends = []
        for side, name in zip(SIDES, names, strict=True):
            own = [(float(x), value) for x, where, value in points if where == side]
            chart.line(own, f"{side} thin")
            for x, value in own:
                chart.dot((x, value), side, f"trial {x:g}, {name}: {words(value, unit)}", 4.5)
            ends.append((own[-1][1], _brief(name), side))
        chart.names(ends)
        found.append(chart.svg())
    return found


def _brief(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def change(metric: dict[str, Any]) -> str:
    """ "+7.9 % [6.1, 9.8]": how much worse; "not measured"."""
    if metric.get("ratio") is None:
        return "not measured"
    text = _points(metric["ratio"], sign=True) + f"{NO_BREAK}%"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" [{_points(metric['low'])}, {_points(metric['high'])}]"
    return text


def _points(ratio: float, sign: bool = False) -> str:
    share = 100 * (ratio - 1)
    text = f"{share:+.1f}" if sign else f"{share:.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", MINUS)


def _forest(title: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    effects = []
    for model, metric in rows:
        name = " · ".join(piece for piece in (model, metric["metric"].replace("_", " ")) if piece)
        reason = metric.get("reason") or ""
        effects.append(Effect(name, metric["ratio"], metric["low"], metric["high"], metric.get("tolerance"),
                              KINDS.get(metric["verdict"], "unclear"), change(metric), metric["verdict"], reason))
    return forest(title, effects) if effects else ""


def _metric_table(models: Sequence[dict[str, Any]]) -> Table:
    many, judged = len(models) > 1, any(m.get("tolerance") is not None for model in models for m in model["metrics"])
    rows = []
    for model in models:
        for metric in model["metrics"]:
            limit, unit = metric.get("tolerance"), metric.get("unit") or ""
            rows.append([
                phrase(metric["metric"].replace("_", " "), model["model"] if many else ""),
                quantity(metric.get("baseline"), unit), quantity(metric.get("present"), unit),
                Cell(change(metric), "" if metric.get("ratio") is None else metric["ratio"]),
                *([Cell("–" if limit is None else f"{100 * limit:g}{NO_BREAK}%", limit or "")] if judged else []),
                phrase(metric["verdict"], badge=True), phrase(metric.get("reason") or "")])
    titles = ["metric", "before", "now", "worse by", *(["tolerance"] if judged else []), "verdict", "because"]
    return Table("Metric by metric: medians, and how much worse the new one is with its 95 % interval", titles, rows)


def _layer_table(model: dict[str, Any]) -> Table | None:
    if not model.get("layers"):
        return None
    rows = [[phrase(layer["name"]), quantity(layer.get("baseline_ms"), "ms"), quantity(layer.get("present_ms"), "ms"),
             Cell(("+" if layer["change_ms"] > 0 else "") + words(layer["change_ms"], "ms"), layer["change_ms"])]
            for layer in model["layers"]]
    return Table(f"Layers that changed most{', of ' + model['model'] if model.get('model') else ''}",
                 ["layer", "before", "now", "change"], rows)


def _against(against: dict[str, Any]) -> str:
    kind = against.get("kind")
    if kind == "baseline":
        return f"against the baseline {against.get('path')}"
    if kind == "revision":
        return f"against the models of {against.get('ref')} ({str(against.get('commit'))[:12]}), interleaved"
    return "of an interleaved comparison" if kind == "comparison" else ""


def _sessions(model: dict[str, Any]) -> str:
    found = model.get("sessions") or {}
    if not found or not model.get("method"):
        return ""
    what = "sessions" if model["method"] == "sessions" else "interleaved trials"
    more = f", {found['more']} of them because the first look was inconclusive" if found.get("more") else ""
    return f"{what}: {found.get('baseline')} before, {found.get('present')} now{more}"
