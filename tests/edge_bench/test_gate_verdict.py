"""Verdicts of rows: when what is said, the line for a person, and exit codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.gate import verdict
from edge_bench.gate.verdict import ModelVerdict, judge

IDENTITY = {"module": "tx2", "serial": "0421819000042"}


def row(ratio, low, high, **more):
    return {"metric": "energy", "unit": "mJ/image", "more_is_worse": True, "tolerance": None, "ratio": ratio,
            "low": low, "high": high, "baseline": 41.2, "present": 44.5, "verdict": "", "reason": "why", **more}


@pytest.mark.parametrize("ratio, low, high, expected", [
    (1.0, 0.98, 1.02, "pass"), (1.03, 1.02, 1.04, "pass"), (1.08, 1.06, 1.1, "regression"),
    (1.08, 0.99, 1.18, "inconclusive"), (1.04, 1.02, 1.06, "inconclusive"), (1.0, 0.9, 1.1, "inconclusive"),
    (0.9, 0.88, 0.92, "improvement"), (0.9, 0.8, 1.01, "pass"), (0.97, 0.96, 0.98, "pass"),
    (0.8, 0.5, 1.3, "inconclusive"), (None, None, None, "could not measure"), (1.2, None, None, "could not measure")])
def test_clear_cases(ratio, low, high, expected):
    assert judge(row(ratio, low, high), 0.05)["verdict"] == expected


@given(st.floats(0.1, 10), st.floats(0, 0.5), st.floats(0.001, 1.0))
def test_a_regression_is_beyond_the_tolerance_and_beyond_the_noise_and_nothing_else_is(ratio, tolerance, width):
    found = judge(row(ratio, ratio / (1 + width), ratio * (1 + width)), tolerance)["verdict"]
    assert (found == "regression") == (ratio > 1 + tolerance and ratio / (1 + width) > 1)
    if found in ("pass", "improvement"):
        assert ratio * (1 + width) <= 1 + tolerance


def test_the_line_is_one_that_a_person_can_act_on():
    model = ModelVerdict("net", identity=IDENTITY, metrics=[judge(row(1.079, 1.061, 1.098), 0.05)])
    model.layers = [{"name": "conv4_2", "baseline_ms": 0.4, "present_ms": 0.6, "change_ms": 0.2},
                    {"name": "conv1", "baseline_ms": 0.2, "present_ms": 0.25, "change_ms": 0.05}]
    assert model.judged().line == ("net on tx2 (…0042): energy +7.9 % [6.1, 9.8], tolerance 5 %: "
                                     "41.2 → 44.5 mJ/image; most of it in conv4_2")


@pytest.mark.parametrize("changes, words", [
    ({"a": (1.0, 1.2), "b": (1.0, 1.2), "c": (1.0, 1.2)}, "; 33% of it in a"),
    ({"a": (None, 0.5), "b": (1.0, 1.1)}, "; most of it in a (new)"),
    ({"a": (1.0, 0.5), "b": (1.0, 1.1)}, ""),           # the layers say the opposite: no blame
    ({f"l{n}": (1.0, 1.1) for n in range(20)}, "")])    # everywhere a little
def test_layers_are_named_where_they_explain_it(changes, words):
    layers = [{"name": name, "baseline_ms": old, "present_ms": new, "change_ms": (new or 0) - (old or 0)}
              for name, (old, new) in changes.items()]
    model = ModelVerdict("net", metrics=[judge(row(1.2, 1.1, 1.3), 0.05)], layers=layers).judged()
    assert model.line.endswith("41.2 → 44.5 mJ/image" + words)


def test_the_line_tells_the_worst_metrics_only():
    passing = judge(row(1.0, 0.99, 1.01, metric="latency", unit="ms"), 0.05)
    model = ModelVerdict("net", metrics=[passing, judge(row(1.2, 1.1, 1.3), 0.05)]).judged()
    assert model.verdict == "regression" and "latency" not in model.line
    hidden = judge(row(1.04, 0.9, 1.2), 0.05)
    assert ModelVerdict("net", metrics=[passing, hidden]).judged().line.endswith("which the noise hides")


def test_a_metric_of_which_less_is_worse_says_worse():
    found = judge(row(1.2, 1.1, 1.3, metric="throughput", unit="img/s", more_is_worse=False), 0.05)
    assert "throughput worse by +20.0 %" in ModelVerdict("net", metrics=[found]).judged().line


@pytest.mark.parametrize("found, inconclusive, code", [
    ("pass", "warn", 0), ("improvement", "warn", 0), ("new", "warn", 0), ("inconclusive", "warn", 0),
    ("inconclusive", "pass", 0), ("inconclusive", "fail", 1), ("regression", "pass", 1),
    ("could not measure", "pass", 3)])
def test_exit_codes(found, inconclusive, code):
    document = verdict.document([ModelVerdict("a"), ModelVerdict("b", verdict=found)], {"kind": "comparison"}, "now",
                                inconclusive)
    assert document["verdict"] == found and document["exit_code"] == code
    assert verdict.exit_code(found, inconclusive) == code


def test_the_worst_counts_for_all():
    assert verdict.worst([]) == "pass"
    assert verdict.worst(["pass", "inconclusive", "improvement", "new"]) == "inconclusive"
    assert verdict.worst(["could not measure", "regression", "inconclusive"]) == "regression"
