"""`edgesynth bench` and `edgesynth check`: thin shells over `bench_model`, `check_results` and `update_baseline`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from devices.support.errors import CannotMeasure, CheckFailed, UserError
from edge_bench.agent.arguments import BENCH

__all__ = ["bench", "check"]


def bench_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the agent's table as click options."""
    kinds: dict[str, Any] = {"integer": int, "number": float, "text": str, "list": str}
    for argument in reversed(BENCH):
        if argument.kind == "flag":
            option = click.option(argument.flag, argument.name, is_flag=True, default=None, help=argument.help)
        else:
            many = argument.kind == "list"
            option = click.option(argument.flag, argument.name, type=kinds[argument.kind], metavar=argument.metavar,
                                  multiple=many, default=() if many else None, help=argument.help)
        command = option(command)
    return command


def write_json(path: str, text: str) -> None:
    """JSON text to a path, or to standard output for "-"."""
    from devices.support.files import write_text

    if path == "-":
        click.echo(text, nl=False)
    else:
        write_text(path, text)


def progress(text: str) -> None:
    """A plain line on standard error: a moving bar would use the very processor that is being measured."""
    click.echo(text, err=True)


@click.command()
@click.argument("model", required=False)
@bench_options
@click.option("--host", metavar="USER@BOARD", help="Measure there, over ssh. MODEL may then be board:PATH.")
@click.option("--predict", is_flag=True, help="Predict with the cost model instead of measuring; needs --target.")
@click.option("--target", metavar="BOARD[:MODE]", help="The board that --predict is for, such as tx2:maxq or "
              "my-board.json.")
@click.option("--replay", metavar="RECORD", help="Recompute a result from its .record.gz instead of measuring.")
@click.option("--save", "save_to", metavar="FOLDER", default="results", show_default=True,
              help="Where the result and its raw record are kept.")
@click.option("--json", "json_path", metavar="PATH|-", help="Write the result as JSON.")
def bench(model: str | None, host: str | None, predict: bool, target: str | None, replay: str | None, save_to: str,
          json_path: str | None, **given: Any) -> None:
    """Latency and energy of MODEL, an ONNX file or a TensorRT engine.

    \b
    edgesynth bench ferminet-a.onnx
    edgesynth bench ferminet-a.onnx --batch 8 --power --json result.json
    edgesynth bench ferminet-a.onnx --power --host nvidia@tx2
    edgesynth bench ferminet-a.onnx --predict --target tx2
    """
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    if model is None and replay is None:
        raise UserError("name a model: edgesynth bench MODEL")
    if target and not predict:
        raise UserError("--target is for --predict; a measurement is of the machine it runs on")
    if predict:
        _predict(model, target, {**given, "replay": replay, "host": host}, json_path)
        return
    from edge_bench.agent import result as results
    from edge_bench.bench import bench_model, replay_record

    if replay:
        found = replay_record(replay)
    else:
        assert model is not None
        found = bench_model(model, host=host, save_to=save_to, progress=progress, **given)
    saved = found.pop("saved", None)
    if json_path:
        write_json(json_path, results.to_json_text(found))
    if json_path != "-":
        click.echo(results.to_text(found))
        if saved:
            click.echo(f"saved      {saved} (+ record)")


def _predict(model: str | None, target: str | None, given: dict[str, Any], json_path: str | None) -> None:
    clash = ["--" + name.replace("_", "-") for name, value in given.items()
             if value and name not in ("batch", "precision")]
    if clash:
        raise UserError(f"with --predict nothing is measured: leave {', '.join(clash)} out")
    if not target or model is None:
        raise UserError("--predict needs a model and a target: edgesynth bench MODEL --predict --target tx2")
    from devices.cli import print_prediction
    from edge_bench.bench import predict_model

    prediction = predict_model(model, target, batch=given["batch"], precision=given["precision"])
    if json_path:
        body = {"schema": "edgesynth.prediction/1", "model": model, **prediction.to_json()}
        write_json(json_path, json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if json_path != "-":
        print_prediction(prediction, model)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="RESULT...")
@click.option("--baseline", "baseline_path", required=True, metavar="FILE", help="The baseline to hold them against.")
@click.option("--tolerance", "tolerance", multiple=True, metavar="METRIC=5%",
              help="How much worse is still fine. Default: energy=5% latency=5%.")
@click.option("--update", is_flag=True, help="Put the results into the baseline instead.")
@click.option("--force", is_flag=True, help="Also take results marked quick, unlocked, not_steady or throttled.")
@click.option("--json", "json_path", metavar="PATH|-", help="Write the verdicts as JSON.")
def check(words: tuple[str, ...], baseline_path: str, tolerance: tuple[str, ...], update: bool, force: bool,
          json_path: str | None) -> None:
    """Results against a baseline: exit code 0 pass or inconclusive, 1 regression, 2 usage, 3 could not measure.

    \b
    edgesynth check result.json --baseline baseline.json --tolerance energy=5% latency_p99=10%
    edgesynth check result.json --baseline baseline.json --update
    """
    from edge_bench import gate

    # `--tolerance energy=5% latency=5%` is how one writes it; the second word reaches us among the results
    paths = [word for word in words if not gate.is_tolerance(word)]
    tolerances = gate.parse_tolerances([*tolerance, *(word for word in words if gate.is_tolerance(word))]) or None
    if not paths:
        raise UserError("name a result: edgesynth check RESULT --baseline FILE")
    if update:
        for entry in gate.update_baseline(paths, baseline_path, force):
            click.echo(f"{baseline_path}: {entry['key']['model']} on {entry['key']['board']}, "
                       f"{len(entry['sessions'])} session(s)", err=True)
        return
    verdicts = gate.check_results(paths, baseline_path, tolerances, force)
    if json_path:
        body = {"schema": "edgesynth.check/1", "verdict": gate.worst(verdicts),
                "verdicts": [verdict.to_json() for verdict in verdicts]}
        write_json(json_path, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    if json_path != "-":
        _show(verdicts)
    outcome = gate.worst(verdicts)
    if outcome == gate.REGRESSION:
        raise CheckFailed("regression: " + "; ".join(
            f"{v.model} {v.metric} {v.reason}" for v in verdicts if v.verdict == outcome))
    if outcome == gate.COULD_NOT_MEASURE:
        raise CannotMeasure("could not compare: " + "; ".join(sorted(
            {f"{v.model}: {v.reason}" for v in verdicts if v.verdict == outcome})))


def _show(verdicts: list[Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_bench.agent.result import figure

    table = Table(box=None, pad_edge=False)
    for title in ("model", "metric", "baseline", "now", "worse by", "95 % interval", "verdict", "because"):
        table.add_column(title)
    for row in verdicts:
        known = row.ratio is not None and row.low is not None
        table.add_row(escape(row.model), row.metric, figure(row.baseline), figure(row.present),
                      f"{row.ratio - 1:+.1%}" if known else "?",
                      f"{row.low - 1:+.1%} to {row.high - 1:+.1%}" if known else "?", row.verdict, escape(row.reason))
    Console().print(table)
