"""edgesynth: synthesise efficient networks, export them, measure them on the board, and guard their energy.

The front door: the click group that joins the rooms' commands. A command's module is imported only when the
command is called, so that `edgesynth --help` needs neither torch nor onnxruntime.
"""

from __future__ import annotations

import importlib
import os
import sys


def _leave_working_folder() -> None:
    """Take the working folder off the front of sys.path, where `python -m edgesynth` puts it."""
    try:
        here = os.getcwd()
    except OSError:  # it was deleted under us
        return
    if os.path.dirname(os.path.abspath(__file__)) != here:
        sys.path[:] = [p for p in sys.path if p not in ("", here)]


if __name__ == "__main__":
    _leave_working_folder()  # before the first import that a user's own module could take the place of

import click

# Imported here so that a user's own export.py, devices.py or synth.py can never take their place.
import devices
import edge_bench
import export
import synth
from devices import stop_signals
from devices.support.errors import BAD_INPUT, EdgesynthError, unknown

__all__ = ["cli", "main"]
__version__ = "0.1.0"

ROOMS = (devices, edge_bench, export, synth)

# `export` takes the folders of networks too; who reads them lives above it, so the front door joins the two.
export.NETWORK_READER = "synth.zoo.export_source:read_network"

# name: (module:attribute, one line of help)
COMMANDS = {
    "synth": ("synth.run.cli:synth", "Learn a generator and make FermiNets."),
    "generate": ("synth.run.cli:generate", "Make more FermiNets from a learned generator."),
    "train": ("synth.zoo.cli:train", "One network from fresh weights, once a seed."),
    "evaluate": ("synth.zoo.cli:evaluate", "A trained network's metric on a split."),
    "export": ("export.cli:export", "Network to ONNX for a target."),
    "bench": ("edge_bench.cli:bench", "Latency and energy per image."),
    "compare": ("edge_bench.gate.cli:compare", "Two models measured in turns on one board."),
    "check": ("edge_bench.gate.cli:check", "The gate: results against a baseline, models against a revision."),
    "init-ci": ("edge_bench.workflow.cli:init_ci", "The gate in a repository's CI."),
    "report": ("synth.report.cli:report", "A run, or results, as one HTML file."),
    "devices": ("edgesynth:devices_group", "Boards: list, show, predict, calibrate, probe."),
}
DEVICE_COMMANDS = {
    "list": ("devices.cli:list_boards", "The boards that are known."),
    "show": ("devices.cli:show", "What is known about one board, with sources."),
    "predict": ("devices.cli:predict", "Predicted latency and energy of a model on a target."),
    "calibrate": ("edge_bench.devices_cli:calibrate", "Measure a set of networks on a board, and make its cost model."),
    "probe": ("edge_bench.devices_cli:probe", "What this machine or a board is, and what it can measure."),
    "prepare": ("edge_bench.devices_cli:prepare", "What a board needs for power modes and locked clocks."),
    "build-agent": ("edge_bench.devices_cli:build_agent", "The agent as one file for a board's Python."),
    "install-agent": ("edge_bench.devices_cli:install_agent", "Leave the agent on a board as `edgesynth`."),
    "read-log": ("edge_bench.devices_cli:read_log", "The milliwatts in a tegrastats log, line by line."),
}
READER_LEFT = 141  # 128 and SIGPIPE, as a shell says it
SYNTH_EXTRA = ("torch", "safetensors", "scipy")  # what a base install does without


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called."""

    def __init__(self, *args, commands_at: dict[str, tuple[str, str]], **kwargs):
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_at)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.commands_at:
            return None
        place, attribute = self.commands_at[name][0].split(":")
        # `python -m edgesynth` runs this file as __main__; importing it again would build everything twice
        module = sys.modules[__name__] if place == "edgesynth" else importlib.import_module(place)
        return getattr(module, attribute)

    def resolve_command(self, ctx: click.Context,
                        args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands_at and not ctx.resilient_parsing:
            raise unknown("command", args[0], self.commands_at)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_at.items()])


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=LazyGroup, commands_at=COMMANDS, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="edgesynth")
def cli() -> None:
    """Efficient networks for Jetson boards: synthesised, exported, measured in joules, and guarded.

    \b
    edgesynth synth --target tx2                    learn a generator, make four FermiNets
    edgesynth bench ferminet-a.onnx                 latency on this machine
    edgesynth bench ferminet-a.onnx --predict --target tx2
    """


@click.group(cls=LazyGroup, name="devices", commands_at=DEVICE_COMMANDS, context_settings=SETTINGS)
def devices_group() -> None:
    """Boards as data: what they are, what a network costs there."""


def _show(error: click.ClickException) -> None:
    """A misused option as one sentence; the help that stands for a missing command as it is."""
    context = getattr(error, "ctx", None)
    if context is None or isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    text = error.format_message().rstrip(".")
    click.echo(f"edgesynth: {text[:1].lower()}{text[1:]}; see {context.command_path} --help", err=True)


def main() -> None:
    """Run the command line; end in one sentence and an exit code for a user's mistake."""
    _leave_working_folder()
    with stop_signals.as_ctrl_c() as received:
        _run(received)


def _run(received: list[int]) -> None:
    """The command, and how it ends. received: the signals that stopped it."""
    try:
        cli.main(prog_name="edgesynth", standalone_mode=False)
    except EdgesynthError as error:
        click.echo(f"edgesynth: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name not in SYNTH_EXTRA:
            raise
        click.echo(f"edgesynth: this command needs {error.name}: pip install '.[synth]' in your clone of edgesynth",
                   err=True)
        sys.exit(BAD_INPUT)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("edgesynth: stopped.", err=True)
        sys.exit(stop_signals.exit_code(received))
    except SystemExit as stop:
        # click and rich say 1, which is "check failed" here, when the reader of standard output leaves (`| head`)
        sys.exit(READER_LEFT if stop.code == 1 else stop.code)


if __name__ == "__main__":
    main()
