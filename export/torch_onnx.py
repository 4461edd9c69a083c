"""The only caller of torch's ONNX exporter.

Checked for torch 2.9 to 2.13. The TorchScript exporter (`dynamo=False`) is asked on purpose: the newer one cannot
write below opset 18, does not fail when asked to, and TensorRT 8 misreads what it writes then. When torch drops it,
this module is what has to change.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devices.support.errors import CheckFailed, UserError
from export.batch import Batch
from export.document import (
    BATCH_AXIS,
    LARGEST_BYTES,
    TOO_LARGE,
    external_files,
    first_line,
    opset_of,
    require_batch_first,
)
from export.substitutes import writable
from export.values_taken import ValuesTaken, watching

if TYPE_CHECKING:
    import onnx
    import torch

REMEDY = "install a torch that this version of edgesynth was checked for, 2.9 to 2.13"


def trace(
    module: torch.nn.Module,
    input_shape: Sequence[int],
    *,
    opset: int,
    batch: Batch,
    input_name: str = "input",
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The ONNX graph of a module in evaluation mode, batch norms folded into convolutions, weights inside.

    input_shape: of one image, (C, H, W) or any other without the batch. Outputs are named "output", or "output_0",
    "output_1" ... when there are several, or by the keys of a dict. UserError when the module does not accept the
    shape, holds weights that are not finite FP32, takes decisions on values, or uses what ONNX at this opset cannot
    say.
    """
    import onnx
    import torch

    _refuse_bad_weights(module)
    # two images where the batch may vary: a trace with one would freeze what depends on it
    example = torch.zeros((max(2, batch.opt) if batch.is_dynamic else batch.max, *input_shape))
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers() if buffer.is_floating_point()}
    with evaluating(module), torch.no_grad():
        answer, values = _try_forward(module, example)
        _refuse_memory(module, buffers)
        outputs = flatten(answer)
        names = list(output_names or _names_of(answer, taken=input_name))
        if len(names) != len(outputs):
            raise UserError(f"{len(names)} output names given, but the network has {len(outputs)} outputs")
        require_batch_first(names, [tensor.shape for tensor in outputs], len(example))
        buffer = io.BytesIO()
        axes = {name: {0: BATCH_AXIS} for name in (input_name, *names)} if batch.is_dynamic else None
        with warnings.catch_warnings(record=True) as caught, writable(), _unlogged():
            warnings.simplefilter("always")
            try:
                torch.onnx.export(
                    module if _is_plain(module, answer) else _tuple_answering(module),
                    (example,),
                    buffer,  # type: ignore[arg-type]  # this exporter takes a buffer, whatever its signature says
                    dynamo=False,
                    opset_version=opset,
                    input_names=[input_name],
                    output_names=names,
                    dynamic_axes=axes,
                )
            except Exception as error:  # what its symbolic functions raise is of any kind
                raise UserError(_why_not(error, opset)) from error
        _refuse_decisions(values.decide(caught))
    if buffer.tell() > LARGEST_BYTES:
        raise UserError(TOO_LARGE)
    model = onnx.load_from_string(buffer.getvalue())
    if not batch.is_dynamic:
        _state_shapes(model, outputs)
    if opset_of(model) != opset or external_files(model):
        wrote = f"opset {opset_of(model)} with side files {external_files(model)}"
        raise CheckFailed(
            f"torch {torch.__version__} was asked for opset {opset} in one file and wrote {wrote}: {REMEDY}"
        )
    return model


def _state_shapes(model: onnx.ModelProto, outputs: Sequence[torch.Tensor]) -> None:
    """Give the outputs the shapes that the module gave them: torch loses track of them behind a padding."""
    for value, tensor in zip(model.graph.output, outputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        del dims[:]
        for size in tensor.shape:
            dims.add().dim_value = size


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """torch writes the whole graph to standard output when an operator is missing; its switch for that is broken."""
    import torch

    honest = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *words: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = honest


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode; every submodule's own mode and buffers are put back afterwards."""
    import torch

    modes = [(child, child.training) for child in module.modules()]
    buffers = [(name, buffer, buffer.detach().clone()) for name, buffer in module.named_buffers()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode
        with torch.no_grad():
            for name, buffer, value in buffers:
                place, _, own = name.rpartition(".")
                module.get_submodule(place)._buffers[own] = buffer.copy_(value)


def flatten(outputs: object) -> list[torch.Tensor]:
    """The tensors of a module's answer, in order: a tensor, or tensors in lists, tuples and dicts."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [tensor for item in outputs for tensor in flatten(item)]
    raise UserError(f"the network answers with {type(outputs).__name__}, not with tensors: return tensors from forward")


def _names_of(answer: object, taken: str) -> list[str]:
    """Names of the outputs: the keys of a dict or named tuple of tensors, else numbers; never that of the input."""
    import torch

    fields: Any = answer._asdict() if hasattr(answer, "_asdict") else answer  # a named tuple
    if isinstance(fields, Mapping) and all(isinstance(value, torch.Tensor) for value in fields.values()):
        names = [str(name) for name in fields]
        if names and taken not in names and len(set(names)) == len(names):
            return names
    count = len(flatten(answer))
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _refuse_bad_weights(module: torch.nn.Module) -> None:
    """UserError for weights that are not finite, or not FP32, which the file's own precision is chosen from."""
    import torch

    weights = dict(module.named_parameters())
    for name, tensor in [*weights.items(), *module.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"the weights in {name} are {kind}, and the export starts from FP32: return module.float(), "
                "and choose the precision with --precision"
            )
        if torch.isnan(tensor).any() or (name in weights and torch.isinf(tensor).any()):  # a mask may hold infinity
            raise UserError(f"the weights hold NaN or infinity in {name}: train the network anew or load other weights")


def _refuse_memory(module: torch.nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """UserError when forward has changed the module's own numbers: a file has no memory from image to image."""
    import torch

    now = dict(module.named_buffers())
    changed = [name for name, value in before.items() if not torch.equal(now.get(name, value), value)]
    if changed:
        raise UserError(
            f"forward changes the network's own {changed[0]}, and a file remembers nothing from image to image: "
            "do that in training alone (if self.training)"
        )


def _is_plain(module: torch.nn.Module, answer: object) -> bool:
    """Whether the exporter may see the module itself: one input, one tensor. Options of forward it takes for inputs."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return isinstance(answer, torch.Tensor)
    return isinstance(answer, torch.Tensor) and len(inspect.signature(module.forward).parameters) == 1


def _tuple_answering(module: torch.nn.Module) -> torch.nn.Module:
    """The module, answering with a tuple of tensors whatever it answers with."""
    import torch

    class TupleAnswering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flatten(self.network(inputs)))

    return TupleAnswering().eval()


def _try_forward(module: torch.nn.Module, example: torch.Tensor) -> tuple[object, ValuesTaken]:
    """The module's answer, and which values of tensors it read on the way. UserError when it does not run."""
    try:
        with watching(example) as taken:
            answer = module(example)
    except Exception as error:
        shape = "x".join(map(str, example.shape[1:]))
        missing = re.search(r"missing \d+ required positional arguments?: (.*)", str(error))
        if missing:
            raise UserError(
                f"forward wants more inputs ({missing.group(1)}), and edgesynth exports networks of one: "
                "wrap it in a module that takes one tensor and splits it"
            ) from error
        raise UserError(f"the network does not run on input {shape}: {first_line(error)}") from error
    return answer, taken


def _why_not(error: Exception, opset: int) -> str:
    """One sentence of what torch's exporter raised; its own texts run over pages of graphs."""
    text = re.sub(r"\s*(Please (feel free|open)|\[Caused by).*", "", first_line(error)).removeprefix("Unsupported: ")
    operator = re.search(r"\b(aten|quantized|torchvision)::\w+", str(error))
    told = re.match(r"ONNX export of (operator )?(.*)", text)
    what = f"a part of it ({text[:200]})"
    if operator or told:
        what = f"operator {operator.group()}" if operator else told.group(2).rstrip(". ")  # type: ignore[union-attr]
    return (
        f"the network uses {what}, which torch cannot write in ONNX opset {opset}, the latest that the target reads: "
        "use ordinary operations instead"
    )


def _refuse_decisions(places: Sequence[str]) -> None:
    """UserError when forward depends on values of tensors: a trace freezes the branch that it happened to take."""
    if places:
        raise UserError(
            f"{places[0]}: forward decides on the values of a tensor, which a file cannot follow: "
            "compute both cases and choose with torch.where"
        )
