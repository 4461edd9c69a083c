"""The ONNX Runtime runner: what it says of the file, and names that it cannot open."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from bench_samples import write_model
from onnx import TensorProto, helper, numpy_helper

from devices.support.errors import UserError
from edge_bench.agent.measure import prepare
from edge_bench.agent.runners.onnxruntime import OnnxRuntimeRunner


def precision_of(path):
    runner = OnnxRuntimeRunner.open({"model": str(path), "seed": 0, "shape": []})
    try:
        return runner.describe()["precision"]
    finally:
        runner.close()


def quantised(path):
    stored = [numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
              numpy_helper.from_array(np.array(0, np.int8), "zero")]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "graph", ports[:1], ports[1:], stored),
                              opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("said, precision", [
    ({"precision": '"fp16"', "precision_by": '"graph"'}, "fp16"),
    ({"precision": '"fp16"', "precision_by": '"builder"'}, "fp32"), ({}, "fp32")])
def test_the_precision_is_that_of_the_graph_and_not_of_its_input(tmp_path, said, precision):
    path = write_model(tmp_path / "net.onnx")
    model = onnx.load(path)
    for name, value in said.items():
        model.metadata_props.add(key=f"edgesynth.{name}", value=value)
    onnx.save(model, path)
    assert precision_of(path) == precision


def test_a_quantised_file_of_anybody_is_int8(tmp_path):
    assert precision_of(quantised(tmp_path / "net.onnx")) == "int8"


def test_a_name_that_is_no_utf_8_is_one_sentence(tmp_path):
    path = os.fsdecode(os.fsencode(write_model(tmp_path / "net.onnx")).replace(b"net", b"n\xe9t"))
    os.rename(tmp_path / "net.onnx", path)
    with pytest.raises(UserError, match=r"n�t\.onnx: only files whose whole path is UTF-8 can be used: rename it"):
        prepare({"model": path})
