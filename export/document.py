"""An ONNX file as a document: read with care, labelled with metadata, compared with what was asked, written whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devices.support.errors import CheckFailed, UserError
from devices.support.files import explain
from export.batch import Batch

if TYPE_CHECKING:
    import onnx

SCHEMA = "edgesynth.onnx/1"
PREFIX = "edgesynth."
BATCH_AXIS = "batch"
NOTHING = "nothing was kept"
LARGEST_BYTES = 2**31 - 1  # of one protobuf message
TOO_LARGE = "the network is larger than 2 GB, which one ONNX file cannot hold: export a smaller one"


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
    """Sizes of a tensor: a number, the name of a size that varies, or None for one that is not known (some tools write
    -1 for it)."""
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else (d.dim_param or None) for d in dims]


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
    try:
        return model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's EncodeError is another class in each of its builds
        raise UserError(TOO_LARGE) from error


def read_back(
    data: bytes, *, opset: int, ir: int, batch: Batch, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Parse what is about to be written and compare it with what was asked: CheckFailed names the difference.

    inputs: name -> shape of one image; outputs: names. torch's exporter is known to write another opset than asked,
    without an error, and weights into a second file.
    """
    import onnx

    model = onnx.load_from_string(data)
    size: int | str = BATCH_AXIS if batch.is_dynamic else batch.max
    found_inputs = {value.name: shape_of(value) for value in inputs_of(model)}
    found_sizes = [(shape_of(value) or [None])[0] for value in model.graph.output]
    asked = {
        "opset": (opset, opset_of(model)),
        "operator sets": ([""], sorted({o.domain for o in model.opset_import})),
        "IR version": (ir, model.ir_version),
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
        raise CheckFailed(f"the exported file is not valid ONNX: {first_line(error)}; {NOTHING}") from error
    return model


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read an ONNX file with its weights, wherever they lie. UserError for one that is missing, damaged, of an IR
    that the installed onnx does not know, or without its side files."""
    import onnx

    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise explain(error, path) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError is another class in each of its builds
        raise UserError(f"{path}: damaged, or no ONNX file; export it anew") from error
    if not model.graph.node or not model.opset_import:
        raise UserError(f"{path}: damaged, or no ONNX file: it holds no graph; export it anew")
    if model.ir_version > onnx.IR_VERSION or opset_of(model) > onnx.defs.onnx_opset_version():
        raise UserError(
            f"{path}: IR {model.ir_version} and opset {opset_of(model)} are later than onnx {onnx.__version__} knows: "
            "install a newer onnx, or export with an earlier opset"
        )
    _load_side_files(model, path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UserError(f"{path}: not valid ONNX: {first_line(error)}") from error
    return model


def _load_side_files(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    import onnx

    folder = os.path.dirname(os.path.abspath(path))
    for name in external_files(model):
        if not os.path.isfile(os.path.join(folder, name)):
            raise UserError(f"{path}: its weights file {name} is missing: put it beside the model")
    beside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    kinds = [onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in beside]
    sizes = [kind.itemsize * math.prod(tensor.dims) for kind, tensor in zip(kinds, beside, strict=True)]
    if sum(sizes, model.ByteSize()) > LARGEST_BYTES:
        raise UserError(f"{path}: {TOO_LARGE}")
    try:
        onnx.external_data_helper.load_external_data_for_model(model, folder)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"{path}: its weights file is damaged: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop, to build a sentence of."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the side files that hold weights of this model."""
    import onnx

    external = onnx.TensorProto.EXTERNAL
    entries = [e for t in model.graph.initializer if t.data_location == external for e in t.external_data]
    return sorted({e.value for e in entries if e.key == "location"})


def single_input(model: onnx.ModelProto, source: object) -> onnx.ValueInfoProto:
    """The one FP32 input of a network that takes images; UserError for a model of another kind."""
    import onnx

    values = inputs_of(model)
    if len(values) != 1 or values[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        kinds = ", ".join(f"{v.name} ({onnx.TensorProto.DataType.Name(v.type.tensor_type.elem_type)})" for v in values)
        raise UserError(
            f"{source}: edgesynth exports networks of one FP32 input, and this one takes {kinds or 'none'}; "
            "look at it with --check"
        )
    return values[0]


def require_batch_first(names: Sequence[str], shapes: Sequence[Sequence[int]], count: int) -> None:
    """UserError for an output that does not count the images along its first axis: no caller could tell them apart."""
    for name, shape in zip(names, shapes, strict=True):
        if not shape or shape[0] != count:
            found = "x".join(map(str, shape)) or "a single number"
            raise UserError(
                f"output '{name}' is {found} for {count} image{'s' * (count > 1)}, but its first axis must count them: "
                "transpose it, or return only what belongs to an image"
            )


def own_batch(value: onnx.ValueInfoProto) -> Batch:
    """The batch that a file was made for; 1 where it leaves that open."""
    size = (shape_of(value) or [None])[0]
    return Batch.parse(size if isinstance(size, int) and size > 0 else 1)


def with_input(model: onnx.ModelProto, batch: Batch, input_shape: Sequence[int] | None) -> onnx.ModelProto:
    """A copy whose input has this batch and image shape, all other sizes inferred anew.

    UserError where the file fixes another size: what is fixed in a file cannot be set free again.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    value = next(v for v in copy.graph.input if v.name == inputs_of(copy)[0].name)
    have = shape_of(value)
    wanted = [BATCH_AXIS if batch.is_dynamic else batch.max, *(input_shape or have[1:])]
    if len(wanted) != len(have):
        raise UserError(
            f"the file's input has {len(have) - 1} sizes besides the batch, --input gives {len(wanted) - 1}"
        )
    for size, want, dim in zip(have, wanted, value.type.tensor_type.shape.dim, strict=True):
        if isinstance(size, int) and size != want:
            raise UserError(
                f"the file fixes its input to {size} where {want} is asked: export the network anew for that"
            )
        if isinstance(want, int):
            dim.dim_value = want
        elif want is not None:
            dim.dim_param = want
    for output in copy.graph.output:
        dims = output.type.tensor_type.shape.dim
        if dims and batch.is_dynamic:
            dims[0].dim_param = BATCH_AXIS
        elif dims:
            dims[0].dim_value = batch.max
    del copy.graph.value_info[:]
    return copy


def image_shape(model: onnx.ModelProto, source: object) -> tuple[int, ...]:
    """Shape of one image; UserError when the file leaves sizes open."""
    sizes = shape_of(inputs_of(model)[0])[1:]
    if not sizes or not all(isinstance(size, int) for size in sizes):
        raise UserError(f"{source}: its input sizes vary: fix them with --input, such as --input 3x224x224")
    return tuple(int(size) for size in sizes if size is not None)
