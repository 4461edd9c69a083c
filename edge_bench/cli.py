"""`edgesynth bench`: a thin shell over `bench_model`; and what the other commands of this room share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from devices.json_output import give_json, json_option
from devices.support.errors import UserError
from edge_bench.agent.arguments import BENCH

__all__ = ["bench"]


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


def progress(text: str) -> None:
    """A plain line on standard error: a moving bar would use the very processor that is being measured."""
    click.echo(text, err=True)


def show_measured(found: dict[str, Any], kind: Any, json_path: str | None) -> None:
    """A result or a comparison as JSON where that was asked for, else as text with where it was kept. kind: the module
    of its `SCHEMA` and `to_text`."""
    saved = found.pop("saved", None)
    if json_path != "-":
        click.echo(kind.to_text(found))
        if saved:
            click.echo(f"saved      {saved} (+ record)")
    if json_path:
        give_json({"schema": kind.SCHEMA, **found}, json_path)


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
@json_option("Write the result as JSON.")
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
    show_measured(found, results, json_path)


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
        give_json({"schema": "edgesynth.prediction/1", "model": model, **prediction.to_json()}, json_path)
    if json_path != "-":
        print_prediction(prediction, model)
