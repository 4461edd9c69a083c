"""From a trained module, or somebody's ONNX file, to one file that the target reads, proved before it gets its name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from devices.support.errors import UserError
from devices.support.files import sha256_bytes, write_bytes
from export import document
from export.batch import Batch
from export.dialect import Dialect, dialect_of
from export.lint import lint
from export.parity import OnnxRunner, Parity, Predict, compare, in_batches, require, sample_images, torch_predict
from export.precision import to_fp16, to_int8
from export.rules.finding import Finding
from export.torch_onnx import evaluating, trace

if TYPE_CHECKING:
    import onnx
    import torch

    from devices.board import Target

NEWEST_IR_FOR_RUNTIME = 10
GRAPH, BUILDER = "graph", "builder"
SCHEMA = "edgesynth.export/1"


@dataclass(frozen=True)
class Labels:
    """What is written into the file for those who use it later.

    name: of the network; normalisation: what turns raw pixels into its input, e.g. {"mean": [...], "std": [...]};
    labels: names of its classes; others: any further JSON values.
    """

    name: str | None = None
    normalisation: Mapping[str, object] | None = None
    labels: Sequence[str] | None = None
    others: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was proved.

    size_bytes and params are of the file. precision_by: "graph" when the file itself computes in the precision,
    "builder" when the engine's builder has to be told. parity: of the file as written; precision_parity: of an FP16
    copy of it, where the builder is to round, as a forecast of what its engine will answer. duration_s: of it all.
    """

    path: str
    sha256: str
    size_bytes: int
    params: int
    target: str
    reader: str
    opset: int
    ir: int
    precision: str
    precision_by: str
    batch: str
    inputs: dict[str, list]
    outputs: dict[str, list]
    findings: tuple[Finding, ...]
    parity: Parity
    precision_parity: Parity | None
    duration_s: float

    def to_json(self) -> dict[str, object]:
        return {"schema": SCHEMA, **asdict(self)}


def export_network(
    module: torch.nn.Module,
    input_shape: Sequence[int],
    samples: object,
    path: str | os.PathLike[str],
    target: str | Target,
    *,
    batch: str | int | Batch = 1,
    precision: str = "fp32",
    jetpack: str | None = None,
    name: str | None = None,
    input_name: str = "input",
    output_names: Sequence[str] | None = None,
    normalisation: Mapping[str, object] | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> ExportReport:
    """Export a module for a target, check the file, compare its answers with the module's, then give it its name.

    input_shape: of one image, e.g. (3, 32, 32). samples: real images (N, *input_shape), normalised as the network
    takes them; None compares on noise, and the report says so. path: of the ONNX file. batch: 1, or "1:8:32" for
    min:opt:max. jetpack: writes for this one; without it the file suits all of the board's. normalisation, labels and
    metadata (JSON values) are written into the file.
    UserError for what the user can mend, CheckFailed when the file would not compute what the module does, or would
    not be read. Either leaves nothing behind.
    """
    started = time.perf_counter()
    order = _Order(path, target, jetpack, Batch.parse(batch), precision)
    images, origin = sample_images(samples, input_shape, order.batch)
    model = trace(
        module,
        input_shape,
        opset=order.dialect.opset,
        batch=order.batch,
        input_name=input_name,
        output_names=output_names,
    )
    document.describe(model, {"exporter": _torch_version()})
    with evaluating(module):
        wanted = in_batches(torch_predict(module), images, [order.batch.opt])
    words = Labels(name or type(module).__name__, normalisation, labels, metadata or {})
    return _deliver(order, model, wanted, images, origin, words, started, calibration=samples)


def export_file(
    source: str | os.PathLike[str],
    samples: object,
    path: str | os.PathLike[str],
    target: str | Target,
    *,
    input_shape: Sequence[int] | None = None,
    batch: str | int | Batch | None = None,
    precision: str = "fp32",
    jetpack: str | None = None,
    words: Labels | None = None,
) -> ExportReport:
    """Turn an ONNX file into one that the target reads: lowered, mended, checked against the original's answers.

    source: the file; batch: None keeps the file's own. input_shape fixes sizes that vary. The rest as for
    `export_network`. UserError for a file that is damaged, has several inputs, or does not fit what is asked.
    """
    started = time.perf_counter()
    original = document.load(source)
    if any(p.key == "edgesynth.precision" and '"int8"' in p.value for p in original.metadata_props):
        raise UserError(f"{source}: it is quantised already; export the network before quantisation")
    value = document.single_input(original, source)
    chosen = Batch.parse(batch) if batch is not None else document.own_batch(value)
    order = _Order(path, target, jetpack, chosen, precision)
    model = document.with_input(original, chosen, input_shape)
    shape = document.image_shape(model, source)
    images, origin = sample_images(samples, shape, chosen)
    wanted = in_batches(_as_it_came(model), images, [chosen.opt])
    words = words or Labels(os.path.splitext(os.path.basename(source))[0])
    return _deliver(order, model, wanted, images, origin, words, started, calibration=samples)


class _Order:
    """What is asked for, checked before the work: target, batch, precision, and that the file can be written."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | Target,
        jetpack: str | None,
        batch: Batch,
        precision: str,
    ):
        self.path, self.batch = os.fspath(path), batch
        self.dialect: Dialect = dialect_of(target, jetpack)
        self.precision = self.dialect.require_precision(precision)
        self.by_builder = self.precision == "fp16" and not self.dialect.precision_in_graph
        document.require_writable(path)


def _deliver(
    order: _Order,
    model: onnx.ModelProto,
    wanted: list[np.ndarray],
    images: np.ndarray,
    origin: str,
    words: Labels,
    started: float,
    *,
    calibration: object,
) -> ExportReport:
    """Mend, convert, label, read back, compare, and only then write."""
    dialect = order.dialect
    checked = lint(model, dialect)
    checked.require("the network")
    full, model = checked.model, checked.model
    if order.precision == "fp16" and not order.by_builder:
        model = to_fp16(full)
    elif order.precision == "int8":
        model = to_int8(full, np.asarray(calibration if calibration is not None else images, np.float32), origin=origin)
        lint(model, dialect).require("the quantised network")
    _sign(model, order, words, images.shape[1:])
    data = document.serialise(model)
    ports = {value.name: list(images.shape[1:]) for value in document.inputs_of(full)}
    names = [value.name for value in full.graph.output]
    opset, ir = document.opset_of(full), full.ir_version
    model = document.read_back(data, opset=opset, ir=ir, batch=order.batch, inputs=ports, outputs=names)
    in_file = "fp32" if order.by_builder else order.precision
    parity = compare(wanted, in_batches(OnnxRunner(data), images, order.batch.sizes), in_file, origin)
    require(parity, in_file)
    forecast = None
    if order.by_builder:
        rounded = OnnxRunner(document.serialise(to_fp16(full)))
        forecast = compare(wanted, in_batches(rounded, images, order.batch.sizes), "fp16", origin)
        require(forecast, "fp16")
    write_bytes(order.path, data)
    return ExportReport(
        path=order.path,
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        params=document.parameter_count(model),
        target=dialect.target,
        reader=dialect.reader,
        opset=opset,
        ir=ir,
        precision=order.precision,
        precision_by=BUILDER if order.by_builder else GRAPH,
        batch=str(order.batch),
        inputs={value.name: document.shape_of(value) for value in document.inputs_of(model)},
        outputs={value.name: document.shape_of(value) for value in model.graph.output},
        findings=checked.findings,
        parity=parity,
        precision_parity=forecast,
        duration_s=time.perf_counter() - started,
    )


def _sign(model: onnx.ModelProto, order: _Order, words: Labels, shape: Sequence[int]) -> None:
    """Say in the file who made it, for what, and what its input and output mean."""
    from importlib.metadata import version

    model.graph.name = words.name or "network"
    model.producer_name, model.producer_version = "edgesynth", version("edgesynth")
    said = {
        "schema": document.SCHEMA,
        "name": words.name,
        "target": order.dialect.target,
        "precision": order.precision,
        "precision_by": BUILDER if order.by_builder else GRAPH,
        "batch": asdict(order.batch),
        "input_shape": list(shape),
        "normalisation": words.normalisation,
        "labels": list(words.labels) if words.labels else None,
    }
    document.describe(model, {**document.description(model), **words.others, **said})


def _torch_version() -> str:
    import torch

    return f"torch {torch.__version__}"


def _as_it_came(model: onnx.ModelProto) -> Predict:
    """The file before any mending, run by ONNX Runtime, which may know fewer IR versions than onnx."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(model.ir_version, NEWEST_IR_FOR_RUNTIME)
    return OnnxRunner(document.serialise(copy))
