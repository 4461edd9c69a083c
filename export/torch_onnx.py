"""The only caller of torch's ONNX exporter.

Checked for torch 2.9 to 2.13. The TorchScript exporter (`dynamo=False`) is asked on purpose: the newer one cannot
write below opset 18, does not fail when asked to, and TensorRT 8 misreads what it writes then. When torch drops it,
this module is what has to change.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from devices.support.errors import CheckFailed, UserError
from export.batch import Batch
from export.document import BATCH_AXIS, external_files, first_line, opset_of

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
    "output_1" ... when there are several. UserError when the module does not accept the shape, holds weights that
    are not finite, takes decisions on values, or uses what ONNX at this opset cannot say.
    """
    import onnx
    import torch

    _refuse_bad_weights(module)
    # two images where the batch may vary: a trace with one would freeze what depends on it
    example = torch.zeros((max(2, batch.opt) if batch.is_dynamic else batch.max, *input_shape))
    with evaluating(module), torch.no_grad():
        plain, outputs = _try_forward(module, example)
        names = list(output_names or _default_names(len(outputs)))
        if len(names) != len(outputs):
            raise UserError(f"{len(names)} output names given, but the network has {len(outputs)} outputs")
        buffer = io.BytesIO()
        axes = {name: {0: BATCH_AXIS} for name in (input_name, *names)} if batch.is_dynamic else None
        with warnings.catch_warnings(record=True) as caught, _local_response_norm():
            warnings.simplefilter("always")
            try:
                torch.onnx.export(
                    module if plain else _tuple_answering(module),
                    (example,),
                    buffer,  # type: ignore[arg-type]  # this exporter takes a buffer, whatever its signature says
                    dynamo=False,
                    opset_version=opset,
                    input_names=[input_name],
                    output_names=names,
                    dynamic_axes=axes,
                )
            except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
                raise UserError(_why_not(error, opset)) from error
        _refuse_frozen_decisions(module, example, caught)
    if buffer.tell() >= 2**31:
        raise UserError("the network is larger than 2 GB, which one ONNX file cannot hold: export a smaller one")
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
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode; every submodule's own mode is put back afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


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


@contextlib.contextmanager
def _local_response_norm() -> Iterator[None]:
    """torch writes local response normalisation as twenty operators and a branch; ONNX has one for it.

    Their windows agree for odd sizes only: LRN of ONNX reaches further to the right, torch's to the left.
    """
    import torch
    from torch.nn import functional

    honest = functional.local_response_norm

    class Lrn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, inputs, size, alpha, beta, k):
            return honest(inputs, size, alpha, beta, k)

        @staticmethod
        def symbolic(g, inputs, size, alpha, beta, k):
            return g.op("LRN", inputs, size_i=size, alpha_f=alpha, beta_f=beta, bias_f=k).setType(inputs.type())

    def written(inputs, size, alpha=1e-4, beta=0.75, k=1.0):
        even = size % 2 == 0
        return honest(inputs, size, alpha, beta, k) if even else Lrn.apply(inputs, size, alpha, beta, k)

    functional.local_response_norm = written
    try:
        yield
    finally:
        functional.local_response_norm = honest


def _default_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _refuse_bad_weights(module: torch.nn.Module) -> None:
    import torch

    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"the weights hold NaN or infinity in {name}: train the network anew or load other weights")


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


def _try_forward(module: torch.nn.Module, example: torch.Tensor) -> tuple[bool, list[torch.Tensor]]:
    """Whether the module answers with one tensor, and its answers as a list."""
    import torch

    try:
        outputs = module(example)
        return isinstance(outputs, torch.Tensor), flatten(outputs)
    except UserError:
        raise
    except Exception as error:
        shape = "x".join(map(str, example.shape[1:]))
        raise UserError(f"the network does not run on input {shape}: {first_line(error)}") from error


def _why_not(error: Exception, opset: int) -> str:
    text = first_line(error)
    operator = re.search(r"aten::\w+", str(error))
    what = f"operator {operator.group()}" if operator else f"a part of it ({text})"
    return (
        f"the network uses {what}, which this target's ONNX opset {opset} cannot say: use ordinary operations instead"
    )


def _refuse_frozen_decisions(
    module: torch.nn.Module, example: torch.Tensor, caught: list[warnings.WarningMessage]
) -> None:
    """UserError when forward depends on values of tensors: a trace freezes the branch that it happened to take.

    The tracer warns of decisions on shapes too, which are right for a fixed shape. Tensors without values tell
    the two apart: a decision on a value cannot be taken with them.
    """
    import torch
    from torch._subclasses import FakeTensorMode
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    tracer = [w for w in caught if issubclass(w.category, torch.jit.TracerWarning)]
    decisions = [w for w in tracer if "Converting" in str(w.message)]
    if not decisions:
        return
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            module(torch.empty(example.shape))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        place = f"{decisions[-1].filename}:{decisions[-1].lineno}"
        raise UserError(
            f"{place}: forward decides on the values of a tensor, which a file cannot follow: "
            "compute both cases and choose with torch.where"
        ) from error
