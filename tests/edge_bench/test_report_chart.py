"""Charts put every mark where its number belongs, with round ticks, whatever the numbers are."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.report.chart import Axis, Chart
from edge_bench.report.rows import Bar, Effect, bars, forest, shares

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


def test_stretches_pillars_and_uprights_stay_in_the_plot():
    chart = Chart("t", Axis("x", 0, 10), Axis("y", 0, 1), words="what it shows <&>")
    chart.stretch(-5, 4, "window", "trial 1")
    chart.stretch(11, 12, "outside")
    chart.pillar(2, 3, 5.0, "b", "tall")
    chart.upright(9.9, "bound", "a long name at the right", 1)
    chart.names([(0.5, "one", "c0"), (0.5, "two", "c1"), (-3, "three", "c2")])
    root = parsed(chart.svg())
    left, right = chart.at((0, 0))[0], chart.at((10, 0))[0]
    boxes = [(box.get("class"), float(box.get("x")), float(box.get("width"))) for box in root.iter(f"{SVG}rect")]
    assert [name for name, *_ in boxes] == ["area window", "b"]
    assert all(left - 0.1 <= x and x + width <= right + 0.1 for _, x, width in boxes)
    heights = sorted(float(text.get("y")) for text in root.iter(f"{SVG}text") if "name" in text.get("class"))
    assert all(b - a >= 12.9 for a, b in itertools.pairwise(heights)) and heights[-1] <= chart.height
    (description,) = root.iter(f"{SVG}desc")
    assert description.text == "what it shows <&>"


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 3), st.sampled_from([0.02, 0.3, None])), max_size=8))
def test_a_forest_holds_what_it_is_given(rows):
    effects = [Effect(f"metric {i}", ratio, ratio / (1 + wide), ratio * (1 + wide), limit, "worse", "?", "regression")
               for i, (ratio, wide, limit) in enumerate(rows)]
    root = parsed(forest("t", [*effects, Effect("none", None, None, None, 0.05, "unclear", "?", "could not measure")]))
    circles = list(root.iter(f"{SVG}circle"))
    assert len(circles) == len(rows)
    assert all(0 <= float(circle.get("cx")) <= 1120 for circle in circles)


def test_a_forest_has_worse_at_the_right_and_shades_beyond_the_tolerance():
    root = parsed(forest("t", [Effect("a", 1.08, 1.06, 1.10, 0.05, "worse", "+8 %", "regression"),
                               Effect("b", 0.95, 0.9, 1.0, 0.05, "fine", "-5 %", "pass")]))
    worse, better = (float(circle.get("cx")) for circle in root.iter(f"{SVG}circle"))
    limits = [float(rect.get("x")) for rect in root.iter(f"{SVG}rect")]
    assert better < limits[0] == limits[1] < worse


def test_shares_are_proportional_and_a_negative_rest_is_told_only():
    svg = shares("t", [Bar("a", 0.6, "60 %", "c0"), Bar("b", 0.3, "30 %", "c1"), Bar("rest", -0.1, "−10 %", "c7")])
    widths = [float(rect.get("width")) for rect in parsed(svg).iter(f"{SVG}rect")]
    assert len(widths) == 2 and widths[0] == pytest.approx(2 * widths[1], rel=0.01) and "rest −10 %" in svg
