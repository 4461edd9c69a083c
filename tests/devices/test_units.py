"""Quantities with units, as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.support.errors import UserError
from devices.units import UNITS, format_quantity, parse_quantity


@pytest.mark.parametrize(("text", "dimension", "value"), [
    ("60 img/J", "img_per_joule", 60.0),
    ("100k", "count", 100_000.0),
    ("12M", "count", 12e6),
    ("1_000", "count", 1000.0),
    ("89 %", "fraction", 0.89),
    ("0.89", "fraction", 0.89),
    ("10ms", "time", 10.0),
    ("250 us", "time", 0.25),
    ("250 \N{MICRO SIGN}s", "time", 0.25),
    ("250 \N{GREEK SMALL LETTER MU}s", "time", 0.25),
    ("0.5 s", "time", 500.0),
    ("20 mJ", "energy", 20.0),
    ("0.02 J", "energy", 20.0),
    ("500 mW", "power", 0.5),
    ("4 MB", "bytes", 4e6),
    ("16 kB", "bytes", 16_000.0),
    ("1e3 img/s", "img_per_second", 1000.0),
])
def test_reads_what_people_write(text: str, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value)


@pytest.mark.parametrize(("text", "dimension", "said"), [
    ("60 img/W", "img_per_joule", "'img/W' is not a unit that fits; write img/J"),
    ("60", "img_per_joule", "the unit is missing; write img/J"),
    ("ten ms", "time", "does not begin with a number"),
    ("", "count", "does not begin with a number"),
    ("5 Mb", "bytes", "write B, kB, MB or GB"),
    ("5 m", "count", "write no unit, k, M or G"),
    ("1e999", "count", "too large"),
])
def test_points_at_the_wrong_word(text: str, dimension: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_quantity(text, dimension)


@pytest.mark.parametrize(("value", "dimension", "text"), [
    (97_530, "count", "97.5 k"), (12, "count", "12"), (0.891, "fraction", "89.1 %"), (1234.5, "time", "1.23 s"),
    (0.0123, "time", "12.3 us"), (41.3, "img_per_joule", "41.3 img/J"), (4_000_000, "bytes", "4.00 MB"),
    (0, "energy", "0 mJ"), (999.9, "count", "1.00 k"),
])
def test_writes_what_people_read(value: float, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text


@settings(deadline=None)
@given(st.sampled_from(sorted(set(UNITS) - {"score"})), st.floats(1e-6, 1e15), st.booleans())
def test_reads_back_what_it_writes(dimension: str, value: float, negative: bool) -> None:
    value = -value if negative else value
    assert parse_quantity(format_quantity(value, dimension), dimension) == pytest.approx(value, rel=0.006)


@settings(deadline=None)
@given(st.text(), st.sampled_from(sorted(UNITS)))
def test_wild_text_is_a_number_or_one_sentence(text: str, dimension: str) -> None:
    try:
        assert isinstance(parse_quantity(text, dimension), float)
    except UserError as error:
        assert str(error)
