"""The console's table: everything on one screen, the marks explained, nothing cut off."""

from dataclasses import replace

import pytest
from report_example import MODEL, example_summary
from rich.console import Console

from synth.report.summary import Making
from synth.report.table import console_table


def screen(summary, width=130):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(console_table(summary))
    return console.export_text()


def test_the_whole_answer_is_there():
    text = screen(example_summary())
    for words in ("prototype", "FermiNet-A", "FermiNet-D", "98.1 %", "14.2 k", "210 k", "134.9", "uncertain",
                  "accuracy >= 97%", "img_per_joule >= 400 img/J @ batch=8", "edgesynth generate runs/x --seeds 0:10"):
        assert words in text
    assert text.startswith("warning: ferminet-d")


def test_each_requirement_is_judged_for_each_network_beside_its_reading():
    lines = [" ".join(line.split()) for line in screen(example_summary()).splitlines()]
    assert "accuracy >= 97% yes 98.3 % yes 98.0 % uncertain 97.6 % uncertain 96.4 %" in lines
    assert "img_per_joule >= 400 img/J @ batch=8 " + " ".join(
        f"yes {number} img/J p" for number in (1650, 1740, 1790, 1870)) in lines


def test_what_is_predicted_is_marked_and_the_mark_explained():
    text = screen(example_summary())
    assert "1.21 ms ±0.2 p" in text
    assert f"p predicted by {MODEL}" in text
    assert "\nm " not in text


def test_what_is_measured_is_marked_otherwise():
    summary = example_summary()
    row = summary.networks[1]
    reading = row.readings["latency@1"]
    measured = replace(row, readings={**row.readings, "latency@1": type(reading)(
        1.3, "ms", "measured", "tx2 …1234, 2026-11-21", 1.2, 1.4)})
    text = screen(replace(summary, networks=(summary.networks[0], measured)))
    assert "1.30 ms ±0.1 m" in text
    assert "m measured: tx2 …1234, 2026-11-21" in text


@pytest.mark.parametrize("width", [80, 100, 130, 200])
def test_a_narrow_console_drops_columns_and_cuts_nothing(width):
    text = screen(example_summary(), width)
    table = text.split("1r        ")[0]
    assert "…" not in table
    assert "FermiNet-D" in table and "uncertain" in table and "1870 img/J" in table
    assert all(len(line) <= width for line in text.splitlines())


def test_a_run_without_requirements_target_or_ferminets():
    summary = example_summary()
    phi = replace(summary.networks[0], readings={"params": summary.networks[0].readings["params"]})
    making = Making("edgesynth synth", {}, 0, summary.making.data)
    text = screen(replace(summary, networks=(phi,), requirements=(), target="", warnings=(), next_steps={},
                          cycles=(), candidates=(), making=making))
    assert "78.0 k" in text


def test_words_in_brackets_are_no_markup():
    summary = replace(example_summary(), warnings=("[red]odd[/red] names stay",))
    assert "[red]odd[/red] names stay" in screen(summary)


def test_what_the_spread_means_is_said_where_there_is_one():
    assert "± is half of the 95 % interval" in screen(example_summary())
    phi = replace(example_summary().networks[0], readings={"params": example_summary().networks[0].readings["params"]})
    assert "±" not in screen(replace(example_summary(), networks=(phi,)))


def test_the_legend_is_of_the_columns_that_are_shown():
    summary = example_summary()
    row = summary.networks[1]
    here = type(row.readings["latency@1"])(1.3, "ms", "measured", "cpu here", 1.2, 1.4)
    summary = replace(summary, networks=(replace(row, readings={**row.readings, "latency_here": here}),))
    wide, narrow = screen(summary, 200), screen(summary, 80)
    assert "latency here" in wide and "m measured: cpu here" in wide
    assert "latency here" not in narrow and "cpu here" not in narrow
