"""The cost model: one formula for one network and for thousands, readings that say what they are."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.board import load_board, resolve_target
from devices.cost_model import CostModel, LayerArrays
from devices.layer_cost import LAYER_KINDS, LayerCost
from devices.support.errors import UserError
from devices.support.reading import Reading


def conv(width: int = 32, size: int = 16, name: str = "c", **details) -> LayerCost:
    """A 3x3 convolution from `width` to `width` channels."""
    elements = width * size * size
    return LayerCost(**{"name": name, "kind": "dense", "macs": 9 * width * elements, "weights": 9 * width * width,
                        "input_elements": elements, "output_elements": elements, "output_shape": (width, size, size),
                        "kernel": (3, 3), **details})


def network(width: int = 32, depth: int = 12, size: int = 32) -> list[LayerCost]:
    layers = [conv(width, size, f"c{i}") for i in range(depth)]
    layers[0] = dataclasses.replace(layers[0], host_elements=3 * size * size)
    return layers


def model(target: str = "tx2:maxp", precision: str = "fp16") -> CostModel:
    return CostModel.for_target(resolve_target(target), precision)


LAYERS = st.builds(
    LayerCost, name=st.just("x"), kind=st.sampled_from(LAYER_KINDS), macs=st.integers(0, 10**9),
    weights=st.integers(0, 10**7), input_elements=st.integers(1, 10**7), output_elements=st.integers(1, 10**7),
    output_shape=st.just((1,)), host_elements=st.integers(0, 10**6))


@settings(max_examples=30, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=12), st.integers(1, 256), st.sampled_from(["maxn", "maxp", "maxq"]),
       st.sampled_from(["fp16", "fp32"]))
def test_one_network_and_many_cost_the_same(layers: list[LayerCost], batch: int, mode: str, precision: str) -> None:
    cost_model = model(f"tx2:{mode}", precision)
    other = network()
    together = LayerArrays.of(layers, other)
    latency, energy = cost_model.evaluate(together, batch)
    for row, alone in enumerate((layers, other)):
        prediction = cost_model.predict(alone, batch)
        assert latency[row] == pytest.approx(prediction.latency_ms.value)
        assert energy[row] == pytest.approx(prediction.energy_mj["module"].value)


@settings(max_examples=30, deadline=None)
@given(st.lists(LAYERS, min_size=1, max_size=12), st.integers(1, 255))
def test_costs_are_positive_and_grow_with_the_batch(layers: list[LayerCost], batch: int) -> None:
    one, more = (model().costs(LayerArrays.of(layers), b) for b in (batch, batch + 1))
    for smaller, larger in ((one.latency_ms, more.latency_ms), (one.module_mj, more.module_mj)):
        assert 0 < smaller[0] < larger[0]
    assert more.board_mj[0] / (batch + 1) < one.board_mj[0] / batch * (1 + 1e-9)
    assert one.board_mj[0] > one.module_mj[0]


def test_a_masked_layer_costs_nothing() -> None:
    layers = network()
    arrays = LayerArrays.of(layers, layers)
    arrays.active[1, 5] = 0
    latency, energy = model().evaluate(arrays, 4)
    without = model().predict(layers[:5] + layers[6:], 4)
    assert latency[1] == pytest.approx(without.latency_ms.value)
    assert energy[1] == pytest.approx(without.energy_mj["module"].value)


def test_kinds_may_differ_between_candidates() -> None:
    layers = [conv(), conv(kind="depthwise", macs=9 * 32 * 256, weights=288)]
    swapped = layers[::-1]
    latency, _ = model().evaluate(LayerArrays.of(layers, swapped), 2)
    assert latency[0] == pytest.approx(latency[1])


def test_clocks_and_precision_matter_as_they_must() -> None:
    layers = network(width=128)
    by_mode = {mode: model(f"tx2:{mode}").predict(layers, 16) for mode in ("maxn", "maxp", "maxq")}
    latency = [by_mode[m].latency_ms.value for m in ("maxn", "maxp", "maxq")]
    power = [by_mode[m].power_w["module"].value for m in ("maxn", "maxp", "maxq")]
    assert latency == sorted(latency)
    assert power == sorted(power, reverse=True)
    single = model(precision="fp32").predict(layers, 16)
    assert single.latency_ms.value > by_mode["maxp"].latency_ms.value
    assert single.energy_mj["module"].value > by_mode["maxp"].energy_mj["module"].value


def test_small_networks_at_batch_1_pay_for_launches_not_for_macs() -> None:
    """HW-NAS-Bench on a TX2: 7 times the MACs cost 1.24 times the energy at batch 1 and 32x32."""
    narrow, wide = network(16, depth=40, size=16), network(42, depth=40, size=16)
    assert sum(c.macs for c in wide) / sum(c.macs for c in narrow) == pytest.approx(7, rel=0.05)

    def ratio(batch: int) -> float:
        return (model().predict(wide, batch).energy_mj["module"].value
                / model().predict(narrow, batch).energy_mj["module"].value)

    assert ratio(1) < 2
    assert ratio(64) > 2 * ratio(1)
    deep = network(16, depth=80, size=16)
    assert model().predict(deep, 1).energy_mj["module"].value > model().predict(wide, 1).energy_mj["module"].value


def test_readings_say_what_they_are() -> None:
    prediction = model().predict(network(), 8)
    readings = [prediction.latency_ms, *prediction.power_w.values(), *prediction.energy_mj.values(),
                *prediction.img_per_joule.values()]
    for reading in readings:
        assert reading.provenance == "predicted"
        assert reading.source == "tx2 cost model " + load_board("tx2").data["cost_model"]["version"]
        assert reading.low is not None and reading.high is not None and reading.low < reading.value < reading.high
    for scope in ("module", "board"):
        power, energy, rate = (getattr(prediction, what)[scope] for what in ("power_w", "energy_mj", "img_per_joule"))
        assert {power.scope, energy.scope, rate.scope} == {scope}
        assert power.value * prediction.latency_ms.value / 8 == pytest.approx(energy.value)
        assert rate.value == pytest.approx(1000 / energy.value)
    assert prediction.energy_mj["module"].sigma / prediction.energy_mj["module"].value > (
        prediction.energy_mj["board"].sigma / prediction.energy_mj["board"].value)
    data = json.loads(json.dumps(prediction.to_json()))
    assert Reading.from_json(data["latency_ms"]) == prediction.latency_ms
    assert sum(row["share"] for row in data["layers"]) == pytest.approx(1)
    assert [row["share"] for row in data["layers"]] == sorted((row["share"] for row in data["layers"]), reverse=True)


@pytest.mark.parametrize(("layers", "batch", "target", "said"), [
    (network(), 1000, "tx2:maxp", "batch 1,000 (calibrated: 1 to 128)"),
    (network(8, depth=400, size=8), 8, "tx2:maxp", "layers 400"),
    (network(), 8, "tx2:maxp-denver", "power mode MAXP_CORE_DENVER was not measured"),
    ([conv(kind="grouped"), *network()], 8, "tx2:maxp", "no row has grouped layers"),
])
def test_beyond_what_was_calibrated_it_says_so_and_widens(layers: list, batch: int, target: str, said: str) -> None:
    prediction, inside = model(target).predict(layers, batch), model().predict(network(), 8)
    assert any(said in warning for warning in prediction.warnings)

    def relative(reading: Reading) -> float:
        return reading.sigma / reading.value

    assert relative(prediction.latency_ms) > 1.3 * relative(inside.latency_ms)
    assert not any("calibrated" in warning for warning in inside.warnings)


def test_a_ready_input_spares_the_host_its_feeding() -> None:
    ready = CostModel.for_target(resolve_target("tx2:maxp"), "fp16", input_ready=True)
    fed, spared = model().predict(network(), 32), ready.predict(network(), 32)
    assert spared.latency_ms.value < fed.latency_ms.value
    assert spared.energy_mj["board"].value < fed.energy_mj["board"].value
    assert any("feed images from the CPU" in warning for warning in fed.warnings)
    assert not spared.warnings


def relative_error(reading: Reading) -> float:
    """The logarithm's standard error, from the interval."""
    assert reading.low is not None and reading.high is not None
    return float(np.log(reading.high / reading.low)) / (2 * 1.959964)


def test_another_stack_makes_a_ready_input_less_certain() -> None:
    """Published stacks differ in their times by 1.3 and more, so a program of one's own is known less well."""
    ready = CostModel.for_target(resolve_target("tx2:maxp"), "fp16", input_ready=True)
    fed, own = model().predict(network(), 1), ready.predict(network(), 1)
    assert relative_error(own.latency_ms) > 1.5 * relative_error(fed.latency_ms)
    factor = ready.constants["ready_input"]["gpu"]
    assert relative_error(own.latency_ms) < factor["sigma"] + relative_error(fed.latency_ms)
    gpu = [float(m.costs(LayerArrays.of(network()), 1).gpu_ms[0]) for m in (ready, model())]
    assert gpu[0] / gpu[1] == pytest.approx(factor["value"])


def test_what_is_unsure_about_a_kind_counts_by_its_share() -> None:
    deep = [conv(kind="depthwise", name=f"d{i}") for i in range(12)]
    mixed = [*deep[:2], *network(128, 10)]
    errors = [relative_error(model().predict(layers, 32).latency_ms) for layers in (network(128), mixed, deep)]
    assert errors == sorted(errors) and errors[2] > 1.3 * errors[0]


def own_board(tmp_path: pathlib.Path, change) -> str:
    data = json.loads(json.dumps(load_board("tx2").data))
    data["name"] = "mine"
    change(data["cost_model"])
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_the_carrier_is_unsure_in_the_scope_that_was_not_measured(tmp_path: pathlib.Path) -> None:
    path = own_board(tmp_path, lambda entry: entry["measured_scope"].update(value="module"))
    for target, sure, unsure in (("tx2:maxp", "board", "module"), (f"{path}:maxp", "module", "board")):
        energy = model(target).predict(network(), 8).energy_mj
        assert relative_error(energy[sure]) < relative_error(energy[unsure])


def test_a_model_without_power_predicts_times_and_says_so(tmp_path: pathlib.Path) -> None:
    path = own_board(tmp_path, lambda entry: [entry["relative_sigma"].pop(what) for what in ("power", "energy")])
    prediction = model(f"{path}:maxp").predict(network(), 8)
    assert prediction.latency_ms.value == pytest.approx(model().predict(network(), 8).latency_ms.value)
    assert not prediction.energy_mj and not prediction.power_w and not prediction.img_per_joule
    assert any("without a power source" in warning for warning in prediction.warnings)
    assert json.loads(json.dumps(prediction.to_json()))["energy_mj"] == {}


def test_a_model_of_another_version_is_refused(tmp_path: pathlib.Path) -> None:
    path = own_board(tmp_path, lambda entry: entry.pop("kind_sigma"))
    with pytest.raises(UserError, match=r"mine\.json: its cost model lacks kind_sigma: .*calibrate the board again"):
        model(f"{path}:maxp")


def test_what_has_no_cost_is_named_and_counts_as_bandwidth() -> None:
    odd = LayerCost("fft (Fancy)", "unknown", 0, 0, 10**6, 10**6, (10**6,))
    prediction = model().predict([*network(), odd], 8)
    assert any("fft (Fancy)" in warning for warning in prediction.warnings)
    row = next(row for row in prediction.layers if row["name"] == "fft (Fancy)")
    assert row["latency_ms"] > 8 * 2 * 2e6 / 51.2e9 * 1e3  # at least all its bytes at peak bandwidth


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "8"])
def test_refuses_a_batch_that_is_none(batch) -> None:
    with pytest.raises(UserError, match="batch must be a positive whole number"):
        model().predict(network(), batch)


def test_refuses_what_cannot_be_predicted() -> None:
    with pytest.raises(UserError, match="has no INT8"):
        model(precision="int8")
    with pytest.raises(UserError, match="Jetson Nano has no cost model yet"):
        model("nano")
    with pytest.raises(UserError, match="this machine's CPU has no cost model yet"):
        model("cpu", "fp32")
    with pytest.raises(UserError, match="nothing to predict"):
        model().predict([], 1)


def test_a_board_file_of_ones_own_predicts(tmp_path: pathlib.Path) -> None:
    def slow_launches(entry: dict) -> None:
        entry["parameters"]["launch_ms"]["value"] *= 10

    path = own_board(tmp_path, slow_launches)
    mine = model(f"{path}:maxp").predict(network(), 1)
    assert mine.latency_ms.value > 3 * model().predict(network(), 1).latency_ms.value
    assert mine.latency_ms.source.startswith("mine cost model")


def test_evaluates_ten_thousand_candidates() -> None:
    generator = np.random.default_rng(0)
    shape = (10_000, 40)
    arrays = LayerArrays(generator.random(shape) < 0.8, *(generator.uniform(1, 1e6, shape) for _ in range(4)),
                         kind=generator.integers(0, len(LAYER_KINDS), 40), host_elements=3082.0)
    latency, energy = model().evaluate(arrays, 8)
    assert latency.shape == energy.shape == (10_000,)
    assert np.isfinite(latency).all() and (energy > 0).all()
