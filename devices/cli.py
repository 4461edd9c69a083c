"""`edgesynth devices list | show | predict`."""

from __future__ import annotations

import os
from typing import Any

import click

from devices.board import Board, known_boards, load_board, resolve_target
from devices.cost_model import Prediction
from devices.json_output import give_json, json_option

__all__ = ["list_boards", "predict", "predict_onnx", "show"]

HELP = {"help_option_names": ["-h", "--help"]}


def predict_onnx(model: str | os.PathLike[str], target: str, precision: str = "fp16", batch: int = 1,
                 input_ready: bool = False) -> Prediction:
    """Latency, power and energy of the ONNX file `model` on `target`, as `edgesynth devices predict` gives them.

    UserError for a file, target, precision or batch that cannot be predicted.
    """
    from devices.cost_model import CostModel
    from devices.layer_cost import fuse
    from devices.onnx_layers import operations_of_onnx

    cost_model = CostModel.for_target(resolve_target(target), precision, input_ready)
    return cost_model.predict(fuse(operations_of_onnx(model)), batch)


def _summary(board: Board) -> dict[str, Any]:
    return {
        "name": board.name,
        "title": board.title,
        "modes": [mode.name for mode in board.modes],
        "precisions": [p for p in board.data["precisions"] if board.has(p)],
        "cost_model": "cost_model" in board.data,
        "software": board.newest_software().get("jetpack"),
    }


@click.command(name="list", context_settings=HELP)
@json_option("Write the list as JSON.")
def list_boards(json_path: str | None) -> None:
    """The boards that are known.

    \b
    edgesynth devices list
    """
    boards = [_summary(load_board(name)) for name in known_boards()]
    if json_path:
        give_json({"schema": "edgesynth.boards/1", "boards": boards}, json_path)
    if json_path != "-":
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("target", "board", "modes", "precisions", "predicted by"):
            table.add_column(title)
        for row in boards:
            table.add_row(row["name"], row["title"], " ".join(m.lower() for m in row["modes"]) or "–",
                          " ".join(row["precisions"]), "cost model" if row["cost_model"] else "–")
        Console().print(table)


@click.command(context_settings=HELP)
@click.argument("board")
@json_option("Write the board's file as JSON.")
def show(board: str, json_path: str | None) -> None:
    """What is known about one board, with the source of every value.

    \b
    edgesynth devices show tx2
    """
    known = load_board(board)
    if json_path:
        give_json(known.data, json_path)
    if json_path == "-":
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(known.title), title_justify="left", box=None, pad_edge=False)
    for title in ("what", "value", "source"):
        table.add_column(title, overflow="fold")
    sources = known.data.get("sources", {})
    for what, value, source in _rows("", known.data):
        table.add_row(what, escape(value), escape(sources.get(source, source)))
    Console().print(table)


def _rows(prefix: str, entry: Any) -> list[tuple[str, str, str]]:
    """(what, value, source key) of every sourced entry below `entry`."""
    if isinstance(entry, list):
        return [row for i, item in enumerate(entry) if isinstance(item, dict)
                for row in _rows(f"{prefix} {item.get('name', item.get('jetpack', i))}", item)]
    if not isinstance(entry, dict):
        return []
    if "source" in entry:
        told = ("name", "value", "source", "unverified")
        rest = {key: item for key, item in entry.items() if key not in told and not key.endswith("_source")}
        parts = [_plain(part) for part in (entry.get("value"), rest) if part not in (None, {})]
        return [(prefix.strip(), "; ".join(parts) + (" (unverified)" if entry.get("unverified") else ""),
                 entry["source"])]
    return [row for key, item in entry.items() if key != "sources" for row in _rows(f"{prefix} {key}", item)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "–"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return str(value)


@click.command(context_settings=HELP)
@click.argument("model", type=click.Path())
@click.option("--target", required=True, help="Board and power mode, such as tx2 or tx2:maxq, or a board's file: "
              "my-board.json.")
@click.option("--precision", default="fp16", show_default=True, help="fp32, fp16 or int8, where the board has it.")
@click.option("--batch", default=1, show_default=True, type=int, help="Images per inference.")
@click.option("--input-ready", is_flag=True, help="The input lies ready and is only copied (default: images are fed "
              "from the CPU, as in the published runs).")
@click.option("--top", default=8, show_default=True, type=click.IntRange(0), help="How many layers to show.")
@json_option("Write the prediction as JSON.")
def predict(model: str, target: str, precision: str, batch: int, input_ready: bool, top: int,
            json_path: str | None) -> None:
    """Predicted latency, power and energy of an ONNX model on a target.

    \b
    edgesynth devices predict model.onnx --target tx2:maxp --precision fp16 --batch 8 --json -
    """
    prediction = predict_onnx(model, target, precision, batch, input_ready)
    if json_path:
        give_json({"schema": "edgesynth.prediction/1", "model": os.fspath(model), **prediction.to_json()}, json_path)
    if json_path != "-":
        print_prediction(prediction, model, top)


def print_prediction(prediction: Prediction, name: str, top: int = 8) -> None:
    """Show a prediction as tables: the readings with their intervals, the heaviest layers, the warnings."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(escape(f"{name} · {prediction.target} · {prediction.precision} · batch {prediction.batch} · "
                         f"predicted by the {prediction.latency_ms.source}"))
    readings = Table(box=None, pad_edge=False)
    for title in ("", "predicted", "95 % interval", "scope"):
        readings.add_column(title)
    named = [("latency of the batch", prediction.latency_ms)]
    for label, scoped in (("power", prediction.power_w), ("energy per image", prediction.energy_mj),
                          ("images per joule", prediction.img_per_joule)):
        named += [(label, reading) for reading in scoped.values()]
    for label, reading in named:
        readings.add_row(label, f"{reading.value:.4g} {reading.unit}", f"{reading.low:.4g} to {reading.high:.4g}",
                         reading.scope or "")
    console.print(readings)
    layers = Table(box=None, pad_edge=False)
    for title in ("heaviest layers", "kind", "ms", "share"):
        layers.add_column(title, justify="right" if title in ("ms", "share") else "left")
    for row in prediction.layers[:top]:
        layers.add_row(escape(row["name"]), row["kind"], f"{row['latency_ms']:.3g}", f"{100 * row['share']:.1f} %")
    if top:
        console.print(layers)
    for warning in prediction.warnings:
        console.print(escape(f"warning: {warning}"), style="yellow")
