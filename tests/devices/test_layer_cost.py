"""Fusion as TensorRT does it, and the cost of what is left."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.layer_cost import LayerCost, Operation, fuse
from devices.support.errors import UserError

SHAPE = (8, 4, 4)


def op(name: str, kind: str, *inputs: str, shape: tuple[int, ...] = SHAPE, **details) -> Operation:
    if kind in ("conv", "linear"):
        details = {"macs": 1000, "weights": 100, **details}
    return Operation(name, kind, inputs, shape, **details)


def members(layers: list[LayerCost]) -> list[tuple[str, ...]]:
    return [layer.operations for layer in layers]


def test_conv_takes_in_norm_addition_and_activation() -> None:
    layers = fuse([op("x", "input"), op("c1", "conv", "x"), op("n1", "batch_norm", "c1"), op("r1", "activation", "n1"),
                   op("c2", "conv", "r1"), op("n2", "batch_norm", "c2"), op("a", "add", "r1", "n2"),
                   op("r2", "activation", "a")])
    assert members(layers) == [("c1", "n1", "r1"), ("c2", "n2", "a", "r2")]
    assert [layer.input_elements for layer in layers] == [128, 128]  # r1 is read once, as input and as residual
    assert [layer.host_elements for layer in layers] == [128, 128]


def test_what_others_read_too_is_not_swallowed() -> None:
    layers = fuse([op("x", "input"), op("c", "conv", "x"), op("r", "activation", "c"), op("p", "pool", "c"),
                   op("a", "add", "r", "p")])
    assert members(layers) == [("c",), ("r", "a"), ("p",)]
    assert [layer.kind for layer in layers] == ["dense", "elementwise", "pool"]


def test_free_operations_are_seen_through() -> None:
    layers = fuse([op("x", "input"), op("c", "conv", "x"), op("d", "identity", "c"), op("r", "activation", "d"),
                   op("f", "identity", "r", shape=(128,)), op("l", "linear", "f", shape=(10,))])
    assert members(layers) == [("c", "r"), ("l",)]
    assert layers[1].input_elements == 128


def test_concatenation_is_written_in_place() -> None:
    layers = fuse([op("x", "input"), op("c1", "conv", "x"), op("c2", "conv", "x", kernel=(3, 3)),
                   op("k", "concat", "c1", "c2"), op("c3", "conv", "k")])
    assert members(layers) == [("c1",), ("c2",), ("c3",)]
    assert layers[2].input_elements == 256


def test_concatenation_copies_what_others_read() -> None:
    layers = fuse([op("x", "input"), op("c1", "conv", "x"), op("c2", "conv", "c1"), op("k", "concat", "c1", "c2"),
                   op("c3", "conv", "k")])
    assert members(layers) == [("c1",), ("c2",), ("k",), ("c3",)]
    assert (layers[2].input_elements, layers[2].output_elements) == (128, 128)


def test_sibling_1x1_convolutions_are_one() -> None:
    operations = [op("x", "input"), op("c", "conv", "x"), op("a", "conv", "c"), op("ra", "activation", "a"),
                  op("b", "conv", "c", shape=(4, 4, 4)), op("rb", "activation", "b", shape=(4, 4, 4)),
                  op("d", "conv", "c", kernel=(3, 3)), op("k", "concat", "ra", "rb", "d"), op("e", "conv", "k")]
    layers = fuse(operations)
    assert members(layers) == [("c",), ("a", "ra", "b", "rb"), ("d",), ("e",)]
    assert (layers[1].macs, layers[1].output_shape, layers[1].input_elements) == (2000, (12, 4, 4), 128)
    assert len(fuse(operations, siblings=False)) == 5


def test_pointwise_chains_are_one_launch_and_swish_is_beside_its_conv() -> None:
    layers = fuse([op("x", "input"), op("c", "conv", "x"), op("s", "activation", "c"), op("m", "mul", "c", "s"),
                   op("t", "activation", "m")])
    assert members(layers) == [("c",), ("s", "m", "t")]


def test_kinds_of_convolutions() -> None:
    layers = fuse([op("x", "input"), op("d", "conv", "x", groups=8), op("g", "conv", "d", groups=2),
                   op("c", "conv", "g")])
    assert [layer.kind for layer in layers] == ["depthwise", "grouped", "dense"]


@pytest.mark.parametrize(("operations", "said"), [
    ([op("c", "conv", "x")], "reads x, which no operation before it makes"),
    ([op("x", "input"), op("x", "input")], "two operations are named x"),
    ([op("x", "input"), op("c", "convs", "x")], "did you mean conv"),
])
def test_bad_lists_are_named(operations: list[Operation], said: str) -> None:
    with pytest.raises(UserError, match=said):
        fuse(operations)


KINDS = ["conv", "linear", "batch_norm", "activation", "add", "mul", "concat", "pool", "shuffle", "identity", "unknown"]


@st.composite
def networks(draw: st.DrawFn) -> list[Operation]:
    operations = [op("op0", "input")]
    for index in range(1, draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(KINDS))
        arity = draw(st.integers(2, 3)) if kind == "concat" else 2 if kind in ("add", "mul") else 1
        inputs = [f"op{draw(st.integers(max(0, index - 4), index - 1))}" for _ in range(arity)]
        operations.append(op(f"op{index}", kind, *inputs))
    return operations


@settings(max_examples=60, deadline=None)
@given(networks())
def test_nothing_is_lost_or_counted_twice(operations: list[Operation]) -> None:
    layers = fuse(operations)
    launched = [name for layer in layers for name in layer.operations]
    free = {o.name for o in operations if o.kind in ("input", "identity", "concat")}
    assert len(launched) == len(set(launched))
    assert {o.name for o in operations} - set(launched) <= free
    assert sum(layer.macs for layer in layers) == sum(o.macs for o in operations)
    assert sum(layer.weights for layer in layers) == sum(o.weights for o in operations)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_a_layer_never_waits_for_what_comes_after_it(operations: list[Operation]) -> None:
    """Fused layers form no circle: they can be launched one after the other."""
    by_name = {o.name: o for o in operations}
    layer_of = {name: i for i, layer in enumerate(fuse(operations)) for name in layer.operations}
    needs: dict[int, set[int]] = {i: set() for i in set(layer_of.values())}

    def makers(name: str) -> set[int]:
        if name in layer_of:
            return {layer_of[name]}
        return {m for source in by_name[name].inputs for m in makers(source)}

    for name, layer in layer_of.items():
        needs[layer] |= {m for source in by_name[name].inputs for m in makers(source)} - {layer}
    while ready := [layer for layer, wanted in needs.items() if not wanted]:
        for layer in ready:
            del needs[layer]
        for wanted in needs.values():
            wanted.difference_update(ready)
    assert not needs


@settings(max_examples=60, deadline=None)
@given(networks())
def test_fusion_only_removes_launches_and_traffic(operations: list[Operation]) -> None:
    layers = fuse(operations)
    alone = [o for o in operations if o.kind not in ("input", "identity")]
    assert len(layers) <= len(alone)
    assert sum(layer.output_elements for layer in layers) <= sum(
        o.elements * max(1, len(o.inputs) if o.kind == "concat" else 1) for o in alone)
