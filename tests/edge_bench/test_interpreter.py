"""Which Python runs the trials: the first that imports what the runner needs, or the one that was named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import interpreter


@pytest.fixture
def pythons(tmp_path):
    """Two Pythons: `bare` finds no module of that name, `rich` does."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/a_runtime.py").write_text("raise RuntimeError('it is looked for and never loaded')\n")
    for name, path in (("bare", ""), ("rich", str(tmp_path / "modules"))):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} \"$@\"\n")
        program.chmod(0o755)
    return {name: str(tmp_path / name) for name in ("bare", "rich")}


@pytest.fixture(autouse=True)
def needs(monkeypatch):
    monkeypatch.setitem(interpreter.NEEDS, "tensorrt", "a_runtime")


def test_the_first_that_finds_the_module_is_taken(pythons, monkeypatch):
    monkeypatch.setattr(interpreter, "candidates", lambda: [pythons["bare"], pythons["rich"]])
    assert interpreter.choose("tensorrt") == pythons["rich"]
    assert interpreter.choose("trtexec") == sys.executable  # it needs no module


def test_where_none_finds_it_all_that_were_tried_are_named(pythons, monkeypatch):
    monkeypatch.setattr(interpreter, "candidates", lambda: [pythons["bare"]])
    with pytest.raises(CannotMeasure, match=rf"module a_runtime \(tried {pythons['bare']}\).*--board-python"):
        interpreter.choose("tensorrt")


def test_the_named_one_is_taken_or_refused(pythons, monkeypatch):
    assert interpreter.choose("tensorrt", pythons["rich"]) == pythons["rich"]
    monkeypatch.setenv("PATH", f"{Path(pythons['rich']).parent}:{os.environ['PATH']}")
    assert interpreter.choose("tensorrt", "rich") == pythons["rich"]  # by its name on the PATH
    with pytest.raises(CannotMeasure, match="does not find the module a_runtime"):
        interpreter.choose("tensorrt", pythons["bare"])
    with pytest.raises(UserError, match="--board-python nowhere: there is no such program"):
        interpreter.choose("tensorrt", "nowhere")


def test_the_systems_python_is_among_them_though_an_environment_hides_it():
    found = interpreter.candidates()
    assert found[0] == sys.executable and len(found) == len(set(found))
    assert "/usr/bin/python3" in found or not os.path.exists("/usr/bin/python3")


def test_what_is_no_python_finds_nothing(tmp_path):
    (tmp_path / "broken").write_text("no program")
    assert not interpreter.imports(str(tmp_path / "broken"), "sys")
    assert interpreter.imports(sys.executable, "sys")
