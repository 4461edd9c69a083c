"""An ONNX graph to look things up in and to change: who makes a tensor, who uses it, what is constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


class Graph:
    """The top-level graph of a model, with its tables. The model is changed in place."""

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.proto = model.graph
        self._shapes: dict[str, list[int | str | None]] | None = None
        self._kinds: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Build the tables anew, after nodes were added or taken away."""
        self.initializers = {tensor.name: tensor for tensor in self.proto.initializer}
        self.makers = {name: node for node in self.proto.node for name in node.output if name}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.proto.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.names = {*self.initializers, *self.makers, *(value.name for value in self.proto.input)}

    def nodes(self, *types: str) -> Iterator[onnx.NodeProto]:
        """The nodes of these operator types (all without any), as they were when asked."""
        return (node for node in list(self.proto.node) if not types or (node.op_type in types and is_standard(node)))

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a tensor that is an initializer or a Constant node; None for one that is computed."""
        import onnx

        if name in self.initializers:
            return onnx.numpy_helper.to_array(self.initializers[name])
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            for item in maker.attribute:
                value = onnx.helper.get_attribute_value(item)
                return onnx.numpy_helper.to_array(value) if item.name == "value" else np.asarray(value)
        return None

    def shape(self, name: str) -> list[int | str | None] | None:
        """The sizes of a tensor, stored or as shape inference finds them; None where it finds none."""
        import onnx

        from export.document import shape_of

        if name in self.initializers:
            return list(self.initializers[name].dims)
        if self._shapes is None:
            inferred = onnx.shape_inference.infer_shapes(self.model).graph
            values = [*inferred.input, *inferred.output, *inferred.value_info]
            self._shapes = {v.name: shape_of(v) for v in values if v.type.tensor_type.HasField("shape")}
            self._kinds = {v.name: v.type.tensor_type.elem_type for v in values}
        return self._shapes.get(name)

    def dtype(self, name: str) -> np.dtype:
        """The type of a tensor's numbers; float32 where inference finds none."""
        import onnx

        stored = self.constant(name)
        if stored is not None:
            return stored.dtype
        self.shape(name)
        kind = self._kinds.get(name) or onnx.TensorProto.FLOAT
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))

    def forget_shapes(self) -> None:
        """Infer shapes anew when next asked, after the graph was changed."""
        self._shapes = None

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Store a value as initializer; returns the name that it got, which is `name` where that is free."""
        import onnx

        name = self.free_name(name)
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.proto.initializer.append(tensor)
        self.initializers[name] = self.proto.initializer[-1]
        self.names.add(name)
        return name

    def free_name(self, name: str) -> str:
        """`name`, or `name_1`, `name_2` ... when it is taken; reserved from then on."""
        free, count = name, 0
        while free in self.names:
            count += 1
            free = f"{name}_{count}"
        self.names.add(free)
        return free

    def replace(self, node: onnx.NodeProto, replacements: list[onnx.NodeProto]) -> None:
        """Put nodes in the place of one; they bring its outputs."""
        place = next(i for i, other in enumerate(self.proto.node) if other is node or other == node)
        nodes = list(self.proto.node)
        nodes[place : place + 1] = replacements
        del self.proto.node[:]
        self.proto.node.extend(nodes)
        self.refresh()

    def drop_unused(self) -> int:
        """Take away the nodes and initializers on which no output depends; returns how many."""
        used = {value.name for value in self.proto.output}
        kept = []
        for node in reversed(self.proto.node):
            if used & set(node.output):
                kept.append(node)
                used.update(name for inner in [node, *inner_nodes(node)] for name in inner.input)
                used.update(value.name for graph in subgraphs(node) for value in graph.output)
        tensors = [tensor for tensor in self.proto.initializer if tensor.name not in used]
        dropped = len(self.proto.node) - len(kept) + len(tensors)
        for tensor in tensors:
            self.proto.initializer.remove(tensor)
        if len(kept) < len(self.proto.node):
            live = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
            del self.proto.node[:]
            self.proto.node.extend(live)
        if dropped:
            self.refresh()
        return dropped


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether the operator is ONNX's own and not of another domain."""
    return node.domain in ("", "ai.onnx")


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node: the branches of an If, the body of a Loop."""
    found = [item.g for item in node.attribute if item.HasField("g")]
    return found + [graph for item in node.attribute for graph in item.graphs]


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs included."""
    for node in graph.node:
        yield node
        yield from inner_nodes(node)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graphs inside a node, at every depth."""
    for graph in subgraphs(node):
        yield from all_nodes(graph)


def attribute(node: onnx.NodeProto, name: str, default=None):
    """The value of an attribute, text as str; `default` when the node does not have it."""
    import onnx

    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value) -> None:
    import onnx

    drop_attribute(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def drop_attribute(node: onnx.NodeProto, name: str) -> None:
    for item in list(node.attribute):
        if item.name == name:
            node.attribute.remove(item)


def given(node: onnx.NodeProto, index: int) -> str:
    """The name of an input; "" for one that is left out."""
    return node.input[index] if index < len(node.input) else ""


def stem(node: onnx.NodeProto) -> str:
    """What the names of nodes that stand for this one begin with: its name, or what it makes where it has none. Many
    nodes have none, and ONNX Runtime takes no name twice."""
    return node.name or node.output[0]


def label(node: onnx.NodeProto) -> str:
    """How a node is named to a person: its name, or what it makes where it has none."""
    return node.name or f"{node.op_type} -> {', '.join(name for name in node.output if name)}"
