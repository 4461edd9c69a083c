"""`edgesynth compare` and `edgesynth check`: thin shells over `compare_models`, `check_against` and `check_results`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import click

from devices.json_output import give_json, json_option
from devices.support.errors import CannotMeasure, CheckFailed, EdgesynthError, UserError
from edge_bench.cli import bench_options, progress, show_measured
from edge_bench.gate.verdict import INCONCLUSIVE_IS, WARN

__all__ = ["check", "compare"]

# options that would be passed over in silence
NOT_IN_TURNS = ("force", "rest")
NOT_FOR_UPDATE = ("host", "more-sessions", "rest", "tolerance", "summary", "json")
NOT_FOR_KEPT = ("force", "host", "more-sessions", "rest")


@click.command()
@click.argument("base", required=False)
@click.argument("head", required=False)
@bench_options
@click.option("--host", metavar="USER@BOARD", help="Build and measure both there, over ssh. A model may be board:PATH.")
@click.option("--replay", metavar="RECORD", help="Recompute a comparison from its .record.gz instead of measuring.")
@click.option("--save", "save_to", metavar="FOLDER", default="results", show_default=True,
              help="Where the comparison and its raw record are kept.")
@json_option("Write the comparison as JSON.")
def compare(base: str | None, head: str | None, host: str | None, replay: str | None, save_to: str,
            json_path: str | None, **given: Any) -> None:
    """Two models measured in turns on one board: how much worse HEAD is than BASE, with 95 % intervals.

    Trials, each a fresh process, run as base head, head base and so on, so that what the board does to both cancels.
    --trials are of each model; 6 unless given.

    \b
    edgesynth compare old.onnx new.onnx
    edgesynth compare old.onnx new.onnx --power --lock --layers --host nvidia@tx2
    edgesynth compare --replay results/0003-old-new-tx2.record.gz --json -
    """
    from edge_bench.agent import comparison

    if replay:
        found = comparison.replay(replay)
    elif base is None or head is None:
        raise UserError("name two models: edgesynth compare BASE HEAD")
    else:
        from edge_bench.compare import compare_models

        found = compare_models(base, head, host=host, save_to=save_to, progress=progress, **_plain(given))
    show_measured(found, comparison, json_path)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="RESULT|MODEL...")
@click.option("--baseline", "baseline_path", metavar="FILE|DIR", help="The stored baseline to hold results against.")
@click.option("--against", metavar="GIT_REF", help="Measure models in turns with what this revision holds of them.")
@click.option("--tolerance", "tolerance", multiple=True, metavar="METRIC=5%",
              help="How much worse is still fine. Default: energy=5% latency=5%.")
@click.option("--host", metavar="USER@BOARD", help="The board to measure on. Default: this machine.")
@click.option("--more-sessions", "more_sessions", type=click.IntRange(0), metavar="N",
              help="Measured once where the first look tells nothing; 0 for never. Default: 3.")
@click.option("--rest", "rest_s", type=click.FloatRange(0, 3600), metavar="SECONDS",
              help="The board rests so long before each further session. Default: 60.")
@click.option("--inconclusive", type=click.Choice(INCONCLUSIVE_IS), default=WARN, show_default=True,
              help="What becomes of a verdict that the noise hides.")
@click.option("--update", is_flag=True, help="Put the results into the baseline instead.")
@click.option("--force", is_flag=True, help="Also take marked results, other boards or versions, too few sessions.")
@click.option("--summary", metavar="FILE", help="Append the verdicts there as Markdown. Default: GitHub's job summary.")
@click.option("--save", "save_to", metavar="FOLDER", default="results", show_default=True,
              help="Where what is measured is kept.")
@json_option("Write the verdicts as JSON.")
@bench_options
def check(words: tuple[str, ...], baseline_path: str | None, against: str | None, tolerance: tuple[str, ...],
          host: str | None, more_sessions: int | None, rest_s: float | None, inconclusive: str, update: bool,
          force: bool, summary: str | None, save_to: str, json_path: str | None, **given: Any) -> None:
    """The gate: exit code 0 pass or inconclusive, 1 regression, 2 usage, 3 could not measure.

    Results are held against a stored baseline of the same board; models against what a git revision holds of them;
    comparisons that were kept, against their tolerances once more. The options from --batch on are for --against.

    \b
    edgesynth check results/0007-net-tx2.json --baseline baseline.json --tolerance energy=5% latency_p99=10%
    edgesynth check results/000[456]-net-tx2.json --baseline baseline.json --update
    edgesynth check models/net.onnx --against origin/main --power --lock --layers --host nvidia@tx2
    """
    from edge_bench.agent.evaluate import now_utc
    from edge_bench.gate import checking, ci_output, tolerances, verdict

    # `--tolerance energy=5% latency=5%` is how one writes it; the second word reaches us among the files
    paths = [word for word in words if not tolerances.is_tolerance(word)]
    allowed = tolerances.parse_tolerances(
        [*tolerance, *(word for word in words if tolerances.is_tolerance(word))]) or None
    options = {name: value for name, value in _plain(given).items()
               if value is not None and value is not False and value != []}
    own = {"force": force or None, "host": host, "more-sessions": more_sessions, "rest": rest_s, "tolerance": allowed,
           "summary": summary, "json": json_path}
    said = [name for name, value in own.items() if value is not None]
    _refuse_nonsense(paths, baseline_path, against, update, options, said)
    if update:
        assert baseline_path is not None
        for sentence in checking.update_baseline(paths, baseline_path, force):
            click.echo(f"{baseline_path}: {sentence}", err=True)
        return
    ci_output.require_summary(summary)
    more = checking.MORE_SESSIONS if more_sessions is None else more_sessions
    with _told_to_github(json_path == "-"):
        if against:
            from edge_bench.gate.change import check_against

            models, held = check_against(paths, against, allowed, host=host, again=more > 0, save_to=save_to,
                                         progress=progress, **options)
        else:
            models, held = _check_files(paths, baseline_path, allowed, force, said,
                                        {"sessions": more, "host": host, "save_to": save_to, "rest_s": rest_s})
    document = verdict.document(models, held, now_utc(), inconclusive)
    _tell(document, json_path, summary)
    _end(document)


@contextlib.contextmanager
def _told_to_github(for_program: bool) -> Iterator[None]:
    """Bad input and boards that cannot be reached as an annotation too."""
    try:
        yield
    except EdgesynthError as error:
        if os.environ.get("GITHUB_ACTIONS") == "true":
            from edge_bench.gate.ci_output import command

            click.echo(command("error", None, "edgesynth check", str(error)), err=for_program)
        raise


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _refuse_nonsense(paths: list[str], baseline_path: str | None, against: str | None, update: bool,
                     options: dict[str, Any], said: list[str]) -> None:
    """UserError for options that do not go together. options: those for --against; said: those of check itself."""
    from edge_bench.agent import runners

    if not paths:
        raise UserError("name a result or a model: edgesynth check RESULT --baseline FILE")
    if against and (baseline_path or update):
        raise UserError("--against measures both sides itself: leave --baseline and --update out")
    if not against and any(runners.is_onnx(path) or runners.is_engine(path) for path in paths):
        raise UserError("a model is held against a revision with --against REF; --baseline FILE is for results, which "
                        "`edgesynth bench` makes of it")
    if options and not against:
        raise UserError(f"--{next(iter(options)).replace('_', '-')} is for --against: results are measured already")
    if update and not baseline_path:
        raise UserError("--update needs the baseline to write: --baseline FILE")
    if against:
        _refuse(said, NOT_IN_TURNS, "--against measures both sides alike, in turns")
    if update:
        _refuse(said, NOT_FOR_UPDATE, "--update writes the baseline and does nothing else")


def _refuse(said: list[str], senseless: tuple[str, ...], why: str) -> None:
    found = [f"--{name}" for name in said if name in senseless]
    if found:
        raise UserError(f"{why}: leave {' and '.join(found)} out")


def _check_files(paths: list[str], baseline_path: str | None, allowed: dict[str, float] | None, force: bool,
                 said: list[str], more: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The verdicts of results or of comparisons, and what they were held against. more: see `measure_again`."""
    from edge_bench.agent import comparison
    from edge_bench.gate import checking, remeasuring

    kinds = [_schema(path) for path in paths]
    if all(kind == comparison.SCHEMA for kind in kinds):
        if baseline_path is not None:
            raise UserError("a comparison is judged by itself: leave --baseline out")
        _refuse(said, NOT_FOR_KEPT, "a comparison that was kept is judged as it was measured")
        return checking.check_kept_comparisons(paths, allowed), {"kind": "comparison"}
    if comparison.SCHEMA in kinds:
        raise UserError("check results and comparisons apart: a comparison needs no baseline")
    if baseline_path is None:
        raise UserError("name what to hold them against: --baseline FILE, or --against REF for models")

    def measured(result: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
        if more["host"] is None and not remeasuring.is_of_this_machine(result):
            raise CannotMeasure("name its board with --host")
        rest_s = remeasuring.REST_S if more["rest_s"] is None else more["rest_s"]
        return remeasuring.measure_again(result, path, **{**more, "rest_s": rest_s}, progress=progress)

    models = checking.check_results(paths, baseline_path, allowed, force, measured if more["sessions"] else None)
    for model in models:
        found = remeasuring.model_file_of(model.results[0])
        model.file = os.path.relpath(found) if found else None
    return models, {"kind": "baseline", "path": baseline_path}


def _schema(path: str) -> str | None:
    """What a JSON file says it is; None where it does not, which its reader then explains."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return None
    return found.get("schema") if isinstance(found, dict) else None


def _tell(document: dict[str, Any], json_path: str | None, summary: str | None) -> None:
    """The verdicts to everybody who reads them: a person and GitHub, then files, which may fail."""
    from edge_bench.gate import ci_output

    for_program = json_path == "-"
    if not for_program:
        _show(document)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in ci_output.annotate(document):
            click.echo(line, err=for_program)
    if json_path:
        give_json(document, json_path)
    path = ci_output.summary_path(summary)
    if path:
        ci_output.append_summary(path, document)


def _show(document: dict[str, Any]) -> None:
    from edge_bench.agent.comparison import columns, interval_words, percent
    from edge_bench.agent.result import figure

    rows = [("model", "metric", "base", "now", "worse by", "95 % interval", "tolerance", "verdict")]
    rows += [(model["model"], row["metric"], figure(row["baseline"]), f"{figure(row['present'])} {row['unit']}",
              percent(row["ratio"]) if row["ratio"] else "?", interval_words(row) or "?",
              f"{100 * row['tolerance']:g} %", row["verdict"])
             for model in document["models"] for row in model["metrics"]]
    if len(rows) > 1:
        click.echo("\n".join(columns(rows)) + "\n")
    for model in document["models"]:
        click.echo(f"{model['verdict']}: {model['line']}")
        for note in model["notes"]:
            click.echo(f"  {note}")


def _end(document: dict[str, Any]) -> None:
    """End with the exit code of the verdict, and a sentence where it is not 0."""
    from edge_bench.gate import verdict

    worst = document["verdict"]
    code = verdict.exit_code(worst, document["inconclusive"])
    named = [model for model in document["models"] if model["verdict"] == worst]
    if code == CheckFailed.exit_code:
        raise CheckFailed(f"{worst}: {', '.join(model['model'] for model in named)}")
    if code == CannotMeasure.exit_code:
        raise CannotMeasure("could not compare " + "; ".join(dict.fromkeys(model["line"] for model in named)))
