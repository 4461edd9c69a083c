"""Quantities with units, as a person writes them: "60 img/J", "100k", "89 %", "10 ms", "4 MB".

k, M, G and the bytes are decimal: 1 kB = 1000 B, 1 MB = 1,000,000 B, 100k = 100,000.
"""

from __future__ import annotations

import math
import re

from devices.support.errors import UserError

__all__ = ["BASE_UNITS", "format_quantity", "parse_quantity"]

# dimension -> {unit as written: factor to the base unit}; the base unit is the one with factor 1 that is named first
UNITS: dict[str, dict[str, float]] = {
    "fraction": {"": 1.0, "%": 0.01},
    "count": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "time": {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3},
    "energy": {"mJ": 1.0, "J": 1e3, "uJ": 1e-3, "µJ": 1e-3},
    "power": {"W": 1.0, "mW": 1e-3},
    "bytes": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "img_per_joule": {"img/J": 1.0},
    "img_per_second": {"img/s": 1.0},
    "score": {"": 1.0},
}
BASE_UNITS: dict[str, str] = {dimension: next(iter(units)) for dimension, units in UNITS.items()}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*\Z", re.DOTALL)


def _unit_words(dimension: str) -> str:
    words = ["no unit" if unit == "" else unit for unit in UNITS[dimension] if "µ" not in unit]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def parse_quantity(text: str, dimension: str) -> float:
    """The number that `text` stands for, in the base unit of `dimension` (see BASE_UNITS): a fraction for "%",
    ms, mJ, W, bytes, img/J, img/s, plain counts.

    A bare number without its unit is accepted only where the base unit is itself bare (counts, fractions, scores).
    UserError names the wrong word and the units that fit.
    """
    if dimension not in UNITS:
        raise ValueError(f"no dimension {dimension!r}; there are {', '.join(UNITS)}")
    match = _QUANTITY.match(text)
    if match is None:
        raise UserError(f"'{text.strip()}' does not begin with a number: write a number and {_unit_words(dimension)}")
    number, unit = match[1], match[2].replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}")  # keyboards have either
    if unit not in UNITS[dimension]:
        wrong = f"'{unit}' is not a unit that fits" if unit else "the unit is missing"
        raise UserError(f"'{text.strip()}': {wrong}; write {_unit_words(dimension)}")
    value = float(number.replace("_", "")) * UNITS[dimension][unit]
    if not math.isfinite(value):
        raise UserError(f"'{text.strip()}': the number is too large")
    return value


def format_quantity(value: float, dimension: str, digits: int = 3) -> str:
    """`value` (in the base unit) as a person reads it, with `digits` significant digits: 97530 counts -> "97.5 k".

    What it writes, `parse_quantity` reads back to within the rounding.
    """
    if not math.isfinite(value):
        return f"{value} {BASE_UNITS[dimension]}".strip()
    if dimension == "fraction":
        return f"{_significant(100 * value, digits)} %"
    if dimension == "score":
        return _significant(value, digits + 1)
    if dimension == "count" and abs(value) < 1000 and value == int(value):
        return str(int(value))
    units = [(factor, unit) for unit, factor in UNITS[dimension].items() if "µ" not in unit]
    fitting = [pair for pair in units if abs(value) >= pair[0] * (1 - 0.5 * 10.0**-digits)]
    factor, unit = max(fitting) if fitting else (min(units) if value else (1.0, BASE_UNITS[dimension]))
    return f"{_significant(value / factor, digits)} {unit}".strip()


def _significant(value: float, digits: int) -> str:
    """`value` with at least `digits` significant digits and never in exponent form."""
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")
    magnitude = math.floor(math.log10(abs(value)))
    places = min(max(digits - 1 - magnitude, 0), 12)
    return f"{value:.{places}f}"
