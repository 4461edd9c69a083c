"""The report of results, comparisons and checks: one HTML file that needs nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from devices.support.errors import UserError
from devices.support.files import explain, read_json, write_text
from edge_bench.agent import comparison
from edge_bench.agent import result as results
from edge_bench.agent.store import RECORD_SCHEMA
from edge_bench.gate import verdict
from edge_bench.report import figures, page
from edge_bench.report.measurement import Measurement
from edge_bench.report.sections import labels, result_table, section
from edge_bench.report.verdicts import check_section, compare_section, side_names

RESULT, CHECK, COMPARE = results.SCHEMA, verdict.SCHEMA, comparison.SCHEMA


def kind_of(path: str | os.PathLike[str]) -> str:
    """The schema that a file names; a packed one is a record. UserError when it is no file of ours."""
    if str(path).endswith(".gz"):
        return RECORD_SCHEMA
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise explain(error, path) from None
    except ValueError as error:
        raise UserError(f"{path}: damaged JSON ({error}); restore it or make it anew") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, str):
        raise UserError(f"{path}: it is no result, comparison or check; name what bench, compare or check wrote")
    return schema


def write_report(paths: Sequence[str], out: str | os.PathLike[str]) -> Path:
    """One report of results (or their records), comparisons and checks, in the order given; where it is.

    UserError for a file that is damaged or of another kind, or when the report cannot be written.
    """
    write_text(out, render(paths))
    return Path(out)


def render(paths: Sequence[str]) -> str:
    """The report as HTML: under 2 MB, no request to any network, light and dark."""
    several: list[Measurement] = []
    checks: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    extra: list[list[Measurement]] = []
    for path in paths:
        kind = kind_of(path)
        if kind in (RESULT, RECORD_SCHEMA):
            several.append(Measurement.load(path))
        elif kind == CHECK:
            body = read_json(path, CHECK)
            checks.append(_sound(path, partial(check_section, body)))
        elif kind == COMPARE:
            body = comparison.load(path)
            two = Measurement.load_sides(body, path)
            comparisons.append(_sound(path, partial(compare_section, body, two)))
            extra.append(two)
        else:
            raise UserError(f"{path}: {kind} has no report; name a run, or what bench, compare or check wrote")
    parts = [_sound(measured.place, partial(section, measured)) for measured in several]
    for two in extra:
        parts += [{**_sound(one.place, partial(section, one)), "title": f"{name} on {one.where}"}
                  for one, name in zip(two, side_names(two), strict=True)]
    names = labels(several)
    shown: dict[str, Any] = {
        "checks": checks, "comparisons": comparisons, "title": _title(several, checks, comparisons),
        "table": result_table(several, names) if len(several) > 1 else None,
        "beside": figures.side_by_side(several, names), "alone": len(parts) == 1 and not (checks or comparisons)}
    whole = len(parts)
    template = page.template("measurements.html")
    return page.fitting(lambda kept: template.render(**shown, sections=kept, left_out=whole - len(kept)), parts)


def _sound(path: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` makes of the file's body. UserError where the file is damaged."""
    try:
        return make()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: damaged ({what}); restore it or measure again") from error


def _title(several: Sequence[Measurement], checks: Sequence[Any], comparisons: Sequence[Any]) -> str:
    if checks:
        models = list(dict.fromkeys(model["name"] for check in checks for model in check["models"]))
        return f"Energy gate: {', '.join(models[:3])}{' and more' if len(models) > 3 else ''}"
    if comparisons:
        return str(comparisons[0]["title"])
    if len(several) == 1:
        return f"{several[0].name} on {several[0].where}"
    return f"{len(several)} results"
