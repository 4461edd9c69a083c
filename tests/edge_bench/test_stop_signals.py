"""On the board itself: what stops a command from outside leaves the board as it was, and nothing running."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from agent_on_board import AgentOnBoard, wait_for, write_net
from stand_in_board import StandInBoard

from edge_bench.agent import lock

REPOSITORY = Path(__file__).parents[2]
# the front door on the board, which is at another root here
PROGRAM = """
import sys
from edge_bench.agent import measure
real, root = measure.measure, sys.argv.pop(1)
measure.measure = lambda given, progress: real({**given, "root": root}, progress)
import edgesynth
edgesynth.main()
"""


class Bench:
    """`edgesynth bench` on a stand-in board, in the middle of building an engine under changed settings."""

    def __init__(self, folder: Path, terminal: bool = False, ignored: bool = False):
        self.board = StandInBoard(folder)
        environment = AgentOnBoard(folder / "none.pyz", self.board, sys.executable).environment
        environment["PYTHONPATH"] = f"{REPOSITORY}:{environment['PYTHONPATH']}"
        model = write_net(folder / "net.onnx", build_s=60)
        self.terminal, inner = pty.openpty() if terminal else (None, None)

        def prepare() -> None:
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            # whatever these tests were started under
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.board.root), "bench", str(model), "--runner", "tensorrt",
             "--mode", "maxn", "--lock", "--board-python", sys.executable], cwd=folder, env=environment,
            stdin=inner, stdout=inner or subprocess.PIPE, stderr=inner or subprocess.PIPE, start_new_session=True,
            preexec_fn=prepare)
        if inner is not None:
            os.close(inner)
        self.builder = wait_for(self._builder)
        wait_for(lambda: self.board.locked)
        assert self.board.mode == "pmode:0000" and lock.holder(str(self.board.root))

    def _builder(self) -> int | None:
        listed = subprocess.run(["ps", "-ww", "--ppid", str(self.process.pid), "-o", "pid=,args="], capture_output=True,
                                text=True).stdout
        return next((int(line.split()[0]) for line in listed.splitlines() if line.endswith(" _build")), None)

    def assert_as_it_was(self) -> None:
        assert self.board.mode == "pmode:0003" and not self.board.locked
        assert not (self.board.home / "state/edgesynth/journal.json").exists()
        assert lock.holder(str(self.board.root)) is None
        with pytest.raises(ProcessLookupError):
            os.kill(self.builder, 0)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_command_that_is_told_to_end_puts_the_board_back(tmp_path, number, code):
    bench = Bench(tmp_path)
    bench.process.send_signal(number)
    errors = bench.process.communicate(timeout=60)[1].decode()
    assert bench.process.returncode == code and errors.endswith("edgesynth: stopped.\n")
    assert "Traceback" not in errors
    bench.assert_as_it_was()


def test_a_terminal_that_goes_takes_the_command_with_it(tmp_path):
    bench = Bench(tmp_path, terminal=True)
    os.close(bench.terminal)
    assert bench.process.wait(60) == 129
    bench.assert_as_it_was()


def test_under_nohup_the_command_stays(tmp_path):
    bench = Bench(tmp_path, ignored=True)
    bench.process.send_signal(signal.SIGHUP)
    bench.process.send_signal(signal.SIGTERM)
    bench.process.communicate(timeout=60)
    assert bench.process.returncode == 143
    bench.assert_as_it_was()
