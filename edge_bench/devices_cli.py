"""`edgesynth devices calibrate | probe | prepare | build-agent | install-agent | read-log`: what needs the agent."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import click

from devices.json_output import give_json, json_option
from edge_bench.cli import progress

__all__ = ["build_agent", "calibrate", "install_agent", "prepare", "probe", "read_log"]


def _probe(host: str | None) -> dict[str, Any]:
    if host is None:
        from edge_bench.agent.probe import probe as probe_here

        return probe_here()
    from edge_bench.remote import probe_host

    return probe_host(host)


@click.command()
@click.option("--host", metavar="USER@BOARD", help="The board, over ssh. Default: this machine.")
@json_option("Write what was found as JSON.")
def probe(host: str | None, json_path: str | None) -> None:
    """What this machine or a board is: software, power mode, clocks, runners, power rails, and who is measuring.

    \b
    edgesynth devices probe --host nvidia@tx2
    """
    from edge_bench.agent.probe import to_text

    found = _probe(host)
    if json_path:
        give_json({"schema": "edgesynth.probe/1", **found}, json_path)
    if json_path != "-":
        click.echo(to_text(found))


@click.command()
@click.option("--host", metavar="USER@BOARD", help="The board, over ssh. Default: this machine.")
@json_option("Write the drop-in and how to install it as JSON.")
def prepare(host: str | None, json_path: str | None) -> None:
    """Print a sudoers drop-in that lets the board's user choose its power mode, and pin, store and restore its clocks,
    without a password: these calls of nvpmodel and jetson_clocks, word for word, and no others.

    \b
    edgesynth devices prepare --host nvidia@tx2 > edgesynth.sudoers
    """
    from edge_bench.agent.settings import CLOCKS_FOLDER

    found = _probe(host)
    needed = bool(found["modes"])
    steps = ["sudo visudo -cf edgesynth.sudoers",
             f"sudo install -d -o root -g root -m 755 {CLOCKS_FOLDER}",
             "sudo install -m 440 edgesynth.sudoers /etc/sudoers.d/edgesynth"]
    give_json({"schema": "edgesynth.prepare/1", "board": found["board"]["board"], "needed": needed,
               "sudoers": found["sudoers"] if needed else None, "install": steps if needed else []}, json_path)
    if not needed:
        click.echo(f"edgesynth: {found['board']['board']} has no power modes; nothing needs to be prepared", err=True)
    elif json_path != "-":
        click.echo("\n".join(["# Install it on the board, once, after reading it:", *(f"#   {step}" for step in steps),
                              "# It allows these calls alone: choose a power mode by its number, pin the clocks, store "
                              "them in one", "# file and restore them from it, in a folder where only root may write.",
                              found["sudoers"]]), nl=False)


@click.command()
@click.option("--host", metavar="USER@BOARD", help="The board, over ssh. Default: this machine.")
@click.option("--out", default="my-board.json", show_default=True, metavar="FILE",
              help="The board's file, for --target.")
@click.option("--mode", "modes", multiple=True, metavar="NAME", help="Power mode to measure in; may be repeated. "
              "Default: the present one.")
@click.option("--precision", "precisions", multiple=True, metavar="P", help="May be repeated. Default: fp16 and fp32, "
              "where the board has them.")
@click.option("--lock", is_flag=True, help="Pin the clocks with jetson_clocks while measuring.")
@click.option("--no-power", is_flag=True, help="Measure times alone; the file then predicts no energies.")
@click.option("--power-source", metavar="NAME", help="As for bench. Default: the first that is there.")
@click.option("--fit-only", is_flag=True, help="Measure nothing: fit what an earlier call kept.")
@json_option("Write the fit as JSON.")
def calibrate(host: str | None, out: str, modes: tuple[str, ...], precisions: tuple[str, ...], lock: bool,
              no_power: bool, power_source: str | None, fit_only: bool, json_path: str | None) -> None:
    """Measure some small networks on a board (about ten minutes a mode), fit the cost model to them, and write a
    board's file that --target takes. A run that was cut goes on when the same command is given again.

    \b
    edgesynth devices calibrate --host nvidia@tx2 --lock
    edgesynth devices predict model.onnx --target my-board.json
    """
    from edge_bench.calibration.calibrate import calibrate_board
    from edge_bench.calibration.page import fit_rows, fit_table, summary

    done = calibrate_board(out, host=host, modes=modes, precisions=precisions, power=not no_power, fit_only=fit_only,
                           progress=progress, lock=lock or None, power_source=power_source)
    if json_path:
        body = {"schema": "edgesynth.calibration-fit/1", "board_file": str(done.board_file), "source": done.source,
                "scope": done.calibration.scope, "rows": fit_rows(done.calibration), "warnings": done.warnings,
                "relative_sigma": done.calibration.data["cost_model"]["relative_sigma"]}
        give_json(body, json_path)
    if json_path == "-":
        return
    from rich.console import Console

    console = Console()
    console.print(f"{done.calibration.data['title']} · {done.source}", markup=False, soft_wrap=True)
    console.print(fit_table(done.calibration))
    for line in (*summary(done.calibration), f"plot       {done.page}", f"board file {done.board_file}",
                 f"use it     edgesynth devices predict MODEL --target {done.board_file}"):
        console.print(line, markup=False, soft_wrap=True)
    for warning in done.warnings:
        console.print(f"warning    {warning}", markup=False, style="yellow", soft_wrap=True)


@click.command(name="build-agent")
@click.option("--out", default="edge_bench.pyz", show_default=True, metavar="FILE", help="Where to write it.")
@json_option("Write its size and checksum as JSON.")
def build_agent(out: str, json_path: str | None) -> None:
    """Write the agent as one file that a board's own Python 3.6 or newer runs; the same bytes every time.

    \b
    edgesynth devices build-agent --out edge_bench.pyz
    """
    from edge_bench.agent_build import write_agent

    sha256 = write_agent(out)
    size = os.path.getsize(out)
    give_json({"schema": "edgesynth.agent/1", "file": out, "bytes": size, "sha256": sha256}, json_path)
    if json_path != "-":
        click.echo(f"{out}  {size:,} bytes  sha256 {sha256}")


@click.command(name="install-agent")
@click.option("--host", required=True, metavar="USER@BOARD", help="The board, over ssh.")
@json_option("Write where it is now as JSON.")
def install_agent(host: str, json_path: str | None) -> None:
    """Leave the agent on the board as ~/.local/bin/edgesynth, so that `edgesynth bench` works there.

    \b
    edgesynth devices install-agent --host nvidia@tx2
    """
    from edge_bench.connection import Connection

    connection = Connection(host)
    sha256 = connection.ensure_agent()["sha256"]
    path = connection.install()
    give_json({"schema": "edgesynth.installed-agent/1", "host": host, "path": path, "sha256": sha256}, json_path)
    if json_path != "-":
        click.echo(f"{host}: {path}")


@click.command(name="read-log")
@click.argument("path", metavar="FILE")
@click.option("--board", metavar="NAME", help="The board it comes from, such as tx2. Default: by the rails' names.")
@json_option("Write every line's milliwatts as JSON.")
def read_log(path: str, board: str | None, json_path: str | None) -> None:
    """The present milliwatts of every rail and the total, for each line of a tegrastats log, or why there is none.

    \b
    edgesynth devices read-log tegrastats.log --json -
    """
    from edge_bench.agent.power.tegrastats import read_log as read_lines

    if board is not None:
        from devices.board import load_board

        load_board(board)
    rows = list(read_lines(path, board))
    if json_path:
        give_json({"schema": "edgesynth.power-log/1", "file": path, "lines": rows}, json_path)
    if json_path != "-":
        _show_log(path, rows)


def _show_log(path: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge_bench.agent import statistics

    measured = [row for row in rows if row["total_mw"] is not None]
    table = Table(box=None, pad_edge=False)
    for title in ("rail", "median mW", "least", "most", "lines"):
        table.add_column(title, justify="left" if title == "rail" else "right")
    rails: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["rails"].items():
            rails.setdefault(name, []).append(value)
    columns = dict(sorted(rails.items()))
    for row in measured:
        columns.setdefault(f"total = {' + '.join(row['total'])}", []).append(row["total_mw"])
    for name, values in columns.items():
        table.add_row(name, f"{statistics.median(values):.0f}", f"{min(values):.0f}", f"{max(values):.0f}",
                      str(len(values)))
    click.echo(f"{path}: {len(rows)} line{'s' * (len(rows) != 1)}, {len(measured)} with a total")
    if columns:
        Console().print(table)
    for reason, count in Counter(row["reason"] for row in rows if row["reason"]).most_common(5):
        click.echo(f"{count} line{'s' * (count != 1)}: {reason}")
