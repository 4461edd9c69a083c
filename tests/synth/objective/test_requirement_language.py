"""The words of a requirement: what they mean, that they read back exactly, and that errors point at the wrong one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError
from synth.objective.requirement_language import METRICS, Clause, parse, phrase


@st.composite
def clauses(draw):
    metric = METRICS[draw(st.sampled_from(sorted(METRICS)))]
    highest = 1.0 if metric.dimension == "fraction" else 1e15
    return Clause(
        metric.name,
        ">=" if metric.name == "accuracy" else draw(st.sampled_from([">=", "<="])),
        draw(st.floats(1e-9, highest) | st.integers(1, 100).map(lambda percent: percent * 0.01)),
        draw(st.integers(1, 999_999)) if metric.batched else None,
        draw(st.sampled_from(["module", "board"])) if metric.scoped else None,
    )


@given(clauses())
def test_words_read_back_exactly(clause):
    assert parse(phrase(clause)) == clause


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("accuracy >= 89%", Clause("accuracy", ">=", 0.89, None, None)),
        ("accuracy>=.89", Clause("accuracy", ">=", 0.89, None, None)),
        ("params ≤ 100k", Clause("params", "<=", 100e3, None, None)),
        ("  macs  <=  12 M ", Clause("macs", "<=", 12e6, None, None)),
        ("latency <= 0.01 s", Clause("latency", "<=", 10.0, 1, None)),
        ("img_per_joule >= 60 @ batch=8", Clause("img_per_joule", ">=", 60.0, 8, "module")),
        ("img_per_joule >= 60 img/J @ board , batch = 8", Clause("img_per_joule", ">=", 60.0, 8, "board")),
        ("energy <= 20 mJ @ board", Clause("energy", "<=", 20.0, 1, "board")),
        ("size <= 400 kB", Clause("size", "<=", 400e3, None, None)),
    ],
)
def test_what_words_mean(text, clause):
    assert parse(text) == clause


@pytest.mark.parametrize(
    ("text", "wrong", "reason"),
    [
        ("acuracy >= 89%", "acuracy", "did you mean accuracy?"),
        ("latency_p98 <= 1 ms", "latency_p98", "did you mean latency_p9"),
        ("accuracy > 89%", ">", ">="),
        ("accuracy <= 89%", "<=", "from below"),
        ("accuracy >= 89", "89", "% sign"),
        ("accuracy >= 8900%", "8900%", "100 %"),
        ("latency <= 10", "10", "unit is missing"),
        ("latency <= 10 mJ", "10 mJ", "'mJ'"),
        ("params <= -3", "-3", "greater than 0"),
        ("params <= many", "many", "does not begin with a number"),
        ("params <= 3k @ batch=3", "batch=3", "does not depend on the batch"),
        ("latency <= 3 ms @ board", "board", "no energy"),
        ("energy <= 3 mJ @ batch=0", "batch=0", "whole number from 1"),
        ("energy <= 3 mJ @ batch=-2", "batch=-2", "whole number from 1"),
        ("energy <= 3 mJ @ bord", "bord", "did you mean board?"),
        ("energy <= 3 mJ @ batch=8 @ board", "@", "joined by a comma, as in @ batch=8, board"),
        ("energy <= 3 mJ @ board, batch=2, module", "module", "twice"),
        ("energy <= 3 mJ @ batch=1, batch=2", "batch=2", "twice"),
    ],
)
def test_errors_underline_the_wrong_word(text, wrong, reason):
    with pytest.raises(UserError) as caught:
        parse(text)
    sentence, line, mark = str(caught.value).split("\n")
    assert reason in sentence
    start, end = mark.index("^"), len(mark)
    assert line[start:end] == wrong


@pytest.mark.parametrize("text", ["", "   ", "accuracy", "fast please", "params <=", "energy <= 1 mJ @", ">= 3", "@"])
def test_half_a_requirement_is_refused_with_an_example(text):
    with pytest.raises(UserError, match=r"write for example|after @ comes"):
        parse(text)


@given(st.text(max_size=40) | st.text(alphabet="params<>= @batch,12k%", max_size=40))
def test_nothing_but_a_user_error_ever_comes_of_wild_words(text):
    with contextlib.suppress(UserError):
        assert parse(phrase(parse(text))) == parse(text)
