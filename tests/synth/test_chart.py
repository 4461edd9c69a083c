"""Charts put every mark where its number belongs, with round ticks, whatever the numbers are."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.report.chart import Axis, Bar, Chart, bars

SVG = "{http://www.w3.org/2000/svg}"
finite = st.floats(-1e9, 1e9, allow_nan=False)


def parsed(svg):
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@given(st.lists(finite, max_size=20))
def test_a_linear_axis_holds_its_values_and_has_round_ticks(values):
    axis = Axis.around("x", values)
    assert all(axis.holds(value) for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(axis.low - 1e-6 * abs(axis.low) <= tick <= axis.high + 1e-6 * abs(axis.high) for tick in ticks)


@given(st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=20))
def test_a_logarithmic_axis_holds_its_values(values):
    axis = Axis.around("x", values, log=True)
    assert all(axis.holds(value) for value in values)
    assert len(axis.ticks()) <= 7
    if max(values) / min(values) > 20:
        assert len(axis.ticks()) >= 2


@given(st.lists(st.floats(), max_size=10), st.booleans())
def test_wild_values_make_no_wild_axis(values, log):
    axis = Axis.around("x", values, log=log)
    assert math.isfinite(axis.low) and math.isfinite(axis.high) and axis.low < axis.high
    axis.ticks()


def test_whole_ticks():
    assert Axis("cycle", -0.4, 2.4, whole=True).ticks() == [0, 1, 2]
    assert Axis("cycle", -0.4, 31.4, whole=True).ticks() == [0, 10, 20, 30]


def test_marks_lie_where_their_numbers_belong():
    chart = Chart("t", Axis("x", 0, 10), Axis("y", 1, 100, log=True), width=466, height=466)
    (left, bottom), (right, top) = chart.at((0, 1)), chart.at((10, 100))
    assert chart.at((5, 10)) == pytest.approx(((left + right) / 2, (bottom + top) / 2))
    chart.dot((5, 10), "a", "title <&>")
    chart.dot((50, 10), "outside")
    chart.dot((math.nan, 10), "outside")
    circles = list(parsed(chart.svg()).iter(f"{SVG}circle"))
    assert len(circles) == 1
    assert float(circles[0].get("cx")) == pytest.approx((left + right) / 2, abs=0.1)
    assert circles[0].find(f"{SVG}title").text == "title <&>"


def test_lines_bands_and_whiskers_are_sound():
    chart = Chart("t <&>", Axis("x", 0, 3), Axis("y", 0, 1))
    chart.line([(0, 0.1), (1, 0.4), (9, 0.5)], "a", steps=True)
    chart.band([(0, -1, 0.5), (1, 0.2, 2)], "b")
    chart.whisker(1, -5, 0.5, "c")
    chart.whisker(1, 3, 5, "c")
    chart.level(0.5, "d", "required")
    chart.level(5, "d", "outside")
    root = parsed(chart.svg())
    kinds = [path.get("class") for path in root.iter(f"{SVG}path")]
    assert kinds.count("line c") == 1 and kinds.count("line d") == 1 and "area b" in kinds


def test_bars_are_proportional():
    svg = bars("MACs", [Bar("a", 10.0, "10", "x"), Bar("b", 5.0, "5", "y")])
    widths = [float(rect.get("width")) for rect in parsed(svg).iter(f"{SVG}rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    zoomed = bars("accuracy", [Bar("a", 0.9, "90 %", "x", low=0.88, high=0.92)], zoomed=True)
    assert len(list(parsed(zoomed).iter(f"{SVG}circle"))) == 1
    parsed(bars("none", []))
