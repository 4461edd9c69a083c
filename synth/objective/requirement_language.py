"""How a requirement is said: "accuracy >= 89%", "img_per_joule >= 60 @ batch=8, board".

    requirement := metric relation quantity [ "@" condition { "," condition } ]
    relation    := ">=" | "<="            condition := "batch=" number | "module" | "board"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from devices.support.errors import UserError, unknown
from devices.support.reading import BOARD, MODULE
from devices.units import BASE_UNITS, UNITS, parse_quantity

AT_LEAST, AT_MOST = ">=", "<="
SCOPES = (MODULE, BOARD)


@dataclass(frozen=True)
class Metric:
    """What can be required. dimension: of its unit (devices.units). natural: the relation that asks for something good.

    batched: it depends on the batch size. scoped: it means the module unless `@ board` is said. bare: the unit that the
    name already says, so that a number may stand without it.
    """

    name: str
    dimension: str
    natural: str
    meaning: str
    batched: bool = False
    scoped: bool = False
    bare: str = ""

    @property
    def unit(self) -> str:
        """The unit that bounds are stored in; "" where it is a plain count or a fraction."""
        return BASE_UNITS[self.dimension]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "fraction", AT_LEAST, "the task's metric on the validation split"),
        Metric("params", "count", AT_MOST, "parameters, batch norm folded"),
        Metric("macs", "count", AT_MOST, "multiply-accumulates of one forward pass"),
        Metric("size", "bytes", AT_MOST, "the weights as stored"),
        Metric("peak_memory", "bytes", AT_MOST, "the most that activations take at one time, batch 1"),
        Metric("latency", "time", AT_MOST, "median, host input to host output", batched=True),
        *(
            Metric(f"latency_{tail}", "time", AT_MOST, f"{tail} of the latency", batched=True)
            for tail in ("p50", "p90", "p95", "p99", "max")
        ),
        Metric("throughput", "img_per_second", AT_LEAST, "images a second", batched=True, bare="img/s"),
        Metric("energy", "energy", AT_MOST, "per image", batched=True, scoped=True),
        Metric("img_per_joule", "img_per_joule", AT_LEAST, "images per joule", batched=True, scoped=True, bare="img/J"),
        Metric("power", "power", AT_MOST, "mean while it runs", batched=True, scoped=True),
    )
}


@dataclass(frozen=True)
class Clause:
    """A requirement taken apart. bound: in the metric's base unit. batch, scope: None where they make no difference."""

    metric: str
    relation: str
    bound: float
    batch: int | None
    scope: str | None


_SHAPE = re.compile(
    r"(?P<metric>[^\s<>=≤≥!@]+)\s*(?P<relation>[<>=≤≥!]+)\s*(?P<quantity>[^@]*?)\s*(?:@(?P<where>.*))?\Z"
)
_RELATIONS = {">=": AT_LEAST, "≥": AT_LEAST, "<=": AT_MOST, "≤": AT_MOST}
_CONDITION = re.compile(r"[^,]+")


def parse(text: str) -> Clause:
    """What `text` says. UserError quotes the text, marks the wrong word and says what would be right."""
    line = " ".join(text.split())
    shape = _SHAPE.match(line)
    if shape is None:
        word = line.split(" ")[0]
        if word in METRICS:
            _refuse(line, len(word), len(line), "a relation is missing: write for example " + _example(word))
        if not line:
            raise UserError("a requirement is empty: write for example accuracy >= 89%")
        _refuse(line, 0, len(line), "it is no requirement: write for example accuracy >= 89%")
    name = shape["metric"]
    if name not in METRICS:
        _refuse(line, *shape.span("metric"), str(unknown("metric", name, METRICS)))
    metric = METRICS[name]
    relation = _RELATIONS.get(shape["relation"])
    if relation is None:
        _refuse(line, *shape.span("relation"), f"unknown relation '{shape['relation']}': write >= or <=")
    if name == "accuracy" and relation == AT_MOST:
        _refuse(line, *shape.span("relation"), "accuracy is required from below: write >=")
    bound = _bound(line, metric, shape)
    batch, scope = _conditions(line, metric, shape)
    return Clause(name, relation, bound, batch, scope)


def phrase(clause: Clause) -> str:
    """The canonical words for a clause; `parse` reads exactly this clause back."""
    metric = METRICS[clause.metric]
    conditions = [f"batch={clause.batch}"] if clause.batch not in (None, 1) else []
    conditions += [clause.scope] if clause.scope not in (None, MODULE) else []
    where = " @ " + ", ".join(conditions) if conditions else ""
    return f"{clause.metric} {clause.relation} {_quantity(clause.bound, metric)}{where}"


def _bound(line: str, metric: Metric, shape: re.Match[str]) -> float:
    quantity = shape["quantity"]
    span = shape.span("quantity") if quantity else (shape.end("relation") - 1, shape.end("relation"))
    if not quantity:
        _refuse(line, *span, "a number is missing after the relation: write for example " + _example(metric.name))
    bare = re.fullmatch(r"[\d.eE_+-]+", quantity) is not None
    try:
        bound = parse_quantity(f"{quantity} {metric.bare}" if bare else quantity, metric.dimension)
    except UserError as error:
        _refuse(line, *span, str(error))
    if bound <= 0:
        _refuse(line, *span, f"'{quantity}' is not greater than 0")
    if metric.dimension == "fraction" and bound > 1:
        _refuse(line, *span, f"'{quantity}' is more than 100 %" + (": write a % sign" if bare and bound <= 100 else ""))
    return bound


def _conditions(line: str, metric: Metric, shape: re.Match[str]) -> tuple[int | None, str | None]:
    batch = 1 if metric.batched else None
    scope = MODULE if metric.scoped else None
    where = shape["where"]
    if where is None:
        return batch, scope
    if not where.strip():
        _refuse(line, shape.start("where") - 1, len(line), "after @ comes batch=N, module or board")
    if "@" in where:
        at = shape.start("where") + where.index("@")
        _refuse(line, at, at + 1, "a second @: conditions are joined by a comma, as in @ batch=8, board")
    seen: set[str] = set()
    for piece in _CONDITION.finditer(where):
        word = piece[0].strip()
        start = shape.start("where") + piece.start() + len(piece[0]) - len(piece[0].lstrip())
        span = (start, start + max(len(word), 1))
        kind = "batch" if re.match(r"batch\b", word) else "scope"
        if kind in seen:
            _refuse(line, *span, f"the {kind} is said twice: keep one")
        seen.add(kind)
        if kind == "batch":
            number = re.fullmatch(r"batch\s*=\s*(\d{1,6})", word)
            if number is None or int(number[1]) < 1:
                _refuse(line, *span, f"'{word}' is no batch size: write batch= and a whole number from 1")
            if not metric.batched:
                _refuse(line, *span, f"{metric.name} does not depend on the batch: leave '{word}' out")
            batch = int(number[1])
        elif word not in SCOPES:
            _refuse(line, *span, str(unknown("condition", word, ("batch=N", *SCOPES))))
        elif not metric.scoped:
            _refuse(line, *span, f"{metric.name} is no energy: leave '{word}' out")
        else:
            scope = word
    return batch, scope


def _quantity(bound: float, metric: Metric) -> str:
    """The bound in the largest unit that reads back exactly; else in the base unit."""
    units = sorted(UNITS[metric.dimension].items(), key=lambda pair: -pair[1])
    if metric.dimension == "fraction":
        units.reverse()  # percent first
    for unit, factor in units:
        if bound < factor and metric.dimension != "fraction":
            continue
        words = f"{bound / factor:.12g}" + ("%" if unit == "%" else f" {unit}" if unit else "")
        if parse_quantity(words, metric.dimension) == bound:
            return words
    return f"{bound!r} {metric.unit}".strip()


def _example(name: str) -> str:
    bounds = {"accuracy": "89%", "params": "100k", "macs": "12M", "size": "400 kB", "peak_memory": "4 MB"}
    units = {"time": "10 ms", "img_per_second": "100", "energy": "20 mJ", "img_per_joule": "60", "power": "5 W"}
    return f"{name} {METRICS[name].natural} {bounds.get(name) or units[METRICS[name].dimension]}"


def _refuse(line: str, start: int, end: int, reason: str) -> NoReturn:
    """UserError with the wrong word underlined."""
    mark = " " * start + "^" * max(end - start, 1)
    raise UserError(f"requirement '{line}': {reason}\n  {line}\n  {mark}")
