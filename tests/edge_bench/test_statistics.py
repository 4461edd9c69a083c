"""The statistics against scipy, against numpy, and against simulations of what they claim."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from edge_bench.agent import statistics

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(NUMBERS, st.floats(0, 100))
def test_percentile_is_numpys(values, percent):
    assert statistics.percentile(values, percent) == pytest.approx(np.percentile(values, percent), abs=1e-6, rel=1e-9)


def test_percentiles_are_named():
    found = statistics.percentiles(range(1, 101))
    assert list(found) == ["p50", "p90", "p95", "p99"]
    assert found["p50"] == 50.5
    assert found["p99"] == pytest.approx(99.01)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_moments_are_numpys(values):
    assert statistics.mean(values) == pytest.approx(np.mean(values), abs=1e-6)
    assert statistics.stdev(values) == pytest.approx(np.std(values, ddof=1), abs=1e-6, rel=1e-6)
    assert statistics.mad(values) == pytest.approx(stats.median_abs_deviation(values), abs=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7.3, 30, 500, 1e5])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.4, 0.5, 0.6, 0.9, 0.975, 0.9995])
def test_t_quantile_is_scipys(freedom, probability):
    expected = stats.t.ppf(probability, freedom)
    assert statistics.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("probability", [1e-9, 0.025, 0.5, 0.975, 0.9999])
def test_normal_quantile_is_scipys(probability):
    assert statistics.normal_quantile(probability) == pytest.approx(stats.norm.ppf(probability), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("count", [3, 5, 7, 9])
def test_median_factor_of_odd_counts_is_the_integral(count):
    k = (count - 1) // 2
    weight = math.factorial(count) / math.factorial(k) ** 2

    def density(x):
        return x * x * weight * (stats.norm.cdf(x) * stats.norm.sf(x)) ** k * stats.norm.pdf(x)

    variance = integrate.quad(density, -12, 12)[0]
    assert statistics.MEDIAN_FACTOR[count] == pytest.approx(math.sqrt(variance * count), abs=1e-4)


@pytest.mark.parametrize("count", [4, 6, 8])
def test_median_factor_of_even_counts_is_what_simulation_finds(count):
    draws = np.random.default_rng(count).standard_normal((400_000, count))
    assert statistics.MEDIAN_FACTOR[count] == pytest.approx(np.median(draws, axis=1).std() * math.sqrt(count), rel=5e-3)


@pytest.mark.parametrize(("count", "runs"), [(3, 2000), (5, 2000), (9, 2000), (10, 60)])
def test_interval_covers_the_truth(count, runs):
    generator = random.Random(count)
    found = [statistics.interval([generator.gauss(5.0, 1.0) for _ in range(count)]) for _ in range(runs)]
    share = sum(each.low <= 5.0 <= each.high for each in found) / runs
    margin = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.95 - margin <= share <= 0.965 + margin


def test_interval_is_deterministic_and_holds_its_centre():
    values = [random.Random(4).gauss(10, 2) for _ in range(12)]
    first = statistics.interval(values)
    assert first == statistics.interval(values)
    assert first.low <= first.centre <= first.high
    assert first.method == "bootstrap"


@pytest.mark.parametrize("values", [[3.0], [2.0, 4.0]])
def test_interval_of_one_or_two_values_has_no_bounds(values):
    assert statistics.interval(values) == (3.0, None, None, "none")


@pytest.mark.parametrize("count", [3, 5, 9, 10, 30])
def test_interval_of_equal_values_is_a_point(count):
    found = statistics.interval([2.5] * count)
    assert (found.low, found.centre, found.high) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize("wild", [[], [math.nan], [1.0, math.inf]])
def test_values_that_are_no_numbers_are_refused(wild):
    with pytest.raises(ValueError, match=r"needed|NaN"):
        statistics.interval(wild)


@settings(max_examples=60)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=25))
def test_theil_sen_and_its_interval_are_scipys(values):
    times = list(range(len(values)))
    expected = stats.theilslopes(values, times, alpha=0.95)
    found = statistics.drift(times, values)
    assert found.slope == pytest.approx(expected.slope)
    assert found.low == pytest.approx(expected.low_slope)
    assert found.high == pytest.approx(expected.high_slope)


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_drift_p_value_of_few_points_is_kendalls_exact_one(count):
    values = random.Random(count).sample(range(100), count)
    expected = stats.kendalltau(range(count), values, method="exact").pvalue
    assert statistics.drift(range(count), values).p_value == pytest.approx(expected)


def test_drift_is_seen_and_noise_is_not():
    generator = random.Random(1)
    noise = [generator.gauss(0, 1) for _ in range(1000)]
    times = [0.1 * i for i in range(1000)]
    assert not statistics.drift(times, noise).drifting
    rising = statistics.drift(times, [value + 0.05 * t for value, t in zip(noise, times, strict=True)])
    assert rising.drifting
    assert rising.low < 0.05 < rising.high
    assert not statistics.drift(range(6), [7.0] * 6).drifting


def test_false_alarms_of_drift_are_as_rare_as_said():
    generator = random.Random(2)
    alarms = sum(statistics.drift(range(20), [generator.random() for _ in range(20)]).drifting for _ in range(600))
    assert alarms / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_outliers_are_flagged_by_index():
    assert statistics.outliers([10.0, 10.1, 9.9, 10.05, 12.0, 9.95]) == [4]


def test_outliers_of_nearly_equal_values_are_not_invented():
    assert statistics.outliers([10.0] * 9 + [10.01]) == []
    assert statistics.outliers([10.0] * 9 + [10.5]) == [9]
    assert statistics.outliers([10.0] * 9 + [10.2], resolution=0.1) == []
    assert statistics.outliers([0.0] * 6) == []
    assert statistics.outliers([0.0] * 9 + [5.0]) == [9]


def test_quadrature():
    assert statistics.quadrature(3.0, 4.0) == 5.0
    assert statistics.quadrature() == 0.0


@pytest.mark.parametrize(("half", "bound"), [(0.0, 1.0), (0.1, 1.0), (1.0, 1.0), (5.0, 1.0), (1.0, 0.0), (1.0, 0.001)])
def test_beside_uniform_is_the_quantile_of_the_sum(half, bound):
    draws = np.random.default_rng(5)
    total = np.abs(draws.uniform(-bound, bound, 400_000) + draws.normal(0, half / 1.959964 or 1e-12, 400_000))
    assert statistics.beside_uniform(half, bound) == pytest.approx(np.quantile(total, 0.95), rel=6e-3)
