"""A network as a person reads it: boxes of fused vertices in a few words, and how the boxes of two networks pair."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from synth.networks.costs import costs
from synth.networks.network import Network, Vertex
from synth.networks.operators import Shape
from synth.networks.operators.base import pair

# into what they follow
FUSED = ("batch_norm", "group_norm", "channel_norm", "activation", "prelu", "affine", "scale", "dropout")
# FOLLOWS: as wide as what it reads has become; nothing was decided there
SAME, FOLLOWS, CHANGED, ADDED, REMOVED = "same", "follows", "changed", "added", "removed"
DENSE, DEPTHWISE, POINTWISE, LINEAR, JOIN, OTHER = "dense", "depthwise", "pointwise", "linear", "join", "other"


@dataclass(frozen=True)
class Box:
    """A vertex with what is fused into it. name: the vertex's. words: its operation ("3×3 /2"). tail: what is fused
    ("bn relu"). shape: of the last vertex's output. reads: the boxes that it reads. width_in: channels that it reads
    first. params: with batch norm folded. macs: of one image."""

    name: str
    kind: str
    words: str
    tail: str
    vertices: tuple[str, ...]
    shape: Shape
    reads: tuple[str, ...]
    width_in: int
    params: int
    macs: int

    @property
    def width(self) -> int:
        """Channels or features."""
        return self.shape[0]


@dataclass(frozen=True)
class Row:
    """The boxes of one name in two networks, side by side. what: how they differ, in words, one a line."""

    name: str
    before: tuple[Box, ...]
    after: tuple[Box, ...]
    change: str
    what: tuple[str, ...]


def boxes(network: Network) -> list[Box]:
    """The boxes of a network, in graph order. A norm or activation joins the box of what it alone reads."""
    members: dict[str, list[Vertex]] = {}
    box_of: dict[str, str] = {}
    for vertex in network.vertices:
        source = vertex.inputs[0] if len(vertex.inputs) == 1 else None
        alone = source is not None and len(network.readers[source]) == 1 and source not in network.outputs
        if source is not None and alone and vertex.op in FUSED and network[box_of[source]].op != "input":
            box_of[vertex.name] = box_of[source]
            members[box_of[source]].append(vertex)
        else:
            box_of[vertex.name] = vertex.name
            members[vertex.name] = [vertex]
    whole, found = costs(network), []
    for name, group in members.items():
        first, inputs = group[0], network.input_shapes(group[0])
        found.append(Box(
            name, kind_of(first), words_for(first), " ".join(_short(vertex) for vertex in group[1:]),
            tuple(vertex.name for vertex in group), network.shapes[group[-1].name],
            tuple(dict.fromkeys(box_of[source] for source in first.inputs)),
            inputs[0][0] if inputs else 0, sum(whole.params_of[vertex.name] for vertex in group),
            sum(whole.macs_of[vertex.name] for vertex in group)))
    return found


def pair_up(before: Network | None, after: Network) -> list[Row]:
    """The rows of a drawing: every name once, in graph order of both. Without `before` all rows are the same."""
    new = boxes(after)
    if before is None:
        return [Row(box.name, (), (box,), SAME, ()) for box in new]
    old = {box.name: (box,) for box in boxes(before)}
    grown = _grouped(new, set(old))
    names = _merged(list(old), list(grown))
    return [_row(name, old.get(name, ()), grown.get(name, ())) for name in names]


def _grouped(new: Sequence[Box], known: set[str]) -> dict[str, tuple[Box, ...]]:
    """Boxes by row: `conv.depthwise`, which another operator brought along, goes into the row of `conv`."""
    groups: dict[str, list[Box]] = {}
    present = {box.name for box in new}
    for box in new:
        owner = box.name
        while owner not in known and "." in owner:
            owner = owner.rpartition(".")[0]
        name = owner if owner in known and owner in present else box.name
        groups.setdefault(name, []).append(box)
    return {name: tuple(group) for name, group in groups.items()}


def _merged(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Both orders in one: a new name stands behind the one that it follows."""
    places = {name: (i, 0) for i, name in enumerate(old)}
    last = (-1, 0)
    for name in new:
        if name in places:
            last = max(last, places[name])
        else:
            last = places[name] = (last[0], last[1] + 1)
    return sorted(places, key=lambda name: places[name])


def _row(name: str, before: tuple[Box, ...], after: tuple[Box, ...]) -> Row:
    if not after:
        return Row(name, before, after, REMOVED, ("removed",))
    if not before:
        return Row(name, before, after, ADDED, ("added",))
    old, new, what = before[0], after[-1], []
    words = " + ".join(box.words for box in after)
    if words != old.words:
        what.append(f"{old.words} → {words}")
    if old.width != new.width:
        what.append(f"{old.width} → {new.width} {'channels' if len(new.shape) == 3 else 'features'}")
    if old.shape[1:] != new.shape[1:]:
        what.append(f"{_size(old.shape)} → {_size(new.shape)} map")
    if old.tail != new.tail:
        what.append(f"{old.tail or 'nothing'} → {new.tail or 'nothing'} behind it")
    if not what and old.params and old.width_in != after[0].width_in:
        return Row(name, before, after, FOLLOWS, (f"reads {after[0].width_in} channels, was {old.width_in}",))
    follows = bool(what) and new.kind in (JOIN, OTHER) and words == old.words and old.tail == new.tail
    return Row(name, before, after, (FOLLOWS if follows else CHANGED) if what else SAME, tuple(what))


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape[1:])) or "1×1"


def kind_of(vertex: Vertex) -> str:
    """What a vertex costs by, for its colour."""
    if vertex.op in ("conv", "conv_transpose"):
        groups, kernel = vertex.attrs["groups"], pair(vertex.attrs["kernel"])
        if groups > 1 and (vertex.attrs.get("depthwise") or groups == vertex.attrs["out"]):
            return DEPTHWISE
        return POINTWISE if kernel == (1, 1) else DENSE
    if vertex.op == "linear":
        return LINEAR
    return JOIN if vertex.op in ("add", "sub", "mul", "cat") else OTHER


def words_for(vertex: Vertex) -> str:
    """What a vertex does, in a word or two."""
    a = vertex.attrs
    if vertex.op in _WORDS:
        return _WORDS[vertex.op](a)
    return f"{a['kind']}" if vertex.op == "activation" else vertex.op.replace("_", " ")


def _short(vertex: Vertex) -> str:
    names = {"batch_norm": "bn", "group_norm": "gn"}
    return names.get(vertex.op, words_for(vertex))


def _times(value: Any) -> str:
    return "×".join(map(str, pair(value)))


def _conv(a: Any) -> str:
    groups = a["groups"]
    depthwise = groups > 1 and (a.get("depthwise") or groups == a["out"])
    parts = ["depthwise" if depthwise else "", _times(a["kernel"]), _stride(a)]
    parts.append(f"dilated {pair(a['dilation'])[0]}" if pair(a["dilation"]) != (1, 1) else "")
    parts.append(f"{groups} groups" if groups > 1 and not depthwise else "")
    return " ".join(part for part in parts if part)


def _stride(a: Any) -> str:
    vertical, horizontal = pair(a["stride"])
    if vertical != horizontal:
        return f"/{vertical}×{horizontal}"
    return f"/{vertical}" if vertical > 1 else ""


def _pool(word: str) -> Callable[[Any], str]:
    return lambda a: " ".join(part for part in (word, _times(a["kernel"]), _stride(a)) if part)


def _adaptive(word: str) -> Callable[[Any], str]:
    return lambda a: f"global {word}" if pair(a["size"]) == (1, 1) else f"{word} to {_times(a['size'])}"


_WORDS: dict[str, Callable[[Any], str]] = {
    "conv": _conv,
    "conv_transpose": lambda a: f"{_times(a['kernel'])} up ×{pair(a['stride'])[0]}",
    "max_pool": _pool("max"),
    "avg_pool": _pool("mean"),
    "adaptive_avg_pool": _adaptive("mean"),
    "adaptive_max_pool": _adaptive("max"),
    "resize": lambda a: f"{a['mode']} to {_times(a['size'])}" if a.get("size") else f"{a['mode']} ×{a['scale'][0]:g}",
    "add": lambda a: "+",
    "sub": lambda a: "−",
    "mul": lambda a: "·",
    "cat": lambda a: "concat",
    "channel_shuffle": lambda a: f"shuffle {a['groups']}",
    "pixel_shuffle": lambda a: f"depth to space {a['factor']}",
    "pixel_unshuffle": lambda a: f"space to depth {a['factor']}",
    "subsample": lambda a: f"every {pair(a['stride'])[0]}.",
}


def lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for every span (first, last), so that spans in one lane do not overlap; short spans in inner lanes."""
    taken: list[list[tuple[int, int]]] = []
    found = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], spans[i])):
        first, last = spans[index]
        free = (k for k, lane in enumerate(taken) if all(last < a or first > b for a, b in lane))
        found[index] = next(itertools.chain(free, [len(taken)]))
        if found[index] == len(taken):
            taken.append([])
        taken[found[index]].append((first, last))
    return found
