"""A journal keeps what was appended, whatever happens to its last line."""

import pytest

from devices.support.errors import UserError
from synth.storage.journal import Journal

SCHEMA = "edgesynth.evaluations/1"


def test_values_come_back_as_they_went_in_and_in_order(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SCHEMA)
    found = journal.append((0, (1, 2)), {"accuracy": 0.1 + 0.2, "pair": (1, 2)})
    assert found == {"accuracy": 0.1 + 0.2, "pair": [1, 2]}
    journal.append((1, (0, 0)), None)
    again = Journal(tmp_path / "j.jsonl", SCHEMA)
    assert list(again.items()) == list(journal.items())
    assert list(again) == [[0, [1, 2]], [1, [0, 0]]]
    assert (0, (1, 2)) in again and again[(1, (0, 0))] is None and len(again) == 2


def test_numbers_that_json_makes_text_are_kept(tmp_path):
    """As keys of an object they are sorted otherwise than as numbers."""
    journal = Journal(tmp_path / "j.jsonl", SCHEMA)
    assert journal.append("a", {9: 1, 10: 2}) == {"9": 1, "10": 2}
    assert list(Journal(tmp_path / "j.jsonl", SCHEMA).items()) == list(journal.items())


def test_a_key_is_recorded_once(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SCHEMA)
    journal.append("a", 1)
    with pytest.raises(ValueError, match="already"):
        journal.append("a", 1)


def test_a_value_may_be_replaced_and_the_last_one_counts(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SCHEMA)
    journal.append("a", 1)
    journal.append("b", 2)
    assert journal.replace("a", 3) == 3
    again = Journal(tmp_path / "j.jsonl", SCHEMA)
    assert list(journal.items()) == list(again.items()) == [("a", 3), ("b", 2)]


def test_nothing_is_recorded_that_json_cannot_hold(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SCHEMA)
    with pytest.raises(ValueError):
        journal.append("a", float("nan"))
    assert len(Journal(tmp_path / "j.jsonl", SCHEMA)) == 0


def test_a_changed_line_is_passed_over(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, SCHEMA)
    for number in range(3):
        journal.append(number, {"accuracy": 0.5})
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace("0.5", "0.6")
    path.write_text("".join(lines))
    assert list(Journal(path, SCHEMA)) == [0, 2]


def test_a_journal_of_another_version_is_refused(tmp_path):
    Journal(tmp_path / "j.jsonl", "edgesynth.evaluations/2")
    with pytest.raises(UserError, match="another version"):
        Journal(tmp_path / "j.jsonl", SCHEMA)
