"""Energy of windows and of images, and all that must be an error instead of 0 J."""

import math

import pytest

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import energy, joules
from edge_bench.agent.samples import Samples
from edge_bench.agent.statistics import Interval


def recording(power, until_s=30.0, interval_s=0.05, counter=False, quantum_mw=None, **source):
    """Samples of a power as a function of time, for an ideal sensor; counter: its energy at a refresh of 0.1 s."""
    description = {"name": "test", "scope": "module", "rails": ["VDD_IN", "VDD_GPU"],
                   "totals": {"module": ["VDD_IN"], "board": ["VDD_IN", "VDD_GPU"]}, "counter": counter,
                   "quantum_mw": quantum_mw, "refresh_s": None, "filter_s": None, **source}
    samples = Samples(description, interval_s)
    for i in range(round(until_s / interval_s)):
        t = i * interval_s
        value = power(t)
        samples.add(t, value, 100.0 * math.floor(t / 0.1) * 0.1 * 60 if counter else None, [value, 1000])
    return samples


def test_trapezoids_with_interpolated_edges_are_exact_for_a_line():
    found = energy.window(recording(lambda t: 1000 + 100 * t), 3.013, 14.787)
    assert found.energy_mj == pytest.approx(1000 * 11.774 + 50 * (14.787**2 - 3.013**2), rel=1e-9)
    assert found.edge_mw == pytest.approx(100 * 11.774)
    assert found.rails_mw["VDD_GPU"] == 1000


def test_the_board_scope_adds_its_rails_and_an_unknown_scope_is_refused():
    samples = recording(lambda t: 5000)
    assert energy.window(samples, 5, 15, "board").mean_mw == pytest.approx(6000)
    with pytest.raises(UserError, match="test measures module and board, not carrier"):
        energy.window(samples, 5, 15, "carrier")


def test_a_counter_is_interpolated_between_its_steps():
    found = energy.window(recording(lambda t: 6000, counter=True), 5.02, 15.07)
    assert found.energy_mj == pytest.approx(6000 * 10.05, rel=1e-3)
    assert found.edge_mw == 0.0


@pytest.mark.parametrize(("refresh_s", "expected"), [(0.001, 90000), (None, 89800), (0.2, 89800)])
def test_a_counter_that_moves_faster_than_it_is_read_is_dated_when_it_was_read(refresh_s, expected):
    samples = recording(lambda t: 9000 if 5 <= t < 15 else 1000, counter=True, refresh_s=refresh_s)
    samples.energy_mj = [1000 * t + 8000 * min(max(t - 5, 0), 10) for t in samples.t_s]
    assert energy.window(samples, 5.0, 15.0).energy_mj == pytest.approx(expected, abs=10)


def test_a_counter_that_hardly_moves_is_refused():
    samples = recording(lambda t: 6000, counter=True)
    samples.energy_mj = [100.0 * math.floor(t / 2) for t in samples.t_s]
    with pytest.raises(CannotMeasure, match="moved only 5 times"):
        energy.window(samples, 5.02, 15.07)


@pytest.mark.parametrize(("change", "reason"), [
    (lambda s: s.total_mw.__setitem__(150, 0), "read 0 mW"),
    (lambda s: s.total_mw.__setitem__(150, -5), "read -5 mW"),
    (lambda s: s.total_mw.__setitem__(150, math.nan), "gave no number"),
    (lambda s: s.total_mw.__setitem__(150, None), "gave no number"),
    (lambda s: s.t_s.__setitem__(slice(150, None), [t + 0.3 for t in s.t_s[150:]]), "a gap of 0.35 s"),
])
def test_damage_inside_the_window_is_an_error(change, reason):
    samples = recording(lambda t: 5000 + 100 * math.sin(t))
    change(samples)
    with pytest.raises(CannotMeasure, match=reason):
        energy.window(samples, 5.0, 15.0)


def test_what_a_sensor_said_last_is_in_the_error():
    samples = recording(lambda t: 5000)
    samples.about["failure"] = "it ended"
    samples.t_s[150:] = [t + 0.3 for t in samples.t_s[150:]]
    for start, end in ((5.0, 15.0), (25.0, 35.0)):
        with pytest.raises(CannotMeasure, match=r"a reading failed \(it ended\); measure again"):
            energy.window(samples, start, end)


def test_a_late_sample_alone_is_no_gap():
    samples = recording(lambda t: 5000)
    samples.t_s[150:] = [t + 0.1 for t in samples.t_s[150:]]
    assert energy.window(samples, 5, 15).mean_mw == pytest.approx(5000)


@pytest.mark.parametrize(("start", "end", "reason"), [
    (5.01, 5.89, "only 17 power samples"), (-1.0, 10.0, "do not reach"), (20.0, 31.0, "do not reach"),
    (40.0, 50.0, "only 0 power samples")])
def test_too_few_samples_or_none_beside_the_edges(start, end, reason):
    with pytest.raises(CannotMeasure, match=reason):
        energy.window(recording(lambda t: 5000), start, end)


def load_after(t0, idle, load):
    return lambda t: idle if t < t0 else load + 20 * math.sin(3 * t)


WINDOWS = [(10.0, 20.0, 1000), (20.1, 30.1, 1010), (30.2, 40.2, 990), (40.3, 50.3, 1005), (50.4, 60.4, 995)]


def test_energy_of_an_image():
    samples = recording(load_after(8, 2000, 7000), 61.0, quantum_mw=38)
    found = energy.per_image(samples, WINDOWS, (1.0, 7.0))
    assert found.energy_mj.centre == pytest.approx(70.0, rel=1e-3)
    assert found.energy_mj.low < 70.0 < found.energy_mj.high
    assert found.above_idle_mj.centre == pytest.approx(50.0, rel=1e-3)
    assert found.idle_mw == pytest.approx(2000)
    assert found.power_mw.centre == pytest.approx(7000, rel=1e-3)
    assert len(found.trials) == 5
    assert found.trials[0]["window_mj"] == pytest.approx(70000, rel=1e-3)
    assert (found.scope, found.total_name) == ("module", "VDD_IN")
    assert found.rails_mw["VDD_GPU"] == 1000


def test_a_flat_load_keeps_half_a_step_of_doubt():
    samples = recording(lambda t: 2000 if t < 8 else 7000, 61.0, quantum_mw=38)
    windows = [(start, end, 1000) for start, end, _ in WINDOWS]
    found = energy.per_image(samples, windows, (1.0, 7.0))
    assert found.rounding_mj == pytest.approx(0.19)
    assert found.energy_mj.method == "likelihood"
    assert found.energy_mj.high - found.energy_mj.centre == pytest.approx(0.95 * 0.19, rel=0.02)
    assert found.energy_mj.centre == pytest.approx(70.0)
    lively = recording(lambda t: 2000 if t < 8 else 7000 + 38 * round(2 * math.sin(7 * t)), 61.0, quantum_mw=38)
    assert energy.per_image(lively, windows, (1.0, 7.0)).rounding_mj < 0.001


def test_the_filter_s_lag_is_in_the_interval():
    still = recording(lambda t: 2000 if t < 8 else 7000, 61.0, filter_s=0.42)
    rising = recording(lambda t: 2000 if t < 8 else 7000 + 50 * (t - 8), 61.0, filter_s=0.42)
    windows = [(start, end, 1000) for start, end, _ in WINDOWS]
    assert energy.per_image(still, windows, (1.0, 7.0)).filter_mj == 0
    assert energy.per_image(rising, windows, (1.0, 7.0)).filter_mj == pytest.approx(0.42 * 500 / 1000)


@pytest.mark.parametrize("windows", [[(10.0, 20.0, 1000)], [(10.0, 20.0, 1000), (22.0, 32.0, 990)]])
@pytest.mark.parametrize("quantum_mw", [None, 38])
def test_one_or_two_trials_have_an_energy_and_no_interval(windows, quantum_mw):
    samples = recording(load_after(8, 2000, 7000), until_s=40.0, quantum_mw=quantum_mw)
    found = energy.per_image(samples, windows, (1.0, 7.0))
    assert found.energy_mj.low is None and found.above_idle_mj.low is None and found.power_mw.low is None


def test_a_rail_that_did_not_move_is_an_error():
    with pytest.raises(CannotMeasure, match=r"VDD_IN did not move between idle \(5000 mW\) and load \(5030 mW\)"):
        energy.per_image(recording(lambda t: 5000 if t < 8 else 5030, quantum_mw=38), [(10.0, 20.0, 9)], (1.0, 7.0))
    with pytest.raises(CannotMeasure, match="read 5000 mW all the time"):
        energy.per_image(recording(lambda t: 5000), [(10.0, 20.0, 9)])


def test_an_interval_of_energy_ends_at_zero_and_one_above_idle_need_not():
    wide = Interval(2.0, -5.0, 9.0, "t")
    found = {"power": {"scope": "module"}, "board": None, "intervals": {
        "energy_mj": wide, "power_mw": wide, "energy_above_idle_mj": wide}}
    made = joules.readings(found, "here")
    assert (made["energy_mj"].low, made["power_mw"].low, made["energy_above_idle_mj"].low) == (0.0, 0.0, -5.0)
    assert made["img_per_joule"].value == 500 and made["img_per_joule"].low is None  # bounded on neither side


def test_the_interval_of_images_per_joule_is_that_of_the_energy_turned_round():
    energy_mj = Interval(10.0, 8.0, 12.5, "t")
    found = {"power": {"scope": "module"}, "board": None, "intervals": {"energy_mj": energy_mj}}
    made = joules.readings(found, "here")["img_per_joule"]
    assert (made.low, made.value, made.high, made.unit, made.scope) == (80.0, 100.0, 125.0, "img/J", "module")
