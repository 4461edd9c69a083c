"""JSON beside what a command shows."""

from __future__ import annotations

import pytest

from devices.json_output import give_json

TEXT = '{\n "name": "é",\n "count": 2\n}\n'


def test_a_file_and_standard_output_get_the_same(tmp_path, capsys):
    value, path = {"name": "é", "count": 2}, tmp_path / "out.json"
    give_json(value, str(path))
    give_json(value, "-")
    give_json(value, None)
    assert path.read_text(encoding="utf-8") == capsys.readouterr().out == TEXT


def test_what_is_no_number_is_never_written(tmp_path):
    with pytest.raises(ValueError):
        give_json({"count": float("nan")}, str(tmp_path / "out.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_no_utf_8_leaves_the_json_whole(tmp_path, capsys):
    path = tmp_path / "out.json"
    give_json({"name": "m\udce9"}, str(path))
    give_json({"name": "m\udce9"}, "-")
    assert path.read_text(encoding="utf-8") == capsys.readouterr().out == '{\n "name": "m�"\n}\n'
