"""How readings are put into words: titles, digits, intervals, and the mark of where a number comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from devices.support.reading import BOARD, COMPUTED, CORRECTED, MEASURED, PREDICTED, Reading
from devices.units import format_quantity, parse_quantity
from synth.objective.requirement_language import METRICS
from synth.objective.requirements import Requirement
from synth.report.summary import NetworkRow

MARKS = {PREDICTED: "p", CORRECTED: "p*", MEASURED: "m", COMPUTED: ""}
# key: (title, dimension); in the order in which they are shown, those on the target after them
PLAIN: dict[str, tuple[str, str]] = {
    "accuracy": ("accuracy", "fraction"),
    "validation_accuracy": ("validation accuracy", "fraction"),
    "params": ("params", "count"),
    "params_raw": ("params raw", "count"),
    "macs": ("MACs", "count"),
    "information_density": ("density", "density"),
    "netscore": ("NetScore", "score"),
    "size": ("size", "bytes"),
    "peak_memory": ("peak memory", "bytes"),
    "latency_here": ("latency here", "time"),
}
TITLES = {"img_per_joule": "img/J", "latency_max": "latency max"}
# measured on the data, not on a board: the title says so
ON_DATA = ("accuracy", "validation_accuracy", "information_density", "netscore")


@dataclass(frozen=True)
class Column:
    """One column of a table. key: of the readings. batch: what the target's numbers were taken at, else 1."""

    key: str
    title: str
    dimension: str
    batch: int = 1

    def value(self, reading: Reading) -> float:
        """In the dimension's base unit, for sorting and plots."""
        return reading.value * self._factor(reading)

    def ends(self, reading: Reading) -> tuple[float, float] | None:
        """The 95 % interval in the dimension's base unit; None for what is exact."""
        if reading.low is None or reading.high is None:
            return None
        return reading.low * self._factor(reading), reading.high * self._factor(reading)

    def number(self, reading: Reading) -> str:
        """The number with its unit, as a person reads it."""
        return self._words(self.value(reading))

    def spread(self, reading: Reading) -> str:
        """"±0.3", half of the 95 % interval in the unit of `number`; "" for what is exact."""
        ends = self.ends(reading)
        if ends is None or ends[0] == ends[1]:
            return ""
        if self.dimension in ("fraction", "density"):
            scale = 0.01 if self.dimension == "fraction" else 1.0
        else:
            unit = self.number(reading).partition(" ")[2]
            scale = parse_unit(unit, self.dimension)
        return f"±{_two_digits((ends[1] - ends[0]) / 2 / scale)}"

    def interval(self, reading: Reading) -> str:
        """"[1.6 ms, 2.2 ms]"; "" for what is exact."""
        ends = self.ends(reading)
        return "" if ends is None else f"[{self._words(ends[0])}, {self._words(ends[1])}]"

    def mark(self, reading: Reading) -> str:
        """ "p" for predicted, "p*" for a prediction that measurements corrected, "m" for measured on a machine; "" for
        what is exact or follows from accuracy."""
        return "" if self.key in ON_DATA else MARKS[reading.provenance]

    def _words(self, value: float) -> str:
        if self.dimension == "density":
            return grouped(value)
        return format_quantity(value, self.dimension)

    def _factor(self, reading: Reading) -> float:
        if self.dimension == "density":
            return 1.0
        return parse_unit(reading.unit, self.dimension)


def parse_unit(unit: str, dimension: str) -> float:
    """From `unit` to the dimension's base unit. A score's unit, whatever it is called, is its own."""
    return 1.0 if dimension == "score" else parse_quantity(f"1 {unit.removesuffix('/image')}", dimension)


def column(key: str, target: str = "") -> Column:
    """The column of a reading's key. target: "tx2:maxn"; its board's name goes before what is read on it."""
    if key in PLAIN:
        title, dimension = PLAIN[key]
        return Column(key, title, dimension)
    metric, _, where = key.partition("@")
    batch, _, scope = where.partition(":")
    title = TITLES.get(metric, metric.replace("_", " "))
    board = target.partition(":")[0]
    words = [board, title, "board" if scope == BOARD else "", f"@{batch}" if batch not in ("", "1") else ""]
    dimension = METRICS[metric].dimension if metric in METRICS else "score"
    return Column(key, " ".join(word for word in words if word), dimension, int(batch or 1))


def columns(rows: Iterable[NetworkRow], target: str) -> list[Column]:
    """The columns of all keys that any row has a reading for: the plain ones first, then the target's, then what only
    other versions know."""
    present = dict.fromkeys(key for row in rows for key in row.readings)
    order = {metric: place for place, metric in enumerate(dict.fromkeys([*PLAIN, *METRICS]))}
    return [column(key, target) for key in sorted(
        present, key=lambda key: (order.get(key.partition("@")[0], len(order)), key))]


def grouped(value: float) -> str:
    """A whole number with its thousands apart: "1 260"."""
    return f"{value:,.0f}".replace(",", "\u202f")


def name_in_words(name: str) -> str:
    """ "ferminet-a" -> "FermiNet-A", as the paper writes it; other names as they are."""
    head, dash, tail = name.partition("-")
    return f"FermiNet{dash}{tail.upper()}" if head == "ferminet" else name


def spare_in_words(requirement: Requirement, reading: Reading) -> str:
    """How far a reading is inside its bound: "1.3 points to spare" for accuracies, "12 % to spare" for the rest."""
    shown = column(requirement.key)
    value = shown.value(reading)
    better = value >= requirement.bound if requirement.lower else value <= requirement.bound
    side = "to spare" if better else "short"
    if shown.dimension == "fraction":
        return f"{_two_digits(100 * abs(value - requirement.bound))} points {side}"
    percent = 100 * abs(value / requirement.bound - 1)
    return f"{_two_digits(percent)} % {side}"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.095 else f"{value:.2g}"
