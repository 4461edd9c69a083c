"""From a trained module to one ONNX file that the target reads, proved on real inputs before it gets its name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from devices.support.files import sha256_bytes
from export import document
from export.batch import Batch
from export.dialect import Dialect, dialect_of
from export.parity import OnnxRunner, Parity, compare, in_batches, require, sample_images, torch_predict
from export.torch_onnx import evaluating, trace

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was proved. size_bytes and params are of the file; duration_s of the whole export."""

    path: str
    sha256: str
    size_bytes: int
    params: int
    target: str
    opset: int
    ir: int
    precision: str
    batch: str
    inputs: dict[str, list]
    outputs: dict[str, list]
    parity: Parity
    duration_s: float

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def export_network(
    module: torch.nn.Module,
    input_shape: Sequence[int],
    samples: object,
    path: str | os.PathLike[str],
    target: str,
    *,
    batch: str | int | Batch = "1",
    precision: str = "fp32",
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
    min:opt:max. normalisation: what turns raw pixels into the network's input, e.g. {"mean": [...], "std": [...]};
    it, the labels and the metadata (JSON values) are written into the file.
    UserError for what the user can mend, CheckFailed when the file would not compute what the module does. Either
    leaves nothing behind.
    """
    started = time.perf_counter()
    dialect, batch = dialect_of(target), Batch.parse(batch)
    precision = dialect.require_precision(precision)
    document.require_writable(path)
    images, origin = sample_images(samples, input_shape, batch)
    model = trace(
        module, input_shape, opset=dialect.opset, batch=batch, input_name=input_name, output_names=output_names
    )
    outputs = [value.name for value in model.graph.output]
    _sign(model, dialect, name or type(module).__name__)
    document.describe(
        model,
        {
            "schema": document.SCHEMA,
            "name": name,
            "target": target,
            "precision": precision,
            "batch": asdict(batch),
            "input_shape": list(input_shape),
            "normalisation": normalisation,
            "labels": list(labels) if labels else None,
            **(metadata or {}),
        },
    )
    data = document.serialise(model)
    model = document.read_back(data, dialect, batch, {input_name: list(input_shape)}, outputs)
    with evaluating(module):
        wanted = in_batches(torch_predict(module), images, [batch.opt])
    parity = compare(wanted, in_batches(OnnxRunner(data), images, batch.sizes), precision, origin)
    require(parity, precision)
    document.save(data, path)
    return ExportReport(
        path=os.fspath(path),
        sha256=sha256_bytes(data),
        size_bytes=len(data),
        params=document.parameter_count(model),
        target=target,
        opset=document.opset_of(model),
        ir=model.ir_version,
        precision=precision,
        batch=str(batch),
        inputs={value.name: document.shape_of(value) for value in model.graph.input},
        outputs={value.name: document.shape_of(value) for value in model.graph.output},
        parity=parity,
        duration_s=time.perf_counter() - started,
    )


def _sign(model, dialect: Dialect, name: str) -> None:
    """Say who made the file, in the IR version that the target's parser knows."""
    from importlib.metadata import version

    import torch

    model.ir_version = dialect.ir
    model.graph.name = name
    model.producer_name, model.producer_version = "edgesynth", version("edgesynth")
    model.doc_string = f"exported with torch {torch.__version__}"
