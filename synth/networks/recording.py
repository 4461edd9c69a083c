"""Recording: a module runs once on real tensors, and every operation that touches the images' values is written down.

Recording sees the operations that torch's dispatcher executes (aten), a small set in which every spelling of an
operation (`F.relu`, `x.relu_()`, `nn.ReLU`) is one and the same; Python around them may do what it likes, as long as it
does not look at values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from devices.support.errors import EdgesynthError, UserError
from synth.networks.arrangement import recognise
from synth.networks.dropouts import ALPHA_DROPOUTS, DROPOUTS
from synth.networks.operators import Shape, operator
from synth.networks.verification import Sample, sample_of

REMEDY = "write it with convolutions, linear layers, norms, pooling, activations, additions, concatenations or slices"
_LOOKS = "{} looks at values, so that the network would depend on the image; decide on shapes only"
_READS_VALUES = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2"}
_SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}
_READERS = {Tensor.numpy, Tensor.tolist, Tensor.__array__}  # they pass the dispatcher by


@dataclasses.dataclass
class Node:
    """A vertex in the making."""

    op: str
    attrs: dict[str, Any]
    inputs: tuple[int, ...]
    shape: Shape
    path: str  # of the innermost module that ran
    tensors: dict[str, Tensor]
    sources: frozenset[str]  # the module's parameters and buffers that `tensors` come from
    sample: Sample | None = None  # of what the real module answered here


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor that depends on the images: the output of a node, or (index) a rearrangement of it that has no name yet.

    index: of the tensor's shape, counts the elements of the node's output over the whole batch. root: the node, and the
    index relative to it, from which nothing but rearrangements lead here.
    """

    node: int
    index: Tensor | None = None
    root: tuple[int, Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the images. sources: the parameters and buffers that it was computed from."""

    sources: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Lost:
    """A tensor whose value cannot be followed; whatever reads it is refused. why: the whole message."""

    why: str


class Recorder(TorchDispatchMode):
    """Records what a module does with `images` (batch, channels, height, width)."""

    def __init__(self, module: nn.Module, images: Tensor, translate: Callable[..., None]) -> None:
        """translate(recorder, func, args, kwargs, out) writes down an operation that reads the images' values."""
        super().__init__()
        self._translate = translate
        self.batch = images.shape[0]
        self.nodes: list[Node] = []
        self.called: Any = None  # the torch function that the user's code called
        self.error: EdgesynthError | None = None
        self._parameters = {name for name, _ in module.named_parameters()}
        self._names = {m: name for name, m in module.named_modules()}
        self.idle: list[str] = []  # what gives back what it gets, such as stochastic depth
        self.dropouts: list[int | None] = []  # the node of each call, where it reads the images' values
        self._stack: list[tuple[nn.Module, int]] = []  # with the number of nodes before
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._known[tensor] = Constant(frozenset([name]))
        self.add_node("input", {"shape": list(images.shape[1:])}, ())
        self._known[images] = Value(0)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler for every mode, which takes seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Records what runs inside; raises the first error even where the module's own code swallowed it."""
        before = register_module_forward_pre_hook(lambda module, args: self._stack.append((module, len(self.nodes))))
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            with self, _Functions(self):
                yield
        except Exception:
            if self.error is None:
                raise
        finally:
            before.remove()
            after.remove()
        if self.error is not None:
            raise self.error

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        inside, nodes = self._stack.pop() if self._stack else (module, 0)
        while inside is not module and self._stack:
            inside, nodes = self._stack.pop()
        untouched = bool(args) and out is args[0] and len(self.nodes) == nodes
        known = isinstance(module, nn.Identity | nn.Sequential | nn.AlphaDropout | nn.FeatureAlphaDropout)
        if untouched and not known and module in self._names:
            self.idle.append(f"{self._names[module]} ({type(module).__name__})")

    @property
    def function(self) -> str:
        """The name of the torch function that the user's code called."""
        return resolve_name(self.called) or getattr(self.called, "__name__", "")

    @property
    def path(self) -> str:
        return next((self._names[m] for m, _ in reversed(self._stack) if m in self._names), "")

    def described(self, what: str) -> str:
        """`what` is wrong, after the path of the module in which the recording stands."""
        return f"{self.path or 'the module'}: {what}"

    def refusal(self, what: str) -> UserError:
        """UserError that names the module."""
        return UserError(self.described(what))

    def final(self, error: UserError) -> UserError:
        """The error, which is raised again when the module ends, should the module's own code swallow it."""
        self.error = self.error or error
        return error

    # -- nodes ---------------------------------------------------------------------------------------------------

    def add_node(self, op: str, attrs: dict[str, Any], inputs: Sequence[int], tensors: dict[str, Tensor] | None = None,
                 sources: frozenset[str] = frozenset()) -> int:
        try:
            shape = operator(op).shape(attrs, [self.nodes[i].shape for i in inputs])
        except UserError as error:
            raise self.refusal(f"{self.function or op} {error}") from None
        copies = {name: t.detach().to("cpu", torch.float32, copy=True).contiguous() for name, t in
                  (tensors or {}).items()}
        self.nodes.append(Node(op, attrs, tuple(inputs), shape, self.path, copies, sources))
        return len(self.nodes) - 1

    # -- tensors -------------------------------------------------------------------------------------------------

    def known(self, tensor: Tensor) -> Value | Constant | Lost:
        """What a tensor holds. One that was never seen was made out of sight, from numbers: a constant."""
        return self._known.get(tensor, Constant())

    def bind(self, tensor: Tensor, value: Value | Constant | Lost) -> None:
        if isinstance(value, Value) and value.index is None:
            node = self.nodes[value.node]
            if tuple(tensor.shape) != (self.batch, *node.shape):
                raise self.refusal(f"{self.function} gives a tensor of shape {tuple(tensor.shape[1:])} for an image, "
                                   f"not {node.shape}; keep maps as (batch, channels, height, width)")
            if node.sample is None:
                node.sample = sample_of(tensor)
        self._known[tensor] = value

    def write(self, tensor: Tensor, value: Value | Constant | Lost) -> None:
        """Bind after an in-place operation: whoever shares the memory holds the new value, or is lost."""
        cells = _cells(tensor)
        for other in list(self._known):
            if other is tensor or other.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr():
                continue
            if _geometry(other) == _geometry(tensor):
                self._known[other] = value
            elif len(cells) + other.numel() > len(torch.unique(torch.cat([cells, _cells(other)]))):
                self._known[other] = Lost(self.described(
                    f"{self.function} changes a part of a tensor in place; make a new tensor instead"))
        self.bind(tensor, value)

    def rearranged(self, value: Value, index: Tensor, from_root: Tensor) -> Value:
        """The value of what rearranges `value`; a node where operators are known that do it."""
        root = value.root[0] if value.root else value.node
        for source, places in ((root, from_root), (value.node, index)):
            image = self._of_one_image(places, source)
            steps = None if image is None else recognise(image.cpu().numpy(), self.nodes[source].shape)
            if steps is not None:
                node = source
                for op, attrs in steps:
                    node = self.add_node(op, attrs, (node,))
                return Value(node, None, (root, from_root))
        return Value(value.node, index, (root, from_root))

    def places(self, value: Value) -> tuple[Tensor, Tensor]:
        """Where the elements of a value lie: in its node's output, and in its root's."""
        index = self.all_places(value.node) if value.index is None else value.index
        return index, value.root[1] if value.root else index

    def all_places(self, node: int) -> Tensor:
        shape = (self.batch, *self.nodes[node].shape)
        return torch.arange(torch.Size(shape).numel()).reshape(shape)

    def _of_one_image(self, index: Tensor, source: int) -> Tensor | None:
        """The index within one image, if every image is treated alike and stays by itself."""
        if index.dim() < 2 or index.shape[0] != self.batch or index.numel() == 0:
            return None
        step = torch.Size(self.nodes[source].shape).numel() * torch.arange(self.batch)
        alike = torch.equal(index, index[:1] + step.reshape(-1, *[1] * (index.dim() - 1)))
        return index[0] if alike else None

    def is_parameter(self, source: str) -> bool:
        return source in self._parameters

    def place_in_image(self, value: Value) -> Tensor | None:
        return self._of_one_image(self.places(value)[0], value.node)

    # -- the dispatcher ------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values = [self.known(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if func.overloadpacket.__name__ in _READS_VALUES and not all(isinstance(v, Constant) for v in values):
            raise self.final(self.refusal(_LOOKS.format(self.function)))
        lost = next((v for v in values if isinstance(v, Lost)), None)
        if lost is not None:
            raise self.final(UserError(lost.why))
        if torch.Tag.nondeterministic_seeded in func.tags:
            remedy = "; call it with training=self.training" if self.called in {*DROPOUTS, *ALPHA_DROPOUTS} else ""
            raise self.final(self.refusal(f"{self.function} is random in evaluation; a network must answer the same "
                                          f"every time{remedy}"))
        out = func(*args, **kwargs)
        if func.overloadpacket.__name__ in _SHAPE_ONLY or not any(isinstance(v, Value) for v in values):
            sources = frozenset().union(*(v.sources for v in values if isinstance(v, Constant)))
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor):
                    self._known[tensor] = Constant(sources)
            return out
        self._translate(self, func, args, kwargs, out)
        return out


class _Functions(TorchFunctionMode):
    """Remembers which torch function the user's code called, for messages, and sees what the dispatcher does not."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder, kwargs = self.recorder, kwargs or {}
        outer, recorder.called = recorder.called, func
        try:
            if func in _READERS and not isinstance(recorder.known(args[0]), Constant):
                raise recorder.final(recorder.refusal(_LOOKS.format(recorder.function)))
            if func is functional.pad:
                self._check_padding(*args, **kwargs)
            out = func(*args, **kwargs)
            if func in ALPHA_DROPOUTS:
                recorder.idle.append(f"{recorder.path or 'the module'} ({func.__name__})")
            return self._dropout(func, args, kwargs, out) if func in DROPOUTS else out
        finally:
            recorder.called = outer

    def _check_padding(self, images: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> None:
        """Torch writes circular padding part by part, which would be refused for a reason that is not the user's."""
        if mode != "constant" and not isinstance(self.recorder.known(images), Constant):
            raise self.recorder.final(self.recorder.refusal(
                f"{self.recorder.function} in mode '{mode}' is not supported, since a network pads with constants "
                "only; take padding_mode='zeros', or a constant, and train the module with it"))

    def _dropout(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
        """In evaluation dropout passes its input through; here it becomes a node and a tensor of its own."""
        p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        value = self.recorder.known(out)
        if not isinstance(value, Value):
            self.recorder.dropouts.append(None)
            return out
        alias = out.view_as(out)
        node = self.recorder.add_node("dropout", {"p": float(p), "channelwise": DROPOUTS[func]}, (value.node,))
        self.recorder.nodes[node].sample = self.recorder.nodes[value.node].sample
        self.recorder.dropouts.append(node)
        self.recorder.bind(alias, Value(node, value.index, None if value.index is None else (node, value.index)))
        return alias


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _cells(tensor: Tensor) -> Tensor:
    """The places of the storage that a tensor covers, each once."""
    places = torch.arange(tensor.untyped_storage().nbytes() // tensor.element_size())
    return places.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).reshape(-1).unique()
