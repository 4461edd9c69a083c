"""A fit as a plot in one small HTML file, and as a table in the terminal."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from devices.calibration import Outcome
from devices.own_board import Calibration

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["fit_rows", "fit_table", "page", "summary"]

SIDE, MARGIN, BAND = 380, 56, 0.2  # pixels of a panel and of its margin; the band drawn around the diagonal
UNITS = {"latency": "ms", "energy": "mJ"}
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #8a94a3; --band: #2a78d622; --dot: #2a78d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #7f8a9a; --band: #6aa9f022; --dot: #6aa9f0; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; max-width: 26rem; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.panels { display: flex; flex-wrap: wrap; gap: 1rem; } table { border-collapse: collapse; font-size: 14px; }
th, td { padding: .15rem .6rem; text-align: right; } th:first-child, td:first-child { text-align: left; }
th { border-bottom: 1px solid var(--faint); font-weight: 600; }
"""


def fit_rows(calibration: Calibration) -> list[dict[str, Any]]:
    """One dictionary a measurement: what was measured, what the fit says of it, and what a fit without its network
    says; latencies of the batch in ms, energies per image in mJ in the scope that was measured."""
    rows = []
    for fitted, left_out in zip(calibration.fitted, calibration.left_out, strict=True):
        sample = fitted.sample
        row: dict[str, Any] = {"network": sample.network, "batch": sample.batch, "precision": sample.precision,
                               "mode": sample.mode}
        for what in calibration.quantities:
            watts = 1.0 if what == "latency" else (sample.power_w or math.nan) / sample.batch
            names = _names(what)
            row[names[0]] = sample.latency_ms * watts
            for name, outcome in zip(names[1:], (fitted, left_out), strict=True):
                row[name] = row[names[0]] * math.exp(outcome.errors[what] or 0.0)
        rows.append(row)
    return rows


def _names(what: str) -> tuple[str, str, str]:
    """Keys of a row: as measured, in the fit, left out of it."""
    unit = UNITS[what]
    return f"{what}_{unit}", f"{what}_fit_{unit}", f"{what}_left_out_{unit}"


def summary(calibration: Calibration) -> list[str]:
    """How well the fit does, in words."""
    lines = []
    for what in calibration.quantities:
        median, worst = _errors(calibration.left_out, what)
        own, _ = _errors(calibration.fitted, what)
        lines.append(f"{what}: {own:.1%} off in the fit; on networks left out of it {median:.1%}, at worst {worst:.0%} "
                     "(medians)")
    return lines


def _errors(outcomes: Sequence[Outcome], what: str) -> tuple[float, float]:
    """Median and worst absolute relative error."""
    values = sorted(abs(math.expm1(e)) for o in outcomes if (e := o.errors[what]) is not None)
    return values[len(values) // 2], values[-1]


def fit_table(calibration: Calibration) -> Table:
    """The fit as a table for the terminal: errors in per cent of what was measured."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("network", "batch", "precision"):
        table.add_column(title, no_wrap=True)
    for what in calibration.quantities:
        for title in (UNITS[what] if what == "latency" else f"{UNITS[what]}/image", "fit", "left out"):
            table.add_column(title, justify="right", no_wrap=True)
    for row in fit_rows(calibration):
        table.add_row(row["network"], str(row["batch"]), row["precision"], *_cells(row, calibration))
    return table


def _cells(row: dict[str, Any], calibration: Calibration) -> list[str]:
    cells = []
    for what in calibration.quantities:
        measured, *predicted = (row[name] for name in _names(what))
        cells += [f"{measured:.3g}", *(f"{value / measured - 1:+.0%}" for value in predicted)]
    return cells


def page(calibration: Calibration, source: str) -> str:
    """The fit as one HTML file: measured against predicted, and the table; nothing is loaded from elsewhere."""
    title = html.escape(f"{calibration.data['name']}: the fit of its cost model")
    rows = fit_rows(calibration)
    panels = "".join(_panel(what, rows) for what in calibration.quantities)
    heads = "".join(f"<th>{html.escape(what)}, {UNITS[what]}</th><th>in the fit</th><th>left out</th>"
                    for what in calibration.quantities)
    cells = [(row["network"], row["batch"], row["precision"], row["mode"], *_cells(row, calibration)) for row in rows]
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>" for line in cells)
    words = "".join(f"<p>{html.escape(line)}</p>" for line in (*summary(calibration), f"Measured: {source}."))
    return (f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{words}<div class=panels>{panels}</div>"
            "<p>Hollow: predicted by the fit to everything. Filled: by a fit that has not seen the network. The band "
            f"is {BAND:.0%} to both sides. Energy is that of the {calibration.scope}.</p>"
            f"<table><thead><tr><th>network</th><th>batch</th><th>precision</th><th>mode</th>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table></html>\n")


def _panel(what: str, rows: Sequence[dict[str, Any]]) -> str:
    """Measured (across) against predicted (up), both logarithmic."""
    unit, names = UNITS[what], _names(what)
    values = [row[name] for row in rows for name in names]
    low, high = math.log10(min(values)) - 0.08, math.log10(max(values)) + 0.08
    end = SIDE - MARGIN

    def place(value: float) -> float:
        return MARGIN + (math.log10(value) - low) / (high - low) * (end - MARGIN)

    def up(value: float) -> float:
        return SIDE - place(value)

    first, last = 10**low, 10**high
    parts = [f"<clipPath id='{what}'><rect x='{MARGIN}' y='{MARGIN}' width='{end - MARGIN}' height='{end - MARGIN}'/>"
             f"</clipPath><g clip-path='url(#{what})'>",
             "<polygon fill='var(--band)' points='" + " ".join(
                 f"{place(x):.1f},{up(x * factor):.1f}" for x, factor in (
                     (first, 1 + BAND), (last, 1 + BAND), (last, 1 / (1 + BAND)), (first, 1 / (1 + BAND)))) + "'/>",
             f"<line x1='{place(first):.1f}' y1='{up(first):.1f}' x2='{place(last):.1f}' y2='{up(last):.1f}' "
             "stroke='var(--faint)'/></g>",
             f"<rect x='{MARGIN}' y='{MARGIN}' width='{end - MARGIN}' height='{end - MARGIN}' fill='none' "
             "stroke='var(--faint)'/>"]
    for power in range(math.ceil(low), math.floor(high) + 1):
        tick = 10.0**power
        parts.append(f"<text x='{place(tick):.1f}' y='{end + 18}' text-anchor='middle'>{tick:g}</text>"
                     f"<text x='{MARGIN - 6}' y='{up(tick) + 4:.1f}' text-anchor='end'>{tick:g}</text>")
    for row in rows:
        for name, fill in ((names[1], "none"), (names[2], "var(--dot)")):
            about = html.escape(f"{row['network']}, batch {row['batch']}, {row['precision']}: measured "
                                f"{row[names[0]]:.3g} {unit}, predicted {row[name]:.3g}", quote=True)
            parts.append(f"<circle cx='{place(row[names[0]]):.1f}' cy='{up(row[name]):.1f}' r='4' fill='{fill}' "
                         f"stroke='var(--dot)'><title>{about}</title></circle>")
    parts.append(f"<text x='{SIDE / 2}' y='{SIDE - 8}' text-anchor='middle'>measured, {unit}</text>"
                 f"<text x='{SIDE / 2}' y='{MARGIN - 14}' text-anchor='middle'>{what}, predicted, {unit}</text>")
    label = f"{what}, predicted against measured"
    return f"<svg viewBox='0 0 {SIDE} {SIDE}' role='img' aria-label='{label}'>{''.join(parts)}</svg>"
