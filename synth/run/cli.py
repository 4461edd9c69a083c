"""The commands `synth` and `generate`. Importing this imports neither torch nor onnxruntime."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from devices.board import absolute_target
from devices.json_output import give_json, json_option
from devices.support.errors import CannotMeasure, CheckFailed, UserError
from synth.options import (
    SeedRange,
    Stopped,
    data_root_option,
    default_workers,
    device_option,
    set_option,
    workers_option,
)
from synth.training.device import Compute, device_named

RUNS = "runs"
MEASURED_BESIDE = 2  # measurements beside a cycle, where a board takes part and nothing is said



@click.command(epilog="\b\nExamples:\n"
                      "  edgesynth synth --target tx2\n"
                      "  edgesynth synth --target tx2:maxq --require 'accuracy >= 95%' --require 'params <= 10k'\n"
                      "  edgesynth synth --target tx2 --host nvidia@tx2 --require 'img_per_joule >= 60 @ batch=8'\n"
                      "  edgesynth synth --target tx2 --prototype resnet20 --data cifar10 --teacher resnet20x2\n"
                      "  edgesynth synth --target tx2 --prototype net.py:make --data data.py:load --out runs/mine\n"
                      "  edgesynth synth --warm-start runs/mine --require 'accuracy >= 95%' --cycles 0")
@click.option("--target", default="tx2", show_default=True, help="Board, board:mode, or a board's file such as "
              "my-board.json, that networks are made for.")
@click.option("--prototype", help="A known network, or a factory: package.module:name or file.py:name.")
@click.option("--data", default="digits", show_default=True, help="A known data set, or a factory.")
@data_root_option
@click.option("--require", "requirements", multiple=True, metavar="TEXT",
              help="One requirement, e.g. 'accuracy >= 89%' or 'img_per_joule >= 60 @ batch=8'; may be repeated.")
@click.option("--host", "hosts", multiple=True, metavar="USER@BOARD",
              help="Measure on this board over ssh what the requirements ask, and decide on it; may be repeated, for "
                   "boards that share the work.")
@click.option("--measure", type=click.IntRange(1, 100), default=None, show_default=str(MEASURED_BESIDE),
              help="With --host: networks measured beside each cycle at most, those that would teach most.")
@click.option("--board-lost", type=click.Choice(["stop", "predict"]), default="stop", show_default=True,
              help="With --host, when no board answers any more: stop, to be resumed, or go on with predictions.")
@click.option("--precision", default="fp16", show_default=True, help="Of predictions for the target, and of engines.")
@click.option("--seed", default=0, show_default=True, help="Of everything: the same seed gives the same FermiNets.")
@click.option("--cycles", default=16, show_default=True, help="Of generator and inquisitor; with --warm-start, 0 goes "
              "straight to the finalists.")
@click.option("--batch", default=4, show_default=True, help="Candidates evaluated in each cycle.")
@click.option("--epochs", type=click.IntRange(1), help="Of the training of what is kept, in place of the recipe's own.")
@click.option("--short-epochs", type=click.IntRange(1), help="Of the training of candidates, in place of the recipe's.")
@set_option
@click.option("--teacher", "teachers", multiple=True, metavar="NETWORK",
              help="A trained network to distil from, by name or folder, in place of the prototype; several teach by "
                   "the mean of what they say.")
@click.option("--warm-start", type=click.Path(), metavar="RUN",
              help="Know from the start what this earlier run found out, whatever was required there; what is not said "
                   "here is as it was there.")
@click.option("--ferminets", default=4, show_default=True, help="How many to finish.")
@click.option("--finalists", type=click.IntRange(1), help="Networks trained in full, of which those are chosen; "
              "more where 1r does not hold for enough of them; "
              "those of earlier runs are not counted.  [default: twice as many]")
@click.option("--out", type=click.Path(), help="Run folder.  [default: a new one in runs/]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@workers_option
@device_option
@json_option()
@click.pass_context
def synth(context: click.Context, out: str | None, resume: bool, workers: int | None, device: str,
          json_path: str | None, hosts: tuple[str, ...], measure: int | None, board_lost: str, **asked: Any) -> None:
    """Learn a generator of efficient networks and make FermiNets.

    Starts from a prototype and a data set, under requirements that include latency and energy on the target; leaves a
    run folder with the generator, the FermiNets (weights and ONNX) and a report. With --host, networks are built and
    measured on the board meanwhile, which corrects the cost model, and 1r is decided on what was measured.
    """
    from synth.run.order import Order

    if not hosts and measure is not None:
        raise UserError("--measure counts measurements on a board: name it with --host USER@BOARD")
    if asked["warm_start"]:
        asked["warm_start"] = os.path.abspath(asked["warm_start"])
        before = _asked_of(out if resume and out is not None else asked["warm_start"])
        asked |= {name: before[name] for name in asked
                  if context.get_parameter_source(name) == ParameterSource.DEFAULT}
    asked["target"] = absolute_target(asked["target"])  # a run may be resumed from elsewhere
    asked["teachers"] = tuple(os.path.abspath(word) if os.path.exists(word) else word for word in asked["teachers"])
    order = Order(**asked, measure=(measure or MEASURED_BESIDE) if hosts else 0)
    if resume and out is None:
        raise UserError("--resume goes on with a run: name its folder with --out")
    folder = Path(out) if out is not None else _new_folder(order.data, str(order.resolve_target()))
    from rich.console import Console

    from synth.energy.boards import SshBoard
    from synth.progress import Progress
    from synth.report.summary import SCHEMA
    from synth.report.table import console_table
    from synth.run.run import synthesise
    from synth.storage.run_folder import MANIFEST, Manifest

    command = shlex.join(["edgesynth", *sys.argv[1:]])
    compute = Compute(workers or default_workers(), device_named(device))
    boards = [SshBoard(host, order.resolve_target(), order.precision) for host in dict.fromkeys(hosts)]
    try:
        summary = synthesise(order, folder, command=command, compute=compute, resume=resume, progress=Progress(),
                             boards=boards, board_lost=board_lost)
    except CannotMeasure as error:
        if not (folder / MANIFEST).exists():
            raise
        again = Manifest.read(folder).resume_command(folder)
        raise CannotMeasure(f"{error}; what was measured is kept, go on with: {again}") from None
    except KeyboardInterrupt:
        if not (folder / MANIFEST).exists():
            raise
        again = Manifest.read(folder).resume_command(folder)
        raise Stopped(f"stopped; nothing is lost, go on with: {again}") from None
    if json_path != "-":
        Console(width=None if sys.stdout.isatty() else 140).print(console_table(summary))
    if json_path:
        give_json({"schema": SCHEMA, **summary.to_json()}, json_path)
    if any(row.holds != "yes" for row in summary.ferminets) or not summary.ferminets:
        raise CheckFailed("not every FermiNet satisfies 1r on the validation split; see the table above")


def _asked_of(run: str) -> dict[str, Any]:
    """The order of an earlier run."""
    from synth.run.order import Order
    from synth.storage.run_folder import Manifest

    return asdict(Order.from_arguments(dict(Manifest.read(run).arguments)))


def _new_folder(data: str, target: str) -> Path:
    name = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{Path(data.rpartition(':')[0] or data).stem}-{target.replace(':', '-')}"
    return Path(RUNS) / name


PREFERENCES = {"accurate": (0.95, 0.05, 0.0), "small": (0.05, 0.95, 0.0), "balanced": (0.5, 0.5, 0.0),
               "frugal": (0.05, 0.5, 1.0)}


@click.command(epilog="\b\nExamples:\n  edgesynth generate runs/mine --seeds 100:120\n"
                      "  edgesynth generate runs/mine --seeds 7 --prefer small")
@click.argument("run", type=click.Path())
@click.option("--seeds", type=SeedRange(), default="1000:1010", show_default=True, help="One seed, or FROM:TO.")
@click.option("--prefer", type=click.Choice(sorted(PREFERENCES)),
              help="One end of the front, in place of the seeds' own preferences; frugal: most images per joule.")
@workers_option
@device_option
@json_option()
def generate(run: str, seeds: list[int], prefer: str | None, workers: int | None, device: str,
             json_path: str | None) -> None:
    """Make more FermiNets from a finished run's generator; nothing is learned any more."""
    from synth.progress import Progress
    from synth.run.run import generate as generate_networks

    compute = Compute(workers or default_workers(), device_named(device))
    done = generate_networks(run, seeds, compute=compute, progress=Progress(),
                             prefer=None if prefer is None else PREFERENCES[prefer])
    from synth.networks.costs import costs

    rows = []
    for one in done:
        found = costs(one.network)
        rows.append({"name": one.name, "seed": one.seed, "folder": f"{run}/generated/{one.name}",
                     "validation_accuracy": one.metrics.accuracy, "params": found.params, "macs": found.macs,
                     "repaired": one.repaired, "holds": one.holds,
                     "requirements": {text: verdict.holds for text, verdict in one.verdicts.items()},
                     "network": one.network.digest})
    if json_path != "-":
        _print_generated(rows)
    if json_path:
        give_json({"schema": "edgesynth.generated/1", "networks": rows}, json_path)


def _print_generated(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from devices.units import format_quantity

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("seed", "validation accuracy", "params", "MACs", "repaired", "1r"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(str(row["seed"]), f"{100 * row['validation_accuracy']:.1f} %",
                      format_quantity(row["params"], "count"), format_quantity(row["macs"], "count"),
                      "yes" if row["repaired"] else "", "yes" if row["holds"] else "no")
    console = Console()
    console.print(table)
    holding, different = sum(r["holds"] for r in rows), len({r["network"] for r in rows})
    console.print(f"{holding} of {len(rows)} satisfy 1r on the validation split; different networks: {different}",
                  highlight=False)
