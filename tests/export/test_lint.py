import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.dialect import dialect_of
from export.lint import lint
from export.parity import OnnxRunner

X = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
TX2, ORIN, GPU = dialect_of("tx2"), dialect_of("orin-nx"), dialect_of("nvidia-gpu")


def model(
    nodes, constants=None, opset=13, ir=8, output=(None, None, None, None), outputs=("y",), kind=TensorProto.FLOAT
):
    """A graph from x (2, 4, 8, 8) to y. constants: name -> array."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, X.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, output) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def node(kind, inputs, outputs=("y",), **attributes):
    return helper.make_node(kind, inputs, list(outputs), f"the_{kind}", **attributes)


def same_answers(before, after):
    onnx.checker.check_model(after, full_check=True)
    want, got = (OnnxRunner(m.SerializeToString())(X) for m in (before, after))
    assert all(np.array_equal(w, g) for w, g in zip(want, got, strict=True))


def mended(before, dialect=TX2, rule=None):
    """The linter's copy, which must be clean of errors, valid and answer bit for bit as before."""
    found = lint(before, dialect)
    assert found.errors == [], found.errors
    assert rule is None or rule in {finding.rule for finding in found.of("mended")}
    same_answers(before, found.model)
    assert found.model.opset_import[0].version <= dialect.opset and found.model.ir_version <= max(dialect.ir, 8)
    return found.model


def test_axes_as_an_input_become_an_attribute():
    before = model([node("ReduceMean", ["x", "axes"], keepdims=0)], {"axes": np.int64([2, 3])}, 18, output=(None, None))
    after = mended(before, rule="axes")
    (reduced,) = after.graph.node
    assert len(reduced.input) == 1 and helper.get_attribute_value(reduced.attribute[1]) == [2, 3]
    assert not after.graph.initializer


@pytest.mark.parametrize(
    "kind", ["ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceLogSumExp"]
)
def test_every_reduction_is_lowered(kind):
    mended(model([node(kind, ["x", "axes"])], {"axes": np.int64([1])}, 18), rule="axes")


def test_axes_that_hold_nothing_mean_all_of_them():
    before = model([node("ReduceMean", ["x", "axes"])], {"axes": np.int64([])}, 18)
    (reduced,) = mended(before, rule="opset").graph.node
    assert len(reduced.input) == 1 and [item.name for item in reduced.attribute] == []
    kept = model([node("ReduceMean", ["x", "axes"], noop_with_empty_axes=1)], {"axes": np.int64([])}, 18)
    (finding,) = lint(kept, TX2).errors
    assert "has no noop_with_empty_axes=1" in finding.problem


def test_types_that_the_earlier_operator_does_not_take_are_named():
    nodes = [node("Greater", ["x", "c"], ["b"]), node("ReduceMax", ["b", "a"], ["m"]), node("Cast", ["m"], to=1)]
    before = model(nodes, {"c": np.float32(0), "a": np.int64([1])}, 20)
    (finding,) = lint(before, TX2).errors
    assert finding.node == "the_ReduceMax" and "takes no BOOL in opset 13" in finding.problem
    assert lint(before, dialect_of("orin-nx", "6.2")).errors == []


def test_neutral_attributes_are_taken_out():
    resize = node("Resize", ["x", "", "s"], mode="linear", antialias=0, keep_aspect_ratio_policy="stretch")
    mended(model([resize], {"s": np.float32([1, 1, 2, 2])}, 18), rule="opset")
    mended(model([node("Reshape", ["x", "s"], allowzero=1)], {"s": np.int64([2, 4, 64])}, 14, output=(None,) * 3))
    mended(model([node("ReduceMean", ["x", "a"], noop_with_empty_axes=0)], {"a": np.int64([2])}, 18))


def test_splits_and_pads_of_later_opsets():
    split = node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2)
    mended(model([split], opset=18, outputs=("y", "z")))
    pad = node("Pad", ["x", "p", "", "a"])
    mended(model([pad], {"p": np.int64([1, 2, 3, 4]), "a": np.int64([2, 3])}, 18))


def test_what_cannot_be_lowered_is_named():
    uneven = model([node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2)], opset=18, outputs=("y", "z"))
    uneven.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    (finding,) = lint(uneven, TX2).errors
    assert (finding.node, finding.rule) == ("the_Split", "opset") and "num_outputs" in finding.problem
    grid = model([node("GridSample", ["x", "g"])], {"g": np.zeros((2, 8, 8, 2), np.float32)}, 16)
    problems = " ".join(str(f) for f in lint(grid, TX2).errors)
    assert "GridSample does not exist in opset 13" in problems and "the_GridSample" in problems


def test_every_relu_of_opset_20_is_only_relabelled():
    after = mended(model([node("Relu", ["x"])], opset=20, ir=10))
    assert (after.opset_import[0].version, after.ir_version) == (13, 7)


EIGHT = np.float32([1, 2, 0.5, 1, 1, 3, 1, 1])
DEFINED = {
    "hard swish": (node("HardSwish", ["x"]), {}, 14, "HardSigmoid"),
    "reciprocal": (node("Reciprocal", ["x"]), {}, 13, "Div"),
    "gelu": (node("Gelu", ["x"]), {}, 20, "Erf"),
    "gelu by tanh": (node("Gelu", ["x"], approximate="tanh"), {}, 20, "Tanh"),
    "mish": (node("Mish", ["x"]), {}, 18, "Softplus"),
    "sign": (node("Sign", ["x"]), {}, 13, "Greater"),
    "layer norm": (node("LayerNormalization", ["x", "s", "b"], epsilon=1e-3), {"s": EIGHT, "b": EIGHT - 1}, 17, "Sqrt"),
    "layer norm of 18": (node("LayerNormalization", ["x", "s"]), {"s": EIGHT}, 18, "Sqrt"),
    "layer norm of three axes": (
        node("LayerNormalization", ["x", "s"], axis=1), {"s": np.ones((4, 8, 8), np.float32)}, 18, "Sqrt"
    ),
    "group norm": (
        node("GroupNormalization", ["x", "s", "b"], num_groups=2), {"s": EIGHT[:4], "b": EIGHT[4:]}, 21, "Reshape"
    ),
    "attention": (node("Attention", ["x", "x", "x"]), {}, 23, "Softmax"),
    "attention with a mask": (
        node("Attention", ["x", "x", "x", "m"], scale=0.5), {"m": np.tri(8, dtype=bool)}, 23, "Where"
    ),
    "lower triangle": (node("Trilu", ["x"], upper=0), {}, 14, "Where"),
    "upper triangle": (node("Trilu", ["x", "k"]), {"k": np.int64(1)}, 14, "Where"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFINED)
def test_operators_are_written_by_their_definition(name):
    made, constants, opset, written = DEFINED[name]
    before = model([made], constants, opset=opset)
    found = lint(before, TX2)
    assert found.errors == [] and written in [n.op_type for n in found.model.graph.node]
    assert made.op_type not in [n.op_type for n in found.model.graph.node]
    onnx.checker.check_model(found.model, full_check=True)
    want, got = (OnnxRunner(m.SerializeToString())(X)[0] for m in (before, found.model))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_attention_of_grouped_queries_is_not_taken_for_plain_attention():
    half = node("Slice", ["x", "start", "end", "axis"], ["k"])
    places = {"start": np.int64([0]), "end": np.int64([2]), "axis": np.int64([1])}
    before = model([half, node("Attention", ["x", "k", "k"])], places, 23)
    assert OnnxRunner(before.SerializeToString())(X)[0].shape == X.shape
    assert "Attention does not exist in opset 13" in lint(before, TX2).errors[0].problem


def test_nodes_without_names_are_mended_too():
    """ONNX Runtime takes no name twice, and many tools give none."""
    pads = {"p": np.int64([0, 0, 1, 2, 0, 0, 3, 1])}
    nodes = [helper.make_node("HardSwish", [one], [other]) for one, other in ("xa", "ab")]
    nodes += [helper.make_node("Pad", [one, "p"], [other], mode="reflect") for one, other in ("bc", "cy")]
    found = lint(model(nodes, pads, opset=14), TX2)
    assert [n.op_type for n in found.model.graph.node] == ["HardSigmoid", "Mul"] * 2 + ["Gather"] * 4
    OnnxRunner(found.model.SerializeToString())(X)


def test_parts_of_a_shape():
    """torch's newer exporter asks for the batch alone, which opset 13 cannot; what is fixed is known anyway."""
    nodes = [
        node("Shape", ["x"], ["batch"], start=0, end=1), helper.make_node("Shape", ["x"], ["rest"], start=2),
        node("Concat", ["batch", "four", "rest"], ["all"], axis=0), node("Expand", ["mean", "all"]),
    ]  # fmt: skip
    before = model(nodes, {"four": np.int64([4]), "mean": np.float32([7])}, 18)
    before.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    after = mended(before, rule="rewritten")
    assert [n.op_type for n in after.graph.node if n.op_type in ("Shape", "Slice")] == ["Shape", "Slice"]
    del before.graph.node[3:]
    before.graph.node.append(node("Reshape", ["x", "all"]))
    after = mended(before)
    assert [n.op_type for n in after.graph.node] == ["Reshape"]


def test_infinity_is_an_error_in_weights_and_a_warning_in_a_mask():
    mask = np.zeros((8, 8), np.float32)
    mask[0, 1] = -np.inf
    found = lint(model([node("Add", ["x", "m"], ["z"]), node("Softmax", ["z"])], {"m": mask}), TX2)
    assert found.errors == [] and [finding.rule for finding in found.of("warning")] == ["not-finite"]


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([node("Resize", ["x", "", "s"], mode="cubic")], {"s": np.float32([1, 1, 2, 2])}, "cubic"),
        ([node("Det", ["x"])], {}, "no Det"),
        ([node("Mod", ["x", "x"], fmod=1)], {}, "from 8.5 on"),
        ([node("MaxPool", ["x"], ["y", "z"], kernel_shape=[2, 2])], {}, "no indices"),
        ([node("MaxPool", ["x"], kernel_shape=[2, 2], dilations=[2, 2])], {}, "dilated"),
        ([node("Pad", ["x", "p"], mode="reflect")], {"p": np.int64([0, 0, -1, 1, 0, 0, 1, 1])}, "reflect"),
        ([node("Dropout", ["x", "r", "t"])], {"r": np.float32(0.5), "t": np.bool_(True)}, "training mode"),
        ([node("Mul", ["x", "w"])], {"w": np.float32([np.nan])}, "NaN or infinity"),
        ([node("Conv", ["x", "w"])], {"w": np.full((1, 4, 1, 1), np.inf, np.float32)}, "NaN or infinity"),
        ([node("CumSum", ["x", "a"]), node("Cast", ["x"], ["f"], to=6), node("ReduceMax", ["f"], ["a"], keepdims=0)],
         {}, "constant"),
    ],
)  # fmt: skip
def test_what_tensorrt_refuses_is_named_with_a_remedy(nodes, constants, words):
    outputs = ("y", "z") if nodes[0].op_type == "MaxPool" and len(nodes[0].output) > 1 else ("y",)
    findings = lint(model(nodes, constants, outputs=outputs), TX2).errors
    assert any(words in f"{finding.problem} {finding.remedy}" for finding in findings), findings
    assert all(finding.node and finding.remedy for finding in findings)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_padding_that_a_parser_lacks_is_gathered(mode):
    pads = {"p": np.int64([0, 0, 1, 2, 0, 0, 3, 1])}
    padded = model([node("Pad", ["x", "p"], mode=mode)], pads, opset=19 if mode == "wrap" else 13)
    assert [n.op_type for n in mended(padded, rule="padding").graph.node] == ["Gather", "Gather"]
    later = lint(padded, dialect_of("tx2", "4.6.1")).model
    assert [n.op_type for n in later.graph.node] == (["Gather", "Gather"] if mode == "wrap" else ["Pad"])


def test_the_jetpack_that_has_it_is_named():
    (finding,) = lint(model([node("Round", ["x"])]), TX2).errors
    assert "or write for JetPack 4.6.1-4.6.6 alone, with --jetpack 4.6.1" in finding.remedy
    assert lint(model([node("Round", ["x"])]), dialect_of("tx2", "4.6.1")).errors == []
    (finding,) = lint(model([node("Det", ["x"])]), TX2).errors
    assert "--jetpack" not in finding.remedy


def test_operators_of_other_domains():
    foreign = helper.make_node("FusedConv", ["x"], ["y"], "fused", domain="com.microsoft")
    (finding,) = lint(model([foreign]), TX2).errors
    assert finding.node == "fused" and "com.microsoft" in finding.problem


def test_int64_beyond_int32():
    ends = {"b": np.int64([0]), "e": np.int64([2**63 - 1]), "a": np.int64([2])}
    mended(model([node("Slice", ["x", "b", "e", "a"])], ends), rule="int64")
    nodes = [node("Cast", ["x"], ["i"], to=7), node("Add", ["i", "big"], ["j"]), node("Cast", ["j"], to=1)]
    (finding,) = lint(model(nodes, {"big": np.int64([2**40])}), TX2).errors
    assert finding.rule == "int64" and finding.node == "big"
    assert lint(model(nodes, {"big": np.int64([2**40])}), GPU).errors == []


def test_weights_that_are_listed_as_inputs():
    before = model([node("Mul", ["x", "w"])], {"w": np.float32([2])})
    before.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]))
    after = mended(before, rule="inputs")
    assert [value.name for value in after.graph.input] == ["x"]


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.UINT8])
def test_input_types(kind):
    findings = lint(model([node("Cast", ["x"], to=1)], kind=kind), TX2).errors
    assert [finding.rule for finding in findings] == ["input-type"]


def test_sizes_that_vary_are_a_warning():
    free = model([node("Relu", ["x"])])
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    found = lint(free, TX2)
    assert found.errors == [] and [f.rule for f in found.of("warning")] == ["free-sizes"]


ZERO, TENTH = np.int8(0), np.float32(0.1)


def quantised(zero=ZERO, scale=TENTH, with_zero=True):
    inputs = ["s", "z"] if with_zero else ["s"]
    nodes = [node("QuantizeLinear", ["x", *inputs], ["q"]), node("DequantizeLinear", ["q", *inputs])]
    return model(nodes, {"s": scale, "z": zero} if with_zero else {"s": scale})


def test_quantisation_that_tensorrt_takes():
    assert lint(quantised(), ORIN).findings == ()
    (finding,) = lint(quantised(), TX2).errors
    assert "DP4A" in finding.problem and finding.rule == "int8"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"zero": np.int8(3)}, "zero point is not 0"),
        ({"zero": np.uint8(128)}, "UINT8"),
        ({"with_zero": False}, "missing"),
        ({"scale": np.float32(0)}, "not positive"),
        ({"scale": np.float32(-1)}, "not positive"),
    ],
)
def test_quantisation_that_it_does_not_take(arguments, words):
    assert any(words in finding.problem for finding in lint(quantised(**arguments), ORIN).errors)


def test_integer_biases_become_fp32():
    bias = {"b": np.int32([5, -3, 0, 9]).reshape(4, 1, 1), "s": np.float32(0.25), "z": np.int32(0)}
    after = mended(
        model([node("DequantizeLinear", ["b", "s", "z"], ["f"]), node("Add", ["x", "f"])], bias), ORIN, "int32-bias"
    )
    assert [n.op_type for n in after.graph.node] == ["Add"]


def test_unsigned_weights_around_128_become_signed():
    weights = np.random.default_rng(1).integers(0, 256, (4, 4, 1, 1)).astype(np.uint8)
    constants = {"w": weights, "s": np.float32([0.1, 0.2, 0.3, 0.4]), "z": np.full(4, 128, np.uint8)}
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0), node("Conv", ["x", "f"])]
    mended(model(nodes, constants), ORIN, "uint8-weights")


def test_a_missing_zero_point_of_int8_weights():
    nodes = [node("DequantizeLinear", ["w", "s"], ["f"]), node("Conv", ["x", "f"])]
    constants = {"w": np.ones((4, 4, 1, 1), np.int8), "s": np.float32(0.1)}
    after = mended(model(nodes, constants), ORIN, "zero-point")
    assert len(after.graph.node[0].input) == 3


def test_constant_branches_and_sizes_are_folded():
    def branch(kind):
        value = helper.make_tensor_value_info(f"out_{kind}", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(kind, ["x"], [f"out_{kind}"])], kind, [], [value])

    nodes = [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "one"], ["channels"]),
        node("Equal", ["channels", "four"], ["same"]),
        helper.make_node("If", ["same"], ["y"], "the_If", then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]  # fmt: skip
    before = model(nodes, {"one": np.int64(1), "four": np.int64(4)})
    assert [n.op_type for n in mended(before).graph.node] == ["Relu"]


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_beyond_a_shape_is_left_to_those_who_run_it(index):
    nodes = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "index"], ["size"]),
             helper.make_node("Cast", ["size"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    found = lint(model(nodes, {"index": np.int64(index)}, output=()), TX2)
    assert "Gather" in [n.op_type for n in found.model.graph.node]


def test_the_given_model_is_left_alone_and_findings_are_json():
    before = model([node("ReduceMean", ["x", "axes"])], {"axes": np.int64([2, 3])}, 18)
    bytes_before = before.SerializeToString(deterministic=True)
    found = lint(before, TX2)
    assert before.SerializeToString(deterministic=True) == bytes_before
    assert json.loads(json.dumps(found.to_json()))[0].keys() == {"rule", "node", "state", "problem", "remedy"}


def test_a_second_run_finds_nothing_to_mend():
    before = model([node("ReduceMean", ["x", "axes"])], {"axes": np.int64([2, 3])}, 18, ir=10)
    assert lint(lint(before, TX2).model, TX2).findings == ()
