"""What the host makes of what ssh says, with a stand-in for ssh; the real one is in test_ssh.py."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from devices.support.errors import CannotMeasure, CheckFailed, UserError
from edge_bench import agent_build, connection, remote


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Function that makes `ssh` a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def become(script):
        path = tmp_path / "ssh"
        path.write_text(f"#!/bin/sh\ncat > {tmp_path}/stdin\necho \"$@\" >> {tmp_path}/calls\n{script}\n")
        path.chmod(0o755)
        return tmp_path
    return become


@pytest.mark.parametrize("said, code, words", [
    ("ssh: connect to host tx2 port 22: Connection refused", 255, "is its ssh server running"),
    ("ssh: connect to host tx2 port 22: Connection timed out", 255, "does not answer"),
    ("ssh: connect to host tx2 port 22: No route to host", 255, "cannot be reached"),
    ("ssh: Could not resolve hostname tx2: Name or service not known", 255, "check the name"),
    ("Host key verification failed.", 255, "connect once by hand"),
    ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", 255, "ssh-keygen -R"),
    ("nvidia@tx2: Permission denied (publickey,password).", 255, "ssh-copy-id"),
    ("/home/u/.ssh/config: line 1: Bad configuration option: foo", 255, "~/.ssh/config"),
    ("client_loop: send disconnect: Broken pipe", 255, "connection was lost"),
    ("Killed", 137, "killed .SIGKILL."), ("Illegal instruction (core dumped)", 132, "the agent failed"),
    ("bash: python3: command not found", 127, "there is no python3"),
    ("cat: write error: No space left on device", 1, "disk is full"),
    ("SyntaxError: invalid syntax", 1, "Python 3.6 or newer"),
])
def test_every_failure_names_its_remedy(ssh, said, code, words):
    ssh(f"echo '{said}' >&2; exit {code}")
    with pytest.raises(CannotMeasure, match=words) as caught:
        connection.Connection("tx2").call("probe", {})
    assert str(caught.value).startswith("tx2: ") and caught.value.exit_code == 3


@pytest.mark.parametrize("kind, expected", [("UserError", UserError), ("CheckFailed", CheckFailed),
                                            ("CannotMeasure", CannotMeasure)])
def test_an_error_there_is_the_same_error_here(ssh, kind, expected):
    event = json.dumps({"event": "error", "kind": kind, "message": "what is wrong"})
    ssh(f"echo 'Welcome to the board'; echo '{event}'; exit 2")
    with pytest.raises(expected, match="what is wrong"):
        connection.Connection("tx2").call("probe", {})


def test_the_words_of_a_command_are_constants_and_the_rest_travels_on_stdin(ssh):
    folder = ssh("echo '{\"event\": \"result\", \"result\": 7}'")
    evil = {"model": "; rm -rf ~ #", "power_source": "$(reboot)"}
    assert connection.Connection("tx2").call("bench", evil) == 7
    called = (folder / "calls").read_text()
    assert called.strip().endswith(f"-- tx2 python3 .cache/edgesynth/agent-{agent_build.agent_hash()[:16]}.pyz "
                                   "bench --stdin")
    assert "rm -rf" not in called and "reboot" not in called and "BatchMode=yes" in called
    assert json.loads((folder / "stdin").read_text()) == evil


def test_an_answer_that_never_comes_is_a_lost_connection(ssh):
    ssh("exit 0")
    with pytest.raises(connection.ConnectionLost):
        connection.Connection("tx2").call("probe", {})


def test_a_job_is_taken_up_where_it_was_left(monkeypatch):
    """The follower asks for what it has not seen, and gives up with the remedy when the line stays dead."""
    asked = []

    class Flaky:
        def call(self, verb, request, on_event):
            asked.append((verb, request))
            if len(asked) == 1:
                on_event({"event": "job", "id": "j1", "resumed": False})
                on_event({"event": "progress", "text": "one", "number": 0})
            raise connection.ConnectionLost("tx2: the connection was lost")

    monkeypatch.setattr(remote, "PAUSES_S", (0, 0))
    with pytest.raises(CannotMeasure, match="the same command again follows it"):
        remote._follow(Flaky(), "bench", {"model": "m"}, remote._Follower(lambda text: None))
    assert asked == [("bench", {"model": "m"}), ("jobs", {"follow": "j1", "after": 1}),
                     ("jobs", {"follow": "j1", "after": 1})]


class Board:
    """In place of a connection: starts jobs, and is told of Ctrl-C before it says which."""

    def __init__(self, presses=1, answer=None):
        self.presses, self.answer, self.cancelled = presses, answer, []

    def ensure_agent(self):
        pass

    def call(self, verb, request, on_event=lambda event: None):
        if verb == "cancel":
            self.cancelled.append(request["id"])
            return
        for _ in range(self.presses):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
        if self.answer is not None:
            raise self.answer
        on_event({"event": "job", "id": "j1", "resumed": False})
        raise AssertionError("it goes on to measure")


@pytest.mark.parametrize("board, cancelled", [
    (Board(), ["j1"]), (Board(presses=2), []), (Board(answer=connection.ConnectionLost("gone")), []),
    (Board(answer=CannotMeasure("the board is busy")), [])])
def test_ctrl_c_waits_for_the_id_of_a_job_that_is_being_started(monkeypatch, board, cancelled):
    monkeypatch.setattr(remote, "Connection", lambda host: board)
    before, said = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        remote.build_on_host("tx2", "board:/net.onnx", {}, said.append)
    assert board.cancelled == cancelled and "Ctrl-C again" in said[0]
    assert signal.getsignal(signal.SIGINT) is before


def test_weights_beside_the_file_must_be_there_before_anything_is_sent(tmp_path):
    from bench_samples import write_model

    path = write_model(tmp_path / "net.onnx", external=True)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(UserError, match="not beside it"):
        remote.upload(None, str(path), lambda text: None)
    for name, words in (("nothing.onnx", "no such file"), (".", "it is a folder")):
        with pytest.raises(UserError, match=words):
            remote.upload(None, str(tmp_path / name), lambda text: None)
    assert remote.upload(None, "board:/home/u/a.engine", lambda text: None) == "/home/u/a.engine"


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    import io
    from collections import namedtuple

    from edge_bench.agent import uploads

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    header = json.dumps({"name": "a.onnx", "sha256": "0" * 64, "bytes": 5_000_000}).encode() + b"\n"
    with pytest.raises(CannotMeasure, match="disk is full"):
        uploads.receive(io.BytesIO(header))
