"""Whether a forward decides on the values of its input: what a trace freezes without a word."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    import torch


@dataclass
class ValuesTaken:
    """Places in the user's code. compared: by torch.equal, of which torch's tracer says nothing; listed: as a list or
    through numpy; read: as a number or a truth, by Python, of which the tracer warns, or by torch's own checks of an
    argument, which decide nothing; sized: something of a size that depends on values, which may stay a tensor's."""

    compared: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    sized: list[str] = field(default_factory=list)

    def decide(self, caught: Sequence[warnings.WarningMessage]) -> list[str]:
        """The places of decisions, given what the tracer warned of: numbers that left to Python. Its warnings of sizes
        alone are right for a fixed size."""
        import torch

        left = any(issubclass(w.category, torch.jit.TracerWarning)
                   and "Converting a tensor to a Python" in str(w.message) for w in caught)
        return self.compared + self.listed + (self.read + self.sized if left else [])


@contextlib.contextmanager
def watching(inputs: torch.Tensor) -> Iterator[ValuesTaken]:
    """Inside, collects the places ("file.py:12") where a value that depends on `inputs` is read.

    What depends on the input is followed from operation to operation by the memory that it lies in, so that the values
    of the network's own tensors, and sizes, are no findings.
    """
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    aten = torch.ops.aten
    found = ValuesTaken()
    takers = {
        aten.equal.default: found.compared,
        aten._local_scalar_dense.default: found.read,
        aten.is_nonzero.default: found.read,
        aten.nonzero.default: found.sized,
        aten.masked_select.default: found.sized,
        aten._unique2.default: found.sized,
        aten.unique_dim.default: found.sized,
        aten.unique_consecutive.default: found.sized,
    }
    known: dict[int, Any] = {}  # weak references: the memory may go, its name is not given to another

    def note(tensor: torch.Tensor) -> None:
        reference = StorageWeakRef(tensor.untyped_storage())
        known[reference.cdata] = reference

    class Watch(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # torch would import its compiler for every mode, which takes seconds

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            depends = any(tensor.untyped_storage()._cdata in known for tensor in given)
            answer = function(*args, **(kwargs or {}))
            if depends and function in takers:
                takers[function].append(_place())
            if depends:
                changed = given[:1] if function._schema.is_mutable else []
                for tensor in [*changed, *(leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor))]:
                    note(tensor)
            return answer

    def listing(read: Callable[..., Any]) -> Callable[..., Any]:
        """Python lists and numpy arrays pass by the dispatcher."""
        def reading(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if tensor.untyped_storage()._cdata in known:
                found.listed.append(_place())
            return read(tensor, *args, **kwargs)
        return reading

    note(inputs)
    readers = {name: mock.patch.object(torch.Tensor, name, listing(getattr(torch.Tensor, name)))
               for name in ("tolist", "numpy")}
    with readers["tolist"], readers["numpy"], Watch():
        yield found


def _place() -> str:
    """Where in the user's code we are."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    own = [frame for frame in frames if "/torch/" not in frame.filename.replace("\\", "/")]
    return f"{own[-1].filename}:{own[-1].lineno}"
