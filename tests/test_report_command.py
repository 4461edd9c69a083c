"""`edgesynth report` over what it may be given besides a run: results, folders, checks, comparisons, mistakes."""

from __future__ import annotations

import json

import pytest
from front_door import call
from report_sample import sample_check, sample_compare, sample_result, save_body


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with results/ of two, a check and a comparison."""
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        sample_result(tmp_path / "results", trials=2, window_s=2.0, seed=seed)
    save_body(tmp_path / "check.json", sample_check(), "edgesynth.check/1")
    sample_compare(tmp_path / "compared", pairs=2)
    return tmp_path


@pytest.mark.parametrize(("words", "place", "kinds"), [
    (("results/0001-ferminet-a-tx2.json",), "results/0001-ferminet-a-tx2.html", ["result"]),
    (("results/0001-ferminet-a-tx2.record.gz",), "results/0001-ferminet-a-tx2.html", ["record"]),
    (("results",), "results/report.html", ["result", "result"]),
    (("results/", "check.json"), "results/report.html", ["result", "result", "check"]),
    (("check.json",), "check.html", ["check"]),
    (("check.json", "compared/0001-base-head-tx2.json"), "report.html", ["check", "compare"]),
    (("compared/0001-base-head-tx2.json", "--out", "x.html"), "x.html", ["compare"]),
    (("compared",), "compared/report.html", ["compare"]),
])
def test_what_is_given_decides_what_is_shown_and_where(here, words, place, kinds):
    answer = call("report", *words)
    assert answer.code == 0, answer.err
    assert answer.out == f"report: {place}\n" and (here / place).read_text().startswith("<!doctype html>")
    body = json.loads(call("report", *words, "--json", "-").out)
    assert body["report"] == place and [row["schema"].split(".")[1].split("/")[0] for row in body["of"]] == kinds


@pytest.mark.parametrize(("words", "said"), [
    (("none.json",), "none.json: holds no finished run (no summary.json), and there is no such file"),
    (("empty",), "empty: holds no finished run (no summary.json) and no results"),
    (("run", "check.json"), "run: a run has a report of its own: edgesynth report run"),
    (("check.json", "--out", "."), ".: it is a folder; name a file"),
    (("check.json", "--out", "none/x.html"), "there is no such file or folder"),
])
def test_mistakes_are_one_sentence(here, words, said):
    (here / "empty").mkdir()
    (here / "run").mkdir()
    (here / "run/summary.json").write_text("{}")
    answer = call("report", *words)
    assert answer.code == 2 and said in answer.sentence
