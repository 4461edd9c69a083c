"""The gate: results against a stored baseline, comparisons against tolerances, and what cannot be compared."""

from __future__ import annotations

import random

import pytest
from bench_samples import make_pair_record, make_result

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import comparison
from edge_bench.gate import baseline, checking, tolerances
from edge_bench.gate.verdict import ModelVerdict

STEADY = (1.0, 1.002, 0.998, 1.001, 0.999)
LATENCY = {"latency": 0.05}


def scaled(factor, values=STEADY):
    return tuple(factor * value for value in values)


def entries_of(*found):
    entries = []
    baseline.add_sessions(entries, list(found))
    return entries


def sessions(*factors, **options):
    return [make_result(scaled(factor), created=f"2026-01-{k + 1:02d}T00:00:00Z", **options)
            for k, factor in enumerate(factors)]


def later(*factors, values=STEADY):
    """Sessions of another month."""
    return [make_result(scaled(factor, values), created=f"2026-02-{k + 1:02d}T00:00:00Z")
            for k, factor in enumerate(factors)]


BASE = sessions(1.0, 1.003, 0.997)
NOISY = (0.7, 1.4, 1.1, 1.0, 0.9)


def check(*new, base=BASE, allowed=LATENCY, **options):
    return checking.check_sessions(list(new), entries_of(*base), allowed, **options)


@pytest.mark.parametrize("factor, expected", [
    (1.0, "pass"), (0.5, "improvement"), (1.03, "pass"), (1.08, "regression"), (2.0, "regression")])
def test_clear_cases(factor, expected):
    assert check(make_result(scaled(factor))).verdict == expected


def test_a_small_but_certain_worsening_within_tolerance_passes():
    found = check(make_result(scaled(1.02)))
    assert found.verdict == "pass" and found.metrics[0]["low"] > 1


def test_the_two_values_of_a_row_divide_to_its_ratio():
    skewed = (2.0, 2.0, 2.0, 2.3, 2.4)  # of which a median sees nothing
    in_turns = comparison.make(make_pair_record((2.0,) * 5, skewed))
    for found in (check(make_result(skewed), base=sessions(2.0, 2.0, 2.0)),
                  checking.check_comparisons(ModelVerdict("net"), [in_turns], LATENCY)):
        (row,) = found.metrics
        assert row["ratio"] > 1.05 and row["present"] / row["baseline"] == pytest.approx(row["ratio"], rel=1e-4)


def test_noise_is_inconclusive_and_never_a_regression():
    assert check(make_result((0.8, 1.3, 1.0, 1.5, 0.9))).verdict == "inconclusive"


def test_the_spread_between_sessions_counts():
    assert check(make_result(scaled(1.08))).verdict == "regression"
    assert check(make_result(scaled(1.08)), base=sessions(1.0, 1.06, 0.95)).verdict == "inconclusive"


def test_a_changed_file_of_the_same_name_is_what_is_compared():
    changed = make_result(scaled(1.08))
    changed["model"]["sha256"] = "1" * 64
    assert check(changed).verdict == "regression"


def test_several_results_of_one_model_are_its_sessions():
    noisy = sessions(1.0, 1.04, 0.96)
    alone = check(make_result(scaled(1.1)), base=noisy)
    together = check(*sessions(1.09, 1.11, 1.1, 1.12), base=noisy)
    assert alone.verdict == "inconclusive" and together.verdict == "regression"
    assert together.sessions == {"baseline": 3, "present": 4, "more": 0}


def test_more_is_measured_once_where_the_first_look_tells_nothing():
    noisy, asked = sessions(1.0, 1.04, 0.96), []

    def more():
        asked.append(1)
        return [(f"{k}.json", result) for k, result in enumerate(later(1.09, 1.11, 1.1))]

    found = check(make_result(scaled(1.1)), base=noisy, more=more)
    assert found.verdict == "regression" and found.sessions == {"baseline": 3, "present": 4, "more": 3}
    assert found.results == ["0.json", "1.json", "2.json"] and len(asked) == 1
    assert check(make_result(scaled(1.08)), more=more).sessions["more"] == 0  # it was clear at once
    still = check(make_result((0.8, 1.3, 1.0, 1.5, 0.9)), more=lambda: [("", *later(1.0, values=NOISY))])
    assert still.verdict == "inconclusive" and still.sessions["more"] == 1


def test_what_was_measured_already_counts_once():
    noisy = make_result((0.8, 1.3, 1.0, 1.5, 0.9))
    found = check(noisy, more=lambda: [("", noisy)])
    assert found.sessions == {"baseline": 3, "present": 1, "more": 0} and found.results == []


def test_what_cannot_be_measured_again_is_said_and_stays_inconclusive():
    def more():
        raise CannotMeasure("the board is busy")

    found = check(*later(1.0, values=NOISY), more=more)
    assert found.verdict == "inconclusive" and "the board is busy" in found.notes[0]


def test_throughput_is_worse_when_it_falls():
    found = check(make_result(scaled(2.0)), allowed={"throughput": 0.05})
    assert found.verdict == "regression" and found.metrics[0]["ratio"] == pytest.approx(2.0, rel=0.01)


def with_energy(factor=1.0, scope="module", rounding=0.0, number=1):
    result = make_result(STEADY, created=f"2026-01-{number:02d}T00:00:00Z",
                         energy_mj=[10 * factor, 10.1 * factor, 9.9 * factor, 10 * factor, 10 * factor])
    result["power"] = {"scope": scope, "rounding_mj": rounding}
    return result


ENERGY = [with_energy(factor, number=k + 1) for k, factor in enumerate((1.0, 1.002, 0.999))]


def test_energy_is_checked_where_the_baseline_has_it():
    found = {row["metric"]: row["verdict"] for row in check(with_energy(1.1), base=ENERGY, allowed=None).metrics}
    assert found == {"energy": "regression", "latency": "pass"}
    without = {row["metric"]: row["verdict"] for row in check(make_result(STEADY), base=ENERGY, allowed=None).metrics}
    assert without["energy"] == "could not measure"
    assert [row["metric"] for row in check(with_energy(), allowed=None).metrics] == ["latency"]


def test_a_baseline_has_to_have_the_energy_of_three_sessions():
    """A spread between sessions that nothing shows would make the noise of one look like a regression."""
    found = check(with_energy(1.1), base=[ENERGY[0], *BASE[1:]], allowed={"energy": 0.05})
    assert found.verdict == "could not measure" and "1 of 3 sessions of the baseline have energy" in found.line
    forced = check(with_energy(1.1), base=[ENERGY[0], *BASE[1:]], allowed={"energy": 0.05}, force=True)
    assert forced.verdict == "regression"


def test_the_module_is_never_held_against_the_board():
    found = check(with_energy(scope="board"), base=ENERGY, allowed={"energy": 0.05})
    assert found.verdict == "could not measure" and "not of what the other is of (board and module)" in found.line


def test_the_rounding_of_a_sensor_widens_the_interval():
    plain, rounded = (check(with_energy(rounding=bound), base=ENERGY, allowed={"energy": 0.05}).metrics[0]
                      for bound in (0, 0.5))
    assert rounded["high"] > plain["high"] + 0.01 and rounded["low"] < plain["low"] - 0.01


def test_layers_say_where_it_is():
    base, head = sessions(1.0, 1.003, 0.997), make_result(scaled(1.1))
    base[1]["layers"] = [{"name": "conv1", "ms": 0.5}, {"name": "fc", "ms": 0.4}]
    assert check(head, base=base).layers is None
    head["layers"] = [{"name": "conv1", "ms": 0.6}, {"name": "fc", "ms": 0.41}]
    found = check(head, base=base)
    assert found.line.endswith("most of it in conv1") and found.layers[0]["change_ms"] == pytest.approx(0.1)


@pytest.mark.parametrize("options, words", [
    ({"serial": "other"}, "serial is other, was s1234"), ({"version": "2.0"}, "runner version is 2.0, was 1.0"),
    ({"locked": None}, "clocks locked is unknown, was yes"), ({"precision": "fp16"}, "precision is fp16, was fp32"),
    ({"batch": 8}, "batch is 8, was 1"), ({"name": "other"}, "the baseline holds no such model (it holds net)"),
    ({"window": 1.0}, "marked quick"), ({"steady": False}, "marked not_steady")])
def test_what_cannot_be_compared_says_what_differs_and_what_to_do(options, words):
    found = check(make_result(STEADY, **options))
    assert found.verdict == "could not measure" and words in found.line and not found.metrics
    assert "--update" in found.line or "--force" in found.line


def test_a_further_session_that_comes_twice_counts_once():
    first, second = later(1.0, values=NOISY), make_result(STEADY, created="2026-03-01T00:00:00Z")
    found = check(*first, more=lambda: [("a.json", second), ("b.json", second)])
    assert found.sessions == {"baseline": 3, "present": 2, "more": 1} and found.results == ["a.json"]


@pytest.mark.parametrize("place, word, words", [
    ("software", "l4t", "L4T is 35.1, was 32.7.1"), ("software", "tensorrt", "TensorRT is 35.1, was 8.2.1"),
    ("mode", "name", "power mode is 35.1, was MAXN"), ("board", "board", "module is 35.1, was tx2")])
def test_another_board_or_version_is_refused_with_what_differs_and_compared_when_forced(place, word, words):
    result = make_result(STEADY)
    result["preflight"][place][word] = "35.1"
    assert words in check(result).line
    forced = check(result, force=True)
    assert forced.verdict == "pass" and any(words in note for note in forced.notes)


def test_pipelined_results_are_never_held_against_others():
    assert check(make_result(STEADY, pipelined=True), force=True).verdict == "could not measure"


def test_a_baseline_of_fewer_than_three_sessions_is_refused_unless_forced():
    found = check(make_result(STEADY), base=BASE[:2])
    assert found.verdict == "could not measure" and "pools 2 of 3 sessions: add 1 more" in found.line
    assert check(make_result(STEADY), base=BASE[:1], force=True).verdict == "pass"
    assert check(make_result(scaled(1.2)), base=BASE[:1], force=True).verdict == "regression"


def test_one_trial_shows_no_spread():
    found = check(make_result((1.0,)), base=[make_result((1.0,))], force=True)
    assert found.verdict == "could not measure" and "shows no spread" in found.line


def test_values_that_are_no_measurement_are_not_compared():
    broken = make_result(STEADY)
    broken["trials"][2]["latency_p50_ms"] = 0.0
    assert "the result has no latency" in check(broken).line


def test_false_alarms_are_rare_and_real_regressions_are_found():
    noise, whole = random.Random(5), make_result(STEADY)

    def session(factor, day):
        trials = [dict(row, latency_p50_ms=factor * noise.gauss(1.0, 0.01)) for row in whole["trials"]]
        return {**whole, "created": f"2026-01-{day:02d}T00:00:00Z", "trials": trials}

    def verdicts(factor):
        return [check(session(factor, 9), base=[session(1.0, day) for day in (1, 2, 3, 4, 5)]).verdict
                for _ in range(25)]

    assert verdicts(1.0).count("regression") == 0 and verdicts(1.12).count("regression") >= 24


# comparisons

def compared(head=1.1, **options):
    return comparison.make(make_pair_record((1.0, 1.01, 0.99, 1.0), scaled(head, (1.0, 1.012, 0.99, 1.001)), **options))


@pytest.mark.parametrize("factor, expected", [(1.0, "pass"), (1.1, "regression"), (0.8, "improvement")])
def test_a_comparison_is_judged_by_its_pairs(factor, expected):
    found = checking.check_comparisons(ModelVerdict("new"), [compared(factor)], LATENCY)
    assert found.verdict == expected and found.method == "interleaved"
    assert found.sessions == {"baseline": 4, "present": 4, "more": 0}


def test_an_unclear_comparison_is_measured_once_more_and_all_pairs_count():
    unclear = comparison.make(make_pair_record((1.0, 1.1, 0.9, 1.0), (1.2, 1.05, 1.15, 1.0)))
    again = compared(1.1, created="2026-02-01T00:00:00Z")
    found = checking.check_comparisons(ModelVerdict("new"), [unclear], LATENCY, lambda: [("b.json", again)])
    assert found.sessions == {"baseline": 8, "present": 8, "more": 4} and found.results == ["b.json"]
    assert found.metrics[0]["reason"] != unclear["metrics"][0]["reason"]


def test_a_comparison_without_energy_says_so():
    found = checking.check_comparisons(ModelVerdict("new"), [compared(1.0, locked=False)])
    assert [row["metric"] for row in found.metrics] == ["latency"]
    assert "energy was not measured: add --power" in found.notes and "marked quick, unlocked" in found.notes
    asked = checking.check_comparisons(ModelVerdict("new"), [compared(1.0)], {"energy": 0.05})
    assert asked.verdict == "could not measure" and "base has no energy" in asked.line


def test_the_marks_and_warnings_of_every_comparison_are_noted():
    throttled = compared(1.0, created="2026-02-01T00:00:00Z")
    throttled["marks"].append("throttled")
    throttled["warnings"].append("clocks were held down")
    found = checking.check_comparisons(ModelVerdict("new"), [compared(1.0), throttled, compared(1.0)], LATENCY)
    assert "marked quick, throttled" in found.notes and found.notes.count("clocks were held down") == 1
    unclear = comparison.make(make_pair_record((1.0, 1.1, 0.9, 1.0), (1.2, 1.05, 1.15, 1.0)))
    found = checking.check_comparisons(ModelVerdict("new"), [unclear], LATENCY, lambda: [("b.json", throttled)])
    assert "marked quick, throttled" in found.notes


@pytest.mark.parametrize("option, words", [({"batch": 8}, "batch is 8, was 1"),
                                           ({"pipelined": True}, "pipelined is yes, was no")])
def test_sides_of_another_batch_or_pipelined_alone_are_not_compared(option, words):
    both = compared(5.0)
    both["head"]["runner"].update(option)
    both["head"]["batch"] = both["head"]["runner"]["batch"]
    found = checking.check_comparisons(ModelVerdict("new"), [compared(1.0), both], LATENCY)
    assert found.verdict == "could not measure" and words in found.line and found.method is None


# tolerances

def test_tolerances_are_read():
    assert tolerances.parse_tolerances(["energy=5%", "latency_p99=0.1", "compute=2.5%,throughput=.3"]) == {
        "energy": 0.05, "latency_p99": 0.1, "compute": 0.025, "throughput": 0.3}
    assert tolerances.parse_tolerances(["latency=150%"]) == {"latency": 1.5}


@pytest.mark.parametrize("word, words", [
    ("enrgy=5%", "did you mean energy"), ("energy", "not understood"), ("energy=5mJ", "a share of the baseline"),
    ("latency=2ms", "a share of the baseline"), ("energy=-5%", "a share"), ("energy=", "a share"),
    ("energy=5", "would be 500%: write energy=5%"), ("energy=nan", "a share"), ("energy=1e3%", "a share")])
def test_tolerances_in_unknown_units_are_refused_with_the_remedy(word, words):
    with pytest.raises(UserError, match=words):
        tolerances.parse_tolerances([word])
