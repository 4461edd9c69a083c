"""Charts as inline SVG: axes with round ticks, dots, lines, bands. Colours are CSS classes of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 548.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 22.0, 26.0, 40.0
EXTREME = 1e100  # beyond it a number is a mistake, and no axis follows it


@dataclass(frozen=True)
class Axis:
    """One axis. low, high: what it spans, low < high. words: a tick's text, None for the plain number with as many
    decimals as its neighbours. whole: ticks at whole numbers only."""

    label: str
    low: float
    high: float
    log: bool = False
    words: Callable[[float], str] | None = None
    whole: bool = False

    @classmethod
    def around(cls, label: str, values: Sequence[float], *, log: bool = False, room: float = 0.06,
               words: Callable[[float], str] | None = None) -> Axis:
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

    def labels(self, ticks: Sequence[float]) -> list[str]:
        """The texts of these ticks."""
        if self.words is not None:
            return [self.words(tick) for tick in ticks]
        plain = [f"{tick:g}" for tick in ticks]
        places = max((len(text.partition(".")[2]) for text in plain), default=0)
        if self.log or any("e" in text for text in plain):
            return plain
        return [f"{tick:.{places}f}".replace("-", "\u2212") for tick in ticks]

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
    """A chart that marks are added to; what lies outside its axes is left out. `svg` gives the element.

    words: what the chart shows, for whoever cannot see it. right: room beside the plot, for `names`.
    """

    def __init__(self, title: str, x: Axis, y: Axis, width: float = WIDTH, height: float = HEIGHT, *,
                 words: str = "", right: float = RIGHT):
        self.title, self.x, self.y, self.width, self.height = title, x, y, width, height
        self.words, self.right = words, right
        self._marks: list[str] = []
        self._labels: list[str] = []  # above all marks

    def at(self, point: Point) -> Point:
        """Where a point of the data lies in the drawing."""
        return (LEFT + self.x.place(point[0]) * (self.width - LEFT - self.right),
                self.height - BOTTOM - self.y.place(point[1]) * (self.height - TOP - BOTTOM))

    def dot(self, point: Point, kind: str, title: str = "", radius: float = 3.0, label: str = "") -> None:
        if not self._holds(point):
            return
        x, y = self.at(point)
        self._marks.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{tooltip(title)}</circle>')
        if label:
            self._labels.append(text(x + radius + 3, y + 4, label, "strong"))

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
            self._marks.append(f'<path class="line {kind}" d="M{left:.1f} {height:.1f}H{self.width - self.right:g}"/>')
            self._labels.append(text(LEFT + 5, height - 4, label, "small halo"))

    def stretch(self, low: float, high: float, kind: str, label: str = "", title: str = "") -> None:
        """A part of the x axis shaded over the whole height, its name at the top where there is room for it."""
        if high <= self.x.low or low >= self.x.high:
            return
        left, right = (self.at((min(max(x, self.x.low), self.x.high), self.y.low))[0] for x in (low, high))
        self._marks.append(f'<rect class="area {kind}" x="{left:.1f}" y="{TOP:g}" width="{max(right - left, 1):.1f}" '
                           f'height="{self.height - TOP - BOTTOM:g}">{tooltip(title)}</rect>')
        if label and right - left > 6.2 * len(label):
            self._labels.append(text((left + right) / 2, TOP + 13, label, "small", ' text-anchor="middle"'))

    def pillar(self, low: float, high: float, top: float, kind: str, title: str = "") -> None:
        """One bar of a histogram: from the foot of the chart to `top`."""
        (left, height), (right, _) = self.at((low, self._clamped(top))), self.at((high, self.y.low))
        wide, tall = max(right - left - 1, 0.6), self.height - BOTTOM - height
        self._marks.append(f'<rect class="{kind}" x="{left + 0.5:.1f}" y="{height:.1f}" width="{wide:.1f}" '
                           f'height="{tall:.1f}">{tooltip(title)}</rect>')

    def upright(self, x: float, kind: str, label: str, row: int = 0, before: bool = False) -> None:
        """A line from the foot to the top with its name after or `before` it, in one of several rows of names."""
        if self.x.holds(x):
            left, _ = self.at((x, self.y.low))
            self._marks.append(f'<path class="line {kind}" d="M{left:.1f} {TOP:g}V{self.height - BOTTOM:g}"/>')
            before = left + 5 + 6.2 * len(label) > self.width - self.right or (
                before and left - 5 - 6.2 * len(label) > LEFT)
            self._labels.append(text(left - 5 if before else left + 5, TOP + 11 + 14 * row, label, "small halo",
                                     ' text-anchor="end"' if before else ""))

    def names(self, ends: Sequence[tuple[float, str, str]]) -> None:
        """The names of lines at the right of the plot, each (y of its end, name, kind), pushed apart to be read."""
        placed: list[list[float]] = []
        order = sorted(range(len(ends)), key=lambda i: -ends[i][0])
        for i in order:
            height = self.at((self.x.high, self._clamped(ends[i][0])))[1] + 4
            placed.append([max(height, placed[-1][0] + 13) if placed else height, i])
        over = placed[-1][0] - (self.height - BOTTOM + 4) if placed else 0.0
        for k in range(len(placed) - 1, -1, -1):  # what was pushed below the foot moves up again
            if over > 0:
                limit = placed[k + 1][0] - 13 if k + 1 < len(placed) else self.height - BOTTOM + 4
                placed[k][0] = min(placed[k][0], limit)
            _, name, kind = ends[int(placed[k][1])]
            self._labels.append(text(self.width - self.right + 7, placed[k][0], name, f"name {kind}"))

    def svg(self) -> str:
        return element(self.title, self.width, self.height, (*self._frame(), *self._marks, *self._labels), self.words)

    def _frame(self) -> list[str]:
        bottom, right = self.height - BOTTOM, self.width - self.right
        parts = [text(LEFT, 15, self.title, "strong")]
        ticks = self.x.ticks(6 if self.width > 300 else 5)
        for tick, words in zip(ticks, self.x.labels(ticks), strict=True):
            x, _ = self.at((tick, self.y.low))
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            parts.append(text(x, bottom + 15, words, "small", ' text-anchor="middle"'))
        ticks = self.y.ticks()
        for tick, words in zip(ticks, self.y.labels(ticks), strict=True):
            _, y = self.at((self.x.low, tick))
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(text(LEFT - 6, y + 4, words, "small", ' text-anchor="end"'))
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        parts.append(text((LEFT + right) / 2, self.height - 6, self.x.label, "small", ' text-anchor="middle"'))
        parts.append(f'<text class="small" transform="translate(12 {(TOP + bottom) / 2:g}) rotate(-90)" '
                     f'text-anchor="middle">{escape(self.y.label)}</text>')
        return parts

    def _holds(self, point: Point) -> bool:
        return self.x.holds(point[0]) and self.y.holds(point[1])

    def _clamped(self, y: float) -> float:
        return min(max(y, self.y.low), self.y.high)


def element(title: str, width: float, height: float, parts: Sequence[str], words: str = "") -> str:
    """The <svg> of a chart; `words` describes it to whoever cannot see it."""
    return (f'<svg class="chart" role="img" aria-label="{escape(title, quote=True)}" '
            f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
            f'{f"<desc>{escape(words)}</desc>" if words else ""}{"".join(parts)}</svg>')


def tooltip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def text(x: float, y: float, words: str, kind: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'
