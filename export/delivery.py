"""The way of every export from graph to file: mended, converted, labelled, read back, compared, only then written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from devices.support.errors import UserError
from devices.support.files import require_writable, sha256_bytes, write_bytes
from export import document
from export.batch import Batch
from export.dialect import Dialect, dialect_of
from export.lint import lint
from export.parity import OnnxRunner, Predict, compare, in_batches, require, sample_images
from export.precision import FIRST_OPSET_PER_CHANNEL, to_fp16, to_int8
from export.report import BUILDER, GRAPH, ExportReport, Labels
from export.samples import Accuracy, Samples, judge, measure

if TYPE_CHECKING:
    import onnx

    from devices.board import Target

Progress = Callable[[str], None]
CALIBRATION_IMAGES = 512
TOLD_IMAGES = 512  # labelled ones that the accuracy is told on where nobody asked to verify it


@dataclass(frozen=True)
class Order:
    """What is asked for: a file at `path` for a dialect, batch and precision, judged on these samples."""

    path: str
    dialect: Dialect
    batch: Batch
    precision: str
    samples: Samples | None
    verify_accuracy: bool
    progress: Progress
    started: float

    @classmethod
    def check(
        cls,
        path: str | os.PathLike[str],
        target: str | Target,
        *,
        jetpack: str | None,
        batch: str | int | Batch,
        precision: str,
        samples: object,
        verify_accuracy: bool,
        progress: Progress | None,
    ) -> Order:
        """UserError for what can be refused before the work: target, batch, precision, path, missing samples."""
        dialect = dialect_of(target, jetpack)
        if samples is not None and not isinstance(samples, Samples):
            samples = Samples(np.asarray(samples))
        if verify_accuracy and (samples is None or samples.labels is None):
            raise UserError(
                "the accuracy is verified on labelled images: give an .npz with images and labels (--samples)"
            )
        require_writable(path)
        return cls(
            os.fspath(path),
            dialect,
            Batch.parse(batch),
            dialect.require_precision(precision),
            samples,
            verify_accuracy,
            progress or (lambda text: None),
            time.perf_counter(),
        )

    @property
    def by_builder(self) -> bool:
        """Whether the file stays FP32 and the engine's builder rounds."""
        return self.precision == "fp16" and not self.dialect.precision_in_graph


def deliver(
    order: Order, model: onnx.ModelProto, reference: Predict, shape: Sequence[int], words: Labels
) -> ExportReport:
    """Make the file of a graph. reference: what the network answers; shape: of one image.

    CheckFailed when the file would not be read, or would not compute what the reference does. Nothing is left then.
    """
    say, given = order.progress, order.samples.images if order.samples else None
    images, origin = sample_images(given, shape, order.batch)
    say(f"checking it against {order.dialect.reader}")
    checked = lint(model, order.dialect)
    checked.require("the network")
    full = checked.model
    model = _converted(order, full, shape, origin)
    _sign(model, order, words, shape)
    data = document.serialise(model)
    ports = {value.name: list(shape) for value in document.inputs_of(full)}
    names = [value.name for value in full.graph.output]
    opset, ir = document.opset_of(full), full.ir_version
    if order.precision == "int8":
        opset = max(opset, FIRST_OPSET_PER_CHANNEL)
    model = document.read_back(data, opset=opset, ir=ir, batch=order.batch, inputs=ports, outputs=names)
    say("comparing its answers with the network's")
    runner, in_file = OnnxRunner(data), "fp32" if order.by_builder else order.precision
    # at the same sizes: what a network does otherwise for another batch, the trace has frozen
    wanted = in_batches(reference, images, order.batch.sizes)
    parity = compare(wanted, in_batches(runner, images, order.batch.sizes), in_file, origin)
    require(parity, in_file)
    forecast = None
    if order.by_builder:
        runner = OnnxRunner(document.serialise(to_fp16(full)))
        forecast = compare(wanted, in_batches(runner, images, order.batch.sizes), "fp16", origin)
        require(forecast, "fp16")
    accuracy = _accuracy(order, reference, runner)
    write_bytes(order.path, data)
    return ExportReport(
        path=order.path,
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        params=document.parameter_count(full),
        target=order.dialect.target,
        reader=order.dialect.reader,
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
        accuracy=accuracy,
        duration_s=time.perf_counter() - order.started,
    )


def _accuracy(order: Order, reference: Predict, runner: Predict) -> Accuracy | None:
    """The task's metric before and after: on all labelled images and judged where that is asked for; else told of a
    reduced precision on some. None without labels. CheckFailed when the conversion costs more than it may."""
    samples = order.samples
    if samples is None or samples.labels is None or not (order.verify_accuracy or order.precision != "fp32"):
        return None
    if not order.verify_accuracy:
        samples = replace(samples, images=samples.images[:TOLD_IMAGES], labels=samples.labels[:TOLD_IMAGES])
    order.progress(f"comparing the accuracy on {len(samples.images)} images")
    images = np.ascontiguousarray(samples.images, np.float32)
    before, after = (in_batches(predict, images, [order.batch.max]) for predict in (reference, runner))
    if order.verify_accuracy:
        return judge(samples, before, after, order.precision)
    try:
        return measure(samples, before, after)
    except UserError:  # labels of another kind: nobody asked for them to be compared
        return None


def _converted(order: Order, full: onnx.ModelProto, shape: Sequence[int], origin: str) -> onnx.ModelProto:
    """The graph in the precision that the file itself has."""
    if order.precision == "fp16" and not order.by_builder:
        return to_fp16(full)
    if order.precision != "int8":
        return full
    order.progress("calibrating INT8")
    images = order.samples.images[:CALIBRATION_IMAGES] if order.samples else np.zeros((0, *shape))
    model = to_int8(full, np.ascontiguousarray(images, np.float32), origin=origin)
    lint(model, order.dialect).require("the quantised network")
    return model


def _sign(model: onnx.ModelProto, order: Order, words: Labels, shape: Sequence[int]) -> None:
    """Say in the file who made it, for what, and what its input and output mean."""
    model.graph.name, model.producer_name = words.name or "network", "edgesynth"
    model.ClearField("producer_version")
    with contextlib.suppress(metadata.PackageNotFoundError):  # a source tree that is not installed
        model.producer_version = metadata.version("edgesynth")
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
    before = {name: value for name, value in document.description(model).items() if said.get(name) is None}
    document.describe(model, {**before, **words.others, **{name: v for name, v in said.items() if v is not None}})
