"""The report of results, comparisons and checks: whole, honest about what is missing, right in a real browser."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path

import pytest
from bench_samples import make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import SORTED, checked, probe
from report_sample import sample_check, sample_compare, sample_record, sample_result, save_body

from devices.support.errors import UserError
from edge_bench.agent import evaluate, pair, store
from edge_bench.report import page
from edge_bench.report.measurement import Measurement
from edge_bench.report.report import render, write_report
from edge_bench.report.sections import marks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three results, a comparison and a check."""
    found = tmp_path_factory.mktemp("results")
    sample_result(found, window_s=3.0)
    sample_result(found, name="ferminet-b", latency_ms=1.2, busy_mw=4700, seed=5, locked=False, window_s=3.0)
    sample_result(found, trials=3, window_s=2.0, power=False, layers=False, seed=8)
    save_body(found / "check.json", sample_check(), "edgesynth.check/1")
    sample_compare(found)
    return found


@pytest.fixture
def one(folder):
    return str(folder / "0001-ferminet-a-tx2.json")


COMPARISON = "0004-base-head-tx2.json"


def words(text):
    return checked(text).replace("\u00a0", " ").replace("\u202f", " ")


def test_a_result_is_there_with_all_that_it_rests_on(one):
    text = words(render([one]))
    result = json.loads(Path(one).read_text())
    for found in ("ferminet-a on tx2 …0042", "images a joule, of the module, without its carrier", "NVIDIA Jetson TX2",
                  "0421819000042", "32.7.1", "8.2.1", "MAXN", "GPU-therm 38.5 °C", "01" * 32, "a9" * 32, "fp16",
                  "ina3221", result["record"]["sha256"], "edgesynth bench --replay", "VDD_SYS_GPU", "above idle",
                  "power of the total, VDD_IN (module)", "how many took longer", "warm-up: latency", "time of layers",
                  "energy, attributed", "quick", "leave --quick, --trials and --window out"):
        assert found in text, found
    assert text.count("measured window of trial") == 2 * 5


@pytest.mark.parametrize("locked", [False, None])
def test_what_is_said_of_the_clocks_has_a_meaning_and_a_remedy(locked):
    ((_, meaning, remedy),) = marks(evaluate.evaluate(make_record(locked=locked)))
    assert "clocks" in meaning and remedy


def test_the_command_that_measures_again_is_complete(one):
    command = Measurement.load(one).command
    assert command == ("edgesynth bench ferminet-a.onnx --runner tensorrt --precision fp16 --window 3 --power --lock "
                       "--layers")


def test_every_headline_number_has_its_interval_and_mark(one):
    text = render([one])
    tiles = re.findall(r'<div class="tile">.*?</div>', text)
    assert len(tiles) == 6
    for tile in tiles:
        assert re.search(r"<small>\[[\d.]+,.[\d.]+\]<span class=\"mark measured\"", tile), tile


def test_without_its_record_a_result_says_so(one, tmp_path):
    result = json.loads(Path(one).read_text())
    lonely = tmp_path / "lonely.json"
    lonely.write_text(json.dumps(result))
    text = words(render([str(lonely)]))
    assert "its raw record 0001-ferminet-a-tx2.record.gz is not beside it" in text
    assert "power of the total" not in text and "energy of an image, mJ" in text and "--replay" not in text
    (tmp_path / result["record"]["file"]).write_bytes(store.pack(sample_record(seed=99, window_s=3.0)))
    assert "has changed since and is not shown" in words(render([str(lonely)]))


def test_a_record_alone_is_replayed(one):
    record = one.replace(".json", ".record.gz")
    text = words(render([record]))
    assert "power of the total" in text and f"--replay {record}" in text


def test_without_power_nothing_of_power_is_said(folder):
    text = words(render([str(folder / "0003-ferminet-a-tx2.json")]))
    assert "no energy was measured" in text and "not measured" in text and "<h3>Power" not in text
    assert "energy of an image" not in text and "how many took longer" in text


def test_several_results_stand_side_by_side(folder):
    paths = [str(path) for path in sorted(folder.glob("000[1-3]*.json"))]
    text = words(render(paths))
    assert "3 results" in text and "0001-ferminet-a-tx2" in text and "0003-ferminet-a-tx2" in text
    assert "energy of an image, with its 95 % interval" in text and "clocks are not locked" in text


def test_a_check_shows_verdicts_and_the_line_to_act_on(folder, one):
    text = words(render([str(folder / "check.json"), one]))
    for found in ("Energy gate: net, tiny", "regression", "most of it in conv4_2", "against the baseline",
                  "+7.9 % [6.1, 9.8]", "not measured", "could not measure", "conv4_2", "ferminet-a on tx2",
                  "3 before, 2 now, 1 of them because the first look was inconclusive"):
        assert found in text, found


def test_a_comparison_shows_its_trials_in_the_order_in_which_they_ran(folder):
    text = render([str(folder / COMPARISON)])
    assert "A B B A B A A B A B B A (A base, B head)" in words(text)
    assert "edgesynth compare --replay" in words(text) and text.count("measured window of trial") == 2 * 2 * 6
    chart = re.search(r'<svg[^>]*aria-label="median latency, ms".*?</svg>', text)[0]
    dots = re.findall(r'<circle class="(base|head)" cx="([\d.]+)"', chart)
    assert [side for side, _ in sorted(dots, key=lambda dot: float(dot[1]))] == pair.order(6)


def test_the_same_results_give_the_same_bytes(one, tmp_path):
    places = [write_report([one], tmp_path / name) for name in ("a.html", "b.html")]
    assert places[0].read_bytes() == places[1].read_bytes()


def test_names_do_not_become_markup(tmp_path):
    record = sample_record(trials=2, window_s=1.0)
    wild = '<script>alert(1)</script>&"'
    record["model"].update(name=wild, file=wild)
    record["layers"][0]["name"] = wild
    record["preflight"]["mode"]["name"] = wild
    path = store.save(evaluate.evaluate(record), record, str(tmp_path))
    text = render([path])
    checked(text)
    assert "<script>alert" not in text and text.count("<script>") == 1


def test_an_hour_of_samples_is_no_larger_than_a_minute(tmp_path):
    record = sample_record(trials=2, window_s=2.0, layers=False)
    small = len(render([store.save(evaluate.evaluate(record), record, str(tmp_path))]).encode())
    samples = record["power"]["samples"]
    more = 72_000 // len(samples["total_mw"])  # the board goes on resting for an hour
    samples["steps_us"] = [*samples["steps_us"][1:], 50_000] * more
    for column in samples["rails"].values():
        column *= more
    samples["total_mw"] = samples["rails"]["VDD_IN"]
    path = store.save(evaluate.evaluate(record), record, str(tmp_path))
    assert len(Measurement.load(path).samples) > 70_000
    assert len(render([path]).encode()) < 1.5 * small < page.MOST_BYTES


def test_what_does_not_fit_is_left_out_and_said(folder, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 150_000)
    paths = [str(path) for path in sorted(folder.glob("000[1-3]*.json"))]
    text = render(paths)
    assert len(text.encode()) < 150_000 and "2 of the measurements are in the table only" in text


@pytest.mark.parametrize(("content", "said"), [
    ("{", "damaged JSON"), ("[]", "no result, comparison or check"),
    ('{"schema": "edgesynth.baseline/1"}', "no report"),
    ('{"schema": "edgesynth.result/1"}', "'created' is missing"), ('{"schema": "edgesynth.check/1"}', "damaged"),
    ('{"schema": "edgesynth.compare/1", "order": []}', "damaged"),
    ('{"schema": "edgesynth.check/1", "verdict": "pass", "models": [{"metrics": 1}]}', "damaged")])
def test_what_is_no_result_is_refused_in_a_sentence(tmp_path, content, said):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        render([str(path)])


def places(value, so_far=()):
    """The path to everything in a JSON value."""
    if so_far:
        yield so_far
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*so_far, key))


@pytest.fixture(scope="module")
def whole(folder):
    return {name: json.loads((folder / name).read_text()) for name in ("0001-ferminet-a-tx2.json", COMPARISON,
                                                                       "check.json")}


@settings(max_examples=60)
@given(st.data())
def test_damage_is_a_sentence_or_does_not_show(whole, tmp_path_factory, data):
    """Whatever single value is lost or becomes another."""
    name = data.draw(st.sampled_from(sorted(whole)))
    body = copy.deepcopy(whole[name])
    *way, last = data.draw(st.sampled_from(list(places(body))))
    inner = body
    for key in way:
        inner = inner[key]
    new = data.draw(st.sampled_from([None, "x", -1, [], {}, 1e300, "gone"]))
    if new == "gone":
        del inner[last]
    else:
        inner[last] = new
    path = tmp_path_factory.mktemp("damaged") / "x.json"
    path.write_text(json.dumps(body))
    try:
        checked(render([str(path)]))
    except UserError as error:
        assert "x.json" in str(error)


# --- in a browser: one page that holds every part --------------------------------------------------------------------

@pytest.mark.parametrize(("dark", "width"), [(False, 1240), (True, 1240), (True, 480)])
def test_all_parts_in_a_browser(folder, tmp_path, dark, width):
    paths = [str(folder / name) for name in ("check.json", COMPARISON)] + [
        str(path) for path in sorted(folder.glob("000[1-3]*.json"))]
    text = render(paths)
    checked(text)
    found = probe(tmp_path, text, SORTED % '"energy per image"', dark=dark, width=width)
    assert (found["up"], found["down"]) == (["base", "head"], ["head", "base"])
    kept = os.environ.get("EDGESYNTH_KEEP_REPORTS")
    if kept:  # for whoever wants to look at what the test looked at
        (Path(kept) / f"parts-{'dark' if dark else 'light'}-{width}.html").write_text(text)
