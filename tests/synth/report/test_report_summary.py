"""A summary survives its file, and a damaged one is one sentence."""

import json
from dataclasses import replace

import pytest
from report_example import example_summary

from devices.support.errors import UserError
from devices.support.reading import Reading
from synth.report.columns import columns
from synth.report.report import render
from synth.report.summary import SCHEMA, RunSummary


def test_round_trip_through_the_file(tmp_path):
    summary = example_summary({"ferminet-a": {"name": "x", "vertices": [], "edges": [], "outputs": []}})
    summary.save(tmp_path / "summary.json")
    assert RunSummary.load(tmp_path / "summary.json") == summary


def test_1r_as_a_whole_is_the_worst_of_its_parts():
    summary = example_summary()
    assert [row.holds for row in summary.networks] == [None, "yes", "yes", "uncertain", "uncertain"]
    assert summary.phi.name == "prototype"
    assert len(summary.ferminets) == 4


def test_the_heading_says_what_was_run():
    summary = example_summary()
    assert summary.heading == (
        "digits · resnet8 prototype · tx2:maxn · 1r: accuracy >= 97%, img_per_joule >= 400 img/J @ batch=8"
    )
    assert replace(summary, requirements=(), target="").heading == "digits · resnet8 prototype · nothing required"


@pytest.mark.parametrize("part", ["networks", "making", "cycles", "candidates", "requirements"])
def test_a_summary_with_a_part_missing_is_refused(tmp_path, part):
    value = example_summary().to_json()
    del value[part]
    (tmp_path / "summary.json").write_text(json.dumps({"schema": SCHEMA, **value}))
    with pytest.raises(UserError, match=rf"summary\.json: .*{part}.*resuming"):
        RunSummary.load(tmp_path / "summary.json")


def test_a_summary_that_says_more_than_this_version_knows_is_read():
    value = example_summary().to_json()
    value["networks"][0]["note"] = ""  # as versions before this one had it
    assert RunSummary.from_json(value) == example_summary()


def test_a_summary_of_before_reasons_were_kept_is_read():
    value = example_summary().to_json()
    for candidate in value["candidates"]:
        del candidate["reason"]
    assert {candidate.reason for candidate in RunSummary.from_json(value).candidates} == {""}


def test_a_reading_that_this_version_does_not_know_is_shown_as_it_is():
    value = example_summary().to_json()
    value["networks"][0]["readings"]["carbon@1"] = Reading(3.0, "", "measured", "a later version").to_json()
    known = RunSummary.from_json(value)
    assert columns(known.networks, "tx2")[-1].title == "tx2 carbon" and "tx2 carbon" in render(known)


def test_a_summary_with_nonsense_in_it_is_refused(tmp_path):
    value = example_summary().to_json()
    value["networks"][0]["role"] = "king"
    with pytest.raises(UserError, match="king"):
        RunSummary.from_json(value)
