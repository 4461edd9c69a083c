"""Every structure of the zoo through the whole export, and what comes out of it."""

import onnx
import pytest
import zoo

from export.exporter import export_file

ORDINARY = {
    "Add", "AveragePool", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Flatten", "Gemm", "GlobalAveragePool",
    "HardSigmoid", "LRN", "LogSoftmax", "MaxPool", "Mul", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
    "Softmax", "Transpose", "Div", "Split",
}  # fmt: skip


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_for_the_tx2(exported, name, batch):
    path, report = exported(name, batch=batch)
    assert (report.opset, report.ir) == (13, 7)
    assert report.parity.relative_error < 1e-5 and report.findings == ()
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    # sizes are worked out before they are written, and a batch norm stays where no convolution comes before it
    assert kinds - ORDINARY <= ({"BatchNormalization"} if name == "densenet" else set())


@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_in_fp16_in_the_graph(exported, name):
    path, report = exported(name, "nvidia-gpu", precision="fp16")
    assert (report.opset, report.precision_by) == (20, "graph")
    assert 1e-6 < report.parity.relative_error < 1e-2
    fp32 = onnx.TensorProto.FLOAT
    kept = [tensor.name for tensor in onnx.load(path).graph.initializer if tensor.data_type == fp32]
    assert all("scales" in tensor for tensor in kept)


@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_a_file_of_a_later_opset_is_lowered_for_the_tx2(exported, tmp_path, name):
    source, _ = exported(name, "nvidia-gpu", batch="1:2:5")
    report = export_file(source, zoo.images(), tmp_path / "a.onnx", "tx2", precision="fp16", batch="1:2:5")
    assert (report.opset, report.ir, report.precision_by) == (13, 7, "builder")
    assert report.precision_parity is not None and report.precision_parity.relative_error < 1e-2
    assert report.parity.relative_error < 1e-5
    assert "opset" in {finding.rule for finding in report.findings}


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_in_int8_where_the_board_has_it(exported, name, batch):
    path, report = exported(name, "orin-nx", batch, "int8")
    assert report.precision_by == "graph" and 1e-4 < report.parity.rms_error < 0.03
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = onnx.numpy_helper.to_array(weights[node.input[2]])
            assert zero.dtype == "int8" and not zero.any()
    per_channel = [t for t in model.graph.initializer if t.name.endswith("_scale") and len(t.dims) == 1]
    assert len(per_channel) >= sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
