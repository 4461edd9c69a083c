"""What measurements teach the cost model: nothing before the first, the board's offset soon, and slopes after a few."""

from __future__ import annotations

import math

import numpy as np
import pytest

from devices.support.reading import CORRECTED, MEASURED, MODULE, PREDICTED, Reading
from synth.objective.requirements import UNCERTAIN, Requirement
from synth.space.correction import Correction, Measurement, Residuals
from synth.space.quantities import ENERGY, LATENCY, logarithms, measured_reading, quantity_of


def networks(count, seed=0):
    return np.random.default_rng(seed).normal(0.0, 2.0, (count, 5))


def law(features):
    """A board that is 30 % dearer, and the more so the more launches there are."""
    return 0.26 + 0.08 * features[:, 0]


def learnt(count, noise=0.01, seed=0):
    seen = networks(count, seed)
    model = Residuals(0.3)
    shown = law(seen) + noise * np.random.default_rng([seed, 1]).standard_normal(count)
    model.fit(seen, shown, np.full(count, noise))
    return model


def test_before_any_measurement_the_cost_model_stands_with_its_own_error():
    mean, sd = Residuals(0.3).predict(networks(4))
    assert not mean.any() and sd == pytest.approx(0.3)


def test_intervals_shrink_with_every_few_measurements_and_stay_honest():
    other = networks(200, seed=99)
    spreads, errors = [], []
    for count in (1, 4, 12, 30):
        found = [learnt(count, seed=seed).predict(other) for seed in range(12)]
        spreads.append(float(np.mean([sd for _, sd in found])))
        errors.append(float(np.sqrt(np.mean([(mean - law(other)) ** 2 for mean, _ in found]))))
        inside = [np.abs(mean - law(other)) <= 1.96 * sd for mean, sd in found]
        assert np.mean(inside) >= 0.88, count
    assert spreads == sorted(spreads, reverse=True) and spreads[0] < 0.3 and spreads[-1] < 0.05
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.06


def test_one_measurement_tells_most_of_what_is_alike():
    seen = networks(1)
    model = Residuals(0.3)
    model.fit(seen, np.array([0.4]), np.array([0.01]))
    mean, sd = model.predict(np.concatenate([seen, seen + 20.0]))
    assert mean[0] == pytest.approx(0.4, abs=0.05) and 0.1 < mean[1] < mean[0]
    assert sd[0] < sd[1] < 0.3 * 2.3


def test_the_covariance_agrees_with_the_prediction():
    model, other = learnt(6), networks(20, seed=3)
    assert np.sqrt(np.diag(model.covariance(other))) == pytest.approx(model.predict(other)[1])
    assert np.linalg.eigvalsh(model.covariance(other)).min() > -1e-9


def test_the_order_of_measurements_does_not_matter_for_the_same_set():
    seen, other = networks(8), networks(5, seed=2)
    noise = np.full(8, 0.02)
    first, second = Residuals(0.3), Residuals(0.3)
    first.fit(seen, law(seen), noise)
    second.fit(seen[::-1], law(seen)[::-1], noise)
    for a, b in zip(first.predict(other), second.predict(other), strict=True):
        assert a == pytest.approx(b, rel=1e-9)


# --- measurements ----------------------------------------------------------------------------------------------------


def readings(energy_mj=2.0, scope=MODULE, width=0.02):
    energy = Reading(energy_mj, "mJ", MEASURED, "board", energy_mj * (1 - width), energy_mj * (1 + width), scope)
    return {"energy_mj": energy.to_json(), "latency_p50_ms": Reading(1.0, "ms", MEASURED, "board").to_json()}


def measurement(energy_mj=2.0, network="n", full=False, features=(1.0, 2.0, 3.0, 4.0, 0.0)):
    return Measurement(network, 8, full, readings(energy_mj), features, {ENERGY: 1.0, LATENCY: 0.5}, {"marks": []})


def test_a_measurement_survives_json():
    one = measurement()
    assert Measurement.from_json(one.to_json()) == one


def test_what_was_measured_decides_for_its_network_and_corrects_the_others():
    correction = Correction({(ENERGY, 8): 0.3, (LATENCY, 8): 0.2})
    item = Requirement.parse("img_per_joule >= 60 @ batch=8")
    assert correction.measured(item, "n") is None
    predicted = Reading(1000.0, "img/J", PREDICTED, "model", 600.0, 1700.0, MODULE)
    features = np.array([[1.0, 2.0, 3.0, 4.0, 0.1]])
    assert correction.corrected(predicted, ENERGY, -1, 8, features) is predicted
    correction.learn([measurement()])
    measured = correction.measured(item, "n")
    assert (measured.value, measured.provenance, measured.scope) == (pytest.approx(500), MEASURED, MODULE)
    assert measured.low < 500 < measured.high
    found = correction.corrected(predicted, ENERGY, -1, 8, features)
    assert found.provenance == CORRECTED and "corrected by 1 measurement" in found.source
    assert found.value == pytest.approx(500, rel=0.1)  # twice the energy that was predicted
    assert found.high / found.low < 1700 / 600


def test_a_full_measurement_stands_for_a_quick_one_and_never_the_other_way_round():
    correction = Correction({(ENERGY, 8): 0.3})
    correction.learn([measurement(3.0, full=True), measurement(2.0)])
    assert correction.known["n", 8].full
    correction.learn([measurement(4.0, full=True)])
    assert correction.known["n", 8].readings["energy_mj"]["value"] == 4.0


@pytest.mark.parametrize("words, name, sign", [
    ("latency <= 3 ms", "latency_p50_ms", 1), ("latency_p99 <= 3 ms @ batch=2", "latency_p99_ms", 1),
    ("throughput >= 10", "throughput_img_s", 1), ("energy <= 2 mJ", "energy_mj", 1),
    ("energy <= 2 mJ @ board", "energy_board_mj", 1), ("img_per_joule >= 60", "energy_mj", -1),
    ("power <= 9 W", "power_mw", 1)])
def test_every_requirement_has_the_reading_that_decides_it(words, name, sign):
    assert quantity_of(Requirement.parse(words)) == (name, sign)


def test_the_carrier_counts_only_where_it_is_measured():
    board = Requirement.parse("energy <= 3 mJ @ board")
    assert measured_reading(board, readings()) is None
    assert measured_reading(board, readings(scope="board")).value == 2.0
    assert measured_reading(Requirement.parse("energy <= 3 mJ"), readings(scope="board")) is None


def test_a_reading_without_an_interval_is_not_believed_to_the_last_digit():
    found = logarithms(readings(width=1e-9), ["energy_mj", "latency_p50_ms", "power_mw"])
    assert found["energy_mj"] == (pytest.approx(math.log(2.0)), 0.01)
    assert found["latency_p50_ms"] == (0.0, 0.05) and "power_mw" not in found
    _, noise = logarithms(readings(width=0.2), ["energy_mj"])["energy_mj"]
    assert noise == pytest.approx(math.log(1.2 / 0.8) / 3.92, rel=1e-3)  # 95 % are 3.92 standard errors wide


def test_a_measurement_whose_interval_reaches_down_to_0_decides_nothing_and_teaches_little():
    """As of three trials of 3.0, 3.1 and 5.5 mJ."""
    found = {"energy_mj": Reading(3.0, "mJ", MEASURED, "a board", 0.0, 7.0, MODULE).to_json()}
    for words in ("energy <= 3.2 mJ", "img_per_joule >= 312"):
        item = Requirement.parse(words)
        assert item.judge(measured_reading(item, found)).holds == UNCERTAIN, words
    assert logarithms(found, ["energy_mj"])["energy_mj"][1] == pytest.approx(math.log(7.0 / 3.0) / 1.96, rel=1e-3)
