"""The HTML report: one file, nothing fetched, everything escaped, right in a real browser."""

import functools
import re
from dataclasses import replace

import pytest
from chain_network import chain
from pages import SORTED, browse, checked, probe
from report_example import MODEL, example_summary

from edge_bench.report import page
from synth.report.figures import comparison, foresight
from synth.report.report import render, write_report
from synth.report.summary import Candidate, DataSource, Making, RunSummary


@functools.cache
def networks():
    small = {f"ferminet-{letter}": chain(width, separable=True).to_json() for letter, width in zip("abcd", (9, 8, 6, 5),
                                                                                                  strict=True)}
    return {"prototype": chain().to_json(), **small}


def test_the_whole_run_is_in_it():
    text = checked(render(example_summary(networks())))
    for words in ("resnet8 on digits, for tx2:maxn", "FermiNet-B: 97.8 % test accuracy, 9.80 k parameters",
                  "7.96× fewer parameters", "2 of 4 FermiNets satisfy 1r", "edgesynth synth --target tx2", "CC BY 4.0",
                  "ab" * 32, "torch 2.13.0", "1:02", "FermiNet-D beside the prototype", "3×3 → depthwise 3×3 + 1×1",
                  "64 candidates, each foreseen before", "edgesynth generate runs/x --seeds 0:10"):
        assert words in text
    assert text.index("misses accuracy") < text.index("FermiNet-B: 97.8 %")  # warnings first


def test_why_candidates_were_evaluated_is_said_of_all_and_of_each():
    summary, fresh = example_summary(), "after short training; chosen from fresh seeds</title>"
    text = render(summary)
    assert ("Candidates were chosen to improve on the best (44), where 1r is uncertain (16), from fresh seeds (4); "
            "each mark says why.") in text
    assert 0 < text.count(fresh) <= 4 and text.count("; chosen where 1r is uncertain</title>") > 4
    older = tuple(replace(candidate, reason="") for candidate in summary.candidates)
    text = render(replace(summary, candidates=older))
    assert "Candidates were chosen" not in text and "; chosen" not in text


def test_every_number_shows_where_it_comes_from():
    text = render(example_summary())
    assert f'<span title="predicted: {MODEL} [1.03 ms, 1.39 ms]">1.21 ms' in text
    rows = re.findall(r"<tr><td><strong>.*?</tr>", text, re.DOTALL)
    assert len(rows) == 5
    for row in rows:
        numbers = len(re.findall(r"<span title=", row))
        small = len(re.findall(r"<small>(?:raw|validation|memory|[\d.]+ (?:kB|img/J))", row))
        assert len(re.findall(r'class="mark (?:computed|predicted|measured)"', row)) == numbers + small


def test_nothing_that_is_said_becomes_markup():
    wild = "<script>alert(1)</script>&\"'"
    summary = example_summary({"ferminet-a": chain().to_json()})
    row = replace(summary.networks[1], name=wild, insights={"stem": wild})
    making = Making(wild, {wild: wild}, 0, DataSource(wild, wild, wild, {wild: 1}, {wild: wild}), wild, wild, wild,
                    {wild: 1.0}, {wild: wild})
    text = render(replace(summary, prototype=wild, target=wild, networks=(summary.networks[0], row), making=making,
                          warnings=(wild,), next_steps={wild: wild}))
    checked(text)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_a_run_that_has_nothing_yet():
    making = Making("edgesynth synth", {}, 0, DataSource("digits"))
    text = checked(render(RunSummary("resnet8", "", (), (), making)))
    assert "The run has made no FermiNet yet." in text


@pytest.mark.parametrize("part", ["cycles", "candidates", "requirements", "warnings"])
def test_a_run_without_one_part(part):
    checked(render(replace(example_summary(), **{part: ()})))


def test_a_big_run_stays_under_two_megabytes():
    summary = example_summary(networks(), cycles=500)
    assert len(render(summary).encode()) < page.MOST_BYTES


def test_of_a_very_long_search_some_candidates_are_drawn_and_that_is_said():
    summary = example_summary(cycles=900)
    more = replace(summary, candidates=summary.candidates * 3)
    text = render(more)
    assert len(text.encode()) < page.MOST_BYTES and "one candidate in 8 is drawn" in text
    assert "10800 candidates, each foreseen before" in text
    assert "is drawn" not in render(example_summary())


def test_a_long_name_has_its_place_beside_the_bars():
    summary = example_summary()
    first = replace(summary.networks[0], name="a_prototype_of_one_s_own")
    drawn = comparison(replace(summary, networks=(first, *summary.networks[1:])))
    assert len(drawn) == 4
    for svg in drawn:
        place = float(re.search(r'x="([\d.]+)" y="[\d.]+" text-anchor="end">a_prototype_of_one_s_own<', svg)[1])
        assert place >= 6 * len(first.name) and float(re.search(r'width="([\d.]+)"', svg)[1]) > place + 150
    assert comparison(replace(summary, networks=(replace(first, name="n" * 300), *summary.networks[1:])))[0].count(
        "n" * 27 + "…") == 2  # beside the dot, and in what is read aloud


def test_drawings_that_do_not_fit_are_left_out(monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 97_000)
    text = render(example_summary(networks()))
    assert len(text.encode()) < 97_000 and "FermiNet-A beside the prototype" in text
    assert "FermiNet-D beside the prototype" not in text


def test_the_same_summary_gives_the_same_bytes(tmp_path):
    summary = example_summary(networks())
    assert write_report(summary, tmp_path / "report.html") == tmp_path / "report.html"
    summary.save(tmp_path / "summary.json")
    assert render(RunSummary.load(tmp_path / "summary.json")) == (tmp_path / "report.html").read_text()


def test_foresight_counts_what_lay_in_its_interval():
    seen = [Candidate(0, 1, 1, accuracy, True, foreseen, foreseen - 0.02, foreseen + 0.02)
            for accuracy, foreseen in ((0.90, 0.91), (0.92, 0.915), (0.94, 0.98))]
    found = foresight([*seen, Candidate(0, 1, 1, 0.5, True)])
    assert (found.count, found.covered) == (3, 2)
    assert found.error == pytest.approx((0.01 + 0.005 + 0.04) / 3)
    assert found.rank == pytest.approx(1.0)
    assert foresight([]) is None


# --- in a browser ----------------------------------------------------------------------------------------------------

def test_console_errors_would_be_seen(tmp_path):
    console = browse(tmp_path, "<!doctype html><script>nothing.here()</script>").console
    assert len(console) == 1 and "nothing is not defined" in console[0]


@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(tmp_path, dark):
    found = probe(tmp_path, render(example_summary(networks())), SORTED % '"params"', dark=dark)
    assert found["up"] == ["FermiNet-D", "FermiNet-C", "FermiNet-B", "FermiNet-A", "prototype"]
    assert found["down"] == found["up"][::-1]


def test_on_a_small_screen_only_tables_and_figures_scroll(tmp_path):
    probe(tmp_path, render(example_summary(networks())), width=500)


def test_what_is_true_is_put_as_yes():
    summary = example_summary()
    making = replace(summary.making, settings={"cycles": 1, "prototype trained here": True})
    text = render(replace(summary, making=making))
    assert "<dt>prototype trained here</dt><dd>yes</dd>" in text and "<dt>cycles</dt><dd>1</dd>" in text
    assert "± is half of one" in text
