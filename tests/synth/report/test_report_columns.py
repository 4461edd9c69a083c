"""Readings in words: digits, intervals, marks, and how much is to spare."""

import pytest

from devices.support.reading import Reading
from synth.objective.requirements import Requirement
from synth.report.columns import column, columns, name_in_words, spare_in_words
from synth.report.summary import NetworkRow


def predicted(value, unit, half, scope=None):
    return Reading(value, unit, "predicted", "a model", value - half, value + half, scope)


@pytest.mark.parametrize(
    ("key", "reading", "words"),
    [
        ("accuracy", predicted(0.983, "", 0.013), ("98.3 %", "±1.3", "[97.0 %, 99.6 %]", "")),
        ("accuracy", predicted(98.3, "%", 1.3), ("98.3 %", "±1.3", "[97.0 %, 99.6 %]", "")),
        ("params", Reading(78_000, "", "computed", "graph"), ("78.0 k", "", "", "")),
        ("macs", predicted(12.5e6, "", 1e6), ("12.5 M", "±1.0", "[11.5 M, 13.5 M]", "p")),
        ("information_density", Reading(1260.4, "%/M", "computed", "graph"), ("1 260", "", "", "")),
        ("netscore", Reading(110.83, "dB", "computed", "graph"), ("110.8", "", "", "")),
        ("latency@1", predicted(1.9, "ms", 0.3), ("1.90 ms", "±0.3", "[1.60 ms, 2.20 ms]", "p")),
        ("latency@1", predicted(0.0019, "s", 0.0003), ("1.90 ms", "±0.3", "[1.60 ms, 2.20 ms]", "p")),
        ("energy@1:module", predicted(9.1, "mJ/image", 1.4, "module"), ("9.10 mJ", "±1.4", "[7.70 mJ, 10.5 mJ]", "p")),
        ("img_per_joule@8:module", Reading(106, "img/J", "measured", "tx2"), ("106 img/J", "", "", "m")),
    ],
)
def test_readings_in_words(key, reading, words):
    shown = column(key)
    found = (shown.number(reading), shown.spread(reading), shown.interval(reading), shown.mark(reading))
    assert tuple(text.replace("\u202f", " ") for text in found) == words


def test_titles_name_the_board_the_scope_and_the_batch():
    assert column("latency@1", "tx2:maxn").title == "tx2 latency"
    assert column("img_per_joule@8:module", "tx2:maxn").title == "tx2 img/J @8"
    assert column("energy@1:board", "tx2").title == "tx2 energy board"
    assert column("params", "tx2").title == "params"


def test_columns_keep_one_order_whatever_the_rows_hold():
    reading = Reading(1.0, "ms", "computed", "x")
    rows = [NetworkRow("a", "ferminet", dict.fromkeys(keys, reading))
            for keys in (["energy@8:module", "latency@1"], ["netscore", "accuracy"])]
    assert [c.key for c in columns(rows, "tx2")] == ["accuracy", "netscore", "latency@1", "energy@8:module"]


@pytest.mark.parametrize(
    ("text", "value", "unit", "words"),
    [
        ("accuracy >= 97%", 0.983, "", "1.3 points to spare"),
        ("accuracy >= 97%", 0.96, "", "1.0 points short"),
        ("latency <= 10 ms", 8.0, "ms", "20 % to spare"),
        ("img_per_joule >= 60", 45.0, "img/J", "25 % short"),
    ],
)
def test_what_is_to_spare(text, value, unit, words):
    assert spare_in_words(Requirement.parse(text), Reading(value, unit, "computed", "x")) == words


def test_names_as_the_paper_writes_them():
    assert name_in_words("ferminet-a") == "FermiNet-A"
    assert name_in_words("mobilenet-v1") == "mobilenet-v1"
