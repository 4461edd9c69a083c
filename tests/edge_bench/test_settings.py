"""Power mode and clocks: changed for a measurement, journalled, put back, repaired after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

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


def test_a_xavier_nx_is_asked_by_the_names_that_it_has(board):
    board.write("proc/device-tree/model", "NVIDIA Jetson Xavier NX Developer Kit\0")
    board.write("etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=MODE_15W_6CORE >\n< PM_CONFIG DEFAULT=2 >\n")
    for word in ("15w_6core", "MODE_15W_6CORE", "2"):
        assert settings.resolve_mode(word, str(board.root)) == (2, "MODE_15W_6CORE")


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


def test_a_repair_that_fails_keeps_the_journal_and_nothing_is_changed_over_it(board):
    kill_in_the_middle(board)
    journal = board.home / "state/edgesynth/journal.json"
    before, working = journal.read_text(), (board.bin / "nvpmodel").read_text()
    board.program("nvpmodel", "#!/bin/sh\nexit 1\n")
    for request in (("MAXP_CORE_ARM", True), (None, True), (None, False)):
        with pytest.raises(CannotMeasure, match="put back power mode 3 and the clocks by hand and remove"), \
                settings.applied(*request, str(board.root)):
            pass
    assert journal.read_text() == before
    board.program("nvpmodel", working)
    with settings.applied(None, True, str(board.root)):
        assert board.mode == "pmode:0003"
    assert board.mode == "pmode:0003" and not board.locked


CANCELLED = """
import os, signal, sys
from edge_bench.agent import job, settings
signal.signal(signal.SIGTERM, job._interrupt)
try:
    with settings.applied("maxq", True, sys.argv[1]):
        pass
except KeyboardInterrupt:
    print("cancelled")
"""
# a cancel reaches the job in the middle of what a tool does
CANCEL = """
    import signal, time
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(0.2)
"""


@pytest.mark.parametrize("name, before", [
    ("nvpmodel", 'if words == ["-m", "3"]:'), ("jetson_clocks", 'if words[:1] == ["--restore"]:'),
    ("nvpmodel", 'if words == ["-m", "1"]:'), ("jetson_clocks", "if not words:")])
def test_a_cancel_while_a_tool_runs_leaves_the_board_as_it_was(board, name, before):
    text = (board.bin / name).read_text()
    where = text.index("if words[:1]")
    board.program(name, f"{text[:where]}{before}{CANCEL}{text[where:]}")
    done = subprocess.run([sys.executable, "-c", CANCELLED, str(board.root)], env=board.environment(),
                          stdout=subprocess.PIPE, text=True)
    assert done.stdout == "cancelled\n"
    assert board.mode == "pmode:0003" and not board.locked
    assert not (board.home / "state/edgesynth/journal.json").exists()


def test_a_tool_that_hangs_and_cannot_be_ended_is_left(board, monkeypatch):
    def refuse(process):
        raise PermissionError(1, "Operation not permitted")  # it runs as root, through sudo

    board.program("nvpmodel", "#!/bin/sh\nexec sleep 5\n")
    monkeypatch.setattr(settings, "TOOL_S", 0.2, raising=False)
    monkeypatch.setattr(subprocess.Popen, "kill", refuse)
    began = time.monotonic()
    with pytest.raises(CannotMeasure, match="nvpmodel hangs"):
        settings.run_tool("nvpmodel", "-m", 1)
    assert time.monotonic() - began < 4


def test_what_jetson_clocks_calls_an_error_is_one(board):
    working = (board.bin / "jetson_clocks").read_text()
    said = 'if not words:\n    print("Error: Failed to max GPU frequency!")\n    sys.exit(0)\n'
    where = working.index("if words[:1]")
    board.program("jetson_clocks", working[:where] + said + working[where:])
    with pytest.raises(CannotMeasure, match="Failed to max GPU"), settings.applied("maxq", True, str(board.root)):
        pass
    assert board.mode == "pmode:0003" and not (board.home / "state/edgesynth/journal.json").exists()


def test_clocks_that_are_put_back_in_part_keep_the_journal(board):
    working = (board.bin / "jetson_clocks").read_text()
    where = working.index("if words[:1]")
    failed = 'if words[:1] == ["--restore"]:\n    print("Error: Failed to restore /sys/x")\n    sys.exit(0)\n'
    board.program("jetson_clocks", working[:where] + failed + working[where:])
    notes = []
    with settings.applied("maxq", True, str(board.root), notes.append):
        pass
    assert "Failed to restore /sys/x" in notes[-1]
    assert json.loads((board.home / "state/edgesynth/journal.json").read_text())["mode"] == 3
    board.program("jetson_clocks", working)
    assert settings.repair(str(board.root)) and not board.locked


def test_sudo_of_another_language_is_asked_to_speak_english(board, monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    refuse = ("#!/bin/sh\n[ \"$LC_ALL\" = C ] && echo 'sudo: a password is required' "
              "|| echo 'sudo: Ein Passwort ist notwendig'\nexit 1\n")
    for name in ("sudo", "nvpmodel", "jetson_clocks"):
        board.program(name, refuse)
    with pytest.raises(CannotMeasure, match="devices prepare"), settings.applied("maxq", False, str(board.root)):
        pass


def test_a_damaged_journal_stops_nothing(board):
    kill_in_the_middle(board)
    (board.home / "state/edgesynth/journal.json").write_text("{")
    said = []
    assert settings.repair(str(board.root), said.append)
    assert "check power mode and clocks by hand" in said[-1]
    assert not settings.repair(str(board.root))


@pytest.fixture
def ordinary(board, monkeypatch):
    """The board of an ordinary user who has installed the sudoers drop-in."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    board.write("etc/sudoers.d/edgesynth", settings.sudoers("nvidia", str(board.root)))
    return board


def test_the_sudoers_drop_in_allows_what_a_measurement_does(ordinary):
    for _ in range(2):  # the second overwrites the clocks that the first stored
        with settings.applied("maxq", True, str(ordinary.root)):
            assert ordinary.mode == "pmode:0001" and ordinary.locked
        assert ordinary.mode == "pmode:0003" and not ordinary.locked
    assert any(call.startswith("sudo -n") for call in ordinary.calls)


@pytest.mark.parametrize("words", [
    "jetson_clocks --restore {home}/evil.txt", "jetson_clocks --store /etc/sudoers.d/evil", "jetson_clocks --fan",
    "jetson_clocks --store {file} --restore {home}/evil.txt", "jetson_clocks --restore {file}/../evil.txt",
    "nvpmodel -f {home}/evil.conf -m 0", "nvpmodel -m 0 -f {home}/evil.conf", "nvpmodel"])
def test_the_sudoers_drop_in_allows_nothing_else(ordinary, words):
    told = words.format(home=ordinary.home, file=settings.clocks_path(str(ordinary.root))).split()
    with pytest.raises(CannotMeasure, match="no permission to run"):
        settings.run_tool(*told)
    assert [call for call in ordinary.calls if not call.startswith("sudo")] == []


def test_a_board_that_was_not_prepared_is_left_as_it_is(ordinary):
    (ordinary.root / "var/lib/edgesynth").rmdir()
    with pytest.raises(CannotMeasure, match="devices prepare"), settings.applied("maxq", True, str(ordinary.root)):
        pass
    assert ordinary.calls == []


def test_clocks_that_were_not_stored_are_not_changed(board):
    working = (board.bin / "jetson_clocks").read_text()
    with settings.applied(None, True, str(board.root)):
        pass  # leaves the clocks of this time
    where = working.index("if words[:1]")
    board.program("jetson_clocks", f'{working[:where]}if "--store" in words: sys.exit(0)\n{working[where:]}')
    before = board.calls
    with pytest.raises(CannotMeasure, match="did not store the clocks"), \
            settings.applied("maxq", True, str(board.root)):
        pass
    assert len(board.calls) == len(before) + 1


def test_the_board_lock_says_who_holds_it_and_dies_with_its_holder(board):
    root = str(board.root)
    with lock.board_lock(root, "job x"):
        with pytest.raises(CannotMeasure, match=r"job x of .*Ctrl-C where it was started or with `kill \d+` on"), \
                lock.board_lock(root, "job y"):
            pass
        assert lock.holder(root)["what"] == "job x"
    assert lock.holder(root) is None
    program = ("import os, sys\nfrom edge_bench.agent.lock import board_lock\n"
               "with board_lock(sys.argv[1], 'a job'):\n    os.kill(os.getpid(), 9)\n")
    subprocess.run([sys.executable, "-c", program, root])
    assert lock.holder(root) is None
    with lock.board_lock(root, "job y"):
        pass


def test_a_board_is_waited_for_and_no_longer_than_was_said(board):
    root, said = str(board.root), []
    holding = threading.Event()

    def hold():
        with lock.board_lock(root, "job x"):
            holding.set()
            time.sleep(1.0)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    with pytest.raises(CannotMeasure, match="the board is busy: job x of"), \
            lock.board_lock(root, "job y", 0.2, said.append):
        pass
    assert thread.is_alive() and len(said) == 1 and "job x of" in said[0]
    with lock.board_lock(root, "job y", 30.0, said.append):
        assert lock.holder(root)["what"] == "job y"
    thread.join()
    assert len(said) == 2
