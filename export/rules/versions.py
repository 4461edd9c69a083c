"""Rules about versions: opset, IR, and what a file may be made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from export.document import opset_of
from export.graph import Graph, all_nodes, attribute, drop_attribute, given, is_standard, label, set_attribute
from export.rules.finding import ERROR, MENDED, Finding

if TYPE_CHECKING:
    import onnx

    from export.dialect import Dialect

# attributes of later operator sets, with the value that says what the earlier operator does anyway
NEUTRAL: dict[str, Any] = {
    "antialias": 0,
    "keep_aspect_ratio_policy": "stretch",
    "allowzero": 0,
    "noop_with_empty_axes": 0,
    "saturate": 1,
    "reduction": "none",
    "training_mode": 0,
    "layout": 0,
    "block_size": 0,
    "output_dtype": 0,
    "precision": 0,
    "stash_type": 1,
    "count_include_pad": 0,
    "round_mode": "up",
}
# operators whose meaning, not only their types, changed at an opset: what was written for it is not lowered past it
CHANGED = {"GroupNormalization": 21, "DFT": 20}
# names of values that changed: (operator, attribute) -> opset since which the new name holds, new -> old
RENAMED = {("GridSample", "mode"): (20, {"linear": "bilinear", "cubic": "bicubic"})}


def inner_functions(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """Functions of the file's own are an addition of IR 8 that TensorRT reads from 9.0 on."""
    import onnx.inliner

    if not graph.model.functions or not dialect.before(9):
        return
    names = ", ".join(sorted(function.name for function in graph.model.functions))
    inlined = onnx.inliner.inline_local_functions(graph.model)
    graph.model.CopyFrom(inlined)
    graph.refresh()
    yield Finding("functions", names, MENDED, "functions of the file's own are not read", "they were written out")


def opset(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """A file of a later opset than the parser knows is misread without an error; most of them can be lowered."""
    have, want = opset_of(graph.model), dialect.opset
    for domain in sorted({o.domain for o in graph.model.opset_import} - {"", "ai.onnx"}):
        if not any(node.domain == domain for node in all_nodes(graph.proto)):
            keep = [o for o in graph.model.opset_import if o.domain != domain]
            del graph.model.opset_import[:]
            graph.model.opset_import.extend(keep)
    if have <= want:
        return
    problems = [finding for node in list(all_nodes(graph.proto)) for finding in _lower(graph, node, have, dialect)]
    yield from problems
    if any(finding.state == ERROR for finding in problems):
        return
    for entry in graph.model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = want
    graph.drop_unused()
    yield Finding("opset", "file", MENDED, f"opset {have} is later than {dialect.reader} knows", f"lowered to {want}")


def _lower(graph: Graph, node: onnx.NodeProto, have: int, dialect: Dialect) -> Iterator[Finding]:
    """Write one node as the earlier opset has it; an error where that cannot be said there."""
    import onnx

    if not is_standard(node):
        return
    want = dialect.opset

    def stuck(problem: str) -> Finding:
        return Finding(
            "opset",
            label(node),
            ERROR,
            f"{node.op_type} {problem} in opset {want} of {dialect.reader}",
            f"export the model anew with opset {want}, or without it{dialect.later(opset=want + 1)}",
        )

    new = onnx.defs.get_schema(node.op_type, have, node.domain)
    try:
        old = onnx.defs.get_schema(node.op_type, want, node.domain)
    except onnx.defs.SchemaError:
        yield stuck("does not exist")
        return
    if old.since_version == new.since_version:
        return
    if have >= CHANGED.get(node.op_type, have + 1) > want:
        yield stuck("means something else")
        return
    for index in range(len(old.inputs), len(new.inputs)):
        if not given(node, index):
            continue
        name, value = new.inputs[index].name, graph.constant(given(node, index))
        if name in old.attributes and value is not None:
            if not value.size:  # which means what leaving it out does
                continue
            set_attribute(node, name, [int(v) for v in value.ravel()])
            yield Finding(
                "axes",
                label(node),
                MENDED,
                f"{dialect.reader} ignores {name} that come as an input",
                f"{name} {value.ravel().tolist()} became an attribute",
            )
        elif not (node.op_type == "Pad" and name == "axes" and _spread_pads(graph, node, value)):
            yield stuck(f"has no input {name}")
    del node.input[len(old.inputs) if _fixed_inputs(old) else len(node.input) :]
    for item in list(node.attribute):
        since, names = RENAMED.get((node.op_type, item.name), (0, {}))
        if have >= since > want and attribute(node, item.name) in names:
            set_attribute(node, item.name, names[attribute(node, item.name)])
        if item.name in old.attributes:
            continue
        if _is_neutral(graph, node, item.name):
            drop_attribute(node, item.name)
        else:
            yield stuck(f"has no {item.name}={attribute(node, item.name)}")
    if len(node.output) > len(old.outputs) and _fixed_inputs(old):
        yield stuck(f"has only {len(old.outputs)} outputs")
    kinds = _kinds_lost(graph, node, old, new)
    if kinds:
        yield stuck(f"takes no {kinds[0]}")


def _kinds_lost(graph: Graph, node: onnx.NodeProto, old, new) -> list[str]:
    """The types of the node's inputs, such as BOOL, that the later operator allows and the earlier one does not."""
    import onnx

    def allows(schema, index: int, kind: str) -> bool:
        form = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
        types = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}.get(form, [form])
        return f"tensor({kind.lower()})" in types

    names = [(i, name) for i, name in enumerate(node.input) if name]
    kinds = [(i, onnx.TensorProto.DataType.Name(onnx.helper.np_dtype_to_tensor_dtype(graph.dtype(name))))
             for i, name in names]
    return [kind for i, kind in kinds if allows(new, i, kind) and not allows(old, i, kind)]


def _fixed_inputs(schema) -> bool:
    return not any("Variadic" in str(form.option) for form in [*schema.inputs, *schema.outputs])


def _is_neutral(graph: Graph, node: onnx.NodeProto, name: str) -> bool:
    """Whether the earlier operator does without the attribute what this one does with it."""
    value = attribute(node, name)
    if name == "allowzero":  # zero sizes alone make a difference
        shape = graph.constant(given(node, 1))
        return value == 0 or (shape is not None and not (shape == 0).any())
    if name == "num_outputs":  # without it the earlier Split makes equal parts too
        return value == len(node.output) and _splits_evenly(graph, node)
    if name == "dilations":
        return all(step == 1 for step in value)
    return name in NEUTRAL and value == NEUTRAL[name]


def _splits_evenly(graph: Graph, node: onnx.NodeProto) -> bool:
    shape = graph.shape(node.input[0])
    axis = attribute(node, "axis", 0)
    size = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    return isinstance(size, int) and size % len(node.output) == 0


def _spread_pads(graph: Graph, node: onnx.NodeProto, axes: np.ndarray | None) -> bool:
    """Write pads of some axes as pads of all, which is how Pad took them before opset 18."""
    pads, shape = graph.constant(given(node, 1)), graph.shape(node.input[0])
    if axes is None or pads is None or not shape:
        return False
    full = np.zeros(2 * len(shape), np.int64)
    for i, axis in enumerate(axes.ravel()):
        full[axis % len(shape)] = pads[i]
        full[axis % len(shape) + len(shape)] = pads[i + len(axes)]
    node.input[1] = graph.add_constant(f"{node.input[1]}_all", full)
    return True


def ir_version(graph: Graph, dialect: Dialect) -> Iterator[Finding]:
    """The IR version of the opset; later ones add only what the other rules take out or TensorRT does not look at."""
    have = graph.model.ir_version
    if have <= dialect.ir:
        return
    graph.model.ir_version = dialect.ir
    for node in all_nodes(graph.proto):
        del node.metadata_props[:]
    for value in [*graph.proto.input, *graph.proto.output, *graph.proto.value_info, *graph.proto.initializer]:
        del value.metadata_props[:]
    del graph.proto.metadata_props[:]
    yield Finding(
        "ir", "file", MENDED, f"IR {have} is later than {dialect.reader} was made for", f"set to {dialect.ir}"
    )
