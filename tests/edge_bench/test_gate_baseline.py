"""Stored baselines: what is pooled, what begins anew, what is refused, and files that live in a repository."""

from __future__ import annotations

import copy
import json
import os

import pytest
from bench_samples import make_record, make_result
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError
from devices.support.files import json_text
from edge_bench.agent import evaluate, store
from edge_bench.agent import result as results
from edge_bench.gate import baseline, checking


def day(number):
    return f"2026-01-{number:02d}T00:00:00Z"


def sessions(count, **options):
    return [make_result(created=day(number + 1), **options) for number in range(count)]


def entries_of(*found):
    entries = []
    baseline.add_sessions(entries, list(found))
    return entries


def kept(folder, **options):
    """The path of a result with its record, as bench leaves them."""
    record = make_record(**options)
    return store.save(evaluate.evaluate(record), record, str(folder))


def test_sessions_of_one_file_on_one_board_are_pooled():
    entries = entries_of(*sessions(3))
    assert len(entries) == 1 and [one["created"] for one in entries[0]["sessions"]] == [day(1), day(2), day(3)]
    assert entries[0]["identity"] | {"model": "net", "serial": "s1234", "L4T": "32.7.1"} == entries[0]["identity"]


def test_the_same_session_counts_once_and_the_latest_twenty_stay():
    entries = entries_of(*sessions(3), *sessions(3))
    assert len(entries[0]["sessions"]) == 3
    baseline.add_sessions(entries, sessions(25))
    assert [one["created"] for one in entries[0]["sessions"]] == [day(number) for number in range(6, 26)]


@pytest.mark.parametrize("option", [{"serial": "other"}, {"batch": 8}, {"precision": "fp16"}, {"name": "other"},
                                    {"pipelined": True}])
def test_another_board_batch_or_precision_is_an_entry_of_its_own(option):
    entries = entries_of(*sessions(3))
    assert "begun anew" not in baseline.add_sessions(entries, [make_result(**option)])[0]
    assert sorted(len(entry["sessions"]) for entry in entries) == [1, 3]


def test_another_model_file_or_version_begins_anew_and_says_so():
    entries = entries_of(*sessions(3))
    changed = make_result()
    changed["model"]["sha256"] = "1" * 64
    told = baseline.add_sessions(entries, [changed])
    assert told == ["net on tx2: 1 session, begun anew (the model file has changed); at least 3 are needed, measure 2 "
                    "more"]
    told = baseline.add_sessions(entries, [make_result(version="2.0")])
    assert "begun anew (runner version is 2.0, was 1.0; the model file has changed)" in told[0]
    assert len(entries) == 1 and len(entries[0]["sessions"]) == 1


def test_a_long_name_has_a_file_in_a_folder(tmp_path):
    record = make_record(name="n" * 250)
    path = store.save(evaluate.evaluate(record), record, str(tmp_path))
    checking.update_baseline([path], f"{tmp_path / 'baselines'}/")
    assert baseline.load(tmp_path / "baselines")[0]["identity"]["model"] == "n" * 250


def test_two_files_of_one_name_are_refused_in_one_call(tmp_path):
    other = make_record(created=day(2))
    other["model"]["sha256"] = "1" * 64
    paths = [kept(tmp_path), store.save(evaluate.evaluate(other), other, str(tmp_path))]
    checking.update_baseline(paths[:1], tmp_path / "b.json")
    before = (tmp_path / "b.json").read_text()
    for refused in (lambda: checking.update_baseline(paths, tmp_path / "b.json"),
                    lambda: checking.check_results(paths, tmp_path / "b.json")):
        with pytest.raises(UserError, match="are of two different files that are both called net: give the models"):
            refused()
    assert (tmp_path / "b.json").read_text() == before


def test_a_board_without_a_serial_number_goes_by_its_host_name():
    assert baseline.identity(make_result(serial=None))["serial"] == "board"


def test_the_nearest_entry_is_the_one_with_the_fewest_differences():
    entries = entries_of(make_result(serial="third", batch=4), make_result(batch=8))
    present = baseline.identity(make_result())
    assert baseline.nearest(entries, present)["identity"]["batch"] == 8
    assert baseline.nearest(entries_of(make_result()), present)["identity"] == present
    assert baseline.nearest(entries, {**present, "model": "none"}) is None


def test_a_file_is_small_stable_and_a_session_a_few_lines(tmp_path):
    entries = entries_of(*sessions(3, name="b"), *sessions(3, name="a"))
    text = baseline.to_text(entries)
    assert json.loads(text)["entries"] == entries and [e["identity"]["model"] for e in entries] == ["a", "b"]
    assert text == baseline.to_text(entries_of(*sessions(3, name="a"), *sessions(3, name="b")))
    before = text.splitlines()
    baseline.add_sessions(entries, [make_result(name="a", created=day(9))])
    after = baseline.to_text(entries).splitlines()
    assert len(after) - len(before) <= 14 and len(text) / 6 < 1000
    baseline.save(tmp_path / "b.json", entries)
    assert baseline.load(tmp_path / "b.json") == entries


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_the_text_is_json_of_the_very_same_value(value):
    assert json.loads(baseline._text(value, "\n")) == value


def test_a_folder_has_a_file_an_entry_and_only_changed_ones_are_written(tmp_path):
    folder = tmp_path / "baselines"
    a, b = kept(tmp_path / "r", name="a"), kept(tmp_path / "r", name="b", precision="fp16", batch=4)
    checking.update_baseline([a, b], f"{folder}/")
    names = sorted(os.listdir(folder))
    assert names[0].startswith("a-fp32-b1-onnxruntime-tx2-maxn-") and names[1].startswith("b-fp16-b4-")
    times = {name: (folder / name).stat().st_mtime_ns for name in names}
    checking.update_baseline([kept(tmp_path / "r", name="b", precision="fp16", batch=4, created=day(2))], folder)
    assert sorted(os.listdir(folder)) == names
    assert (folder / names[0]).stat().st_mtime_ns == times[names[0]]
    assert (folder / names[1]).stat().st_mtime_ns != times[names[1]]
    assert [len(entry["sessions"]) for entry in baseline.load(folder)] == [1, 2]


def test_the_first_baseline_goes_into_a_folder_that_git_keeps(tmp_path):
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / ".gitkeep").touch()
    checking.update_baseline([kept(tmp_path / "r", name="a")], folder)
    assert [entry["identity"]["model"] for entry in baseline.load(folder)] == ["a"]


def test_a_file_of_another_name_in_a_folder_is_refused_before_its_sessions_are_lost(tmp_path):
    folder = tmp_path / "baselines"
    checking.update_baseline([kept(tmp_path / "r", name="a")], f"{folder}/")
    name = os.listdir(folder)[0]
    os.rename(folder / name, folder / "baseline.json")
    with pytest.raises(UserError, match=f"called by it: rename it to {name}"):
        checking.update_baseline([kept(tmp_path / "r", name="a", created=day(2))], folder)
    assert os.listdir(folder) == ["baseline.json"]


def test_layers_are_kept_where_they_were_measured():
    with_layers = make_result(created=day(1))
    with_layers["layers"] = [{"name": "conv", "ms": 0.51234567}]
    entries = entries_of(with_layers, make_result(created=day(2)))
    assert entries[0]["layers"] == {"conv": 0.5123}


@pytest.mark.parametrize("option, words", [
    ({"window": 1.0}, "marked quick"), ({"locked": False}, "marked unlocked"),
    ({"steady": False}, "marked not_steady")])
def test_marked_results_are_refused_and_nothing_is_written(tmp_path, option, words):
    good, bad, target = kept(tmp_path), kept(tmp_path, **option), tmp_path / "baseline.json"
    with pytest.raises(UserError, match=words):
        checking.update_baseline([good, bad], target)
    assert not target.exists()
    checking.update_baseline([good, bad], target, force=True)
    assert baseline.load(target)


def test_throttled_results_are_refused(tmp_path):
    record = make_record()
    record["preflight"]["throttling"] = ["gpu-throttle"]
    path = store.save(evaluate.evaluate(record), record, str(tmp_path))
    with pytest.raises(UserError, match="marked throttled"):
        checking.update_baseline([path], tmp_path / "b.json")


def test_a_result_without_its_raw_samples_is_refused_unless_forced(tmp_path):
    path, target = tmp_path / "alone.json", tmp_path / "b.json"
    path.write_text(json_text(make_result(), results.SCHEMA))
    with pytest.raises(UserError, match="no raw samples beside it"):
        checking.update_baseline([path], target)
    checking.update_baseline([path], target, force=True)
    told = checking.check_results([path], target, {"latency": 0.05}, force=True)[0]
    assert any("no raw samples" in note for note in told.notes)


def test_a_record_of_another_measurement_is_refused_even_when_forced(tmp_path):
    path = kept(tmp_path)
    (tmp_path / "0001-net-tx2.record.gz").write_bytes(store.pack(make_record((2.0,) * 5)))
    with pytest.raises(UserError, match="not the record it was made of"):
        checking.update_baseline([path], tmp_path / "b.json", force=True)


def test_an_update_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "b.json"
    checking.update_baseline([kept(tmp_path)], target)
    before = target.read_bytes()

    def full(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="the disk is full"):
        checking.update_baseline([kept(tmp_path / "r")], target)
    assert target.read_bytes() == before and not [n for n in os.listdir(tmp_path) if n.endswith(".tmp")]


SOUND = entries_of(*sessions(3))[0]


@pytest.mark.parametrize("spoil", [
    lambda e: e.pop("identity"), lambda e: e["identity"].pop("serial"), lambda e: e.update(sessions=[]),
    lambda e: e["sessions"][0].update(trials=[]), lambda e: e["sessions"][0]["trials"].update(energy_mj=[]),
    lambda e: e["sessions"][0]["trials"].update(energy_mj=[0.0]), lambda e: e["sessions"][0].pop("rounding"),
    lambda e: e["sessions"][0]["trials"].update(energy_mj=["1"]), lambda e: e.update(layers={"a": -1}),
    lambda e: e["sessions"][0].update(scope=1), lambda e: e.update(model_sha256=None)])
def test_a_damaged_entry_is_one_sentence(tmp_path, spoil):
    entry = copy.deepcopy(SOUND)
    spoil(entry)
    path = tmp_path / "b.json"
    path.write_text(baseline.to_text([entry]))
    with pytest.raises(UserError, match="the baseline is damaged"):
        baseline.load(path)


@pytest.mark.parametrize("text, words", [
    ("", "damaged JSON"), ("{", "damaged JSON"), ("[]", "no schema"), ("{}", "no schema"),
    ('{"schema": "edgesynth.baseline/1", "entries": []}', "another version"),
    ('{"schema": "edgesynth.result/1"}', "another kind"), ('{"schema": "edgesynth.baseline/2"}', "is damaged")])
def test_a_damaged_file_is_one_sentence(tmp_path, text, words):
    (tmp_path / "b.json").write_text(text)
    for path in (tmp_path / "b.json", tmp_path):
        with pytest.raises(UserError, match=words):
            baseline.load(path)


def test_an_empty_folder_and_a_missing_file_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no baseline"):
        baseline.load(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        baseline.load(tmp_path / "b.json")
