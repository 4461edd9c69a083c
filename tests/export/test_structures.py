"""Every structure of the zoo through the whole export, and what comes out of it."""

import onnx
import pytest
import zoo

from export.exporter import export_file, export_network


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_for_the_tx2(tmp_path, name, batch):
    report = export_network(zoo.build(name), zoo.SHAPE, zoo.images(), tmp_path / "a.onnx", "tx2", batch=batch)
    assert (report.opset, report.ir) == (13, 7)
    assert report.parity.relative_error < 1e-5
    model = onnx.load(tmp_path / "a.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds or name == "densenet"
    assert set(kinds) <= {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Div",
        "Flatten", "Gather", "Gemm", "GlobalAveragePool", "HardSigmoid", "LRN", "LogSoftmax", "MaxPool", "Mul",
        "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Transpose",
        "Unsqueeze", "Cast",
    }  # fmt: skip


@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_in_fp16_and_from_a_file_of_a_later_opset(tmp_path, name):
    desktop = export_network(
        zoo.build(name), zoo.SHAPE, zoo.images(), tmp_path / "a.onnx", "nvidia-gpu", precision="fp16"
    )
    assert (desktop.opset, desktop.precision_by) == (20, "graph")
    export_network(zoo.build(name), zoo.SHAPE, zoo.images(), tmp_path / "b.onnx", "nvidia-gpu")
    report = export_file(tmp_path / "b.onnx", zoo.images(), tmp_path / "c.onnx", "tx2", precision="fp16")
    assert (report.opset, report.ir, report.precision_by) == (13, 7, "builder")
    assert report.precision_parity is not None and report.precision_parity.relative_error < 1e-2
    assert report.parity.relative_error < 1e-5
    assert "opset" in {finding.rule for finding in report.findings}


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_exported_in_int8_where_the_board_has_it(tmp_path, name, batch):
    report = export_network(
        zoo.build(name), zoo.SHAPE, zoo.images(32), tmp_path / "a.onnx", "orin-nx", precision="int8", batch=batch
    )
    assert report.precision_by == "graph" and report.parity.rms_error < 0.2
    kinds = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert kinds.count("DequantizeLinear") > 4
