"""An ONNX file as a document: read with care, labelled with metadata, compared with what was asked, written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devices.support.errors import CheckFailed, UserError
from devices.support.files import explain, write_bytes
from export.batch import Batch
from export.dialect import Dialect

if TYPE_CHECKING:
    import onnx

SCHEMA = "edgesynth.onnx/1"
PREFIX = "edgesynth."
NOTHING = "nothing was kept"
LARGEST_BYTES = 2**31 - 1  # of one protobuf message


def describe(model: onnx.ModelProto, values: Mapping[str, object]) -> None:
    """Write values into the file's metadata_props, each as JSON under "edgesynth.NAME"; None is left out."""
    kept = [(p.key, p.value) for p in model.metadata_props if not p.key.startswith(PREFIX)]
    del model.metadata_props[:]
    said = {name: value for name, value in values.items() if value is not None}
    ours = [(PREFIX + name, json.dumps(value, ensure_ascii=False)) for name, value in said.items()]
    for key, text in [*kept, *ours]:
        model.metadata_props.add(key=key, value=text)


def description(model: onnx.ModelProto) -> dict[str, object]:
    """What `describe` wrote; {} for a file of somebody else."""
    return {p.key[len(PREFIX) :]: json.loads(p.value) for p in model.metadata_props if p.key.startswith(PREFIX)}


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operator set; 0 when the file names none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives: without the initialisers, which old files list too."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def shape_of(value: onnx.ValueInfoProto) -> list[int | str | None]:
    """Sizes of a tensor: a number, the name of a size that varies, or None for one that is not known."""
    tensor = value.type.tensor_type
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]


def parameter_count(model: onnx.ModelProto) -> int:
    """Numbers in the initialisers of floating type."""
    import onnx

    floating = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_type in floating:
            count = 1
            for size in tensor.dims:
                count *= size
            total += count
    return total


def serialise(model: onnx.ModelProto) -> bytes:
    """The bytes of the one file; UserError beyond the 2 GB that it can hold."""
    if model.ByteSize() > LARGEST_BYTES:
        raise UserError("the network is larger than 2 GB, which one ONNX file cannot hold: export a smaller one")
    return model.SerializeToString(deterministic=True)


def read_back(
    data: bytes, dialect: Dialect, batch: Batch, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Parse what is about to be written and compare it with what was asked: CheckFailed names the difference.

    inputs: name -> shape of one image; outputs: names. The exporter is known to write another opset than asked,
    without an error, and weights into a second file.
    """
    import onnx

    model = onnx.load_from_string(data)
    size: int | str = "batch" if batch.is_dynamic else batch.max
    found_inputs = {value.name: shape_of(value) for value in inputs_of(model)}
    found_sizes = [(shape_of(value) or [None])[0] for value in model.graph.output]
    asked = {
        "opset": (dialect.opset, opset_of(model)),
        "operator sets": ([""], sorted({o.domain for o in model.opset_import})),
        "IR version": (dialect.ir, model.ir_version),
        "inputs": ({name: [size, *shape] for name, shape in inputs.items()}, found_inputs),
        "outputs": (list(outputs), [value.name for value in model.graph.output]),
        "batch of the outputs": ([size] * len(outputs), found_sizes),
        "weights in other files": ([], external_files(model)),
    }
    for what, (wanted, found) in asked.items():
        if wanted != found:
            raise CheckFailed(
                f"the exporter did not write what was asked: {what} {found} instead of {wanted}; {NOTHING}"
            )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CheckFailed(f"the exported file is not valid ONNX: {str(error).splitlines()[0]}; {NOTHING}") from error
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the side files that hold weights of this model."""
    import onnx

    external = onnx.TensorProto.EXTERNAL
    entries = [e for t in model.graph.initializer if t.data_location == external for e in t.external_data]
    return sorted({e.value for e in entries if e.key == "location"})


def require_writable(path: str | os.PathLike[str]) -> None:
    """UserError when a file cannot be written there; asked before the long work, not after it."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise UserError(f"{path}: it is a folder; name a file")
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: there is no such folder; make it, or choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise explain(PermissionError(13, "Permission denied"), folder)


def save(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write the finished file; a reader sees the old one or the new one, never a part."""
    write_bytes(path, data)
