"""The networks that a calibration measures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from devices.calibration_set import NETWORKS, Condition, conditions, write_network
from devices.layer_cost import HEAVY_KINDS, fuse
from devices.onnx_layers import operations_of_onnx


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_sound_small_and_the_same_every_time(name, tmp_path):
    path = write_network(name, tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version <= 13 and model.ir_version <= 7  # what JetPack 4's TensorRT can read
    with open(path, "rb") as stream:
        first = stream.read()
    assert len(first) < 12e6
    with open(write_network(name, tmp_path), "rb") as stream:
        assert stream.read() == first
    image = np.random.default_rng(0).standard_normal((2, *NETWORKS[name].shape), np.float32)
    answer = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
    assert answer.shape == (2, 10) and np.isfinite(answer).all() and np.abs(answer).max() < 1e4


def test_the_set_has_every_heavy_kind_and_a_wide_range(tmp_path):
    layers = {name: fuse(operations_of_onnx(write_network(name, tmp_path))) for name in NETWORKS}
    assert {layer.kind for found in layers.values() for layer in found} >= {*HEAVY_KINDS, "pool"}
    macs = [sum(layer.macs for layer in found) for found in layers.values()]
    assert max(macs) > 1000 * min(macs)
    assert max(map(len, layers.values())) > 8 * min(map(len, layers.values()))


def test_a_run_that_is_cut_early_has_seen_every_network():
    found = conditions(["fp16", "fp32"], ["MAXN", "MAXQ"])
    assert len(set(found)) == len(found)
    assert {condition.network for condition in found[:len(NETWORKS)]} == set(NETWORKS)
    assert [c.mode for c in found] == ["MAXN"] * (len(found) // 2) + ["MAXQ"] * (len(found) // 2)
    assert 20 <= len(conditions(["fp16", "fp32"])) <= 25  # some ten minutes
    assert str(Condition("dense", 8, "fp16", "MAXN")) == "dense, batch 8, fp16, MAXN"


def test_it_needs_neither_torch_nor_onnxruntime(tmp_path):
    code = (f"import sys; from devices.calibration_set import write_network; write_network('deep', {str(tmp_path)!r}); "
            "sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
