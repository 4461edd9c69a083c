"""How a measured number is put into words: as many digits as its interval bears, its unit, and where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from devices.support.reading import Reading

NARROW, NO_BREAK, MINUS = "\u202f", "\u00a0", "\u2212"


@dataclass(frozen=True)
class Number:
    """A number with all that stands beside it. lines: the small print below it, such as "12.8× fewer", each with the
    provenance of the number that it gives, "" for a comparison."""

    value: float
    words: str
    spread: str
    provenance: str
    source: str
    lines: tuple[tuple[str, str], ...] = ()


def number(reading: Reading, *lines: tuple[str, str]) -> Number:
    """A reading with its interval: "9.42 mJ", "[9.31, 9.53]"; from 1000 mW on in W."""
    unit, value, low, high = reading.unit, reading.value, reading.low, reading.high
    if unit == "mW" and value >= 1000:
        unit, value, low, high = "W", value / 1000, low and low / 1000, high and high / 1000
    places = decimals(value, low, high)
    spread = "" if low is None or high is None else f"[{plain(low, places)},{NO_BREAK}{plain(high, places)}]"
    return Number(reading.value, with_unit(plain(value, places), unit), spread, reading.provenance,
                  f"{reading.provenance}: {reading.source}", lines)


def words(value: float, unit: str = "") -> str:
    """A number of three digits with its unit."""
    return with_unit(plain(value, decimals(value)), unit)


def decimals(value: float, low: float | None = None, high: float | None = None) -> int:
    """Decimal places: three significant digits of the value, and up to six for the interval's half width: of that one
    digit, two where it begins with 1 or 2 (a rounding must not change it much)."""
    if not math.isfinite(value) or value == 0:
        return 0
    magnitude = math.floor(math.log10(abs(value)))
    places = 2 - magnitude
    if low is not None and high is not None and high > low:
        half = math.floor(math.log10((high - low) / 2))
        places = min(max(places, ((high - low) / 2 < 2.95 * 10.0**half) - half), 5 - magnitude)
    return min(max(places, 0), 9)


def plain(value: float, places: int) -> str:
    """A number with a real minus, its thousands apart from 10,000 on."""
    text = f"{value:,.{places}f}" if abs(value) >= 10_000 else f"{value:.{places}f}"
    return text.replace(",", NARROW).replace("-", MINUS)


def with_unit(text: str, unit: str) -> str:
    return f"{text}{NO_BREAK}{unit}" if unit else text


def percent(share: float, places: int = 0) -> str:
    return f"{100 * share:.{places}f}{NO_BREAK}%".replace("-", MINUS)
