"""The graph as data: JSON, digests, differences, shapes, and refusing what is no graph."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from module_zoo import INPUT_SHAPE, ZOO, make

from devices.support.errors import UserError
from synth.networks.network import SCHEMA, Network, Vertex, differences
from synth.networks.operators import operator, operator_names
from synth.networks.operators.base import Labelling
from synth.networks.tracing import trace

CONV = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "bias": False}
INPUT = Vertex("input", "input", {"shape": [3, 8, 8]})


def small(out: int = 4, name: str = "small", conv: str = "conv") -> Network:
    return Network((INPUT, Vertex(conv, "conv", {**CONV, "out": out}, ("input",)),
                    Vertex("relu", "activation", {"kind": "relu"}, (conv,)),
                    Vertex("add", "add", {}, ("relu", conv))), ("add",), name)


def single(op: str, attrs: dict, *shapes: tuple[int, ...]):
    return operator(op).shape(attrs, list(shapes))


# -- data -----------------------------------------------------------------------------------------------------------


def test_vertices_are_values():
    a, b = (Vertex("v", "conv", {**CONV, "out": 4}, ("input",)) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a is not b
    assert a != Vertex("v", "conv", {**CONV, "out": 8}, ("input",))
    assert Vertex("v", "add", inputs=["a", "b"]).inputs == ("a", "b")
    with pytest.raises(TypeError):
        a.attrs["out"] = 5  # type: ignore[index]
    assert copy.deepcopy(a) == a and pickle.loads(pickle.dumps(a)) == a  # worker processes receive networks


@pytest.mark.parametrize("name", ZOO)
def test_json_and_back(name, tmp_path):
    network, _ = trace(make(name), INPUT_SHAPE, name)
    again = Network.from_json(json.loads(json.dumps(network.to_json())))
    assert again == network and hash(again) == hash(network) and again.digest == network.digest
    network.save(tmp_path / "network.json")
    assert Network.load(tmp_path / "network.json") == network
    assert json.loads((tmp_path / "network.json").read_text())["schema"] == SCHEMA


def test_the_digest_is_of_the_structure():
    assert small().digest == small(name="another", conv="stem").digest
    assert small().digest != small(out=8).digest
    swapped = dataclasses.replace(small(), vertices=(*small().vertices[:3], Vertex("add", "add", {}, ("conv", "relu"))))
    assert swapped.digest != small().digest
    assert dataclasses.replace(small(), outputs=("relu",)).digest != small().digest
    assert len(small().digest) == 64


def test_edges_and_readers():
    network = small()
    assert network.edges == (("input", "conv"), ("conv", "relu"), ("relu", "add"), ("conv", "add"))
    assert network.readers == {"input": ("conv",), "conv": ("relu", "add"), "relu": ("add",), "add": ()}
    assert network["relu"].op == "activation" and "relu" in network and "tanh" not in network


def test_dead_vertices_go_and_the_input_stays():
    network = dataclasses.replace(small(), outputs=("conv",))
    assert [v.name for v in network.without_dead_vertices().vertices] == ["input", "conv"]
    assert small().without_dead_vertices() == small()


def test_a_vertex_may_read_another_twice():
    network = Network((INPUT, Vertex("square", "mul", {}, ("input", "input"))), ("square",))
    assert Network.from_json(network.to_json()) == network and network.output_shape == (3, 8, 8)


def test_differences_say_what_changed():
    after = small(out=8)
    after = dataclasses.replace(after, vertices=(
        *after.vertices[:2], Vertex("tanh", "activation", {"kind": "tanh"}, ("conv",)),
        Vertex("add", "mul", {}, ("tanh", "conv"))))
    changes = differences(small(), after)
    assert [str(c) for c in changes] == [
        "changed conv: out 4 -> 8", "removed relu (activation)",
        "changed add: add -> mul; reads relu, conv -> tanh, conv", "added tanh (activation)"]
    assert differences(small(), small()) == []
    assert {c.kind for c in changes} == {"changed", "removed", "added"}


# -- what is no network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vertices", "outputs", "words"), [
    ((INPUT, Vertex("a", "identity", {}, ("b",)), Vertex("b", "identity", {}, ("input",))), ("b",),
     "a reads b, which does not come before it"),
    ((INPUT, Vertex("a", "identity", {}, ("input",)), Vertex("a", "identity", {}, ("input",))), ("a",),
     "two vertices are named a"),
    ((Vertex("a", "add", {}, ()),), ("a",), "exactly one input"),
    ((INPUT, Vertex("other", "input", {"shape": [3, 8, 8]})), ("other",), "exactly one input"),
    ((INPUT,), (), "outputs"),
    ((INPUT,), ("nowhere",), "outputs"),
])
def test_what_is_no_graph(vertices, outputs, words):
    with pytest.raises(UserError, match=words):
        Network(vertices, outputs)


@pytest.mark.parametrize("value", [
    {}, [], {"vertices": 3}, {"vertices": [], "edges": [], "outputs": []},
    {"vertices": [{}], "edges": [], "outputs": []},
    {"vertices": [{"name": "input", "op": "input", "attrs": {}}], "edges": [], "outputs": ["input"]},
    {"vertices": [{"name": "input", "op": "input", "attrs": {"shape": [3, 8, 8]}}], "edges": [["input", "x"]],
     "outputs": ["input"]},
    {"vertices": [{"name": "input", "op": "magic", "attrs": {}}], "edges": [], "outputs": ["input"]},
])
def test_json_that_is_no_network(value):
    with pytest.raises(UserError):
        Network.from_json(value)


def test_damaged_files_name_themselves(tmp_path):
    path = tmp_path / "network.json"
    path.write_text("{torn")
    with pytest.raises(UserError, match=str(path)):
        Network.load(path)
    document = {"schema": SCHEMA, **small().to_json()}
    document["vertices"][1]["attrs"]["groups"] = 2
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="conv"):
        Network.load(path)
    with pytest.raises(UserError):
        Network.load(tmp_path / "nowhere.json")


def test_a_shape_error_names_the_vertex():
    network = Network((INPUT, Vertex("head", "linear", {"out": 5, "bias": True}, ("input",))), ("head",))
    with pytest.raises(UserError, match=r"head \(linear\): needs a vector, not \(3, 8, 8\); flatten first"):
        _ = network.shapes


# -- operators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "attrs", "shapes", "expected"), [
    ("conv", {**CONV, "out": 5, "stride": [2, 1], "padding": [0, 2], "dilation": [2, 1]}, [(3, 9, 9)], (5, 3, 11)),
    ("conv_transpose", {**CONV, "out": 5, "stride": [2, 2], "output_padding": [1, 0]}, [(3, 4, 4)], (5, 8, 7)),
    ("max_pool", {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "ceil": True},
     [(3, 8, 7)], (3, 5, 4)),
    ("avg_pool", {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "ceil": False, "count_padding": True},
     [(3, 8, 7)], (3, 4, 3)),
    ("resize", {"scale": [2.0, 1.5], "mode": "nearest", "align_corners": False}, [(3, 8, 7)], (3, 16, 10)),
    ("resize", {"size": [5, 6], "mode": "bilinear", "align_corners": True}, [(3, 8, 7)], (3, 5, 6)),
    ("cat", {}, [(3, 8, 7), (5, 8, 7)], (8, 8, 7)), ("add", {}, [(3, 8, 7), (3, 1, 1)], (3, 8, 7)),
    ("mul", {}, [(1, 8, 7), (3, 8, 7)], (3, 8, 7)), ("slice", {"start": 1, "stop": 3}, [(3, 8, 7)], (2, 8, 7)),
    ("flatten", {}, [(3, 8, 7)], (168,)), ("to_map", {}, [(3,)], (3, 1, 1)),
    ("subsample", {"stride": [2, 3]}, [(3, 8, 7)], (3, 4, 3)),
    ("pad", {"channels": [1, 0], "rows": [0, -2], "columns": [1, 1], "value": 0.0}, [(3, 8, 7)], (4, 6, 9)),
    ("pixel_shuffle", {"factor": 2}, [(8, 3, 4)], (2, 6, 8)),
    ("pixel_unshuffle", {"factor": 2}, [(2, 6, 8)], (8, 3, 4)),
    ("scale", {"weight": True, "bias": False, "shared": False, "learnt": True}, [(3, 8, 7)], (3, 8, 7)),
])
def test_shapes(op, attrs, shapes, expected):
    assert single(op, attrs, *shapes) == expected


@pytest.mark.parametrize(("op", "attrs", "shapes"), [
    ("conv", {**CONV, "out": 5}, [(3,)]), ("conv", {**CONV, "out": 5, "groups": 2}, [(4, 8, 8)]),
    ("conv", {**CONV, "out": 5, "padding": [0, 0]}, [(3, 2, 2)]), ("cat", {}, [(3, 8, 8), (3, 8, 7)]),
    ("add", {}, [(3, 8, 8)]), ("add", {}, [(3, 8, 8), (3, 4, 8)]), ("add", {}, [(3, 8, 8), (3,)]),
    ("slice", {"start": 1, "stop": 5}, [(4, 8, 8)]), ("slice", {"start": 2, "stop": 2}, [(4, 8, 8)]),
    ("channel_shuffle", {"groups": 3}, [(4, 8, 8)]), ("pixel_shuffle", {"factor": 2}, [(3, 8, 8)]),
    ("pixel_unshuffle", {"factor": 3}, [(3, 8, 8)]), ("activation", {"kind": "reluu"}, [(4, 8, 8)]),
    ("group_norm", {"groups": 3, "eps": 1e-5, "affine": True}, [(4, 8, 8)]), ("to_map", {}, [(4, 8, 8)]),
    ("resize", {"scale": [0.1, 1], "mode": "nearest", "align_corners": False}, [(3, 8, 8)]),
    ("pad", {"channels": [0, 0], "rows": [-4, -4], "columns": [0, 0], "value": 0.0}, [(3, 8, 8)]),
])
def test_shapes_that_do_not_fit(op, attrs, shapes):
    with pytest.raises(UserError):
        single(op, attrs, *shapes)


def test_unknown_words_get_a_suggestion():
    with pytest.raises(UserError, match="did you mean conv"):
        operator("convv")
    with pytest.raises(UserError, match="did you mean relu"):
        single("activation", {"kind": "reluu"}, (4, 8, 8))


@pytest.mark.parametrize("name", ZOO)
def test_labels_are_of_the_width_and_tensors_have_axes(name):
    """What pruning relies on, for every vertex of the zoo."""
    network, weights = trace(make(name), INPUT_SHAPE)
    labelling, labels = Labelling(), {}
    for vertex in network.vertices:
        op, shapes = operator(vertex.op), network.input_shapes(vertex)
        labels[vertex.name] = op.labels(vertex.attrs, [labels[s] for s in vertex.inputs], shapes, labelling)
        assert labels[vertex.name].shape == network.shapes[vertex.name][:1]
        stored = op.weights(vertex.attrs, shapes)
        assert {n: tuple(weights[f"{vertex.name}.{n}"].shape) for n in stored} == stored
        axes = op.axes(vertex.attrs)
        assert set(axes) == set(stored) and set(op.learnt(vertex.attrs)) <= set(stored)
        for tensor, along in axes.items():
            for axis, what in enumerate(along):
                width = {"out": network.shapes[vertex.name], "in": shapes[0], "in_group": None}[what]
                assert width is None or stored[tensor][axis] == width[0]
        everything = [np.ones(len(labels[s]), bool) for s in vertex.inputs]
        kept = op.shrunk(vertex.attrs, everything, np.ones(len(labels[vertex.name]), bool))
        assert kept == dict(vertex.attrs), "keeping all channels changes nothing"


def test_labels_of_a_depthwise_convolution_follow_its_input():
    labelling = Labelling()
    inside = labelling.fresh(3)
    attrs = {**CONV, "out": 6, "groups": 3, "depthwise": True}
    assert operator("conv").labels(attrs, [inside], [(3, 8, 8)], labelling).tolist() == [0, 0, 1, 1, 2, 2]
    grouped = operator("conv").labels({**CONV, "out": 4, "groups": 2}, [labelling.fresh(4)], [(4, 8, 8)], labelling)
    assert labelling.resolve(grouped).tolist() == [7, 8, 7, 8]
    added = operator("add").labels({}, [inside, labelling.fresh(3)], [(3, 8, 8)] * 2, labelling)
    assert labelling.resolve(added).tolist() == [0, 1, 2]


def test_operators_are_found_by_their_names():
    assert all(operator(name).name == name for name in operator_names())
