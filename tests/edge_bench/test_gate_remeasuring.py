"""A result's model measured again: as it was, where it was, or not at all."""

from __future__ import annotations

import pytest
from bench_samples import make_record, write_model

from devices.support.errors import CannotMeasure
from devices.support.files import sha256_file
from edge_bench.agent import evaluate, store
from edge_bench.agent import result as results
from edge_bench.agent.identity import identify
from edge_bench.gate import remeasuring


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The path of a result of models/net.onnx, with its record, and the options of every bench that follows."""
    model = write_model(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)

    def keep(day=1, **options):
        record = make_record(created=f"2026-01-{day:02d}T00:00:00Z", **options)
        record["request"].update(model=str(model), batch=1, power=True, precision=None, root="/")
        record["model"]["sha256"] = sha256_file(model)
        return store.save(evaluate.evaluate(record), record, "results")

    return keep


@pytest.fixture
def asked(kept, monkeypatch):
    """What bench_model was asked for; `answer` are the options of the results that it gives."""
    calls: list = []
    calls_answer: dict = {}

    def bench(model, **options):
        calls.append({"model": model, **options})
        path = kept(day=10 + len(calls), **calls_answer)
        return {**results.load(path), "saved": path}

    monkeypatch.setattr(remeasuring, "bench_model", bench)
    bench_calls = type("Asked", (), {"calls": calls, "answer": calls_answer})
    return bench_calls


def test_it_is_measured_as_it_was(kept, asked, tmp_path):
    path = kept()
    found = remeasuring.measure_again(results.load(path), path, 2, rest_s=0)
    assert [results.load(at)["created"] for at, _ in found] == ["2026-01-11T00:00:00Z", "2026-01-12T00:00:00Z"]
    call = asked.calls[0]
    assert call["model"] == str(tmp_path / "net.onnx") and call["power"] is True and call["trials"] == 5
    assert "quick" not in call and "precision" not in call and "root" not in call and call["host"] is None


def test_a_changed_or_missing_model_is_not_measured_in_its_place(kept, asked, tmp_path):
    path = kept()
    assert remeasuring.model_file_of(path) == str(tmp_path / "net.onnx")
    write_model(tmp_path / "net.onnx", batch=8)
    assert remeasuring.model_file_of(path) is None
    with pytest.raises(CannotMeasure, match="as it was measured is not on this machine"):
        remeasuring.measure_again(results.load(path), path, 1, rest_s=0)
    assert not asked.calls


@pytest.mark.parametrize("answer, words", [
    ({"serial": "other"}, "serial is other, was s1234"), ({"steady": False}, "the new session is marked not_steady"),
    ({"version": "2.0"}, "runner version is 2.0, was 1.0")])
def test_what_comes_back_must_be_of_the_same_thing(kept, asked, answer, words):
    asked.answer.update(answer)
    path = kept()
    with pytest.raises(CannotMeasure, match=words):
        remeasuring.measure_again(results.load(path), path, 3, rest_s=0)
    assert len(asked.calls) == 1


def test_without_its_record_nothing_says_how_it_was_measured(kept, asked, tmp_path):
    path = kept()
    (tmp_path / "results/0001-net-tx2.record.gz").unlink()
    with pytest.raises(CannotMeasure, match="no record beside it"):
        remeasuring.measure_again(results.load(path), path, 1, rest_s=0)


def test_a_result_of_this_machine_is_known():
    result = evaluate.evaluate(make_record())
    assert not remeasuring.is_of_this_machine(result)
    result["preflight"]["board"] = identify()
    assert remeasuring.is_of_this_machine(result)
