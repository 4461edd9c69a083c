"""Charts as inline SVG: axes with round ticks, dots, lines, bands. Colours are CSS classes of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 548.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 22.0, 26.0, 40.0
EXTREME = 1e100  # beyond it a number is a mistake, and no axis follows it


@dataclass(frozen=True)
class Axis:
    """One axis. low, high: what it spans, low < high. words: a tick's text. whole: ticks at whole numbers only."""

    label: str
    low: float
    high: float
    log: bool = False
    words: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    whole: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, log: bool = False, room: float = 0.06,
               words: Callable[[float], str] = lambda value: f"{value:g}") -> Axis:
        """An axis that holds all sane values (positive ones where it is logarithmic), with some room beside them."""
        fitting = [v for v in values if abs(v) <= EXTREME and (v >= 1 / EXTREME or not log)] or [1.0]
        low, high = min(fitting), max(fitting)
        if log:
            span = max(math.log(high / low), 0.2) * room + 0.02
            return cls(label, low * math.exp(-span), high * math.exp(span), True, words)
        span = max(high - low, abs(high) * 1e-3, 1e-9) * room
        return cls(label, low - span, high + span, False, words)

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def holds(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers within the axis: multiples of 1, 2 or 5 times a power of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
                if 2 <= len(found) <= most:
                    return found
            if len(found) > most:
                return found[:: -(-len(found) // most)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step *= next(f for f in (1, 2, 5, 10, 20) if (self.high - self.low) / (f * step) <= most)
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Chart:
    """A chart that marks are added to; what lies outside its axes is left out. `svg` gives the element."""

    def __init__(self, title: str, x: Axis, y: Axis, width: float = WIDTH, height: float = HEIGHT):
        self.title, self.x, self.y, self.width, self.height = title, x, y, width, height
        self._marks: list[str] = []

    def at(self, point: Point) -> Point:
        """Where a point of the data lies in the drawing."""
        return (LEFT + self.x.place(point[0]) * (self.width - LEFT - RIGHT),
                self.height - BOTTOM - self.y.place(point[1]) * (self.height - TOP - BOTTOM))

    def dot(self, point: Point, kind: str, title: str = "", radius: float = 3.0, label: str = "") -> None:
        if not self._holds(point):
            return
        x, y = self.at(point)
        self._marks.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_title(title)}</circle>')
        if label:
            self._marks.append(_text(x + radius + 3, y + 4, label, "strong"))

    def line(self, points: Sequence[Point], kind: str, *, steps: bool = False) -> None:
        inside = [self.at(point) for point in points if self._holds(point)]
        if len(inside) < 2:
            return
        path = f"M{inside[0][0]:.1f} {inside[0][1]:.1f}"
        for x, y in inside[1:]:
            path += f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}"
        self._marks.append(f'<path class="line {kind}" d="{path}"/>')

    def band(self, points: Sequence[tuple[float, float, float]], kind: str) -> None:
        """The area between (x, low, high)."""
        if len(points) < 2:
            return
        there = [self.at((x, self._clamped(high))) for x, _, high in points]
        back = [self.at((x, self._clamped(low))) for x, low, _ in reversed(points)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (*there, *back))
        self._marks.append(f'<path class="area {kind}" d="M{path}Z"/>')

    def whisker(self, x: float, low: float, high: float, kind: str) -> None:
        """An upright interval."""
        if self.x.holds(x) and low <= self.y.high and high >= self.y.low:
            (left, bottom), (_, top) = self.at((x, self._clamped(low))), self.at((x, self._clamped(high)))
            self._marks.append(f'<path class="line {kind}" d="M{left:.1f} {bottom:.1f}V{top:.1f}"/>')

    def level(self, y: float, kind: str, label: str) -> None:
        """A line across the chart with its name."""
        if self.y.holds(y):
            left, height = self.at((self.x.low, y))
            self._marks.append(f'<path class="line {kind}" d="M{left:.1f} {height:.1f}H{self.width - RIGHT:g}"/>')
            self._marks.append(_text(LEFT + 5, height - 4, label, "small"))

    def svg(self) -> str:
        return _svg(self.title, self.width, self.height, (*self._frame(), *self._marks))

    def _frame(self) -> list[str]:
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = [_text(LEFT, 15, self.title, "strong")]
        for tick in self.x.ticks():
            x, _ = self.at((tick, self.y.low))
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            parts.append(_text(x, bottom + 15, self.x.words(tick), "small", ' text-anchor="middle"'))
        for tick in self.y.ticks():
            _, y = self.at((self.x.low, tick))
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(_text(LEFT - 6, y + 4, self.y.words(tick), "small", ' text-anchor="end"'))
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        parts.append(_text((LEFT + right) / 2, self.height - 6, self.x.label, "small", ' text-anchor="middle"'))
        parts.append(f'<text class="small" transform="translate(12 {(TOP + bottom) / 2:g}) rotate(-90)" '
                     f'text-anchor="middle">{escape(self.y.label)}</text>')
        return parts

    def _holds(self, point: Point) -> bool:
        return self.x.holds(point[0]) and self.y.holds(point[1])

    def _clamped(self, y: float) -> float:
        return min(max(y, self.y.low), self.y.high)


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


def bars(title: str, rows: Sequence[Bar], zoomed: bool = False, width: float = 262.0) -> str:
    """Bars from zero with their values; `zoomed`: dots on an axis around the values, with their intervals."""
    names, words, line, top = 76.0, 52.0, 22.0, 28.0
    room = width - names - words
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    axis = Axis.around("", values, room=0.1) if zoomed else Axis("", 0.0, max([*values, 1e-12]))
    parts = [_text(0, 15, title, "strong")]
    for i, row in enumerate(rows):
        y = top + i * line
        x = names + room * min(max(axis.place(row.value), 0.0), 1.0)
        parts.append(_text(names - 6, y + 12, row.name, "small", ' text-anchor="end"'))
        if zoomed:
            parts.append(f'<path class="grid" d="M{names} {y + 8:g}H{names + room:g}"/>')
            if row.low is not None and row.high is not None:
                ends = [names + room * axis.place(value) for value in (row.low, row.high)]
                parts.append(f'<path class="line {row.kind}" d="M{ends[0]:.1f} {y + 8:g}H{ends[1]:.1f}"/>')
            parts.append(f'<circle class="{row.kind}" cx="{x:.1f}" cy="{y + 8:g}" r="4">{_title(row.title)}</circle>')
        else:
            parts.append(f'<rect class="{row.kind}" x="{names}" y="{y + 1:g}" width="{max(x - names, 1):.1f}" '
                         f'height="14" rx="2">{_title(row.title)}</rect>')
        parts.append(_text(width, y + 12, row.words, "small", ' text-anchor="end"'))
    height = top + len(rows) * line + 4
    return _svg(title, width, height, parts)


def _svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    return (f'<svg class="chart" role="img" aria-label="{escape(title, quote=True)}" '
            f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">{"".join(parts)}</svg>')


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def _text(x: float, y: float, text: str, kind: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'
