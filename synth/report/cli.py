"""`edgesynth report`: a run, or results, comparisons and checks, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from devices.json_output import give_json, json_option
from devices.support.errors import UserError

__all__ = ["report"]


@click.command(epilog="\b\nExamples:\n  edgesynth report runs/mine\n"
                      "  edgesynth report results/0007-net-tx2.json\n"
                      "  edgesynth report results/ check.json --out gate.html")
@click.argument("given", nargs=-1, required=True, type=click.Path(), metavar="RUN|RESULT...")
@click.option("--out", type=click.Path(), metavar="FILE",
              help="HTML file.  [default: report.html in the run's folder, or beside the first result]")
@json_option()
def report(given: tuple[str, ...], out: str | None, json_path: str | None) -> None:
    """A run as one self-contained HTML file; or results, side by side where there are several, with the comparisons
    and checks that were made of them. A folder stands for all the results in it."""
    if len(given) == 1 and (Path(given[0]) / "summary.json").is_file():
        body, place = _of_run(Path(given[0]), out)
    else:
        body, place = _of_results(given, out)
    if json_path:
        give_json(body, json_path)
    if json_path != "-":
        click.echo(f"report: {place}")


def _of_run(folder: Path, out: str | None) -> tuple[dict[str, Any], Path]:
    from synth.report.report import FILE_NAME as PAGE
    from synth.report.report import write_report
    from synth.report.summary import FILE_NAME, SCHEMA, RunSummary

    summary = RunSummary.load(folder / FILE_NAME)
    return {"schema": SCHEMA, **summary.to_json()}, write_report(summary, Path(out) if out else folder / PAGE)


def _of_results(given: tuple[str, ...], out: str | None) -> tuple[dict[str, Any], Path]:
    from edge_bench.report.report import kind_of, write_report

    paths = [path for word in given for path in _files(word, len(given) > 1)]
    folder = Path(given[0])
    place = write_report(paths, out or (folder / "report.html" if folder.is_dir() else _beside(paths)))
    return {"schema": "edgesynth.report/1", "report": str(place),
            "of": [{"path": path, "schema": kind_of(path)} for path in paths]}, place


def _files(word: str, several: bool) -> list[str]:
    """The file itself, or what a report can show of a folder."""
    if not Path(word).is_dir():
        if not Path(word).exists():
            raise UserError(f"{word}: holds no finished run (no summary.json), and there is no such file; name a run "
                            "folder, or results")
        return [word]
    if (Path(word) / "summary.json").is_file() and several:
        raise UserError(f"{word}: a run has a report of its own: edgesynth report {word}")
    from edge_bench.report.report import CHECK, COMPARE, RESULT, kind_of

    found = [str(path) for path in sorted(Path(word).glob("*.json")) if kind_of(path) in (RESULT, COMPARE, CHECK)]
    if not found:
        raise UserError(f"{word}: holds no finished run (no summary.json) and no results; name a run folder, or finish "
                        "it with --resume")
    return found


def _beside(paths: list[str]) -> Path:
    """ "results/0007-net.json" -> "results/0007-net.html"; of several: report.html beside the first."""
    first = Path(paths[0])
    return first.with_name("report.html") if len(paths) > 1 else first.with_name(
        first.name.removesuffix(".gz").removesuffix(".record").removesuffix(".json") + ".html")
