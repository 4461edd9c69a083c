"""A user's `nn.Module` as a Network: run once, recorded, named, and checked against the module itself."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from devices.support.errors import UserError
from synth.networks.dropouts import dropped_in_training
from synth.networks.module import Weights, build, check
from synth.networks.network import Network, Vertex
from synth.networks.recording import Lost, Node, Recorder, Value
from synth.networks.translators import translate
from synth.networks.verification import answers, compare_outputs, compare_vertices, tensors_in

log = logging.getLogger("edgesynth")
BATCH = 3  # images that are recorded
CHECKED_BATCHES = (2, 5)


def trace(module: nn.Module, input_shape: tuple[int, int, int], name: str = "prototype") -> tuple[Network, Weights]:
    """The network that a module of ordinary CNN operations is in evaluation, and its weights.

    module: on any device, float32; left as it was. input_shape: (channels, height, width) of one image.
    The network answers as the module does: every vertex is compared on random images, and the outputs again at two
    other batch sizes (relative error at most 1e-4). What the outputs do not need is left out; parameters left out with
    it are named in a warning of the logger "edgesynth".
    UserError, naming operation and module path, for what is not supported: values that steer Python, randomness,
    weights that are shared between layers, operations without a vertex of their own.
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    with torch.no_grad(), _evaluating(module):
        images = _images(module, input_shape, BATCH)
        outputs = _first_run(module, images)
        recorder = Recorder(module, images, translate)
        with recorder.running():
            outputs = tensors_in(module(images))
        nodes, outputs_at = _with_true_dropouts(module, images, recorder, _output_nodes(recorder, outputs))
        live = _live(nodes, outputs_at)
        names = _names(nodes, live)
        _check_use(module, nodes, live, names)
        if recorder.idle:
            log.warning("modules or calls that do nothing in evaluation are left out: %s", _few(recorder.idle))
        vertices = [Vertex(names[i], nodes[i].op, nodes[i].attrs, tuple(names[j] for j in nodes[i].inputs))
                    for i in live]
        network = Network(tuple(vertices), tuple(names[i] for i in outputs_at), name)
        weights = {f"{names[i]}.{key}": tensor for i in live for key, tensor in nodes[i].tensors.items()}
        built = build(network, weights).eval()
        check(built)
        samples = {names[i]: sample for i in live if (sample := nodes[i].sample) is not None}
        compare_vertices(built, images.cpu(), samples)
        for batch in CHECKED_BATCHES:
            compare_outputs(built, module, _images(module, input_shape, batch))
    return network, weights


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, flag in training.items():
            m.training = flag


def _images(module: nn.Module, shape: tuple[int, int, int], batch: int) -> Tensor:
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"the input shape {tuple(shape)} is not (channels, height, width)")
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)).to(device)


def check_float32(module: nn.Module) -> None:
    """UserError naming the first parameter or buffer that is of another floating-point type."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(f"{name} is not float32; call .float() on the module first")


def _first_run(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Once without recording: lazy layers are made, and a module that does not fit its input says so itself."""
    check_float32(module)
    outputs = answers(module, images)
    if not outputs:
        raise UserError("the module returns no tensor")
    if not all(bool(o.isfinite().all()) for o in outputs):
        raise UserError("the module answers random images with NaN or infinity; its weights are damaged")
    return outputs


def _output_nodes(recorder: Recorder, outputs: list[Tensor]) -> list[int]:
    places = []
    for tensor in outputs:
        value = recorder.known(tensor)
        if isinstance(value, Lost):
            raise UserError(value.why)
        if not isinstance(value, Value):
            raise UserError("an output of the module does not depend on the images")
        if value.index is not None or tensor.shape[0] != recorder.batch:
            raise UserError(f"the module ends with a rearrangement to {tuple(tensor.shape)} that is not supported; "
                            "return maps (batch, channels, height, width) or vectors (batch, features)")
        if value.node == 0:
            raise UserError("the module returns its input; there is nothing to learn")
        places.append(value.node)
    return places


def _with_true_dropouts(module: nn.Module, images: Tensor, recorder: Recorder,
                        outputs: list[int]) -> tuple[list[Node], list[int]]:
    """Nodes and outputs with what dropouts do in training: those that drop nothing there either are passed by."""
    nodes, calls = list(recorder.nodes), recorder.dropouts
    paths = {nodes[i].path for i in calls if i is not None}
    owners = [part for name, part in module.named_modules() if name in paths]
    shares = dropped_in_training(module, owners, images) if owners else None
    if shares is None or len(shares) != len(calls):
        return nodes, outputs
    source = list(range(len(nodes)))
    for i, share in zip(calls, shares, strict=True):
        if i is not None and share is None:
            source[i] = source[nodes[i].inputs[0]]
        elif i is not None:
            nodes[i] = dataclasses.replace(nodes[i], attrs={**nodes[i].attrs, "p": share})
    nodes = [dataclasses.replace(node, inputs=tuple(source[j] for j in node.inputs)) for node in nodes]
    return nodes, [source[i] for i in outputs]


def _live(nodes: list[Node], outputs: list[int]) -> list[int]:
    needed = {0, *outputs}
    for i in range(len(nodes) - 1, -1, -1):
        if i in needed:
            needed.update(nodes[i].inputs)
    return sorted(needed)


def _names(nodes: list[Node], live: list[int]) -> dict[int, str]:
    """A module's path where all that it does is one kind of operation; else path and operation, numbered if need be."""
    kinds = {i: nodes[i].attrs["kind"] if nodes[i].op == "activation" else nodes[i].op for i in live}
    inside: dict[str, set[str]] = defaultdict(set)  # what happens in a module and in its children
    for i in live:
        parts = nodes[i].path.split(".")
        for depth in range(1, len(parts) + 1):
            inside[".".join(parts[:depth])].add(nodes[i].path + kinds[i])
    names, taken = {0: "input"}, Counter(["input"])
    for i in live[1:]:
        node = nodes[i]
        single = node.path and len(inside[node.path]) == 1
        base = node.path if single else f"{node.path}.{kinds[i]}".lstrip(".")
        candidate = base = base.replace("/", "_")
        while taken[candidate]:
            taken[base] += 1
            candidate = f"{base}_{taken[base]}"
        taken[candidate] += 1
        names[i] = candidate
    return names


def _check_use(module: nn.Module, nodes: list[Node], live: list[int], names: dict[int, str]) -> None:
    """Every parameter belongs to one vertex: two cannot share it, and none may vanish unseen."""
    user: dict[str, int] = {}
    for i in live:
        for source in sorted(nodes[i].sources, reverse=True):  # a weight before its bias
            if source in user:
                raise UserError(f"{source} is used by both {names[user[source]]} and {names[i]}: shared weights are "
                                "not supported, since the two would be pruned apart; give each call its own layer")
            user[source] = i
    unused = [name for name, _ in module.named_parameters() if name not in user]
    if unused:
        log.warning("parameters that are not used in evaluation are left out: %s", _few(unused))


def _few(words: list[str], most: int = 5) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
