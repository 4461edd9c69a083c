"""Steadiness: what counts as warmed up."""

from __future__ import annotations

import math
import random

import pytest

from edge_bench.agent.arguments import DEFAULTS
from edge_bench.agent.warmup import Block, Steadiness


def feed(latency, power=lambda t: None, temperature=lambda t: None, seconds=20.0, **options) -> Steadiness:
    steadiness = Steadiness(10.0, **options)
    for k in range(int(seconds * 2)):
        t = k / 2
        steadiness.add(Block(t, t + 0.5, latency(t), temperature(t), power(t)))
    return steadiness


def test_too_short_is_not_steady():
    assert feed(lambda t: 1.0, seconds=5).unsteady() == ["time"]
    assert Steadiness(10.0).unsteady() == ["time"]


def test_constant_is_steady():
    assert feed(lambda t: 1.0, lambda t: 5000.0, lambda t: 40.0).unsteady() == []


def test_falling_latency_is_not_steady():
    assert feed(lambda t: 1.0 + math.exp(-t / 10)).unsteady() == ["latency"]


def test_noise_without_a_trend_is_steady_most_of_the_time():
    noise = random.Random(1)
    verdicts = [feed(lambda t: noise.gauss(1.0, 0.05)).unsteady() for _ in range(100)]
    assert sum(not verdict for verdict in verdicts) > 80


def test_rising_temperature_is_not_steady_and_the_flicker_of_a_sensor_is():
    assert feed(lambda t: 1.0, temperature=lambda t: 40 + 0.08 * t).unsteady() == ["temperature"]
    assert feed(lambda t: 1.0, temperature=lambda t: 40.0 + 0.5 * (int(2 * t) % 3 == 0)).unsteady() == []
    assert feed(lambda t: 1.0, temperature=lambda t: 41.0 if t > 17.5 else 40.0).unsteady() == []  # steps of 1 degree


@pytest.mark.parametrize("step", [1 / 32, 0.5])  # an Orin's sensors, a TX2's
@pytest.mark.parametrize("rise, tau_s, longest_s, left", [(8.0, 60.0, 60.0, 0.7), (15.0, 60.0, 100.0, 0.4),
                                                          (15.0, 100.0, 110.0, 0.65)])
def test_boards_of_fine_and_coarse_sensors_are_warm_at_much_the_same_time(step, rise, tau_s, longest_s, left):
    for seed in range(20):
        noise, steadiness, t = random.Random(seed), Steadiness(10.0), 0.0
        while steadiness.unsteady():
            temperature = 40 + noise.gauss(0.0, 0.05) + rise * (1 - math.exp(-t / tau_s))
            steadiness.add(Block(t, t + 0.5, 1.0, step * math.floor(temperature / step), None))
            t += 0.5
            assert t <= longest_s < DEFAULTS["warmup_cap"]
        assert math.exp(-t / tau_s) < left


def test_rising_power_is_not_steady_beyond_the_quantum():
    assert feed(lambda t: 1.0, power=lambda t: 5000 + 20 * t).unsteady() == ["power"]
    assert feed(lambda t: 1.0, power=lambda t: 5000 + 5 * t, power_quantum_mw=38).unsteady() == []


def test_blocks_longer_than_the_span_still_decide():
    steadiness = Steadiness(4.0)
    for k in range(3):
        steadiness.add(Block(10.0 * k, 10.0 * (k + 1), 9000.0, None, None))
    assert steadiness.unsteady() == []
