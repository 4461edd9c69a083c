"""One operation of torch's dispatcher, and what it becomes: a rearrangement, a vertex, or a refusal that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from devices.support.errors import UserError
from synth.networks.recording import REMEDY, Constant, Lost, Recorder, Value

Translator = Callable[["Call"], "int | Value"]  # a node, or a rearrangement of one
_TRANSLATORS: dict[str, Translator] = {}


class Call:
    """One operation that reads at least one value that depends on the images."""

    def __init__(self, recorder: Recorder, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        self.recorder, self.out = recorder, out
        self.results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        parameters = func._schema.arguments
        self.arguments = {a.name: a.default_value for a in parameters}
        self.arguments.update(zip(self.arguments, args, strict=False))
        self.arguments.update(kwargs)
        written = [self.arguments[a.name] for a in parameters if a.alias_info and a.alias_info.is_write]
        self.in_place = any(tensor is result for tensor in written for result in self.results)
        self.name = func.overloadpacket.__name__.rstrip("_") if self.in_place else func.overloadpacket.__name__

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def refusal(self, why: str) -> UserError:
        return self.recorder.refusal(f"{self.recorder.function or self.name} {why}")

    def depends(self, name: str) -> bool:
        """Whether an argument is a tensor that depends on the images."""
        return isinstance(self[name], Tensor) and isinstance(self.recorder.known(self[name]), Value)

    def value_of(self, tensor: Tensor) -> Value:
        value = self.recorder.known(tensor)
        if not isinstance(value, Value):
            raise self.refusal("takes a constant where the network's own values are expected; " + REMEDY)
        return value

    def node(self, name: str, broadcast: bool = False) -> int:
        return self.node_of(self[name], broadcast)

    def node_of(self, tensor: Tensor, broadcast: bool = False) -> int:
        """The node whose output a tensor is. broadcast: its equal rows or columns may stand for one."""
        value = self.value_of(tensor)
        if value.index is not None and broadcast:
            value = self._narrowed(value, value.index)
        if value.index is not None:
            raise self.refusal(f"reads a rearrangement of {tuple(tensor.shape[1:])} values that is not supported; "
                               "channel shuffles, slices, crops, flatten and pixel shuffles are")
        return value.node

    def _narrowed(self, value: Value, index: Tensor) -> Value:
        """The value before it was expanded."""
        root = self.recorder.places(value)[1]
        for axis in range(1, index.dim()):
            if index.shape[axis] > 1 and bool((index == index.narrow(axis, 0, 1)).all()):
                index, root = index.narrow(axis, 0, 1), root.narrow(axis, 0, 1)
        return self.recorder.rearranged(value, index, root)

    def pixels_of(self, tensor: Tensor) -> int | None:
        """The node whose map a tensor holds with the channels last, as (batch, height, width, channels) or flatter."""
        value = self.value_of(tensor)
        if value.index is None or len(self.recorder.nodes[value.node].shape) != 3:
            return None
        places = self.channels_last(value.node)
        alike = places.shape[-1] == tensor.shape[-1] and torch.equal(places.reshape(-1), value.index.reshape(-1))
        return value.node if alike else None

    def channels_last(self, node: int) -> Tensor:
        return self.recorder.all_places(node).permute(0, 2, 3, 1)

    def arranged(self, node: int, places: Tensor) -> Value:
        """The output of a node, its elements at `places`."""
        return self.recorder.rearranged(Value(node), places, places)

    def constant(self, name: str) -> Tensor | None:
        """A tensor that does not depend on the images, such as a weight."""
        tensor = self[name]
        if tensor is not None and self.depends(name):
            raise self.refusal(f"computes its {name} from the image; dynamic weights are not supported")
        return tensor

    def sources(self, *names: str) -> frozenset[str]:
        known = [self.recorder.known(self[name]) for name in names if isinstance(self[name], Tensor)]
        return frozenset().union(*(k.sources for k in known if isinstance(k, Constant)))

    def add(self, op: str, *inputs: int, **attrs: Any) -> int:
        return self.recorder.add_node(op, attrs, inputs)

    def pointwise(self, name: str, op: str, **attrs: Any) -> Value:
        """A node that works element by element: it may come before the rearrangement of what it reads."""
        value = self.value_of(self[name])
        return self.carried(value, self.add(op, value.node, **attrs))

    @staticmethod
    def carried(value: Value, node: int) -> Value:
        """The output of a node, rearranged as `value` is."""
        return Value(node, value.index, None if value.index is None else (node, value.index))

    def add_layer(self, op: str, source: int, stored: dict[str, str], made: dict[str, Tensor] | None = None,
                  **attrs: Any) -> int:
        """A node that stores tensors. stored: the argument each comes from; made: those that have no argument."""
        tensors = {name: self[argument] for name, argument in stored.items() if self[argument] is not None}
        return self.recorder.add_node(op, attrs, (source,), tensors | (made or {}), self.sources(*stored.values()))


def translate(recorder: Recorder, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Write down one operation and bind its results. What has no meaning for a network is an error, naming operation
    and module, as soon as something reads it."""
    call = Call(recorder, func, args, kwargs, out)
    if not call.results:
        raise recorder.final(call.refusal("is not supported"))
    try:
        if call.name in _REARRANGEMENTS and not call.in_place:
            _rearrange(call, func, args, kwargs)
            return
        if func.namespace != "aten" or call.name not in _TRANSLATORS:
            inner = "" if call.name in recorder.function else f" (as {func})"
            raise call.refusal(f"is not supported{inner}; {REMEDY}")
        found = _TRANSLATORS[call.name](call)
        value = Value(found) if isinstance(found, int) else found
        if call.in_place:
            recorder.write(call.results[0], value)
        else:
            recorder.bind(call.results[0], value)
        others = recorder.described(f"only the first result of {recorder.function} is supported")
    except UserError as error:
        others = str(error)
        if call.in_place:
            recorder.write(call.results[0], Lost(others))
        else:
            recorder.bind(call.results[0], Lost(others))
    for tensor in call.results[1:]:
        recorder.bind(tensor, Lost(others))


_REARRANGEMENTS = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "slice", "select", "split",
    "split_with_sizes", "unbind", "unsqueeze", "squeeze", "expand", "clone", "alias", "detach", "lift_fresh", "index",
    "index_select", "flip", "roll", "repeat", "_to_copy", "contiguous", "view_as", "unfold",
}


def _rearrange(call: Call, func: Any, args: Any, kwargs: Any) -> None:
    """Apply the operation to the places of the elements instead of the elements."""
    recorder = call.recorder
    operand = args[0]
    value = recorder.known(operand)
    results = call.results
    others = [t for t in tree_leaves((args[1:], kwargs)) if isinstance(t, Tensor)]
    if not isinstance(value, Value) or any(isinstance(recorder.known(t), Value) for t in others):
        raise call.refusal("chooses by values, so that the network would depend on the image")
    if any(t.dtype != operand.dtype for t in results):
        raise call.refusal(f"changes the type to {results[0].dtype}; keep the network in {operand.dtype}")

    def apply(places: Tensor) -> list[Tensor]:
        if call.name in ("clone", "_to_copy", "alias", "detach", "lift_fresh", "contiguous"):
            return [places]
        if call.name in ("view", "_unsafe_view", "_reshape_alias", "reshape"):
            return [places.reshape(results[0].shape)]
        rest = [a.cpu() if isinstance(a, Tensor) else a for a in args[1:]]
        if call.name == "index":
            rest = [[i if i is None else i.cpu() for i in args[1]]]
        return [t for t in tree_leaves(func(places, *rest, **kwargs)) if isinstance(t, Tensor)]

    index, from_root = recorder.places(value)
    for tensor, own, root in zip(results, apply(index), apply(from_root), strict=True):
        recorder.bind(tensor, recorder.rearranged(value, own, root))


def translates(*names: str) -> Callable[[Translator], Translator]:
    def register(function: Translator) -> Translator:
        _TRANSLATORS.update(dict.fromkeys(names, function))
        return function

    return register
