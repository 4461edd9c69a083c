"""Boards as data, and targets."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import devices
from devices.board import Board, known_boards, load_board, resolve_target
from devices.support.errors import UserError

EXPECTED = ["agx-orin", "agx-xavier", "cpu", "nano", "nvidia-gpu", "orin-nano", "orin-nx", "tx1", "tx2", "tx2-nx",
            "xavier-nx"]


def test_every_board_is_known() -> None:
    assert known_boards() == EXPECTED


def _without_source(entry: object, where: str) -> list[str]:
    """Paths of numbers and names that have no source beside them."""
    if isinstance(entry, list):
        return [p for i, item in enumerate(entry) for p in _without_source(item, f"{where}[{i}]")]
    if isinstance(entry, dict):
        return [] if "source" in entry else [
            p for k, item in entry.items() for p in _without_source(item, f"{where}.{k}")]
    return [where]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_value_has_a_source(name: str) -> None:
    data = dict(load_board(name).data)
    sources = data.pop("sources")
    for plain in ("schema", "name", "title", "kind"):
        data.pop(plain)
    data.get("cost_model", {}).pop("version", None)
    assert _without_source(data, name) == []

    def used(entry: object) -> set[str]:
        if isinstance(entry, list):
            return {s for item in entry for s in used(item)}
        if not isinstance(entry, dict):
            return set()
        return {v for k, v in entry.items() if k == "source" or k.endswith("_source")} | {
            s for item in entry.values() for s in used(item)}

    data.pop("cost_model", None)  # its sources are written out
    assert used(data) <= set(sources)


@pytest.mark.parametrize("name", EXPECTED)
def test_rails_of_totals_exist_and_have_no_parent(name: str) -> None:
    board = load_board(name)
    rails = {rail["name"]: rail for rail in board.rails}
    for scope in ("module", "board"):
        for rail in board.total_rails(scope):
            assert "parent" not in rails[rail]
    for rail in board.rails:
        assert rail.get("parent", board.rails[0]["name"]) in rails


@pytest.mark.parametrize(("text", "resolved"), [
    ("tx2", "tx2:maxn"), ("tx2:maxp", "tx2:maxp_core_arm"), ("tx2:MAXQ", "tx2:maxq"), ("tx2:3", "tx2:maxp_core_arm"),
    ("nano:5w", "nano:5w"), ("cpu", "cpu"), ("xavier-nx", "xavier-nx:mode_15w_6core"),
    ("xavier-nx:15w_6core", "xavier-nx:mode_15w_6core"), ("xavier-nx:10W_DESKTOP", "xavier-nx:mode_10w_desktop"),
])
def test_resolves_targets(text: str, resolved: str) -> None:
    assert str(resolve_target(text)) == resolved
    assert resolve_target(resolved) == resolve_target(text)


@pytest.mark.parametrize(("text", "said"), [
    ("tx3", "unknown target 'tx3': did you mean tx2"),
    ("TX2", "unknown target 'TX2': did you mean tx2"),
    ("XavierNX", "unknown target 'XavierNX': did you mean xavier-nx"),
    ("tx2:maxx", "unknown power mode of tx2 'maxx': did you mean maxq"),
    ("tx2:", "names no target"),
    ("", "names no target"),
    ("cpu:fast", "has no power modes"),
    ("missing.json", "no such file"),
])
def test_unknown_targets_are_named(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve_target(text)


@pytest.mark.parametrize("name", ["tx2", "nano", "tx1", "tx2-nx"])
def test_no_int8_where_there_is_none(name: str) -> None:
    with pytest.raises(UserError, match=r"has no INT8: its GPU .* use fp32 or fp16"):
        load_board(name).require_precision("int8")
    assert load_board("orin-nx").require_precision("INT8") == "int8"


def test_tx2_totals_clocks_and_software() -> None:
    board = load_board("tx2")
    assert board.total_rails() == ["VDD_IN"]
    assert board.total_rails("board") == ["VDD_IN", "VDD_MUX"]
    assert board.mode("maxp").gpu_mhz == 1122
    assert board.mode("maxq").watts == 7.5
    assert board.newest_software()["tensorrt"] == "8.2.1"
    read = [board.max_opset(version) for version in ("8.2.1.8", "8.0.1", "7.1.3", "10.3.0.30", None)]
    assert read == [13, 13, None, None, None] and load_board("orin-nx").max_opset("10.3.0.30") == 20


def test_a_board_file_of_ones_own(tmp_path: pathlib.Path) -> None:
    data = dict(load_board("tx2").data, name="mine")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    assert str(resolve_target(f"{path}:maxq")) == "mine:maxq"
    assert str(resolve_target(str(path))) == "mine:maxn"
    assert load_board(path).base_name == "mine"
    path.write_text(json.dumps(dict(data, calibrated_from="tx2")))
    assert load_board(path).base_name == load_board("tx2").base_name == "tx2"
    path.write_text(json.dumps({"schema": "edgesynth.board/1", "name": "mine"}))
    with pytest.raises(UserError, match="lacks title, kind, precisions"):
        resolve_target(str(path))


def _pythons() -> list[str]:
    """This Python, and the old ones of Jetson boards that run here (a version manager may have shims that do not)."""
    found = [path for minor in (6, 8, 10) if (path := shutil.which(f"python3.{minor}"))]
    return [sys.executable, *(p for p in found if subprocess.run([p, "-c", ""], capture_output=True).returncode == 0)]


@pytest.mark.parametrize("python", _pythons(), ids=lambda path: pathlib.Path(path).name)
def test_reads_boards_from_a_zip(python: str, tmp_path: pathlib.Path) -> None:
    """The agent carries this module and the board files in a zipapp for the board's old Python."""
    here = pathlib.Path(devices.__file__).parent
    archive = tmp_path / "agent.pyz"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in [here / "__init__.py", here / "board.py", *here.glob("support/*.py"), *here.glob("boards/*.json")]:
            packed.write(path, pathlib.Path("devices") / path.relative_to(here))
        packed.writestr("__main__.py", "from devices.board import known_boards, resolve_target\n"
                                       "print(len(known_boards()), resolve_target('tx2:maxp'))\n")
    ran = subprocess.run([python, str(archive)], capture_output=True, cwd=tmp_path)
    assert (ran.returncode, ran.stdout.decode().split(), ran.stderr) == (0, ["11", "tx2:maxp_core_arm"], b"")


def test_a_board_says_what_it_is() -> None:
    assert isinstance(load_board("tx2"), Board)
    assert repr(resolve_target("tx2")) == "Target('tx2:maxn')"
