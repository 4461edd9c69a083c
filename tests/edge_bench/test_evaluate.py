"""From records to results: the numbers of known trials, marks, and that a replay gives the same."""

from __future__ import annotations

import json

import pytest
from bench_samples import make_pair_record, make_record, write_model

from devices.support.errors import UserError
from edge_bench.agent import comparison, evaluate, result, store, trial


def test_latencies_survive_packing_to_the_tick():
    packed = trial.pack([0.001, 0.001, 0.00100004, 0.5])
    assert packed == [[10000, 3], [5000000, 1]]
    assert list(trial.unpack(packed)) == pytest.approx([1.0, 1.0, 1.0, 500.0])


def test_readings_of_known_trials():
    found = evaluate.evaluate(make_record((2.0, 2.0, 2.0, 2.0, 2.0)))
    readings = found["readings"]
    assert readings["latency_p50_ms"]["value"] == pytest.approx(2.0)
    assert readings["latency_max_ms"]["value"] == pytest.approx(2.0 * 1.005)
    assert readings["throughput_img_s"]["value"] == pytest.approx(500, rel=1e-3)
    assert all(value["provenance"] == "measured" for value in readings.values())
    assert found["marks"] == []


def test_interval_comes_from_between_the_trials():
    tight = evaluate.evaluate(make_record((1.0, 1.001, 0.999, 1.0, 1.0)))["readings"]["latency_p50_ms"]
    wide = evaluate.evaluate(make_record((1.0, 1.1, 0.9, 1.05, 0.95)))["readings"]["latency_p50_ms"]
    assert tight["high"] - tight["low"] < 0.01 < 0.1 < wide["high"] - wide["low"]


@pytest.mark.parametrize("options, mark", [
    ({"window": 1.0}, "quick"), ({"steady": False}, "not_steady"), ({"locked": False}, "unlocked"),
    ({"locked": None}, "clocks_unknown"), ({"pipelined": True}, "pipelined"),
    ({"origin_unknown": True}, "origin_unknown"),
])
def test_marks(options, mark):
    assert mark in evaluate.evaluate(make_record(**options))["marks"]


def test_a_first_look_says_how_to_measure_soundly():
    assert "a first look: measure 5 trials of 10 s or more" in evaluate.evaluate(
        make_record(window=1.0))["warnings"]


def test_clocks_that_are_not_shown_are_no_unlocked_ones():
    found = evaluate.evaluate(make_record(locked=None))
    assert "unlocked" not in found["marks"] and not set(found["marks"]) & set(result.NOT_COMPARABLE)


@pytest.mark.parametrize("load, busy", [
    (None, False), ({"cpu_share": 0.1, "processes": []}, False),  # of a record that knows no GPU
    ({"processes": [], "gpu_share": None}, False), ({"processes": [], "gpu_share": 0.02}, False),
    ({"processes": [], "gpu_share": 0.3}, True), ({"processes": [{"pid": 1, "name": "x", "share": 0.5}]}, True)])
def test_other_work_on_processor_or_gpu_is_marked(load, busy):
    record = make_record()
    record["preflight"]["load"] = load
    assert ("busy" in evaluate.evaluate(record)["marks"]) is busy


def test_throttling_during_a_trial_is_marked_and_named():
    record = make_record()
    record["trials"][3]["throttling"] = ["gpu-balanced"]
    found = evaluate.evaluate(record)
    assert "throttled" in found["marks"] and any("gpu-balanced during the trials" in text for text in found["warnings"])


def test_over_current_during_a_trial_is_marked_and_counted():
    record = make_record()
    for trial_ in record["trials"][1:]:
        trial_["over_current"] = {"oc1": 0, "oc3": 0}
    assert evaluate.evaluate(record)["marks"] == []  # the first is of an older agent
    record["trials"][3]["over_current"] = {"oc1": 0, "oc3": 12}
    found = evaluate.evaluate(record)
    assert found["marks"] == ["throttled"] and found["trials"][3]["over_current"] == {"oc1": 0, "oc3": 12}
    assert any("over-current slowed the clocks 12 times" in text for text in found["warnings"])


def test_an_engine_of_another_power_mode_is_told_and_not_refused():
    assert not evaluate.evaluate(make_record(built_in_mode="MAXN"))["warnings"]
    found = evaluate.evaluate(make_record(built_in_mode="MAXQ"))
    assert found["marks"] == [] and any("built in power mode MAXQ and is measured in MAXN" in text
                                        for text in found["warnings"])


def test_an_engine_of_another_board_is_told():
    assert not evaluate.evaluate(make_record(built_on="tx2"))["warnings"]
    found = evaluate.evaluate(make_record(built_on="agx-xavier"))
    assert any("the engine was built on agx-xavier and is measured on tx2" in text for text in found["warnings"])


@pytest.mark.parametrize("runner, version, opset, told", [
    ("tensorrt", "8.2.1.8", 18, True), ("trtexec", "8.2.1", 14, True), ("tensorrt", "8.2.1.8", 13, False),
    ("tensorrt", "8.2.1.8", None, False), ("trtexec", None, 18, False), ("onnxruntime", "1.10.0", 18, False)])
def test_a_file_that_tensorrt_may_misread_is_told(runner, version, opset, told):
    """8.2 reads a later opset without an error, and its reductions over all axes instead of those that are asked."""
    record = make_record(version=version)
    record["trials"][0]["runner"]["name"], record["model"]["opset"] = runner, opset
    warnings = evaluate.evaluate(record)["warnings"]
    assert any("it may have built another network" in text and "export --target tx2" in text
               for text in warnings) is told


def test_a_model_is_described_with_its_opset(tmp_path):
    model = write_model(tmp_path / "net.onnx")
    assert evaluate.describe_model(str(model), "")["opset"] == 13
    assert evaluate.describe_model(str(model.rename(tmp_path / "net.engine")), "")["opset"] is None


def test_layers_are_shown_with_what_their_energy_is():
    record = make_record()
    record["layers"] = [{"name": "conv1", "ms": 0.75}, {"name": "fc", "ms": 0.25}]
    text = result.to_text(evaluate.evaluate(record))
    assert "layers     2 in a separate pass\n" in text and " 75%  conv1" in text
    shown = "\n".join(result.layer_lines([{"name": "conv1", "ms": 0.75, "attributed_mj": 3.0}]))
    assert "3 mJ  conv1" in shown and "attributed by time, not measured" in shown


def test_drift_is_marked_and_explained():
    found = evaluate.evaluate(make_record((1.0, 1.02, 1.04, 1.06, 1.08)))
    assert "drift" in found["marks"]
    assert any("drifted" in text for text in found["warnings"])


def test_outlier_is_flagged_and_kept():
    found = evaluate.evaluate(make_record((1.0, 1.001, 2.0, 0.999, 1.0)))
    assert found["outliers"] == [2] and "outliers" in found["marks"] and len(found["trials"]) == 5


def test_batch_counts_images():
    found = evaluate.evaluate(make_record((2.0,) * 5, batch=8))
    assert found["readings"]["throughput_img_s"]["value"] == pytest.approx(4000, rel=1e-3)


def test_result_and_record_survive_the_disk(tmp_path):
    record = make_record()
    found = evaluate.evaluate(record)
    path = store.save(found, record, str(tmp_path / "results"))
    assert path.endswith("0001-net-tx2.json")
    assert store.save(found, record, str(tmp_path / "results")).endswith("0002-net-tx2.json")
    kept = result.load(path)
    with pytest.raises(UserError, match=r"0001-net-tx2.json: a record is wanted, which is the .record.gz beside"):
        store.load_record(path)
    again = evaluate.evaluate(store.load_record(path[:-5] + ".record.gz"))
    assert json.loads(json.dumps(again)) == {k: v for k, v in kept.items() if k not in ("schema", "record")}


def test_a_name_as_long_as_a_file_system_takes_is_kept(tmp_path):
    name = "n" * 250
    record = make_record(name=name)
    assert result.load(store.save(evaluate.evaluate(record), record, str(tmp_path)))["model"]["name"] == name
    both = make_pair_record()
    for side in both["models"].values():
        side["name"] = name
    assert comparison.load(comparison.save(comparison.make(both), both, str(tmp_path)))


def test_same_record_packs_to_the_same_bytes():
    assert store.pack(make_record()) == store.pack(make_record())


@pytest.mark.parametrize("data", [b"", b"junk", b"\x1f\x8b\x08\x00broken", b"{}"])
def test_damaged_record_is_one_sentence(tmp_path, data):
    path = tmp_path / "x.record.gz"
    path.write_bytes(data)
    with pytest.raises(UserError, match="record"):
        store.load_record(str(path))


def test_damaged_result_is_named(tmp_path):
    found = evaluate.evaluate(make_record())
    del found["trials"]
    with pytest.raises(UserError, match="trials"):
        result.check(found)
    predicted = evaluate.evaluate(make_record())
    predicted["readings"]["latency_p50_ms"]["provenance"] = "predicted"
    with pytest.raises(UserError, match="predicted"):
        result.check(predicted)


def test_text_says_where_and_under_what_conditions():
    text = result.to_text(evaluate.evaluate(make_record(locked=False)))
    assert "serial …1234" in text and "mode MAXN" in text and "clocks not locked" in text
    assert "5 trials × 10 s" in text and "marked     unlocked" in text
