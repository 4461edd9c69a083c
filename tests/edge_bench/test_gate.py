"""The gate: verdicts, what cannot be compared, and the baseline file."""

from __future__ import annotations

import random

import pytest
from bench_samples import make_result
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError
from edge_bench import baseline, gate
from edge_bench.agent import result as results

STEADY = (1.0, 1.002, 0.998, 1.001, 0.999)


def scaled(factor, values=STEADY):
    return tuple(factor * value for value in values)


def entries_of(*found):
    entries = []
    for result in found:
        baseline.add_session(entries, result)
    return entries


def verdict(new, *old, tolerances=None, **options):
    found = gate.check_result(new, entries_of(*old), tolerances or {"latency": 0.05}, **options)
    assert len(found) == 1
    return found[0]


def sessions(*factors):
    return [make_result(scaled(f), created=f"2026-01-0{k + 1}T00:00:00Z") for k, f in enumerate(factors)]


@pytest.mark.parametrize("factor, expected", [
    (1.0, "pass"), (0.5, "pass"), (1.03, "pass"), (1.08, "regression"), (2.0, "regression")])
def test_clear_cases(factor, expected):
    assert verdict(make_result(scaled(factor)), make_result(STEADY)).verdict == expected


def test_small_but_certain_worsening_within_tolerance_passes():
    found = verdict(make_result(scaled(1.02)), make_result(STEADY))
    assert found.verdict == "pass" and found.low > 1


def test_noise_is_inconclusive_and_never_a_regression():
    noisy = (0.8, 1.3, 1.0, 1.5, 0.9)
    assert verdict(make_result(noisy), make_result(STEADY)).verdict == "inconclusive"


def test_spread_between_sessions_counts_from_three_on():
    new = make_result(scaled(1.08))
    assert verdict(new, *sessions(1.0, 1.0, 1.0)).verdict == "regression"
    assert verdict(new, *sessions(1.0, 1.06, 0.95)).verdict == "inconclusive"


def test_throughput_is_worse_when_it_falls():
    found = gate.check_result(make_result(scaled(2.0)), entries_of(make_result(STEADY)), {"throughput": 0.05})[0]
    assert found.verdict == "regression" and found.ratio == pytest.approx(2.0, rel=0.01)


def test_energy_is_checked_where_the_baseline_has_it():
    old = make_result(STEADY, energy_mj=[10, 10.1, 9.9, 10, 10])
    worse = make_result(STEADY, energy_mj=[11, 11.1, 10.9, 11, 11])
    found = {v.metric: v.verdict for v in gate.check_result(worse, entries_of(old))}
    assert found == {"energy": "regression", "latency": "pass"}
    without = {v.metric: v.verdict for v in gate.check_result(make_result(STEADY), entries_of(old))}
    assert without["energy"] == "could not measure"


@pytest.mark.parametrize("options, words", [
    ({"serial": "other"}, "serial"), ({"version": "2.0"}, "runner version"), ({"locked": False}, "clocks locked"),
    ({"name": "other"}, "no such model"), ({"batch": 8}, "no such model"), ({"window": 1.0}, "quick"),
    ({"steady": False}, "not_steady")])
def test_what_cannot_be_compared_says_why(options, words):
    found = verdict(make_result(STEADY, **options), make_result(STEADY))
    assert found.verdict == "could not measure" and words in found.reason


def test_force_compares_marked_results():
    found = verdict(make_result(STEADY, steady=False), make_result(STEADY), force=True)
    assert found.verdict == "pass"


def test_one_trial_shows_no_spread():
    assert verdict(make_result((1.0,)), make_result(STEADY), force=True).verdict == "could not measure"


def test_false_alarms_are_rare_and_real_regressions_are_found():
    noise = random.Random(5)

    def session(factor):
        return make_result([factor * noise.gauss(1.0, 0.01) for _ in range(5)], window=10.0)

    same = [verdict(session(1.0), session(1.0)).verdict for _ in range(40)]
    worse = [verdict(session(1.15), session(1.0)).verdict for _ in range(40)]
    assert same.count("regression") == 0 and worse.count("regression") >= 38


@given(st.floats(0.1, 10), st.floats(0, 0.5), st.floats(0.001, 1.0))
def test_judge_never_calls_a_regression_within_the_tolerance(ratio, tolerance, width):
    word, _ = gate.judge(ratio, ratio / (1 + width), ratio * (1 + width), tolerance)
    if ratio <= 1 + tolerance or ratio / (1 + width) <= 1:
        assert word != "regression"
    else:
        assert word == "regression"


def test_tolerances_are_read():
    assert gate.parse_tolerances(["energy=5%", "latency_p99=0.1"]) == {"energy": 0.05, "latency_p99": 0.1}
    with pytest.raises(UserError, match="did you mean energy"):
        gate.parse_tolerances(["enrgy=5%"])
    with pytest.raises(UserError, match="not understood"):
        gate.parse_tolerances(["energy"])


def test_update_pools_sessions_and_begins_anew_under_other_conditions():
    entries = entries_of(*sessions(1.0, 1.01, 0.99))
    assert len(entries) == 1 and len(entries[0]["sessions"]) == 3
    baseline.add_session(entries, make_result(STEADY, serial="other"))
    assert len(entries[0]["sessions"]) == 1


def test_update_refuses_what_is_unsound_and_writes_nothing(tmp_path):
    path, target = tmp_path / "quick.json", tmp_path / "baseline.json"
    results.save(str(path), make_result(STEADY, window=1.0))
    with pytest.raises(UserError, match="quick"):
        gate.update_baseline([path], target)
    assert not target.exists()
    gate.update_baseline([path], target, force=True)
    assert baseline.load(target)[0]["key"]["model"] == "net"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "edgesynth.baseline/1"}',
                                  '{"schema": "edgesynth.baseline/1", "entries": [{}]}',
                                  '{"schema": "edgesynth.baseline/2", "entries": []}'])
def test_damaged_baseline_is_one_sentence(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(UserError):
        baseline.load(path)
