"""A network N = {V, E}: plain data, JSON, hashable. Not an `nn.Module`; `synth.networks.module` builds one."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from devices.support.errors import UserError
from devices.support.files import canonical_json, read_json, write_json
from synth.networks.operators import Shape, operator

SCHEMA = "edgesynth.network/1"


@dataclasses.dataclass(frozen=True)
class Vertex:
    """One operation. Its incoming edges are `inputs`, the names of the vertices it reads, in order."""

    name: str
    op: str
    attrs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        object.__setattr__(self, "inputs", tuple(self.inputs))

    def __hash__(self) -> int:
        return hash((self.name, self.op, canonical_json(dict(self.attrs)), self.inputs))

    def __reduce__(self):
        return Vertex, (self.name, self.op, dict(self.attrs), self.inputs)  # a mapping proxy cannot be pickled


@dataclasses.dataclass(frozen=True)
class Network:
    """Vertices in topological order, from one vertex `input` to the vertices named in `outputs`."""

    vertices: tuple[Vertex, ...]
    outputs: tuple[str, ...]
    name: str = "network"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for vertex in self.vertices:
            if vertex.name in seen:
                raise UserError(f"network {self.name}: two vertices are named {vertex.name}; names must be unique")
            missing = [source for source in vertex.inputs if source not in seen]
            if missing:
                raise UserError(f"network {self.name}: {vertex.name} reads {missing[0]}, which does not come before it")
            seen.add(vertex.name)
        if sum(v.op == "input" for v in self.vertices) != 1:
            raise UserError(f"network {self.name}: it must have exactly one input vertex")
        if not self.outputs or any(name not in seen for name in self.outputs):
            raise UserError(f"network {self.name}: its outputs {list(self.outputs)} are not all vertices")

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getitem__(self, name: str) -> Vertex:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @functools.cached_property
    def _by_name(self) -> dict[str, Vertex]:
        return {v.name: v for v in self.vertices}

    @functools.cached_property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """E: (source, reader) pairs, in the order in which readers read."""
        return tuple((source, v.name) for v in self.vertices for source in v.inputs)

    @functools.cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The vertices that read each vertex."""
        found: dict[str, list[str]] = {v.name: [] for v in self.vertices}
        for source, reader in self.edges:
            found[source].append(reader)
        return {name: tuple(names) for name, names in found.items()}

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """The output shape of every vertex, without the batch dimension: (C, H, W) or (F,).

        UserError where an operator does not fit what it reads.
        """
        shapes: dict[str, Shape] = {}
        for vertex in self.vertices:
            try:
                shapes[vertex.name] = operator(vertex.op).shape(vertex.attrs, [shapes[s] for s in vertex.inputs])
            except UserError as error:
                raise UserError(f"{vertex.name} ({vertex.op}): {error}") from None
        return shapes

    def input_shapes(self, vertex: Vertex) -> list[Shape]:
        return [self.shapes[source] for source in vertex.inputs]

    @property
    def input_shape(self) -> Shape:
        return next(tuple(v.attrs["shape"]) for v in self.vertices if v.op == "input")

    @property
    def output_shape(self) -> Shape:
        return self.shapes[self.outputs[0]]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the structure: the same for networks that differ in names only."""
        place = {v.name: i for i, v in enumerate(self.vertices)}
        structure = [[v.op, dict(v.attrs), [place[s] for s in v.inputs]] for v in self.vertices]
        text = canonical_json([structure, [place[name] for name in self.outputs]])
        return hashlib.sha256(text.encode()).hexdigest()

    def without_dead_vertices(self) -> Network:
        """The network without vertices that no output needs (the input stays)."""
        needed = set(self.outputs)
        for vertex in reversed(self.vertices):
            if vertex.name in needed:
                needed.update(vertex.inputs)
        kept = tuple(v for v in self.vertices if v.name in needed or v.op == "input")
        return dataclasses.replace(self, vertices=kept)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "vertices": [{"name": v.name, "op": v.op, "attrs": dict(v.attrs)} for v in self.vertices],
            "edges": [list(edge) for edge in self.edges],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Network:
        """UserError when the value does not describe a network."""
        try:
            inputs: dict[str, list[str]] = {v["name"]: [] for v in value["vertices"]}
            for source, reader in value["edges"]:
                inputs[reader].append(source)
            vertices = tuple(Vertex(v["name"], v["op"], v["attrs"], tuple(inputs[v["name"]]))
                             for v in value["vertices"])
            network = cls(vertices, tuple(value["outputs"]), value.get("name", "network"))
            _ = network.shapes
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no network: {type(error).__name__}: {error}") from None
        return network

    def save(self, path: str | Path) -> None:
        write_json(path, self.to_json(), SCHEMA)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        try:
            return cls.from_json(read_json(path, SCHEMA))
        except UserError as error:
            text = str(error)
            raise (error if text.startswith(str(path)) else UserError(f"{path}: {text}")) from None


@dataclasses.dataclass(frozen=True)
class Change:
    """How one vertex differs between two networks."""

    name: str
    kind: str  # "added", "removed" or "changed"
    before: Vertex | None
    after: Vertex | None

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            vertex = self.before or self.after
            assert vertex is not None
            return f"{self.kind} {self.name} ({vertex.op})"
        keys = sorted(set(self.before.attrs) | set(self.after.attrs))
        parts = [f"{k} {self.before.attrs.get(k)} -> {self.after.attrs.get(k)}"
                 for k in keys if self.before.attrs.get(k) != self.after.attrs.get(k)]
        if self.before.op != self.after.op:
            parts.insert(0, f"{self.before.op} -> {self.after.op}")
        if self.before.inputs != self.after.inputs:
            parts.append(f"reads {', '.join(self.before.inputs)} -> {', '.join(self.after.inputs)}")
        return f"changed {self.name}: {'; '.join(parts)}"


def differences(before: Network, after: Network) -> list[Change]:
    """The vertices in which two networks differ, by name, in graph order."""
    changes = []
    for vertex in before.vertices:
        if vertex.name not in after:
            changes.append(Change(vertex.name, "removed", vertex, None))
        elif after[vertex.name] != vertex:
            changes.append(Change(vertex.name, "changed", vertex, after[vertex.name]))
    changes += [Change(v.name, "added", None, v) for v in after.vertices if v.name not in before]
    return changes
