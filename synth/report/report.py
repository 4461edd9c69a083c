"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from devices.support.errors import UserError
from devices.support.files import write_text
from devices.support.reading import Reading
from edge_bench.report import page
from edge_bench.report.number import Number
from synth.objective.requirements import YES, Requirement
from synth.report import figures
from synth.report.columns import Column, column, columns, name_in_words, spare_in_words
from synth.report.summary import FERMINET, PROTOTYPE, NetworkRow, RunSummary

FILE_NAME = "report.html"
# key: what it is better to have, for the small print under a number
GAINS = {"params": "fewer", "macs": "fewer", "size": "smaller", "peak_memory": "less",
         "latency": "faster", "energy": "less", "img_per_joule": "more", "throughput": "more",
         "information_density": "denser"}

# key: what stands below its numbers in small print, instead of in a column of its own
BELOW = {"accuracy": {"validation_accuracy": "validation"}, "params": {"params_raw": "raw", "size": ""},
         "macs": {"peak_memory": "memory"}}


def write_report(summary: RunSummary, path: str | os.PathLike[str]) -> Path:
    """Write the report, atomically; where it is. UserError when the file cannot be written."""
    write_text(path, render(summary))
    return Path(path)


def render(summary: RunSummary) -> str:
    """The report as HTML: under 2 MB, no request to any network, light and dark."""
    return page.fitting(lambda drawings: _page(summary, drawings), _drawings(summary))


def _page(summary: RunSummary, drawings: Sequence[Mapping[str, str]]) -> str:
    found = columns(summary.networks, summary.target)
    small = {key for column_ in found for key in _below(column_.key)}
    shown = [column_ for column_ in found if column_.key not in small]
    every = figures.drawn_every(summary)
    drawn = replace(summary, candidates=summary.candidates[::every])
    return page.template("report.html", Path(__file__).parent).render(
        network=name_in_words,
        summary=summary,
        answer=_answer(summary),
        verdicts=_verdicts(summary),
        columns=shown,
        rows=[_row(row, shown, summary.phi) for row in summary.networks],
        sources=_sources(summary),
        comparison=figures.comparison(summary),
        front=figures.front(drawn),
        search=figures.search(drawn),
        reasons=figures.reasons(summary.candidates),
        predictions=figures.predictions(drawn),
        every=every,
        foresight=_foresight(summary),
        below=round(100 * figures.POINTS_BELOW),
        drawings=drawings,
    )


def _answer(summary: RunSummary) -> list[str]:
    """The headline: the best FermiNet in a sentence, and how many satisfy 1r."""
    rows = summary.ferminets
    if not rows:
        return ["The run has made no FermiNet yet."]
    holding = [row for row in rows if row.holds == YES] if summary.requirements else list(rows)
    sentences = []
    scored = [row for row in holding if "netscore" in row.readings]
    if scored:
        best = max(scored, key=lambda row: row.readings["netscore"].value)
        parts = [f"{column(key).number(best.readings[key])} {word}"
                 for key, word in (("accuracy", "test accuracy"), ("params", "parameters"), ("macs", "MACs"))
                 if key in best.readings]
        sentence = f"{name_in_words(best.name)}: {', '.join(parts)}"
        gains = [f"{gain} {word}" for key, word in (("params", "parameters"), ("macs", "MACs"))
                 if (gain := _gain(column(key), best, summary.phi))]
        if gains:
            sentence += f": {' and '.join(gains)} than the prototype"
        phi = summary.phi.readings.get("netscore") if summary.phi else None
        if phi is not None:
            difference = best.readings["netscore"].value - phi.value
            sentence += f", NetScore {best.readings['netscore'].value:.1f} ({difference:+.1f})"
        sentences.append(sentence + ".")
    if summary.requirements:
        sentences.append(f"{len(holding)} of {len(rows)} FermiNets satisfy 1r on the validation split.")
    return sentences


def _verdicts(summary: RunSummary) -> list[dict[str, Any]]:
    found = []
    for text in summary.requirements:
        cells: list[dict[str, Any] | None] = []
        for row in summary.ferminets:
            judgement = next((item for item in row.judgements if item.requirement == text), None)
            if judgement is None:
                cells.append(None)
                continue
            requirement, reading = Requirement.parse(text), judgement.reading
            number = None
            if reading is not None:
                number = _number(column(requirement.key), reading, (spare_in_words(requirement, reading), ""))
            cells.append({"holds": judgement.verdict.holds, "number": number})
        found.append({"words": text, "cells": cells})
    return found


def _row(row: NetworkRow, shown: Sequence[Column], phi: NetworkRow | None) -> dict[str, Any]:
    cells = [_cell(column_, row, phi) for column_ in shown]
    origin = f"seed {row.seed}" if row.seed is not None else "chosen by the inquisitor" if row.role == FERMINET else ""
    return {"name": name_in_words(row.name), "holds": row.holds if row.role != PROTOTYPE else None,
            "note": origin, "cells": cells}


def _cell(shown: Column, row: NetworkRow, phi: NetworkRow | None) -> Number | None:
    if shown.key not in row.readings:
        return None
    lines = [(_gain(shown, row, phi), "")]
    for key, word in _below(shown.key).items():
        if key in row.readings:
            other, reading = column(key), row.readings[key]
            lines.append((f"{word} {other.number(reading)} {other.spread(reading)}".strip(), reading.provenance))
    return _number(shown, row.readings[shown.key], *lines)


def _below(key: str) -> Mapping[str, str]:
    """{key: word} of the small print below a column's numbers; images per joule stand below the energy of an image."""
    metric, at, where = key.partition("@")
    return {f"img_per_joule@{where}": ""} if at and metric == "energy" else BELOW.get(key, {})


def _number(shown: Column, reading: Reading, *lines: tuple[str, str]) -> Number:
    interval = shown.interval(reading)
    source = f"{reading.provenance}: {reading.source}{' ' + interval if interval else ''}"
    return Number(shown.value(reading), shown.number(reading), shown.spread(reading), reading.provenance, source,
                  tuple(line for line in lines if line[0]))


def _gain(shown: Column, row: NetworkRow, phi: NetworkRow | None) -> str:
    """ "12.8× fewer": against the prototype, where that is the natural way to compare."""
    word = GAINS.get(shown.key.partition("@")[0])
    if word is None or phi is None or row is phi or shown.key not in phi.readings or shown.key not in row.readings:
        return ""
    ours, theirs = shown.value(row.readings[shown.key]), shown.value(phi.readings[shown.key])
    if ours <= 0 or theirs <= 0:
        return ""
    ratio = ours / theirs if word in ("more", "denser") else theirs / ours
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{ratio:.{digits}f}× {word}" if ratio >= 1.005 else ""


def _sources(summary: RunSummary) -> list[str]:
    """Where every kind of number comes from, one line a source."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for column_ in columns(summary.networks, summary.target):
        for row in summary.networks:
            if column_.key in row.readings:
                reading = row.readings[column_.key]
                found.setdefault((reading.provenance, reading.source), {})[column_.title] = None
    return [f"{', '.join(titles)}: {provenance}, {source}" for (provenance, source), titles in found.items()]


def _foresight(summary: RunSummary) -> str:
    found = figures.foresight(summary.candidates)
    if found is None:
        return ""
    rank = "" if found.rank is None else f"; rank correlation {found.rank:.2f}"
    return (f"{found.count} candidates, each foreseen before it was evaluated: {found.covered} lay within the 95 % "
            f"interval of what one training would show ({100 * found.covered / found.count:.0f} %); mean error "
            f"{100 * found.error:.2g} points{rank}.")


def _drawings(summary: RunSummary) -> list[dict[str, str]]:
    """Every FermiNet beside the prototype; the others alone. Networks that cannot be read are left out."""
    from synth.networks.drawing import draw
    from synth.networks.network import Network

    def read(row: NetworkRow | None) -> Network | None:
        return None if row is None or row.network is None else Network.from_json(row.network)

    phi = read(summary.phi)
    found = []
    for row in sorted(summary.networks, key=lambda row: row.role == PROTOTYPE):  # the prototype alone comes last
        try:
            network = read(row)
        except UserError:
            continue
        if network is not None:
            before = phi if row.role != PROTOTYPE else None
            title = name_in_words(row.name)
            svg = draw(network, before, titles=("prototype", title), insights=row.insights)
            found.append({"title": title + (" beside the prototype" if before else ""), "svg": svg})
    return found
