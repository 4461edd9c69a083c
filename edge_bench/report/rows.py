"""Charts that are rows: bars, a bar of shares, and the forest of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_bench.report.chart import Axis, element, text, tooltip

LETTER = 6.3  # width of a small letter, about


@dataclass(frozen=True)
class Bar:
    """One bar. words: its value as text. low, high: its interval, where there is one."""

    name: str
    value: float
    words: str
    kind: str
    title: str = ""
    low: float | None = None
    high: float | None = None


def bars(title: str, rows: Sequence[Bar], zoomed: bool = False, width: float = 262.0, names: float = 76.0,
         words: float = 52.0) -> str:
    """Bars from zero with their values; `zoomed`: dots on an axis around the values, with their intervals.

    names, words: the room for the names at the left and for the values at the right.
    """
    line, top = 22.0, 28.0
    room = width - names - words
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    axis = Axis.around("", values, room=0.1) if zoomed else Axis("", 0.0, max([*values, 1e-12]))
    parts = [text(0, 15, title, "strong")]
    for i, row in enumerate(rows):
        y = top + i * line
        x = names + room * min(max(axis.place(row.value), 0.0), 1.0)
        parts.append(text(names - 6, y + 12, row.name, "small", ' text-anchor="end"'))
        if zoomed:
            parts.append(f'<path class="grid" d="M{names} {y + 8:g}H{names + room:g}"/>')
            if row.low is not None and row.high is not None:
                ends = [names + room * axis.place(value) for value in (row.low, row.high)]
                parts.append(f'<path class="line {row.kind}" d="M{ends[0]:.1f} {y + 8:g}H{ends[1]:.1f}"/>')
            parts.append(f'<circle class="{row.kind}" cx="{x:.1f}" cy="{y + 8:g}" r="4">{tooltip(row.title)}</circle>')
        else:
            parts.append(f'<rect class="{row.kind}" x="{names}" y="{y + 1:g}" width="{max(x - names, 1):.1f}" '
                         f'height="14" rx="2">{tooltip(row.title)}</rect>')
        parts.append(text(width, y + 12, row.words, "small", ' text-anchor="end"'))
    height = top + len(rows) * line + 4
    return element(title, width, height, parts, "; ".join(f"{row.name} {row.words}" for row in rows))


def shares(title: str, parts: Sequence[Bar], width: float = 1120.0) -> str:
    """Parts of a whole as one bar, each with its share. A negative part (a rest of noise) is only told in words."""
    shown = [part for part in parts if part.value > 0]
    whole = sum(part.value for part in shown) or 1.0
    drawn, left, top = [text(0, 15, title, "strong")], 0.0, 26.0
    for part in shown:
        wide = part.value / whole * width
        drawn.append(f'<rect class="{part.kind}" x="{left:.1f}" y="{top:g}" width="{max(wide - 1.5, 0.5):.1f}" '
                     f'height="26" rx="2">{tooltip(part.title or f"{part.name}: {part.words}")}</rect>')
        if 8.0 * len(part.name) < wide:  # a name of bold letters
            drawn.append(text(left + 1, top + 42, part.name, "strong small"))
            drawn.append(text(left + 1, top + 57, part.words, "small"))
        left += wide
    return element(title, width, top + 64, drawn, "; ".join(f"{part.name} {part.words}" for part in parts))


@dataclass(frozen=True)
class Effect:
    """One row of a forest. ratio, low, high: how much worse, 1 is equal; None where it could not be measured. limit:
    the tolerance as a share, None where there is none. kind: its class. words, verdict: what stands at the right."""

    name: str
    ratio: float | None
    low: float | None
    high: float | None
    limit: float | None
    kind: str
    words: str
    verdict: str
    title: str = ""


def forest(title: str, rows: Sequence[Effect], width: float = 1120.0) -> str:
    """Ratios with their 95 % intervals on one axis of per cent; beyond each row's tolerance the ground is shaded."""
    line, top = 27.0, 44.0
    left = min(max([len(row.name) for row in rows] + [8]) * LETTER + 18, 0.34 * width)
    right = max([len(row.words) for row in rows] + [12]) * LETTER + 130
    room, foot = width - left - right, top + line * len(rows)
    axis = _axis(rows)
    parts = [text(0, 15, title, "strong")]

    def place(value: float) -> float:
        return left + room * min(max(axis.place(value), 0.0), 1.0)

    for i, row in enumerate(rows):
        if row.limit is None:
            continue
        start = place(row.limit)
        parts.append(f'<rect class="area beyond" x="{start:.1f}" y="{top + i * line:.1f}" '
                     f'width="{left + room - start:.1f}" height="{line:g}">'
                     f'{tooltip(f"beyond the tolerance of {100 * row.limit:g} %")}</rect>')
    for tick in axis.ticks(7):
        parts.append(f'<path class="grid" d="M{place(tick):.1f} {top:g}V{foot:g}"/>')
        parts.append(text(place(tick), top - 6, signed_percent(tick), "small", ' text-anchor="middle"'))
    parts.append(f'<path class="axis" d="M{place(0.0):.1f} {top:g}V{foot:g}"/>')
    for i, row in enumerate(rows):
        y = top + (i + 0.5) * line
        parts.append(text(left - 12, y + 4, row.name, "", ' text-anchor="end"'))
        if row.ratio is not None:
            if row.low is not None and row.high is not None:
                a, b = place(row.low - 1), place(row.high - 1)
                parts.append(f'<path class="line {row.kind}" d="M{a:.1f} {y:g}H{b:.1f}M{a:.1f} {y - 4:g}v8M{b:.1f} '
                             f'{y - 4:g}v8"/>')
            parts.append(f'<circle class="{row.kind}" cx="{place(row.ratio - 1):.1f}" cy="{y:g}" r="4.5">'
                         f'{tooltip(row.title)}</circle>')
        parts.append(text(left + room + 14, y + 4, row.words, "small"))
        parts.append(text(width, y + 4, row.verdict, f"name {row.kind}", ' text-anchor="end"'))
    parts.append(text(left, foot + 17, "← better", "small"))
    parts.append(text(left + room, foot + 17, "worse →", "small", ' text-anchor="end"'))
    words = "; ".join(f"{row.name}: {row.words}, {row.verdict}" for row in rows)
    return element(title, width, foot + 24, parts, words)


def _axis(rows: Sequence[Effect]) -> Axis:
    """Holds 0, every tolerance and every interval, but none of them beyond -90 % and +400 %."""
    ends = [end - 1 for row in rows for end in (row.ratio, row.low, row.high) if end is not None and math.isfinite(end)]
    values = [min(max(value, -0.9), 4.0) for value in (0.0, *(1.3 * row.limit for row in rows if row.limit), *ends)]
    return Axis.around("", [*values, -0.3 * max(values)], room=0.04)


def signed_percent(share: float) -> str:
    """ "+5 %", "-2.5 %", "0 %", with a real minus."""
    return "0 %" if abs(share) < 1e-9 else f"{100 * share:+.3g} %".replace("-", "\u2212")
