"""Two models in turns as one job: the order, one lock and one sampler, the comparison and its replay."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from agent_on_board import write_net
from bench_samples import make_pair_record
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError
from edge_bench.agent import comparison, metrics, pair, store


@given(st.integers(1, 40))
def test_every_pair_holds_both_and_drift_cancels(pairs):
    order = pair.order(pairs)
    places = {side: [k for k, of in enumerate(order) if of == side] for side in pair.SIDES}
    assert all(set(order[k:k + 2]) == set(pair.SIDES) for k in range(0, 2 * pairs, 2))
    steady = sum(places["base"]) - sum(places["head"])
    bent = sum(k * k for k in places["base"]) - sum(k * k for k in places["head"])
    if pairs % 2 == 0:
        assert steady == 0
    if pairs % 4 == 0:
        assert bent == 0
    assert order[:4] == ["base", "head", "head", "base"][:2 * min(pairs, 2)]


def test_two_models_are_measured_in_turns_as_one_job(agent, tmp_path):
    agent.board.add_tegrastats()
    base, head = write_net(tmp_path / "old.onnx", ms=5.0), write_net(tmp_path / "new.onnx", ms=15.0)
    request = agent.request(head, base=str(base), trials=2, window=2.5, warmup_cap=2.0, power=True, mode="maxn",
                            lock=True)
    events = agent.call("compare", request)
    assert events[-1]["event"] == "result", events[-1].get("message")
    found = comparison.check(events[-1]["result"])
    assert found["order"] == ["base", "head", "head", "base"]
    rows = {row["metric"]: row for row in found["metrics"]}
    # the double's inference is a sleep, so a busy machine makes both longer; the order of the two it cannot change
    assert rows["latency"]["ratio"] > 1.2 and rows["energy"]["ratio"] > 1.2
    assert rows["throughput"]["ratio"] > 1.2 and not rows["throughput"]["more_is_worse"]
    # one sampler from before the first trial to after the last, one preflight, settings that held and came back
    starts = [row["start_s"] for side in pair.SIDES for row in found[side]["trials"]]
    assert sorted(starts) == [found[side]["trials"][k]["start_s"] for side, k in
                              (("base", 0), ("head", 0), ("head", 1), ("base", 1))]
    assert found["base"]["power"]["samples"] == found["head"]["power"]["samples"]
    assert found["base"]["preflight"] == found["head"]["preflight"] and "unlocked" not in found["marks"]
    assert agent.board.mode == "pmode:0003" and not agent.board.locked
    assert [call for call in agent.board.calls if call.startswith("nvpmodel -m")] == ["nvpmodel -m 0", "nvpmodel -m 3"]
    said = [event["text"] for event in events if event["event"] == "progress"]
    assert "head: trial 3/4: measuring 2.5 s" in [text.replace(", not steady", "") for text in said]
    assert any(text.startswith("base: building the engine") for text in said)
    record = store.unpack(base64.b64decode(events[-1]["record"]), schema=pair.SCHEMA)
    assert json.loads(json.dumps(comparison.make(record))) == events[-1]["result"]


def test_a_busy_board_names_the_comparison(agent, tmp_path):
    from agent_on_board import wait_for

    base, head = write_net(tmp_path / "old.onnx"), write_net(tmp_path / "new.onnx")
    first = agent.start("compare", agent.request(head, base=str(base), trials=4, window=3.0))
    wait_for(lambda: agent.result("probe", {"root": str(agent.board.root)})["busy"], 60)
    end = agent.call("bench", agent.request(head, wait=0))[-1]
    assert end["exit_code"] == 3 and "the comparison of old.onnx and new.onnx of" in end["message"]
    agent.result("cancel", {})
    assert json.loads(first.stdout.read().splitlines()[-1])["event"] == "cancelled"
    first.wait()


def test_a_person_at_the_board_compares_too(agent, tmp_path):
    base, head = write_net(tmp_path / "old.onnx"), write_net(tmp_path / "new.onnx", ms=2.0)
    words = [agent.python, agent.pyz, "compare", base, head, "--root", agent.board.root, "--trials", "1", "--window",
             "0.2", "--batch", "1", "--save", tmp_path / "results", "--json", tmp_path / "out.json"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=agent.environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "base old (" in done.stdout and "latency" in done.stdout and "saved " in done.stderr
    kept = comparison.load(str(tmp_path / "results/0001-old-new-tx2.json"))
    assert json.loads((tmp_path / "out.json").read_text())["metrics"] == kept["metrics"]


@pytest.mark.parametrize("given, words", [
    ({}, "name two models"), ({"base": "/nothing.onnx"}, "no such file"), ({"base": "/"}, "it is a folder"),
    ({"trials": 0}, "--trials 0 makes no sense")])
def test_what_cannot_be_compared_is_told_before_anything_runs(agent, tmp_path, given, words):
    head = write_net(tmp_path / "new.onnx")
    request = agent.request(head, **{"base": str(head) if given and "base" not in given else None, **given})
    end = agent.call("compare", request)[-1]
    assert end["event"] == "error" and end["exit_code"] == 2 and words in end["message"]


def test_models_that_different_runners_would_run_are_refused(tmp_path, monkeypatch):
    from edge_bench.agent import interpreter

    monkeypatch.setattr(interpreter, "choose", lambda *_: "python3")
    for name in ("a.onnx", "b.engine"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="would run on onnxruntime and t"):
        pair.measure_pair({"base": str(tmp_path / "a.onnx"), "model": str(tmp_path / "b.engine")})


# what is made of a record

def test_a_comparison_knows_both_sides_and_each_metric():
    found = comparison.make(make_pair_record())
    row = found["metrics"][0]
    assert (row["metric"], row["verdict"], row["unit"], row["tolerance"]) == ("latency", "worse", "ms", None)
    assert row["low"] < 1.1 < row["high"] and row["reason"] == "4 pairs"
    assert row["baseline"] == pytest.approx(1.0, rel=1e-3)
    assert found["base"]["model"]["name"] == "old" and found["head"]["model"]["name"] == "new"
    assert found["layers"] is None and "energy" not in {row["metric"] for row in found["metrics"]}


@pytest.mark.parametrize("pairs", [1, 2])
def test_few_pairs_have_no_interval_in_table_or_json(pairs):
    found = comparison.make(make_pair_record((1.0, 1.4)[:pairs], (1.1, 1.54)[:pairs]))
    row = found["metrics"][0]
    assert row["verdict"] == "could not measure" and row["low"] is None and row["ratio"] == pytest.approx(1.1, rel=0.01)
    line = next(line for line in comparison.to_text(found).splitlines() if line.startswith("latency "))
    assert "%]" not in line and "] %" not in line and "fewer than 3 pairs show no interval: measure 6 of each" in line
    assert all(reading["low"] is None for reading in found["head"]["readings"].values())


def test_other_differences_than_the_model_are_warned_of():
    record = make_pair_record()
    for trial, side in zip(record["trials"], record["order"], strict=True):
        trial["runner"] = dict(trial["runner"], precision="fp16" if side == "head" else "fp32")
    assert any("precision fp32 and fp16" in text for text in comparison.make(record)["warnings"])


def test_layers_are_joined_by_name_the_largest_change_first():
    changes = comparison.layer_changes([{"name": "a", "ms": 1.0}, {"name": "gone", "ms": 0.3}],
                                       [{"name": "a", "ms": 1.1}, {"name": "new", "ms": 0.5}])
    assert [(c["name"], c["baseline_ms"], c["present_ms"]) for c in changes] == [
        ("new", None, 0.5), ("gone", 0.3, None), ("a", 1.0, 1.1)]
    assert comparison.layer_changes(None, [{"name": "a", "ms": 1.0}]) is None


def test_it_is_kept_loaded_and_replayed_the_same(tmp_path):
    record = make_pair_record()
    found = comparison.make(record)
    path = comparison.save(found, record, str(tmp_path))
    assert path.endswith("0001-old-new-tx2.json")
    loaded = comparison.load(path)
    named = loaded.pop("record")
    assert json.loads(json.dumps(found)) == {name: value for name, value in loaded.items() if name != "schema"}
    assert json.loads(json.dumps(comparison.replay(str(tmp_path / named["file"])))) == json.loads(json.dumps(found))
    with pytest.raises(UserError, match=r"expected edgesynth\.record/1"):
        store.load_record(str(tmp_path / named["file"]))


@pytest.mark.parametrize("spoil", [
    lambda r: r.update(order=["base"] * 8), lambda r: r["order"].pop(), lambda r: r["trials"].pop(),
    lambda r: r.update(trials=[], order=[]), lambda r: r["models"].pop("base"), lambda r: r.pop("requests"),
    lambda r: r["trials"][0].update(inferences=0)])
def test_a_damaged_record_is_one_sentence(spoil):
    record = make_pair_record()
    spoil(record)
    with pytest.raises(UserError, match="the record is damaged"):
        comparison.make(record)


def test_a_damaged_comparison_is_one_sentence():
    found = comparison.make(make_pair_record())
    for spoilt, words in (({"order": None}, "'order' is missing"), ({"base": {}}, r"\(base\): 'created'"),
                          ({"head": {**found["head"], "trials": found["head"]["trials"][1:]}}, "different numbers")):
        with pytest.raises(UserError, match=words):
            comparison.check({**found, **spoilt})


def test_a_person_reads_where_what_and_how_sure():
    text = comparison.to_text(comparison.make(make_pair_record(locked=False)))
    assert "tx2 (serial …1234)" in text and "base old (bbbbbbbb)   head new (aaaaaaaa)   4 trials each × 10 s" in text
    assert "+10." in text and "] %" in text and "worse" in text and "marked     quick, unlocked" in text


def test_the_rounding_is_relative_to_the_smallest_energy():
    result = {"trials": [{"energy_mj": 10.0}, {"energy_mj": 8.0}], "power": {"rounding_mj": 0.4}}
    assert metrics.rounding(result, "energy_mj") == pytest.approx(0.05)
    assert metrics.rounding(result, "latency_p50_ms") == 0 and metrics.rounding({"trials": [{}]}, "energy_mj") == 0
