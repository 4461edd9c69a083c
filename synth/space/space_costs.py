"""Costs of thousands of networks of a space at once: the layers of φ as formulas of widths, operators and blocks.

The same numbers as `synth.networks.costs` and `devices.layer_cost.fuse` give for each network by itself (a test
compares them), hundreds of times faster, since no graph is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devices.cost_model import LayerArrays
from devices.layer_cost import LAYER_KINDS, LayerCost, Operation, fuse
from synth.networks.costs import WEIGHTED, folded_norm, operations_of
from synth.networks.network import Vertex
from synth.networks.operators import operator
from synth.networks.rewriting import INVERTED, OPERATORS, PROJECTION_LEAST, PROJECTION_RATIO, SEPARABLE, WITH_RELU
from synth.search.decisions import FloatArray, IntArray
from synth.space.parent import ElasticParent

PROJECT, DENSE, INVERSE = OPERATORS.index("project"), OPERATORS.index("dense"), OPERATORS.index(INVERTED)
HAS_RELU = np.array([name in WITH_RELU for name in OPERATORS])
IS_SEPARABLE = np.array([name in SEPARABLE for name in OPERATORS])


@dataclass(frozen=True)
class CostTable:
    """Costs of n networks. params, macs: [n]. layers: what `devices.cost_model` takes, [n, layers]."""

    params: FloatArray
    macs: FloatArray
    layers: LayerArrays


@dataclass(frozen=True)
class Columns:
    """What is decided in n networks, each [n]. widths: {group: units kept}. operators: {convolution: index into
    OPERATORS}. kept: {addition of a block, or an activation that can be left out: whether it stays}. gated: {one of the
    parent's `nonlinearities`: whether the activations of its group are launched by themselves}. attended: {one of the
    parent's `into_additions`: whether attention stands before it}."""

    widths: Mapping[str, IntArray]
    operators: Mapping[str, IntArray]
    kept: Mapping[str, np.ndarray]
    gated: Mapping[str, np.ndarray]
    attended: Mapping[str, np.ndarray]


@dataclass
class _Weighted:
    """What one weighted vertex costs in n networks; `first` is the layer that an operator puts before it. channels,
    pixels: of the map that the vertex itself reads."""

    weights: FloatArray
    macs: FloatArray
    params: FloatArray
    first_active: np.ndarray
    first_weights: FloatArray
    first_macs: FloatArray
    first_outputs: FloatArray
    first_kind: IntArray
    channels: FloatArray
    pixels: FloatArray | float
    depthwise: np.ndarray | None = None  # in which of the networks it is, where an operator makes it so


def _alone(weights: FloatArray, macs: FloatArray, params: FloatArray, channels: FloatArray, pixels: float) -> _Weighted:
    """A layer with none before it."""
    nothing = np.zeros(len(weights))
    return _Weighted(weights, macs, params, nothing > 0, nothing, nothing, nothing, nothing.astype(np.int64), channels,
                     pixels)


class CostTables:
    """The formulas of one space."""

    def __init__(self, parent: ElasticParent, order: Mapping[str, np.ndarray], widths: Mapping[str, Sequence[int]]):
        self.parent, self.network = parent, parent.network
        self._map_size = {name: float(np.prod(shape[1:])) for name, shape in self.network.shapes.items()}
        self._counts = self._count_tables(order, widths)
        operations = operations_of(self.network)
        self._operations: dict[str, Operation] = {op.name: op for op in operations}
        self._layers: list[LayerCost] = fuse(operations, siblings=False)
        self._late = self._late_folds()
        self._group_of = {name: first for first, names in parent.nonlinearities.items() for name in names}
        self._stands_by = {name: [*(b.addition for b in parent.blocks if name in b.branch or name in b.bypassed),
                                  *([name] if name in parent.activations else [])] for name in self._operations}

    def _late_folds(self) -> dict[str, tuple[str, list[str]]]:
        """Norms that fold into nothing in φ, but do once residual blocks are gone: {norm: (the convolution or linear
        layer that it then follows, the additions of those blocks)}."""
        blocks = {block.exit: block for block in self.parent.blocks}
        found = {}
        for vertex in self.network.vertices:
            if vertex.op != "batch_norm":
                continue
            source, additions = vertex.inputs[0], []
            expected = {vertex.name}
            while set(self.network.readers[source]) <= expected and source in blocks:
                block = blocks[source]
                additions.append(block.addition)
                expected = set(block.branch) | {block.addition}
                source = block.entry
            whole = set(self.network.readers[source]) <= expected
            if additions and whole and self.network[source].op in WEIGHTED:
                found[vertex.name] = source, additions
        return found

    def _count_tables(self, order: Mapping[str, np.ndarray], widths: Mapping[str, Sequence[int]]
                      ) -> dict[str, tuple[int, dict[str, IntArray]]]:
        """For every vertex: channels of fixed width, and for every group that has `widths` to choose from the channels
        that its first n units make."""
        channels = self.parent.channels
        group_of = channels.group_of_unit
        tables: dict[str, tuple[int, dict[str, IntArray]]] = {}
        for name, labels in channels.labels.items():
            fixed, by_group = 0, {}
            units, multiplicity = np.unique(labels, return_counts=True)
            times = dict(zip(units.tolist(), multiplicity.tolist(), strict=True))
            for index in sorted({group_of[u] for u in units.tolist()}):
                group = channels.groups[index]
                if group.name in widths:
                    cumulated = np.cumsum([0, *(times[int(u)] for u in order[group.name])])
                    by_group[group.name] = cumulated.astype(np.int64)
                else:
                    fixed += sum(times[u] for u in group.units)
            tables[name] = (fixed, by_group)
        return tables

    def of(self, decided: Columns) -> CostTable:
        widths, operators, kept = decided.widths, decided.operators, decided.kept
        columns = [*widths.values(), *operators.values(), *kept.values(), *decided.gated.values(),
                   *decided.attended.values()]
        n = len(columns[0]) if columns else 1
        channels: dict[str, FloatArray] = {}
        for name, (fixed, by_group) in self._counts.items():
            total = np.full(n, float(fixed))
            for group, table in by_group.items():
                total += table[widths[group]]
            channels[name] = total

        def present(name: str) -> np.ndarray:
            alive = np.ones(n, dtype=bool)
            for other in self._stands_by[name]:
                alive &= kept.get(other, True)
            return alive

        weighted: dict[str, _Weighted] = {}
        params, macs = np.zeros(n), np.zeros(n)
        for vertex in self.network.vertices:
            alive = present(vertex.name)
            if vertex.op in WEIGHTED:
                cost = self._weighted(vertex, channels, operators.get(vertex.name))
                weighted[vertex.name] = cost
                params += alive * cost.params
                if vertex.name in decided.attended:
                    params += alive * decided.attended[vertex.name] * 2 * cost.channels  # to scale and to shift them
                macs += alive * (cost.macs + cost.first_macs)
            else:
                params += alive * self._unfolded(vertex, channels)
                if vertex.name in self._late:
                    convolution, additions = self._late[vertex.name]
                    gone = np.logical_and.reduce([~kept[addition] for addition in additions])
                    saved = 2 if self.network[convolution].attrs["bias"] else 1  # scale and shift, or become the bias
                    params -= gone * saved * channels[vertex.name]
        return CostTable(params, macs, self._arrays(channels, weighted, present, decided, n))

    # --- one vertex ------------------------------------------------------------------------------------------------

    def _weighted(self, vertex: Vertex, channels: Mapping[str, FloatArray], choice: IntArray | None) -> _Weighted:
        a = vertex.attrs
        inside, out = channels[vertex.inputs[0]], channels[vertex.name]
        before, after = self._map_size[vertex.inputs[0]], self._map_size[vertex.name]
        bias = out * (a["bias"] or folded_norm(self.network, vertex.name) is not None)
        if vertex.op == "linear":
            weights = inside * out
            return _alone(weights, weights, weights + bias, inside, before)
        area = float(a["kernel"][0] * a["kernel"][1])
        groups = inside if a.get("depthwise") else float(a["groups"])
        weights = inside / groups * out * area
        if vertex.op == "conv_transpose":
            after = before
        if choice is None:
            return _alone(weights, weights * after, weights + bias, inside, before)
        projected = np.minimum(inside, np.maximum(PROJECTION_LEAST, np.ceil(inside / PROJECTION_RATIO)))
        separable, inverted = IS_SEPARABLE[choice], choice == INVERSE
        first = separable | inverted | (choice == PROJECT)
        middle = np.where(inverted, out, np.where(separable, inside, projected))  # channels between the two
        # np.where, not np.select, which spends most of its time on broadcasting
        weights = np.where(choice == DENSE, weights, np.where(inverted, out * area, np.where(
            choice == PROJECT, projected * out * area, inside * out)))
        size = np.where(separable, after, before)  # of the map between the two
        first_weights = np.where(first, middle * np.where(separable, area, inside), 0.0)
        first_outputs, first_bias = np.where(first, middle * size, 0.0), np.where(first, middle, 0.0)
        kind = np.where(separable, LAYER_KINDS.index("depthwise"), LAYER_KINDS.index("dense"))
        return _Weighted(weights, weights * after, weights + bias + first_weights + first_bias, first, first_weights,
                         first_weights * size, first_outputs, kind, np.where(first, middle, inside), size, inverted)

    def _unfolded(self, vertex: Vertex, channels: Mapping[str, FloatArray]) -> FloatArray | float:
        """Parameters of a vertex that is no convolution or linear layer and folds into none."""
        if vertex.op == "batch_norm" and folded_norm(self.network, vertex.inputs[0]) == vertex.name:
            return 0.0
        op = operator(vertex.op)
        axes = op.axes(vertex.attrs)
        return sum((channels[vertex.name] if axes[n] else 1.0 for n in op.learnt(vertex.attrs)), 0.0)

    # --- layers ------------------------------------------------------------------------------------------------------

    def _elements(self, name: str, channels: Mapping[str, FloatArray]) -> FloatArray:
        """Elements of a vertex's output."""
        return channels[name] * self._map_size[name]

    def _arrays(self, channels, weighted: Mapping[str, _Weighted], present, decided: Columns, n: int) -> LayerArrays:
        names = ("active", "macs", "weights", "inputs", "outputs", "kind")
        columns: dict[str, list[np.ndarray]] = {name: [] for name in names}

        def add(**values: np.ndarray | int) -> None:
            for name in names:
                columns[name].append(np.broadcast_to(np.asarray(values[name], dtype=np.float64), (n,)))

        def add_gate(name: str, active: np.ndarray, elements: FloatArray) -> None:
            """The launch of an activation that no convolution takes in."""
            gated = decided.gated.get(self._group_of.get(name, ""))
            if gated is not None and gated.any():
                add(active=active & gated, macs=0, weights=0, inputs=elements, outputs=elements,
                    kind=LAYER_KINDS.index("elementwise"))

        host = np.zeros(n)
        for layer in self._layers:
            alive = present(layer.operations[0])
            head = weighted.get(layer.operations[0])
            read = {name: self._elements(name, channels) for name in layer.reads}
            inputs = np.sum(list(read.values()), axis=0) if read else np.zeros(n)
            last = layer.operations[-1]
            outputs = inputs if layer.kind == "concat" else self._elements(last, channels)
            zero, kind = np.zeros(n), LAYER_KINDS.index(layer.kind)
            if layer.host_elements:
                from_host = sum((e for name, e in read.items() if self._operations[name].kind == "input"), zero)
                written = layer.host_elements - sum(
                    self._operations[name].elements for name in layer.reads if self._operations[name].kind == "input")
                host = host + from_host + (outputs if written else 0.0)
            if len(layer.operations) > 1 and last in self._group_of:
                add_gate(last, present(last), outputs)
            if head is None:
                add(active=alive, macs=zero, weights=zero, inputs=inputs, outputs=outputs, kind=kind)
                continue
            if head.first_active.any():
                source = sum((read[name] for name in layer.head_reads), zero)
                add(active=alive & head.first_active, macs=head.first_macs, weights=head.first_weights, inputs=source,
                    outputs=head.first_outputs, kind=head.first_kind)
                rectified = HAS_RELU[decided.operators[layer.operations[0]]]
                add_gate(f"{layer.operations[0]}.relu", alive & rectified, head.first_outputs)
                inputs = np.where(head.first_active, inputs - source + head.first_outputs, inputs)
            attended = decided.attended.get(layer.operations[0])
            if attended is not None and attended.any():
                read_by_head = head.channels * head.pixels
                add(active=alive & attended, macs=0, weights=0, inputs=read_by_head, outputs=head.channels,
                    kind=LAYER_KINDS.index("pool"))
                add(active=alive & attended, macs=0, weights=0, inputs=read_by_head + head.channels,
                    outputs=read_by_head, kind=LAYER_KINDS.index("elementwise"))
            kinds = kind if head.depthwise is None else np.where(head.depthwise, LAYER_KINDS.index("depthwise"), kind)
            add(active=alive, macs=head.macs, weights=head.weights, inputs=inputs, outputs=outputs, kind=kinds)
        stacked = {name: np.stack(column, axis=1) for name, column in columns.items()}
        return LayerArrays(stacked["active"], stacked["macs"], stacked["weights"], stacked["inputs"],
                           stacked["outputs"], stacked["kind"].astype(np.intp), host)
