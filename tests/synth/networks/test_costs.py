"""Costs against torch's own counter, an ONNX count, and hand arithmetic."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
import torch
from module_zoo import INPUT_SHAPE, ZOO, make
from random_modules import RandomModule
from torch.utils.flop_counter import FlopCounterMode

from devices.board import resolve_target
from devices.cost_model import CostModel
from devices.layer_cost import OPERATION_KINDS, fuse
from devices.onnx_layers import operations_of_onnx
from devices.support.errors import CheckFailed, UserError
from synth.networks.costs import KINDS, costs, folded_norm, operations_of
from synth.networks.module import build, fresh_weights
from synth.networks.network import Network, Vertex
from synth.networks.operators import operator_names
from synth.networks.rewriting import into_additions, with_attention
from synth.networks.tracing import trace

CONV = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1, "bias": False}


def network(*vertices: tuple, outputs: tuple[str, ...] = ()) -> Network:
    """From (name, op, attrs, inputs) and an input of 2 x 4 x 4."""
    made = (Vertex("input", "input", {"shape": [2, 4, 4]}), *(Vertex(*v) for v in vertices))
    return Network(made, outputs or (made[-1].name,))


@pytest.mark.parametrize("name", ZOO)
def test_macs_are_half_of_torchs_flops(name):
    traced, weights = trace(make(name), INPUT_SHAPE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build(traced, weights).eval()(torch.zeros(1, *INPUT_SHAPE))
    assert 2 * costs(traced).macs == counter.get_total_flops() > 0


@pytest.mark.parametrize("name", ZOO)
def test_raw_params_are_those_of_the_module(name):
    module = make(name)
    traced, _ = trace(module, INPUT_SHAPE)
    assert costs(traced).params_raw == sum(p.numel() for p in module.parameters())


def heavy_layers(operations) -> list[tuple]:
    return [(o.macs, o.weights, o.groups, o.kernel, o.stride, o.output_shape) for o in operations if o.macs]


def exported(traced: Network, weights, path) -> str:
    from export.exporter import export_network

    try:
        export_network(build(traced, weights).eval(), INPUT_SHAPE, None, path, "tx2")
    except CheckFailed as error:
        pytest.skip(f"the export room does not write this network yet: {error}")
    return str(path)


@pytest.mark.parametrize(("name", "attention"), [*((name, False) for name in ZOO), ("resnet", True),
                                                 ("preactivation", True)])
def test_onnx_and_network_give_the_same_layers_and_params(name, attention, tmp_path):
    traced, weights = trace(make(name), INPUT_SHAPE)
    if attention:
        traced = with_attention(traced, into_additions(traced))
        weights = fresh_weights(traced, 0)
    path = exported(traced, weights, tmp_path / "model.onnx")

    def layers(operations):
        shapeless = ("shuffle", "norm")  # written there as several operations on other shapes
        return [(c.kind, c.macs, c.weights, c.input_elements, c.output_elements, c.groups, c.kernel, c.stride,
                 c.host_elements, () if c.kind in shapeless else c.output_shape) for c in fuse(operations)]

    if not any(v.op == "channel_norm" for v in traced.vertices):  # fourteen operations there
        assert layers(operations_of(traced)) == layers(operations_of_onnx(path))
    assert heavy_layers(operations_of(traced)) == heavy_layers(operations_of_onnx(path))
    heavy = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    model = onnx.load(path)
    read = {name for node in model.graph.node if node.op_type in heavy for name in node.input}
    stored = sum(onnx.numpy_helper.to_array(t).size for t in model.graph.initializer if t.name in read)
    cost = costs(traced)
    weighted = sum(cost.params_of[v.name] for v in traced.vertices if v.op in ("conv", "conv_transpose", "linear"))
    assert stored == weighted


# of the programs of these seeds torch's exporter does once what they do twice: the same pool, a tensor copied twice
SHARED_IN_THE_FILE = (1, 17)


@pytest.mark.parametrize("seed", [seed for seed in range(26) if seed not in SHARED_IN_THE_FILE])
def test_the_onnx_file_of_any_network_costs_what_the_network_costs(seed, tmp_path):
    """Random programs of convolutions, pools, norms, concatenations, slices, products..., exported for a TX2."""
    from export.exporter import export_network

    shape = (3, 12, 12)
    traced, weights = trace(RandomModule(seed, shape), shape)
    try:
        export_network(build(traced, weights).eval(), shape, None, str(tmp_path / "model.onnx"), "tx2")
    except (CheckFailed, UserError) as error:
        pytest.skip(f"torch's exporter does not write this program: {error}")
    found = [fuse(operations_of(traced)), fuse(operations_of_onnx(tmp_path / "model.onnx"))]

    def listed(layers):
        return Counter((c.kind, c.macs, c.weights, c.input_elements, c.output_elements, c.groups, c.host_elements)
                       for c in layers)

    assert listed(found[0]) == listed(found[1])
    model = CostModel.for_target(resolve_target("tx2"), "fp16")
    of_network, of_file = (model.predict(layers, 4) for layers in found)
    assert of_file.latency_ms.value == pytest.approx(of_network.latency_ms.value)
    assert of_file.energy_mj["module"].value == pytest.approx(of_network.energy_mj["module"].value)


def test_a_norm_folds_where_it_alone_follows():
    conv = ("conv", "conv", {**CONV, "out": 3}, ("input",))
    norm = ("norm", "batch_norm", {"eps": 1e-5, "momentum": 0.1, "affine": True}, ("conv",))
    folded = network(conv, norm)
    assert folded_norm(folded, "conv") == "norm"
    assert costs(folded).params == 3 * 2 * 9 + 3
    assert costs(folded).params_raw == 3 * 2 * 9 + 2 * 3
    assert costs(folded).weight_bytes == 4 * (3 * 2 * 9 + 3)
    read_twice = network(conv, norm, ("add", "add", {}, ("conv", "norm")))
    assert folded_norm(read_twice, "conv") is None
    assert costs(read_twice).params == costs(read_twice).params_raw == 3 * 2 * 9 + 2 * 3
    shown = network(conv, norm, outputs=("conv", "norm"))
    assert folded_norm(shown, "conv") is None


def test_macs_by_hand():
    net = network(
        ("deep", "conv", {**CONV, "out": 2, "groups": 2, "depthwise": True, "bias": True}, ("input",)),
        ("up", "conv_transpose", {**CONV, "out": 3, "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0],
                                  "output_padding": [0, 0]}, ("deep",)),
        ("pool", "adaptive_avg_pool", {"size": [1, 1]}, ("up",)), ("flat", "flatten", {}, ("pool",)),
        ("fc", "linear", {"out": 5, "bias": True}, ("flat",)))
    found = costs(net)
    assert found.macs_of["deep"] == 2 * 16 * 9
    assert found.macs_of["up"] == 2 * 16 * 3 * 4
    assert found.macs_of["fc"] == 3 * 5
    assert found.macs == sum(found.macs_of.values())
    assert found.params == found.params_raw == (2 * 9 + 2) + (2 * 3 * 4) + (3 * 5 + 5)


def test_peak_memory_by_hand():
    tensor = 4 * 2 * 4 * 4  # bytes of the input, and of every map here
    conv = {**CONV, "out": 2}
    chain = network(("a", "conv", conv, ("input",)), ("b", "conv", conv, ("a",)), ("c", "conv", conv, ("b",)))
    assert costs(chain).peak_memory_bytes == 2 * tensor
    assert costs(chain).activation_bytes == 4 * tensor
    relu = {"kind": "relu"}
    in_place = network(("a", "conv", conv, ("input",)), ("r", "activation", relu, ("a",)), ("b", "conv", conv, ("r",)))
    assert costs(in_place).peak_memory_bytes == 2 * tensor
    residual = network(("a", "conv", conv, ("input",)), ("r", "activation", relu, ("a",)), ("b", "conv", conv, ("r",)),
                       ("add", "add", {}, ("b", "a")))
    assert costs(residual).peak_memory_bytes == 3 * tensor  # a is read later, so that r needs memory of its own
    sum_in_place = network(("a", "conv", conv, ("input",)), ("b", "conv", conv, ("a",)), ("add", "add", {}, ("a", "b")))
    assert costs(sum_in_place).peak_memory_bytes == 2 * tensor


def test_a_view_keeps_its_memory_alive():
    tensor = 4 * 2 * 4 * 4
    conv = {**CONV, "out": 2}
    net = network(("a", "conv", conv, ("input",)), ("half", "slice", {"start": 0, "stop": 1}, ("a",)),
                  ("other", "slice", {"start": 1, "stop": 2}, ("a",)), ("r", "activation", {"kind": "relu"}, ("half",)),
                  ("cat", "cat", {}, ("r", "other")))
    # r cannot overwrite the first half in this accounting, since `other` still reads the same memory
    assert costs(net).peak_memory_bytes == tensor + tensor // 2 + tensor
    assert costs(net).activation_bytes == 2 * tensor + tensor // 2 + tensor


def test_an_output_stays_alive():
    tensor = 4 * 2 * 4 * 4
    conv = {**CONV, "out": 2}
    vertices = (("a", "conv", conv, ("input",)), ("b", "conv", conv, ("a",)), ("c", "conv", conv, ("b",)))
    assert costs(network(*vertices)).peak_memory_bytes == 2 * tensor
    assert costs(network(*vertices, outputs=("a", "c"))).peak_memory_bytes == 3 * tensor


def test_every_operator_has_a_kind():
    assert set(KINDS) == set(operator_names())
    assert set(KINDS.values()) <= set(OPERATION_KINDS)
