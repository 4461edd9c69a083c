"""Every exported model through a real TensorRT parser and builder: TensorRT-RTX, which needs no GPU to build.

What it shows: today's nvonnxparser reads the files, and a builder makes engines of them. What it does not show: that
TensorRT 8.2 does (the linter's rules stand for that one), what an engine answers, or how fast it is.
"""

import functools
import platform
import sys

import pytest
import zoo

on_linux = sys.platform == "linux" and platform.machine() == "x86_64"
trt = (
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (it is for Linux on x86-64)")
    if on_linux
    else None
)
pytestmark = pytest.mark.skipif(not on_linux, reason="TensorRT-RTX is for Linux on x86-64")


@functools.cache
def logger():
    return trt.Logger(trt.Logger.ERROR)  # one for the whole process


def parse(path):
    """(builder, network) of a file; fails with the parser's words."""
    builder = trt.Builder(logger())
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger())
    if not parser.parse(path.read_bytes()):
        pytest.fail("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    return builder, network


def build(path, batch):
    """Bytes of the engine; None is the builder's word for failure."""
    builder, network = parse(path)
    config = builder.create_builder_config()
    sizes = [int(size) for size in batch.split(":")]
    if len(sizes) == 3:
        profile = builder.create_optimization_profile()
        profile.set_shape("input", *((size, *zoo.SHAPE) for size in sizes))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return 0 if engine is None else engine.nbytes


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_the_tx2_file_is_read_and_built(exported, name, batch):
    assert build(exported(name, batch=batch)[0], batch) > 0


@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_the_fp16_graph_is_read_and_built(exported, name):
    assert build(exported(name, "nvidia-gpu", precision="fp16")[0], "1") > 0


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_the_int8_graph_is_read(exported, name, batch):
    """Read alone: RTX promises no INT8 convolutions, so a built engine would show nothing about them."""
    parse(exported(name, "orin-nx", batch, "int8")[0])


def test_a_file_that_it_cannot_read_is_noticed(tmp_path):
    from onnx import TensorProto, helper

    shape = [1, 1, 4, 4]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", shape), ("y", [1, 1]))
    ]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path / "det.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(pytest.fail.Exception):
        parse(path)
