"""A board's file made from measurements, on boards that exist as laws."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile

import numpy as np
import pytest
from board_laws import IDLE_W, Law, measured, other_shape, same_shape
from published_tx2 import layers_of

from devices.board import Board, load_board, resolve_target
from devices.calibration_set import NETWORKS, conditions, write_network
from devices.cost_model import CostModel
from devices.layer_cost import LayerCost, fuse
from devices.onnx_layers import operations_of_onnx
from devices.own_board import Calibration, Measured, calibrated_board
from devices.support.errors import CannotMeasure, UserError

FEW = ("short", "deep", "dense", "residual", "traffic", "stem")  # enough where the fit's quality is not the question
UNSEEN = ("resnet20", "cnv_25", "mobilenet_v1_0p25_128", "nasbench201_16M")


@functools.cache
def layers() -> dict[str, list[LayerCost]]:
    with tempfile.TemporaryDirectory() as folder:
        return {name: fuse(operations_of_onnx(write_network(name, folder))) for name in NETWORKS}


def measurements(law: Law, power: bool = True, modes: tuple[str, ...] = ("MAXN",)) -> list[Measured]:
    random = np.random.default_rng(0)
    return [measured(law, condition, layers()[condition.network], random, power=power)
            for condition in conditions(["fp16", "fp32"], modes)]


@functools.cache
def calibration(law: Law, power: bool = True) -> Calibration:
    return calibrated_board(load_board("tx2"), measurements(law, power), layers(), "mine", "2026-01-31", "a law")


def model(data: dict, precision: str = "fp16", mode: str | None = None) -> CostModel:
    board = Board(json.loads(json.dumps(data)))  # as it would be read from a file
    target = resolve_target("tx2")
    target.board, target.mode = board, board.mode(mode) if mode else board.default_mode
    return CostModel.for_target(target, precision)


@pytest.mark.parametrize(("law", "allowed"), [(same_shape, 0.06), (other_shape, 0.7)])
def test_the_file_predicts_networks_that_were_not_in_the_set(law, allowed):
    data, inside = calibration(law).data, []
    for name in UNSEEN:
        for batch in (1, 16):
            latency_ms, _, watts = law(layers_of(name), "fp16", batch)
            found = model(data).predict(layers_of(name), batch)
            energy = found.energy_mj["module"]
            assert found.latency_ms.value == pytest.approx(latency_ms, rel=allowed)
            assert energy.value == pytest.approx(latency_ms * watts / batch, rel=allowed)
            assert energy.source == "mine cost model 2026-01-31" and energy.scope == "module"
            inside += [found.latency_ms.low <= latency_ms <= found.latency_ms.high,
                       energy.low <= latency_ms * watts / batch <= energy.high]
    assert np.mean(inside) > 0.8


def test_the_constants_of_the_law_are_found_again():
    found = {name: entry["value"] for name, entry in calibration(same_shape).data["cost_model"]["parameters"].items()}
    assert found["launch_ms"] == pytest.approx(0.021 * (1122 / 1300.5) ** 0.7, rel=0.1)  # at the clock of this mode
    assert found["efficiency"]["fp16"] == pytest.approx(0.7, rel=0.05)
    assert found["pj_per_mac"]["fp32"] / found["pj_per_mac"]["fp16"] == pytest.approx(52 / 25, rel=0.1)
    assert found["idle_w"]["MAXN"] == pytest.approx(IDLE_W + found["carrier_w"], rel=0.02)


def test_only_what_was_measured_can_be_asked_for():
    data = calibration(same_shape).data
    assert [mode["name"] for mode in data["modes"]] == ["MAXN"] and data["name"] == "mine"
    assert {entry["source"] for entry in data["cost_model"]["parameters"].values()} != set()
    with pytest.raises(UserError, match="unknown power mode of mine 'maxq'"):
        model(data, mode="maxq")
    rows = [row for row in measurements(same_shape) if row.precision == "fp16" and row.network in FEW]
    single = calibrated_board(load_board("tx2"), rows, layers(), "mine", "1", "a law").data
    with pytest.raises(UserError, match="no FP32: it was not among what was calibrated"):
        model(single, "fp32")
    assert model(single).predict(layers()["dense"], 4).latency_ms.value > 0


def test_without_power_there_are_times_alone():
    data = calibration(same_shape, power=False).data
    found = model(data).predict(layers_of("resnet20"), 8)
    assert found.latency_ms.value == pytest.approx(same_shape(layers_of("resnet20"), "fp16", 8)[0], rel=0.06)
    assert not found.energy_mj and model(data).scopes == ()


def test_two_modes_are_told_apart():
    rows = [row for row in measurements(same_shape) if row.precision == "fp16" and row.network in FEW]
    slow = [dataclasses.replace(row, mode="MAXQ", latency_ms=1.5 * row.latency_ms, compute_ms=1.5 * row.compute_ms,
                                power_w=0.7 * row.power_w, idle_w=0.8 * row.idle_w) for row in rows]
    data = calibrated_board(load_board("tx2"), rows + slow, layers(), "mine", "1", "a law").data
    fast, saving = (model(data, mode=mode).predict(layers_of("resnet20"), 8) for mode in ("maxn", "maxq"))
    assert saving.latency_ms.value / fast.latency_ms.value == pytest.approx(1.5, rel=0.1)
    assert saving.power_w["module"].value / fast.power_w["module"].value == pytest.approx(0.7, rel=0.1)


def test_a_mode_goes_by_the_name_that_the_board_itself_gives_it():
    rows = [dataclasses.replace(row, mode="15W_6CORE") for row in measurements(same_shape)
            if row.precision == "fp16" and row.network in FEW]
    data = calibrated_board(load_board("xavier-nx"), rows, layers(), "mine", "1", "a law").data
    for word in (None, "15w_6core", "mode_15w_6core"):
        found = model(data, mode=word).predict(layers_of("cnv_25"), 8)
        assert found.target == "mine:15w_6core" and not any("was not measured" in text for text in found.warnings)


@pytest.mark.parametrize("base", ["cpu", "orin-nano"])
def test_a_board_of_which_no_peaks_are_known_gets_nominal_ones(base):
    board = load_board(base)
    precision = "fp16" if board.has("fp16") else "fp32"
    mode = board.default_mode.name if board.default_mode else None
    rows = [dataclasses.replace(row, mode=mode, precision=precision, gpu_mhz=None)
            for row in measurements(same_shape) if row.precision == "fp16" and row.network in FEW]
    data = calibrated_board(board, rows, layers(), "mine", "1", "a law").data
    found = model(data, precision).predict(layers_of("cnv_25"), 8)
    assert found.latency_ms.value == pytest.approx(same_shape(layers_of("cnv_25"), "fp16", 8)[0], rel=0.15)
    assert set(found.energy_mj) == {"module"}  # nothing is known of its carrier


@pytest.mark.parametrize("scope", ["package", "gpu"])
def test_a_host_predicts_the_scope_that_its_power_source_measures(scope):
    rows = [dataclasses.replace(row, mode=None, precision="fp32", scope=scope)
            for row in measurements(same_shape) if row.precision == "fp16" and row.network in FEW]
    data = calibrated_board(load_board("cpu"), rows, layers(), "mine", "1", "a law").data
    found = model(data, "fp32").predict(layers_of("cnv_25"), 8)
    latency_ms, _, watts = same_shape(layers_of("cnv_25"), "fp16", 8)
    assert set(found.energy_mj) == set(found.power_w) == set(found.img_per_joule) == {scope}
    assert found.energy_mj[scope].value == pytest.approx(latency_ms * watts / 8, rel=0.15)
    assert found.energy_mj[scope].scope == scope


def test_too_little_is_refused():
    with pytest.raises(CannotMeasure, match="3 measurements of 3 networks: too few"):
        calibrated_board(load_board("tx2"), measurements(same_shape)[:3], layers(), "mine", "1", "a law")


def test_a_measurement_survives_json():
    row = dataclasses.replace(measurements(same_shape)[0], marks=("unlocked",))
    assert Measured.from_json(json.loads(json.dumps(row.to_json()))) == row
