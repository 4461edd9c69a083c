"""Folding: what a file computes from constants, or from sizes that are fixed, is computed once and stored.

torch writes paddings and shapes as little programs of their own, which TensorRT 8 partly refuses ("must be an
initializer") and which hide from every other rule what is constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, attribute, given, is_standard, subgraphs

if TYPE_CHECKING:
    import onnx

# what must stay where it is: quantisation is said by its place, chance is no constant, the last grow the file
KEPT = {"Constant", "QuantizeLinear", "DequantizeLinear", "Loop", "Scan", "If", "Expand", "Tile", "RandomNormal",
        "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "EyeLike"}  # fmt: skip
LARGEST = 1 << 20  # numbers in a stored ConstantOfShape


def fold(model: onnx.ModelProto) -> int:
    """Fold in place until nothing is left to fold; returns how many nodes went away. The answers stay bit for bit."""
    graph = Graph(model)
    before = len(model.graph.node)
    steps = (_fold_sizes, _fold_constants, _inline_branches, _fix_reshapes, _fix_resizes)
    while any(step(graph) for step in steps):
        graph.refresh()
        graph.forget_shapes()
    graph.drop_unused()
    return before - len(model.graph.node)


def _fold_sizes(graph: Graph) -> bool:
    """Shape of a tensor of fixed size, or the part of it that is picked out and fixed."""
    changed = False
    for node in graph.nodes("Shape", "Gather"):
        shape_node = node if node.op_type == "Shape" else graph.makers.get(node.input[0])
        sizes = _asked_sizes(graph, shape_node)
        if sizes is None:
            continue
        picked: list = sizes
        if node.op_type == "Gather":
            index = graph.constant(node.input[1])
            if index is None or ((index >= len(sizes)) | (index < -len(sizes))).any():
                continue
            picked = [sizes[i] for i in index.ravel()]
            shape = index.shape
        else:
            shape = (len(sizes),)
        if all(isinstance(size, int) for size in picked):
            changed |= _store(graph, node, [np.asarray(picked, np.int64).reshape(shape)])
    return changed


def _asked_sizes(graph: Graph, node: onnx.NodeProto | None) -> list[int | str | None] | None:
    """The sizes that a Shape gives, all or those from `start` to `end`; None for another node or a tensor unknown."""
    sizes = graph.shape(node.input[0]) if node is not None and node.op_type == "Shape" else None
    return None if node is None or sizes is None else sizes[attribute(node, "start", 0) : attribute(node, "end")]


def _fold_constants(graph: Graph) -> bool:
    """Nodes whose inputs are all constants, run once by ONNX Runtime."""
    import onnx
    import onnxruntime

    constant = set(graph.initializers) | {n.output[0] for n in graph.nodes("Constant")}
    nodes = []
    for node in graph.proto.node:
        if node.op_type in KEPT or not is_standard(node) or subgraphs(node) or not node.input:
            continue
        if any(name and name not in constant for name in node.input):
            continue
        if node.op_type == "ConstantOfShape":
            shape = graph.constant(node.input[0])
            if shape is None or np.prod(shape) > LARGEST:
                continue
        nodes.append(node)
        constant.update(node.output)
    if not nodes:
        return False
    inner = {name for node in nodes for name in node.output if name}
    needed = {name for node in nodes for name in node.input if name and name not in inner}
    program = onnx.ModelProto()
    program.ir_version = min(graph.model.ir_version, 10)
    program.opset_import.extend(graph.model.opset_import)
    program.graph.name = "folding"
    program.graph.initializer.extend(graph.initializers[name] for name in needed if name in graph.initializers)
    program.graph.node.extend(n for n in graph.nodes("Constant") if n.output[0] in needed)
    program.graph.node.extend(nodes)
    program.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(inner))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(program.SerializeToString(), options, ["CPUExecutionProvider"])
        values = dict(zip(sorted(inner), session.run(None, {}), strict=True))
    except Exception:  # an operator or type that the runtime lacks: the file stays as it is
        return False
    changed = False
    for node in nodes:
        changed |= _store(graph, node, [values[name] for name in node.output if name])
    return changed


def _fix_reshapes(graph: Graph) -> bool:
    """A Reshape whose sizes are computed, but of which at most one varies, takes constants with -1 for that one."""
    changed = False
    for node in graph.nodes("Reshape"):
        sizes = _parts(graph, node.input[1])
        if graph.constant(node.input[1]) is not None or not sizes or sizes.count(None) > 1:
            continue
        if all(size is None or size > 0 for size in sizes):
            fixed = [-1 if size is None else size for size in sizes]
            node.input[1] = graph.add_constant(f"{node.output[0]}_shape", np.asarray(fixed, np.int64))
            changed = True
    return changed


def _parts(graph: Graph, name: str) -> list[int | None] | None:
    """A vector of sizes as far as it is known, None for a size that varies; None where nothing is known."""
    value, node = graph.constant(name), graph.makers.get(name)
    if value is not None:
        return [int(v) for v in value.ravel()]
    if node is None:
        return None
    if node.op_type == "Shape":
        sizes = _asked_sizes(graph, node)
        return None if sizes is None else [size if isinstance(size, int) else None for size in sizes]
    if node.op_type == "Concat":
        parts = [_parts(graph, part) for part in node.input]
        return None if None in parts else [size for part in parts if part for size in part]
    if node.op_type in ("Unsqueeze", "Squeeze", "Cast", "Identity"):
        return _parts(graph, node.input[0])
    whole = _parts(graph, node.input[0]) if node.op_type in ("Gather", "Slice") else None
    given_index = [graph.constant(part) for part in node.input[1:]]
    index = [int(part.item()) for part in given_index if part is not None and part.size == 1]
    if whole is None or len(index) != len(node.input) - 1:
        return None
    if node.op_type == "Gather":
        return [whole[index[0]]] if -len(whole) <= index[0] < len(whole) else None
    return whole[index[0] : index[1]] if len(index) == 3 else None


def _fix_resizes(graph: Graph) -> bool:
    """A Resize to computed sizes takes constant scales where they say exactly the same, whatever the batch."""
    changed = False
    for node in graph.nodes("Resize"):
        if not given(node, 3) or graph.constant(node.input[3]) is not None:
            continue
        have, want = graph.shape(node.input[0]), _parts(graph, node.input[3])
        if not have or not want or len(have) != len(want):
            continue
        if not all(isinstance(size, int) for size in [*have[1:], *want[1:]]):
            continue
        scales = np.asarray([1.0, *(w / h for h, w in zip(have[1:], want[1:], strict=True))], np.float32)  # type: ignore
        if all(float(s) * h == w for s, h, w in zip(scales[1:], have[1:], want[1:], strict=True)):  # type: ignore
            node.input[2:] = [graph.add_constant(f"{node.output[0]}_scales", scales)]
            changed = True
    return changed


def _store(graph: Graph, node: onnx.NodeProto, values: list[np.ndarray]) -> bool:
    """Put constants in a node's place, under its names; not where it makes an output of the network."""
    import onnx

    outputs = [name for name in node.output if name]
    if {value.name for value in graph.proto.output} & set(outputs):
        return False
    for name, value in zip(outputs, values, strict=True):
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        graph.proto.initializer.append(tensor)
        graph.initializers[name] = tensor
    graph.proto.node.remove(node)
    return True


def _inline_branches(graph: Graph) -> bool:
    """An If whose condition is known becomes the branch that it takes."""
    import onnx

    for node in graph.nodes("If"):
        condition = graph.constant(given(node, 0))
        if condition is None:
            continue
        wanted = "then_branch" if condition.any() else "else_branch"
        branch = next(item.g for item in node.attribute if item.name == wanted)
        own = {name for n in branch.node for name in n.output} | {t.name for t in branch.initializer}
        if own & graph.names:
            continue
        renames = dict(zip([v.name for v in branch.output], node.output, strict=True))
        if not set(renames) <= {name for n in branch.node for name in n.output}:
            continue
        nodes = []
        for inner in branch.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(inner)
            copy.input[:] = [renames.get(name, name) for name in copy.input]
            copy.output[:] = [renames.get(name, name) for name in copy.output]
            nodes.append(copy)
        graph.proto.initializer.extend(branch.initializer)
        graph.replace(node, nodes)
        return True
    return False
