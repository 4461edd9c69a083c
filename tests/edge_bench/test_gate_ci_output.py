"""What CI systems show: GitHub's annotations with their escapes, and Markdown that shows every word as it is."""

from __future__ import annotations

import pytest

from devices.support.errors import UserError
from edge_bench.gate import ci_output, verdict
from edge_bench.gate.verdict import ModelVerdict, judge

AGAINST = {"kind": "revision", "ref": "origin/main", "commit": "abcdef0123456789"}


def model(ratio=1.1, name="net", **more):
    row = {"metric": "energy", "unit": "mJ/image", "more_is_worse": True, "ratio": ratio, "low": ratio - 0.01,
           "high": ratio + 0.01, "baseline": 40.0, "present": 40 * ratio, "reason": ""}
    return ModelVerdict(name, metrics=[judge(row, 0.05)], **more).judged()


def document(*models, inconclusive="warn", against=AGAINST):
    return verdict.document(models, against, "2026-01-01T00:00:00Z", inconclusive)


def test_a_regression_is_an_error_at_its_file():
    lines = ci_output.annotate(document(model(file="models/a,b:100%.onnx"), model(1.0)))
    assert lines == ["::error file=models/a%2Cb%3A100%25.onnx,title=edgesynth%3A regression::net: energy +10.0 %25 "
                     "[9.0, 11.0], tolerance 5 %25: 40 → 44 mJ/image"]


@pytest.mark.parametrize("found, inconclusive, level", [
    ("regression", "warn", "error"), ("could not measure", "warn", "error"), ("inconclusive", "warn", "warning"),
    ("inconclusive", "fail", "error"), ("inconclusive", "pass", "notice"), ("improvement", "warn", "notice"),
    ("new", "warn", "notice")])
def test_the_level_follows_the_exit_code(found, inconclusive, level):
    lines = ci_output.annotate(document(ModelVerdict("net", verdict=found, line="why"), inconclusive=inconclusive))
    assert lines == [f"::{level} title=edgesynth%3A {found}::why"]


def test_a_plain_pass_says_nothing_and_a_note_is_said():
    assert ci_output.annotate(document(model(1.0))) == []
    lines = ci_output.annotate(document(model(1.0, notes=["marked unlocked\n::error::no command of ours"])))
    assert len(lines) == 1 and lines[0].startswith("::notice ") and "\n" not in lines[0]


def test_the_summary_is_a_table_with_a_line_for_what_did_not_pass():
    text = ci_output.markdown(document(model(name="a|b*c"), model(1.0, name="fine"),
                                       ModelVerdict("d", verdict="could not measure", line="d: no board")))
    lines = text.splitlines()
    assert lines[0] == "### edgesynth: regression" and "`origin/main` (abcdef01), measured in turns" in text
    assert "| a\\|b\\*c | energy | 40 | 44 mJ/image | +10.0 % | \\[9.0, 11.0\\] % | 5 % | **regression** |" in lines
    assert "| d | | | | | | | **could not measure** |" in lines and "- d: no board" in lines
    assert not any(line.startswith("- fine") for line in lines)
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@pytest.mark.parametrize("against, words", [
    ({"kind": "baseline", "path": "b.json"}, "the baseline `b.json`"), ({"kind": "comparison"}, "measured in turns")])
def test_the_summary_says_what_it_was_held_against(against, words):
    assert words in ci_output.markdown(document(model(), against=against))


def test_the_summary_goes_where_it_was_asked_for_and_is_appended(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    ci_output.append_summary(str(path), document(model()))
    assert path.read_text().startswith("before\n### edgesynth: regression")
    assert ci_output.summary_path(None, {"GITHUB_STEP_SUMMARY": "s.md"}) == "s.md"
    assert ci_output.summary_path("mine.md", {"GITHUB_STEP_SUMMARY": "s.md"}) == "mine.md"
    assert ci_output.summary_path(None, {}) is None
    with pytest.raises(UserError, match="no such file or folder"):
        ci_output.append_summary(str(tmp_path / "none/summary.md"), document(model()))
