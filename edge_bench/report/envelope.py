"""A long record in as many columns as a chart has: no extreme is lost, and what was missing stays missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """The values of one stretch of time: when (its middle), the lowest, their mean, the highest."""

    t_s: float
    low: float
    mean: float
    high: float


def envelope(t_s: Sequence[float], values: Sequence[float | None], count: int = 560,
             gap_s: float = math.inf) -> list[list[Column]]:
    """At most `count` columns of equal width over the whole time, in runs without a gap.

    A run ends where a value is None, or where nothing came for longer than `gap_s` and a column's width. Up to `count`
    values are kept as they are.
    """
    if len(t_s) != len(values):
        raise ValueError("as many times as values are needed")
    if not t_s:
        return []
    width = (t_s[-1] - t_s[0]) / count if len(t_s) > count else 0.0
    runs: list[list[Column]] = []
    held: list[tuple[float, float]] = []  # of the present column
    place, last = 0, None

    def close() -> None:
        if held:
            numbers = [value for _, value in held]
            middle = t_s[0] + (place + 0.5) * width if width else held[0][0]
            runs[-1].append(Column(middle, min(numbers), math.fsum(numbers) / len(numbers), max(numbers)))
            held.clear()

    for moment, value in zip(t_s, values, strict=True):
        if value is None or not math.isfinite(value):
            close()
            last = None
            continue
        now = min(int((moment - t_s[0]) / width), count - 1) if width else 0
        if last is None or moment - last > max(gap_s, width):
            close()
            runs.append([])
        elif now != place or not width:
            close()
        place, last = now, moment
        held.append((moment, value))
    close()
    return [run for run in runs if run]
