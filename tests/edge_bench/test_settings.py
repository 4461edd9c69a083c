"""Power mode and clocks: changed for a measurement, journalled, put back, repaired after a kill."""

from __future__ import annotations

import subprocess
import sys

import pytest
from stand_in_board import StandInBoard

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import lock, settings


@pytest.fixture
def board(tmp_path, monkeypatch):
    found = StandInBoard(tmp_path)
    found.enter(monkeypatch)
    return found


def test_mode_and_clocks_change_and_come_back(board):
    root = str(board.root)
    with settings.applied("maxn", True, root):
        assert board.mode == "pmode:0000" and board.locked
    assert board.mode == "pmode:0003" and not board.locked
    assert not (board.home / "state/edgesynth/journal.json").exists()
    called = [call.split("-n ")[-1] for call in board.calls if not call.startswith("sudo")]
    assert called[0].startswith("jetson_clocks --store") and called[-1].startswith("jetson_clocks --restore")


def test_the_present_mode_is_kept_untouched(board):
    with settings.applied("MAXP_CORE_ARM", False, str(board.root)):
        pass
    with settings.applied(None, False, str(board.root)):
        pass
    assert board.calls == []


@pytest.mark.parametrize("word", ["MAXQ", "maxq", "1"])
def test_names_and_ids_are_the_boards_own(board, word):
    assert settings.resolve_mode(word, str(board.root)) == (1, "MAXQ")


def test_unknown_mode_suggests(board):
    with pytest.raises(UserError, match="did you mean MAXQ"):
        settings.resolve_mode("MAXX", str(board.root))


def test_an_error_inside_puts_back_too(board):
    with pytest.raises(RuntimeError), settings.applied("maxq", True, str(board.root)):
        raise RuntimeError
    assert board.mode == "pmode:0003" and not board.locked


def test_a_mode_that_asks_for_a_reboot_is_refused(board):
    with pytest.raises(CannotMeasure, match="reboot"), settings.applied("NEEDS_REBOOT", False, str(board.root)):
        pass
    assert board.mode == "pmode:0003"


def test_a_mode_that_does_not_come_is_an_error(board):
    board.program("nvpmodel", "#!/bin/sh\nexit 0\n")
    with pytest.raises(CannotMeasure, match="stayed in power mode"), settings.applied("maxq", False, str(board.root)):
        pass


def test_without_permission_the_remedy_is_named(board):
    refuse = "#!/bin/sh\necho 'sudo: a password is required'; exit 1\n"
    for name in ("sudo", "nvpmodel", "jetson_clocks"):
        board.program(name, refuse)
    with pytest.raises(CannotMeasure, match="devices prepare"), settings.applied("maxq", False, str(board.root)):
        pass


KILLED = """
import os, sys
from edge_bench.agent import settings
with settings.applied("maxq", True, sys.argv[1]):
    os.kill(os.getpid(), 9)
"""


def kill_in_the_middle(board):
    done = subprocess.run([sys.executable, "-c", KILLED, str(board.root)], env=board.environment())
    assert done.returncode == -9 and board.mode == "pmode:0001" and board.locked


def test_the_next_start_repairs_after_a_kill(board):
    kill_in_the_middle(board)
    assert settings.repair(str(board.root))
    assert board.mode == "pmode:0003" and not board.locked
    assert not settings.repair(str(board.root))


def test_after_a_reboot_the_mode_is_put_back_and_old_clocks_are_not(board):
    kill_in_the_middle(board)
    board.write("proc/sys/kernel/random/boot_id", "boot-2\n")
    before = len(board.calls)
    assert settings.repair(str(board.root))
    assert board.mode == "pmode:0003"
    assert not any("--restore" in call for call in board.calls[before:])


def test_a_repair_that_fails_keeps_the_journal(board):
    kill_in_the_middle(board)
    working = (board.bin / "nvpmodel").read_text()
    board.program("nvpmodel", "#!/bin/sh\nexit 1\n")
    said = []
    settings.repair(str(board.root), said.append)
    assert any("could not be put back" in text for text in said)
    board.program("nvpmodel", working)
    settings.repair(str(board.root))
    assert board.mode == "pmode:0003"


def test_a_damaged_journal_stops_nothing(board):
    kill_in_the_middle(board)
    (board.home / "state/edgesynth/journal.json").write_text("{")
    said = []
    assert settings.repair(str(board.root), said.append)
    assert "check power mode and clocks by hand" in said[-1]
    assert not settings.repair(str(board.root))


def test_sudoers_names_the_two_programs_alone(board):
    text = settings.sudoers("nvidia")
    assert text == f"nvidia ALL=(root) NOPASSWD: {board.bin}/nvpmodel, {board.bin}/jetson_clocks\n"


def test_the_board_lock_says_who_holds_it_and_dies_with_its_holder(board):
    root = str(board.root)
    with lock.board_lock(root, "job x"):
        with pytest.raises(CannotMeasure, match="job x of"), lock.board_lock(root, "job y"):
            pass
        assert lock.holder(root)["what"] == "job x"
    assert lock.holder(root) is None
    program = ("import os, sys\nfrom edge_bench.agent.lock import board_lock\n"
               "with board_lock(sys.argv[1], 'a job'):\n    os.kill(os.getpid(), 9)\n")
    subprocess.run([sys.executable, "-c", program, root])
    assert lock.holder(root) is None
    with lock.board_lock(root, "job y"):
        pass
