"""`edgesynth export`: a thin shell over `export_network`, `export_file`, `lint` and `build_engine`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from devices.json_output import give_json, json_option
from devices.support.errors import CannotMeasure, CheckFailed, UserError

if TYPE_CHECKING:
    from export.lint import Lint
    from export.report import ExportReport

__all__ = ["check_file", "export", "export_model"]

CHECKED = ("model", "target", "check", "jetpack", "out", "json_path")  # what --check heeds
LINT_SCHEMA = "edgesynth.lint/1"


@click.command(epilog="""\b
Examples:
  edgesynth export runs/mine/ferminet-a --target tx2 --precision fp16 --verify-accuracy
  edgesynth export resnet20 --target tx2
  edgesynth export net.py:make --input 3x224x224 --target tx2 --batch 1:8:32 --out net.onnx
  edgesynth export net.onnx --target orin-nx --precision int8 --samples images.npz --out net-int8.onnx
  edgesynth export --check net.onnx --target tx2
  edgesynth export net.py:make --input 3x32x32 --target tx2 --engine --host nvidia@tx2""")  # fmt: skip
@click.argument("model")
@click.option("--target", required=True, metavar="BOARD",
              help="The board, or its file, whose TensorRT is to read the model.")
@click.option("--out", type=click.Path(), help="The ONNX file.  [default: NAME-BOARD.onnx here]")
@click.option("--input", "input_text", metavar="CxHxW", help="Shape of one image, for factories and open sizes.")
@click.option(
    "--batch", metavar="N|MIN:OPT:MAX", help="Images at once, one number or a range.  [default: 1, or the file's]"
)
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16 or int8, as far as the board has it.")
@click.option("--jetpack", metavar="VERSION", help="Write for this JetPack.  [default: what all of the board's read]")
@click.option("--samples", "samples_path", type=click.Path(), help="Real images, .npy, or .npz with images and labels.")
@click.option(
    "--metadata",
    "metadata_path",
    type=click.Path(),
    help="A JSON file of what else to write into the file: normalisation, labels, ...",
)
@click.option("--data", help="Data set of a network made by synth.  [default: its own]")
@click.option("--data-root", type=click.Path(), help="Folder with your copy of that data set.")
@click.option("--verify-accuracy", is_flag=True, help="Compare the accuracy before and after, on the labelled images.")
@click.option("--check", is_flag=True, help="Only say what the target would misread or refuse in an ONNX file.")
@click.option("--engine", is_flag=True, help="Also build the TensorRT engine: on --host, or on this board.")
@click.option("--host", metavar="USER@BOARD", help="The board that builds the engine, over ssh.")
@json_option("Also write the report as JSON; - prints it.")
def export(model: str, target: str, check: bool, json_path: str | None, out: str | None, jetpack: str | None,
           **options: Any) -> None:  # fmt: skip
    """MODEL as an ONNX file that the target's TensorRT reads, proved to answer as MODEL does.

    MODEL is an ONNX file, a factory (package.module:name or file.py:name) that takes no arguments and returns a torch
    module, the folder of a network that synth made, or the name of a trained one that comes with edgesynth.
    """
    if check:
        _refuse_all_but(CHECKED)
        _check(model, target, jetpack, out, json_path)
        return
    if options["host"] and not options["engine"]:
        raise UserError("--host is where --engine builds; add --engine, or leave --host out")
    with _progress() as say:
        report, engine = export_model(model, target, out=out, jetpack=jetpack, progress=say, **options)
    if json_path != "-":
        _print_report(report, engine, target)
    give_json({**report.to_json(), "engine": engine}, json_path)


def _refuse_all_but(names: tuple[str, ...]) -> None:
    """UserError for options of --check that would be passed over in silence."""
    context = click.get_current_context()
    given = [parameter.opts[0] for parameter in context.command.params if parameter.name not in names
             and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE]  # fmt: skip
    if given:
        raise UserError(f"--check only reads the file as it is: leave {' and '.join(given)} out")


def export_model(
    model: str,
    target: str,
    *,
    out: str | None = None,
    input_text: str | None = None,
    batch: str | None = None,
    precision: str = "fp32",
    jetpack: str | None = None,
    samples_path: str | None = None,
    metadata_path: str | None = None,
    data: str | None = None,
    data_root: str | None = None,
    verify_accuracy: bool = False,
    engine: bool = False,
    host: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[ExportReport, dict[str, Any] | None]:
    """What `edgesynth export` does; returns the report, and the engine where one was asked for."""
    from export.dialect import dialect_of
    from export.engine import build_engine, require_builder
    from export.exporter import Labels, export_file, export_network
    from export.samples import read_samples
    from export.source import load_source, parse_shape, read_words

    dialect = dialect_of(target, jetpack)
    precision = dialect.require_precision(precision)
    images_needed = samples_path is None and (verify_accuracy or precision == "int8")
    source = load_source(model, parse_shape(input_text) if input_text else None, data, data_root, images_needed)
    samples = read_samples(samples_path) if samples_path else source.samples
    words = Labels(source.name, source.normalisation, source.labels, source.others)
    if metadata_path:
        words = read_words(metadata_path, words)
    path = out or f"{source.name}-{dialect.target}.onnx"
    if out is None and source.onnx_path is not None and precision == "int8":
        path = f"{source.name}-{dialect.target}-int8.onnx"
    if engine and not path.endswith(".onnx"):
        raise UserError(
            f"{path}: an engine is built from a file whose name ends in .onnx; choose such a name with --out"
        )
    if engine:
        require_builder(host)
    common: dict[str, Any] = {
        "precision": precision,
        "jetpack": jetpack,
        "verify_accuracy": verify_accuracy,
        "progress": progress,
    }
    if source.onnx_path is not None:
        report = export_file(
            source.onnx_path, samples, path, target, input_shape=source.input_shape, batch=batch, words=words, **common
        )
    else:
        assert source.module is not None and source.input_shape is not None
        report = export_network(
            source.module,
            source.input_shape,
            samples,
            path,
            target,
            batch=batch or 1,
            name=source.name,
            normalisation=words.normalisation,
            labels=words.labels,
            metadata=words.others,
            **common,
        )
    if source.note and (samples is None or words.normalisation is None):
        report = replace(report, notes=(source.note,))
    if not engine:
        return report, None
    try:
        return report, build_engine(report, host, progress)
    except (CannotMeasure, UserError) as error:
        raise type(error)(f"{error}; {report.path} itself is written") from error


def check_file(path: str, target: str, jetpack: str | None = None, out: str | None = None) -> Lint:
    """What a target's TensorRT would misread or refuse in an ONNX file; with `out`, the mended file is written there
    when nothing but what can be mended was found."""
    from devices.support.files import require_writable, write_bytes
    from export import document
    from export.dialect import dialect_of
    from export.lint import lint

    found = lint(document.load(path), dialect_of(target, jetpack))
    if out is not None and not found.errors:
        require_writable(out)
        write_bytes(out, document.serialise(found.model))
    return found


def _check(path: str, target: str, jetpack: str | None, out: str | None, json_path: str | None) -> None:
    from export.dialect import dialect_of

    found, dialect = check_file(path, target, jetpack, out), dialect_of(target, jetpack)
    if json_path != "-":
        _print_findings(path, dialect, found, out)
    written = None if found.errors else out
    who = {"file": path, "target": dialect.target, "reader": dialect.reader, "opset": dialect.opset}
    give_json({"schema": LINT_SCHEMA, **who, "findings": found.to_json(), "written": written}, json_path)
    if found.errors:
        count = len(found.errors)
        raise CheckFailed(f"{path}: {dialect.reader} would misread or refuse it in {count} place{'s' * (count > 1)}")


def _print_findings(path: str, dialect: Any, found: Lint, out: str | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console(highlight=False)
    if not found.findings:
        console.print(
            f"{path}: nothing that {dialect.reader} on {dialect.target} would misread or refuse", markup=False
        )
        return
    # a name that is cut is not found again in the file
    columns = [Column(name, overflow="fold") for name in ("node", "problem", "remedy")]
    table = Table("", *columns, box=None, header_style="bold", pad_edge=False)
    colours = {"error": "red", "warning": "yellow", "mended": "green"}
    for state in ("error", "warning", "mended"):
        for item in found.of(state):
            words = (escape(text) for text in (item.node, item.problem, item.remedy))
            table.add_row(f"[{colours[state]}]{state}[/]", *words)
    console.print(table)
    if found.of("mended") and not found.errors:
        console.print("mended in the check alone; write the mended file with --out" if out is None else
                      f"{out}: mended; that it answers as before is what export without --check proves",
                      markup=False, soft_wrap=True)


def _print_report(report: ExportReport, engine: dict[str, Any] | None, target: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    told = " (tell the builder: the file itself is FP32)" if report.precision_by == "builder" else ""
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in report.inputs.items())
    console.print(f"{report.path} · {report.target} ({report.reader}) · opset {report.opset} · IR {report.ir}")
    console.print(
        f"size       {report.size_bytes / 1e6:.2f} MB · {report.params:,} parameters · {report.precision}{told}"
    )
    if report.accuracy is not None:
        console.print(f"accuracy   {report.accuracy}")
    console.print(f"input      {inputs} · batch {report.batch}")
    console.print(f"parity     {report.parity}")
    if report.precision_parity is not None:
        console.print(f"in FP16    {report.precision_parity}, forecast by an FP16 copy on this machine")
    for finding in report.findings:
        console.print(f"{finding.state:<10} {finding}")
    for note in report.notes:
        console.print(f"note       {note}")
    if report.parity.origin == "random":
        console.print("note       compared on noise: real images (--samples) prove more")
    if engine is not None:
        _print_engine(console, engine, target)


def _print_engine(console: Any, engine: dict[str, Any], target: str) -> None:
    from devices.board import resolve_target

    said, board = engine["sidecar"] or {}, resolve_target(target).board
    console.print(f"engine     {engine['engine']}{' (from the cache)' if engine['cached'] else ''}")
    smallest, best, largest = said.get("batches") or [1, 1, 1]
    batch = f"batch {best}" if smallest == largest else f"batch {smallest} to {largest}, tuned for {best}"
    layers = f"{len(said['layers'])} layers" if said.get("layers") else said.get("layers_note")
    built = f"built in {said.get('build_s', 0):.0f} s" + (" with earlier timings" if said.get("timings_reused") else "")
    parts = [said.get("board"), f"TensorRT {said.get('tensorrt')}", said.get("precision"), said.get("mode"), batch,
             layers, built]  # fmt: skip
    console.print("           " + " · ".join(str(part) for part in parts if part))
    if said.get("board") not in (None, board.base_name):
        console.print(f"warning    the file was written for {board.name}, the engine is of a {said['board']}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says on standard error what is being done: in one moving line for a person, in plain lines elsewhere."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with console.status("export") as status:
        yield lambda text: status.update(escape(text))
