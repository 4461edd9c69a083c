import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices.support.errors import UserError
from export import document
from export.exporter import export_file

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)


def convolution(path, batch=1, answers=(None, None, None, None)):
    """A file with a convolution of images (batch, 3, 8, 8), whose output is said to have these sizes."""
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])]
    ports.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, answers))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(WEIGHTS, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, path)
    return model


@pytest.mark.parametrize("batch, answers", [(1, (None, 4, None, None)), (-1, (-1, 4, 6, 6)), (-1, ("n", 4, 6, 6))])
def test_sizes_that_a_file_leaves_open_are_those_that_are_asked_for(tmp_path, batch, answers):
    """Some tools write -1 for them, and some leave those of the output open where the input is fixed."""
    convolution(tmp_path / "a.onnx", batch, answers)
    report = export_file(tmp_path / "a.onnx", None, tmp_path / "b.onnx", "tx2")
    assert report.inputs == {"x": [1, 3, 8, 8]} and report.outputs["y"][:2] == [1, 4]
    if batch < 0:
        report = export_file(tmp_path / "a.onnx", None, tmp_path / "b.onnx", "tx2", batch="1:2:4")
        assert report.inputs == {"x": ["batch", 3, 8, 8]} and report.outputs == {"y": ["batch", 4, 6, 6]}


def test_a_network_of_more_than_2_gb_is_one_sentence(tmp_path):
    model = convolution(tmp_path / "a.onnx")
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "a.data")
    tensor.ClearField("raw_data")
    tensor.dims[0] = 2**31 // (4 * 3 * 3 * 3) + 1
    (tmp_path / "a.data").write_bytes(b"")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="larger than 2 GB"):
        document.load(tmp_path / "a.onnx")
