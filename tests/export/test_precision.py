import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from devices.board import known_boards, load_board
from devices.support.errors import CheckFailed, UserError
from export import calibration, document, folding, parity
from export.batch import Batch
from export.dialect import dialect_of
from export.exporter import export_network
from export.parity import OnnxRunner, compare, in_batches, sample_images
from export.precision import to_fp16, to_int8
from export.torch_onnx import trace


@pytest.fixture(scope="module")
def resnet():
    return trace(zoo.build("resnet"), zoo.SHAPE, opset=13, batch=Batch.parse("1:2:5"))


def test_fp16_keeps_fp32_at_the_door(resnet):
    half = to_fp16(resnet)
    onnx.checker.check_model(half, full_check=True)
    assert {value.type.tensor_type.elem_type for value in [*half.graph.input, *half.graph.output]} == {
        TensorProto.FLOAT
    }
    assert {tensor.data_type for tensor in half.graph.initializer} == {TensorProto.FLOAT16}
    assert half.ByteSize() < 0.6 * resnet.ByteSize()
    assert [n.op_type for n in half.graph.node].count("Cast") == 2


def test_fp16_clips_what_it_cannot_hold():
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    weights = numpy_helper.from_array(np.float32([1e30, -1e30]), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    (got,) = OnnxRunner(to_fp16(model).SerializeToString())(np.zeros(2, np.float32))
    assert got.tolist() == [65504, -65504]


def test_what_onnx_allows_in_fp32_alone_is_cast_around():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.CELU(), torch.nn.Upsample(scale_factor=2))
    model = trace(module, zoo.SHAPE, opset=20, batch=Batch.parse("1:2:5"))
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    images = zoo.images(2)
    want, got = (OnnxRunner(m.SerializeToString())(images)[0] for m in (model, half))
    assert 1e-6 < np.abs(want - got).max() < 1e-2


def test_casts_around_nodes_without_names_have_names_of_their_own():
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    nodes = [helper.make_node("Celu", [one], [other]) for one, other in ("xa", "ay")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    half = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7))
    assert OnnxRunner(half.SerializeToString())(np.float32([1, 2]))[0].tolist() == [1, 2]


def test_classes_are_compared_as_equal_or_not():
    """A rounding flips a class where two are near each other; by how much the numbers differ says nothing."""
    wanted, found = [np.int64([[3, 90], [2, 1]])], [np.int64([[3, 1], [2, 1]])]
    told = compare(wanted, found, "fp16", "given")
    assert told.top1_agreement == 0.75 and told.relative_error == 0
    with pytest.raises(CheckFailed):
        parity.require(told, "fp16")
    parity.require(compare(wanted, wanted, "fp32", "given"), "fp32")


def test_an_output_that_is_also_used_inside_survives_fp16():
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyz"]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("", 13)], ir_version=7
    )
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert [o.tolist() for o in OnnxRunner(half.SerializeToString())(np.float32([1, -2]))] == [[1, 0], [-1, 0]]


def test_what_fp16_engines_cannot_compute_is_refused_though_the_file_is_fp32(tmp_path):
    class Loud(torch.nn.Module):
        def forward(self, x):
            return (x * 1e4) * 1e4 * 1e-8

    with pytest.raises(CheckFailed, match="does not compute what the network does"):
        export_network(Loud(), (4,), None, tmp_path / "a.onnx", "tx2", precision="fp16")
    assert not list(tmp_path.iterdir())


def test_int8_quantises_the_skip_branch_of_an_addition_and_not_what_a_layer_gives_it():
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    nodes = [("Relu", "x", "a"), ("Conv", "a", "w", "b"), ("Add", "b", "a", "y")]
    graph = helper.make_graph([helper.make_node(kind, inputs, [made]) for kind, *inputs, made in nodes], "g", ports[:1],
                              ports[1:], [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    small = to_int8(model, np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32), origin="given")
    makers = {name: node.op_type for node in small.graph.node for name in node.output}
    (layer,), (addition,) = ([n for n in small.graph.node if n.op_type == kind] for kind in ("Conv", "Add"))
    assert [makers[name] for name in layer.input] == ["DequantizeLinear"] * 2
    assert [makers[name] for name in addition.input] == ["Conv", "DequantizeLinear"]


def test_int8_wants_real_images_and_enough(resnet):
    for images, origin, words in [(zoo.images(32), "random", "real images"), (zoo.images(3), "given", "at least 16")]:
        with pytest.raises(UserError, match=words):
            to_int8(resnet, images, origin=origin)


def test_weights_that_serve_two_layers_are_quantised_once():
    layer = torch.nn.Conv2d(3, 3, 3, padding=1)
    model = trace(torch.nn.Sequential(layer, torch.nn.ReLU(), layer), zoo.SHAPE, opset=13, batch=Batch.parse(1))
    small = to_int8(model, zoo.images(32), origin="given")
    onnx.checker.check_model(small, full_check=True)
    assert [node.op_type for node in small.graph.node].count("QuantizeLinear") == 3  # one weight, two activations
    want, got = (OnnxRunner(m.SerializeToString())(zoo.images(1))[0] for m in (model, small))
    assert np.abs(want - got).max() < 0.05 * np.abs(want).max()


def test_int8_scales_of_each_channel_reach_its_largest_weight():
    weights = np.float32([[1.27, -0.5], [0.0, 0.0], [-12.7, 3]])
    np.testing.assert_allclose(calibration.weight_scales(weights, 0), [0.01, 1, 0.1])
    np.testing.assert_allclose(calibration.weight_scales(weights, None), 0.1)


def test_an_outlier_is_clipped_and_a_uniform_tensor_is_not():
    uniform = np.full(calibration.BINS, 10.0)
    assert calibration._best_scale(uniform, 127.0) == pytest.approx(1.0, rel=0.03)
    normal = 1e6 * np.exp(-0.5 * np.linspace(0, 20, calibration.BINS) ** 2)
    normal[-1] += 1
    assert calibration._best_scale(normal, 127.0) < 0.5
    assert calibration._best_scale(np.zeros(calibration.BINS), 0.0) == 1


@pytest.mark.parametrize("name", ["shufflenetv2", "refinenet", "detectnet"])
def test_folding_changes_no_bit(name):
    model = trace(zoo.build(name), zoo.SHAPE, opset=13, batch=Batch.parse("1:2:5"))
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    folding.fold(folded)
    onnx.checker.check_model(folded, full_check=True)
    assert not {"Shape", "If"} & {node.op_type for node in folded.graph.node}
    # without the runtime's own fusions, which known sizes make it choose otherwise
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [onnxruntime.InferenceSession(m.SerializeToString(), options) for m in (model, folded)]
    for count in (1, 5):
        want, got = (session.run(None, {"input": zoo.images(count)}) for session in sessions)
        assert all(np.array_equal(w, g) for w, g in zip(want, got, strict=True))


def test_parity_counts_a_tie_as_agreement_and_a_change_as_none():
    wanted = [np.float32([[1.0, 1.0 + 1e-7], [0, 5]])]
    assert compare(wanted, [np.float32([[1.0, 0.99999], [0, 5]])], "fp32", "given").top1_agreement == 1
    assert compare(wanted, [np.float32([[1.0, 1.0], [5, 0]])], "fp32", "given").top1_agreement == 0.5
    assert compare([np.zeros((2, 3, 4, 4))], [np.ones((2, 3, 4, 4))], "fp32", "given").top1_agreement is None


class TestADetectorsAnswers:
    """Boxes in pixels and scores in one output: [N, 4 + classes, anchors], or the same the other way round."""

    @staticmethod
    def answers(score=0.9, reach=640.0):
        random = np.random.default_rng(0)
        boxes, scores = reach * random.random((2, 4, 50)), score * random.random((2, 8, 50))
        return np.concatenate([boxes, scores], 1)

    @pytest.mark.parametrize("turned", [False, True], ids=["channels first", "channels last"])
    def test_scores_are_judged_beside_scores(self, turned):
        wanted = self.answers()
        found = wanted.copy()
        found[:, 4:] *= 0.5
        if turned:
            wanted, found = wanted.swapaxes(1, 2), found.swapaxes(1, 2)
        told = compare([np.ones((2, 1)), wanted], [np.ones((2, 1)), found], "fp16", "given")
        assert told.relative_error == pytest.approx(0.5, rel=1e-6)
        with pytest.raises(CheckFailed, match=r"0\.5 relative in channels 4 to 11 of output 1, which reach 0\.9"):
            parity.require(told, "fp16")

    def test_boxes_are_judged_beside_boxes(self):
        wanted = self.answers()
        told = compare([wanted], [wanted + np.where(np.arange(12) < 4, 6.4, 0)[:, None]], "fp16", "given")
        assert told.relative_error == pytest.approx(0.01, rel=0.02) and "channels 0 to 3" in told.where
        parity.require(told, "fp16")

    @pytest.mark.parametrize("wanted", [
        pytest.param({"reach": 1.0}, id="boxes as shares of the image"), pytest.param({"score": 1e-3}, id="no score"),
        pytest.param({"score": 10.0}, id="logits in the place of scores"),
    ])
    def test_other_answers_are_judged_together(self, wanted):
        wanted = self.answers(**wanted)
        told = compare([wanted], [wanted * 1.01], "fp16", "given")
        assert told.relative_error == pytest.approx(0.01) and not told.where


def test_answers_that_are_not_finite():
    with pytest.raises(UserError, match="answers NaN"):
        compare([np.array([[np.nan, 1]])], [np.zeros((1, 2))], "fp32", "given")
    worst = compare([np.ones((1, 2))], [np.array([[np.inf, 1]])], "fp16", "given")
    assert worst.relative_error == np.inf
    with pytest.raises(CheckFailed, match="inf relative"):
        parity.require(worst, "fp16")


@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_every_image_is_answered_once_in_order(count, sizes):
    images = np.arange(count, dtype=np.float32)[:, None]
    (answers,) = in_batches(lambda batch: [batch * 2], images, sizes)
    assert np.array_equal(answers, images * 2)


def test_samples_are_enough_for_every_batch():
    images, origin = sample_images(zoo.images(2), zoo.SHAPE, Batch(1, 8, 32))
    assert len(images) == 41 and origin == "given" and np.array_equal(images[2], images[0])


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 3000))
def test_damage_is_one_sentence(tmp_path_factory, noise, place):
    path = tmp_path_factory.mktemp("damage") / "a.onnx"
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "relu")], "g", [], []),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
    )
    data = model.SerializeToString()
    place %= len(data)
    path.write_bytes(data[:place] + noise)
    try:
        document.load(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("target", "jetpack", "opset", "versions"),
    [
        ("tx2:maxq", None, 13, [(8, 0, 1), (8, 2, 1)]),
        ("tx2", "4.6.3", 13, [(8, 2, 1)]),
        ("orin-nx", None, 17, [(8, 4, 1), (8, 5, 2), (8, 6, 2), (10, 3), (10, 16, 2)]),
        ("orin-nx", "5.1.2", 17, [(8, 5, 2)]),
        ("orin-nx", "6.2", 20, [(10, 3)]),
        ("orin-nano", "6.2.1", 20, [(10, 3)]),
        ("cpu", None, 17, []),
    ],
)
def test_a_dialect_is_what_every_jetpack_of_the_board_reads(target, jetpack, opset, versions):
    dialect = dialect_of(target, jetpack)
    assert (dialect.opset, list(dialect.tensorrt)) == (opset, versions)
    assert dialect.before(8, 2) == any(version < (8, 2) for version in versions)


# by JetPack: opset that its parser knows, the IR of that opset (facts: NVIDIA's release notes and onnx-tensorrt)
READ = {"4.6": (13, 7), "4.6.1": (13, 7), "4.6.6": (13, 7), "5.0.2": (17, 8), "5.1.2": (17, 8), "6.0": (17, 8),
        "6.1": (20, 9), "7.2": (20, 9)}  # fmt: skip


@pytest.mark.parametrize("board", [name for name in known_boards() if load_board(name).kind == "jetson"])
def test_opset_and_ir_of_every_jetpack_of_every_board(tmp_path, board):
    opsets = []
    for row in load_board(board).software:
        if not row.get("max_opset"):
            continue
        name = row["jetpack"].split("-")[0].split(",")[0].replace(".x", ".2")
        report = export_network(torch.nn.Conv2d(3, 2, 1), (3, 4, 4), None, tmp_path / "a.onnx", board, jetpack=name)
        model = onnx.load(tmp_path / "a.onnx")
        assert (document.opset_of(model), model.ir_version) == READ[name] == (report.opset, report.ir)
        opsets.append(report.opset)
    assert len(opsets) >= 2 and dialect_of(board).opset == min(opsets)  # what all of the board's JetPacks read
