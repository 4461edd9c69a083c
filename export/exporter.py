"""From a trained module, or somebody's ONNX file, to one file that the target reads, proved before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from devices.support.errors import CheckFailed, UserError
from devices.support.files import readable
from export import document
from export.batch import Batch
from export.delivery import Order, Progress, deliver
from export.lint import lint
from export.parity import OnnxRunner, Predict, torch_predict
from export.report import ExportReport, Labels
from export.torch_onnx import evaluating, trace

if TYPE_CHECKING:
    import onnx
    import torch

    from devices.board import Target

__all__ = ["ExportReport", "Labels", "export_file", "export_network"]

NEWEST_IR_FOR_RUNTIME = 10


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
    verify_accuracy: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a module for a target, check the file, compare its answers with the module's, then give it its name.

    input_shape: of one image, e.g. (3, 32, 32). samples: real images (N, *input_shape), normalised as the network
    takes them, or `Samples` with labels for verify_accuracy; None compares on noise, and the report says so. path: of
    the ONNX file. batch: 1, or "1:8:32" for min:opt:max. jetpack: writes for this one; without it the file suits all
    of the board's. normalisation, labels and metadata (JSON values) are written into the file.
    UserError for what the user can mend, CheckFailed when the file would not compute what the module does, or would
    not be read. Either leaves nothing behind.
    """
    order = Order.check(
        path,
        target,
        jetpack=jetpack,
        batch=batch,
        precision=precision,
        samples=samples,
        verify_accuracy=verify_accuracy,
        progress=progress,
    )
    order.progress(f"writing {name or type(module).__name__} as ONNX opset {order.dialect.opset}")
    model = trace(
        module,
        input_shape,
        opset=order.dialect.opset,
        batch=order.batch,
        input_name=input_name,
        output_names=output_names,
    )
    words = Labels(name or type(module).__name__, normalisation, labels, {**(metadata or {}), "exporter": _torch()})
    with evaluating(module):
        return deliver(order, model, torch_predict(module), input_shape, words)


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
    verify_accuracy: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Turn an ONNX file into one that the target reads: lowered, mended, checked against the original's answers.

    source: the file; batch: None keeps the file's own. input_shape fixes sizes that vary. The rest as for
    `export_network`. UserError for a file that is damaged, has several inputs, or does not fit what is asked.
    """
    original = document.load(source)
    value = document.single_input(original, source)
    order = Order.check(
        path,
        target,
        jetpack=jetpack,
        batch=batch if batch is not None else document.own_batch(value),
        precision=precision,
        samples=samples,
        verify_accuracy=verify_accuracy,
        progress=progress,
    )
    if order.precision == "int8" and any(node.op_type == "QuantizeLinear" for node in original.graph.node):
        raise UserError(f"{source}: it is quantised already; export the network before quantisation")
    model = document.with_input(original, order.batch, input_shape)
    shape = document.image_shape(model, source)
    words = words or Labels(readable(os.path.splitext(os.path.basename(source))[0]))
    try:
        original_answers = _as_it_came(model, source)
    except UserError:
        lint(model, order.dialect).require("the network")  # what nobody can run has a better reason there
        raise
    count = max(2, order.batch.opt) if order.batch.is_dynamic else order.batch.max
    answers = original_answers(np.zeros((count, *shape), np.float32))
    document.require_batch_first([value.name for value in model.graph.output], [a.shape for a in answers], count)
    return deliver(order, model, original_answers, shape, words)


def _as_it_came(model: onnx.ModelProto, source: object) -> Predict:
    """The file before any mending, run by ONNX Runtime, which may know fewer IR versions than onnx."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(model.ir_version, NEWEST_IR_FOR_RUNTIME)
    try:
        runner = OnnxRunner(document.serialise(copy))
    except CheckFailed as error:
        raise UserError(
            f"{source}: ONNX Runtime cannot run it ({document.first_line(error.__cause__ or error)}), so that nothing "
            "could be compared: look at it with --check"
        ) from error

    def predict(images: np.ndarray) -> list[np.ndarray]:
        try:
            return runner(images)
        except CheckFailed as error:
            raise UserError(
                f"{source}: it does not run on a batch of {len(images)} "
                f"({document.first_line(error.__cause__ or error)}): export the network anew for that batch"
            ) from error

    return predict


def _torch() -> str:
    import torch

    return f"torch {torch.__version__}"
