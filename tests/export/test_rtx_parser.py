"""Every exported model through a real TensorRT parser and builder: TensorRT-RTX, which needs no GPU to build.

The structures of the zoo, both prototypes of synth, and networks that its space draws, FP32 and FP16.

What it shows: today's nvonnxparser reads the files, and a builder makes engines of them. What it does not show: that
TensorRT 8.2 does (the linter's rules stand for that one), what an engine answers, or how fast it is.
"""

import functools
import platform
import sys

import numpy as np
import pytest
import zoo

from devices.board import resolve_target
from export.exporter import export_network

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


def build(path, batch, shape=zoo.SHAPE):
    """Bytes of the engine; None is the builder's word for failure."""
    builder, network = parse(path)
    config = builder.create_builder_config()
    sizes = [int(size) for size in batch.split(":")]
    if len(sizes) == 3:
        profile = builder.create_optimization_profile()
        profile.set_shape("input", *((size, *shape) for size in sizes))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return 0 if engine is None else engine.nbytes


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_the_tx2_file_is_read_and_built(exported, name, batch):
    assert build(exported(name, batch=batch)[0], batch) > 0


@pytest.mark.parametrize("batch", ["1", "1:2:5"])
@pytest.mark.parametrize("name", zoo.STRUCTURES)
def test_the_fp16_graph_is_read_and_built(exported, name, batch):
    assert build(exported(name, "nvidia-gpu", batch, "fp16")[0], batch) > 0


# synth's, with the channels and size of their data and the batch to build for; a range takes a builder much longer
PROTOTYPES = {"resnet8": (1, (8, 8), "1:8:64"), "resnet20": (3, (32, 32), "1")}


@functools.cache
def networks_of_synth(name):
    """A prototype of synth as a module, and a network drawn from its widest space, with attention in it."""
    from synth.networks.module import build as module_of
    from synth.networks.tracing import trace
    from synth.objective.requirements import Requirements
    from synth.probing.probing import order_of_units
    from synth.prototypes import resnet
    from synth.run.scope import FRESH
    from synth.space.parent import ElasticParent
    from synth.space.prices import Prices
    from synth.space.space import NetworkSpace

    channels, size, _ = PROTOTYPES[name]
    prototype = getattr(resnet, name)(channels, size, 10).eval()
    network, weights = trace(prototype, (channels, *size), name)
    parent, random = ElasticParent(network, weights).widened(FRESH.expansion), np.random.default_rng(0)
    order = order_of_units(parent.channels, random.random(len(parent.channels.keep_all())))
    prices = Prices(Requirements.parse(("params <= 1M",)), resolve_target("tx2"))
    space = NetworkSpace(parent, order, prices, FRESH.choices)
    rows = np.stack([random.integers(len(site.choices), size=1) for site in space.sites], axis=1)
    drawn, _ = parent.draw(space.design(space.canonical(rows)[0]))
    assert any(vertex.op == "mul" for vertex in drawn.vertices)
    return [prototype, module_of(drawn).eval()]


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("name", PROTOTYPES)
def test_the_networks_of_synth_are_read_and_built(tmp_path, name, number):
    network, (channels, size, batch) = networks_of_synth(name)[number], PROTOTYPES[name]
    for target, precision in (("tx2", "fp32"), ("nvidia-gpu", "fp16")):
        path, shape = tmp_path / f"{target}.onnx", (channels, *size)
        export_network(network, shape, None, path, target, batch=batch, precision=precision)
        assert build(path, batch, shape) > 0


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
