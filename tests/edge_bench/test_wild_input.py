"""Whatever bytes or JSON a file or a line holds: one sentence or a value, never a traceback, never a wrong number."""

from __future__ import annotations

import copy
import gzip
import io
import json

import pytest
from bench_samples import make_pair_record, make_record, make_result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.support.errors import EdgesynthError, UserError
from edge_bench.agent import comparison, evaluate, identity, pair, power_mode, protocol, result, store, uploads
from edge_bench.agent.metrics import METRICS
from edge_bench.gate import baseline, checking, tolerances

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
                    max_leaves=12)
RECORD = make_record(window=0.1)
RESULT = make_result(window=0.1)
PAIR = make_pair_record(window=0.1)
RICH = {**make_result(window=0.1, energy_mj=[10.0, 10.1, 9.9, 10.0, 10.0]), "layers": [{"name": "conv", "ms": 1.0}],
        "power": {"scope": "module", "rounding_mj": 0.1}}
BASELINE: list = []
baseline.add_sessions(BASELINE, [{**RICH, "created": str(k)} for k in range(3)])
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(st.binary(max_size=400))
def test_random_bytes_are_no_record(data):
    for content in (data, gzip.compress(data)):
        with pytest.raises(UserError):
            store.unpack(content)


@FEW
@given(JSON)
def test_random_json_is_no_record_result_or_baseline(tmp_path, value):
    with pytest.raises(UserError):
        store.unpack(gzip.compress(json.dumps(value).encode()))
    with pytest.raises(UserError):
        result.check(value)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(value))
    for load in (result.load, baseline.load, comparison.load):
        with pytest.raises(UserError):
            load(path)


@FEW
@given(st.sampled_from(sorted(result.FIELDS)), JSON)
def test_a_result_with_one_spoilt_field_is_told_or_shown(field, value):
    spoilt = {**RESULT, field: value}
    try:
        result.check(spoilt)
    except UserError:
        return
    assert isinstance(value, result.FIELDS[field])


@FEW
@given(st.integers(0, 4), st.sampled_from(["end_s", "latencies", "inferences", "warmup", "runner"]), JSON)
def test_a_record_with_one_spoilt_trial_never_gives_a_traceback(number, field, value):
    record = copy.deepcopy(RECORD)
    record["trials"][number][field] = value
    data = store.pack(record)
    try:
        found = evaluate.replay(store.unpack(data))
    except EdgesynthError as error:
        assert str(error)
        return
    assert 0.5 < found["readings"]["latency_p50_ms"]["value"] < 2


@given(st.text(max_size=200))
def test_lines_that_are_no_events_are_passed_over(line):
    event = protocol.parse(line)
    assert event is None or isinstance(event["event"], str)


@FEW
@given(st.binary(max_size=300))
def test_a_header_of_random_bytes_is_refused(data):
    with pytest.raises(EdgesynthError):
        uploads.receive(io.BytesIO(data))


@FEW
@given(st.binary(max_size=300))
def test_random_board_files_give_none_or_a_value(tmp_path, data):
    for name in ("etc/nvpmodel.conf", "etc/nv_tegra_release", "proc/device-tree/model", "var/lib/nvpmodel/status",
                 "var/lib/dpkg/status", "proc/cpuinfo"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    root = str(tmp_path)
    assert identity.identify(root)["board"]
    assert isinstance(identity.software(root), dict)
    assert power_mode.present(root) is None or isinstance(power_mode.present(root), dict)


@given(st.text(alphabet="energylatc_p9=0.5%1 ,", max_size=20))
def test_tolerances_are_read_or_refused(word):
    try:
        found = tolerances.parse_tolerances([word])
    except UserError:
        return
    assert all(name in METRICS and share >= 0 for name, share in found.items())


@FEW
@given(st.integers(0, 4), st.sampled_from(["latency_p50_ms", "energy_mj", "throughput_img_s"]), JSON)
def test_a_result_with_one_spoilt_value_is_judged_or_refused(number, field, value):
    spoilt = copy.deepcopy(RESULT)
    spoilt["trials"][number][field] = value
    for found in checking.check_sessions([spoilt], BASELINE, {"latency": 0.05, "energy": 0.05, "throughput": 0.05},
                                     force=True).metrics:
        assert found["verdict"] == "could not measure" or 0 < found["low"] <= found["ratio"] <= found["high"]


def places(value, path=()):
    """The path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


@settings(FEW, max_examples=150)
@given(st.sampled_from(list(places(RICH))), JSON)
def test_a_result_that_is_spoilt_anywhere_is_judged_or_refused(tmp_path, place, value):
    spoilt = copy.deepcopy(RICH)
    at = spoilt
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps({"schema": result.SCHEMA, **spoilt}))
    (tmp_path / "b.json").write_text(baseline.to_text(BASELINE))
    try:
        found = checking.check_results([tmp_path / "r.json"], tmp_path / "b.json", force=True)
        checking.update_baseline([tmp_path / "r.json"], tmp_path / "new.json", force=True)
    except UserError as error:
        assert str(error)
    else:
        assert found[0].line and baseline.load(tmp_path / "new.json")  # what was taken can be read again
    finally:
        (tmp_path / "new.json").unlink(missing_ok=True)


def test_a_layer_that_takes_no_time_is_kept(tmp_path):
    entries: list = []
    baseline.add_sessions(entries, [{**RICH, "layers": [{"name": "reformat", "ms": 0.0}]}])
    baseline.save(tmp_path / "b.json", entries)
    assert baseline.load(tmp_path / "b.json")[0]["layers"] == {"reformat": 0.0}


@FEW
@given(st.sampled_from(sorted(PAIR)), JSON)
def test_a_record_of_a_comparison_with_one_spoilt_field_never_gives_a_traceback(field, value):
    try:
        found = comparison.make(store.unpack(store.pack({**PAIR, field: value, "schema": pair.SCHEMA}),
                                             schema=pair.SCHEMA))
    except EdgesynthError as error:
        assert str(error)
        return
    assert len(found["base"]["trials"]) == len(found["head"]["trials"])
