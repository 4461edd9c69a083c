"""Operations of ONNX files: the networks of the zoo, and files that are wrong."""

from __future__ import annotations

import pathlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tx2_zoo import NETWORKS, build

from devices.board import resolve_target
from devices.cost_model import CostModel
from devices.layer_cost import fuse
from devices.onnx_layers import operations_of_onnx
from devices.support.errors import UserError


def save(path: pathlib.Path, nodes: list, shape: list, weights: dict[str, tuple[int, ...]], opset: int = 13,
         output: str = "y") -> pathlib.Path:
    """A model with one input "x" and weights of these shapes."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), path)
    return path


@pytest.fixture(scope="module")
def mlp_file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return build("mlp_100", tmp_path_factory.mktemp("mlp"))


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_the_known_macs(name: str, tmp_path: pathlib.Path) -> None:
    layers = fuse(operations_of_onnx(build(name, tmp_path)))
    assert 1e-9 * sum(layer.macs for layer in layers) == pytest.approx(NETWORKS[name][2], rel=0.05)


def test_batch_norm_beside_the_convolution_or_folded_into_it_costs_the_same(tmp_path: pathlib.Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3], name="conv")
    biased = helper.make_node("Conv", ["x", "w", "b"], ["n"], pads=[1, 1, 1, 1], kernel_shape=[3, 3], name="conv")
    norm = helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"])
    relu = helper.make_node("Relu", ["n"], ["y"])
    w = {"w": (8, 3, 3, 3)}
    apart = save(tmp_path / "a.onnx", [conv, norm, relu], [1, 3, 8, 8], {**w, **dict.fromkeys("sbmv", (8,))})
    folded = save(tmp_path / "b.onnx", [biased, relu], [1, 3, 8, 8], {**w, "b": (8,)})
    [first], [second] = fuse(operations_of_onnx(apart)), fuse(operations_of_onnx(folded))
    assert (first.macs, first.weights, first.input_elements, first.output_elements, first.kind) == (
        second.macs, second.weights, second.input_elements, second.output_elements, second.kind) == (
        8 * 27 * 64, 216, 192, 512, "dense")


@pytest.mark.parametrize("batch", ["n", None, 8])
def test_an_image_costs_the_same_whatever_batch_the_file_was_made_for(batch, tmp_path: pathlib.Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], group=2),
             helper.make_node("Flatten", ["c"], ["f"]), helper.make_node("MatMul", ["f", "l"], ["m"]),
             helper.make_node("Add", ["m", "b"], ["y"])]
    weights = {"w": (4, 2, 3, 3), "l": (4 * 36, 10), "b": (10,)}
    layers = fuse(operations_of_onnx(save(tmp_path / "m.onnx", nodes, [batch, 4, 8, 8], weights)))
    assert [(c.kind, c.macs, c.weights, c.output_elements) for c in layers] == [
        ("grouped", 144 * 18, 72, 144), ("linear", 1440, 1440, 10)]
    assert [c.host_elements for c in layers] == [256, 10]


def test_transposed_convolutions_and_what_only_moves_data(tmp_path: pathlib.Path) -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("Constant", [], ["shape"], value=helper.make_tensor("v", TensorProto.INT64, [5],
                                                                                  [1, 2, 3, 16, 16])),
             helper.make_node("Reshape", ["c", "shape"], ["r"]),
             helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
             helper.make_node("Constant", [], ["back"], value=helper.make_tensor("v", TensorProto.INT64, [4],
                                                                                 [1, 6, 16, 16])),
             helper.make_node("Reshape", ["t", "back"], ["s"]),
             helper.make_node("Split", ["s"], ["a", "b"], axis=1),
             helper.make_node("Mul", ["a", "b"], ["y"])]
    layers = fuse(operations_of_onnx(save(tmp_path / "m.onnx", nodes, [1, 4, 8, 8], {"w": (4, 6, 2, 2)})))
    assert [c.kind for c in layers] == ["dense", "shuffle", "shuffle", "shuffle", "elementwise"]
    assert layers[0].macs == 4 * 64 * 6 * 4
    assert [c.output_elements for c in layers[1:]] == [1536, 768, 768, 768]


def test_an_output_that_the_network_goes_on_with_is_written(tmp_path: pathlib.Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1], name="conv"),
             helper.make_node("Relu", ["c"], ["y"], name="relu")]
    path = save(tmp_path / "m.onnx", nodes, [1, 4, 8, 8], {"w": (4, 4, 1, 1)})
    assert [c.host_elements for c in fuse(operations_of_onnx(path))] == [512]
    loaded = onnx.load(path)
    loaded.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4, 8, 8]))
    onnx.save(loaded, path)
    assert [c.host_elements for c in fuse(operations_of_onnx(path))] == [512, 256]


def test_an_operator_without_a_cost_is_named(tmp_path: pathlib.Path) -> None:
    nodes = [helper.make_node("Fancy", ["x"], ["f"], domain="my.own", name="odd"),
             helper.make_node("Relu", ["f"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [1, 3, 8, 8], {})
    loaded = onnx.load(path)
    loaded.graph.value_info.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [1, 3, 8, 8]))
    loaded.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(loaded, path)
    layers = fuse(operations_of_onnx(path))
    assert [c.name for c in layers if c.kind == "unknown"] == ["odd (Fancy)"]
    prediction = CostModel.for_target(resolve_target("tx2"), "fp16").predict(layers)
    assert any("odd (Fancy)" in warning for warning in prediction.warnings)


def test_weights_in_a_side_file_need_not_be_read_but_must_be_there(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [1, 64], {"w": (64, 64)})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert fuse(operations_of_onnx(path))[0].weights == 4096
    (tmp_path / "m.data").unlink()
    with pytest.raises(UserError, match=r"weights file m\.data is missing"):
        operations_of_onnx(path)


def test_unknown_sizes_are_refused(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [1, 3, "height", "width"], {})
    with pytest.raises(UserError, match="the shape of x is unknown; export the model with fixed input sizes"):
        operations_of_onnx(path)


def test_what_does_not_depend_on_the_image_costs_nothing(tmp_path: pathlib.Path) -> None:
    nodes = [helper.make_node("Relu", ["w"], ["y"])]
    with pytest.raises(UserError, match="nothing in the model depends on its input"):
        operations_of_onnx(save(tmp_path / "m.onnx", nodes, [1, 4], {"w": (4,)}))


def test_a_missing_file_and_a_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        operations_of_onnx(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="it is a folder"):
        operations_of_onnx(tmp_path)


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_random_bytes_are_no_model(tmp_path: pathlib.Path, data: bytes) -> None:
    path = tmp_path / "wild.onnx"
    path.write_bytes(data)
    with pytest.raises(UserError):
        operations_of_onnx(path)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_a_damaged_model_is_read_or_refused(mlp_file: pathlib.Path, tmp_path: pathlib.Path,
                                              data: st.DataObject) -> None:
    """Never a traceback, whichever byte is wrong or wherever the file ends."""
    path = tmp_path / "damaged.onnx"
    content = bytearray(mlp_file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[position:]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        layers = fuse(operations_of_onnx(path))
        assert all(layer.macs >= 0 for layer in layers)
    except UserError as error:
        assert str(path) in str(error)
