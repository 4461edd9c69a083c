"""A board behind a real ssh server: sent to, measured on, cut off, cancelled; and every way in which it cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import ssh_server
from agent_on_board import wait_for, write_net

from devices.support.errors import CannotMeasure, UserError
from edge_bench import agent_build, bench, connection, remote
from edge_bench.agent import result as results

WHY_NOT = ssh_server.why_not()
if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") == "required":  # .ci/run installs what they need
    raise RuntimeError(f"the ssh tests must run here: {WHY_NOT}")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")


@pytest.fixture(scope="module")
def server():
    found = ssh_server.SshBoard()
    yield found
    found.close()


@pytest.fixture
def board(server, monkeypatch, tmp_path):
    """The stand-in board behind ssh, reached as the host `board`, with nothing left of an earlier test."""
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    server.write_client_config()
    yield server
    connection.Connection("board").close()  # a connection that is shared would let the next test in


def remote_jobs(server):
    link = connection.Connection("board")
    link.ensure_agent()
    return link.call("jobs", {})


def options(server, **given):
    return {"root": str(server.board.root), "trials": 1, "window": 0.5, "batch": 1, **given}


@pytest.fixture
def model(tmp_path):
    return str(write_net(tmp_path / "net.onnx"))


def job_names(server):
    return {path.name for path in (server.board.home / ".local/state/edgesynth/jobs").glob("*")}


def measuring(server, known=()):
    """The id of the job that has begun to measure on the board, and was not known before."""
    jobs = server.board.home / ".local/state/edgesynth/jobs"

    def look():
        for path in jobs.glob("*/events.jsonl"):
            text = path.read_text()
            ended = any(f'"event":"{end}"' in text for end in ("result", "error", "cancelled"))
            if path.parent.name not in known and "warming up" in text and not ended:
                return path.parent.name
        return None
    return wait_for(look, 60)


def test_the_agent_is_sent_once_and_answers(board):
    link = connection.Connection("board")
    assert link.ensure_agent()["sha256"] == agent_build.agent_hash()
    sent = list((board.board.home / ".cache/edgesynth").glob("*"))
    assert [path.name for path in sent] == [f"agent-{agent_build.agent_hash()[:16]}.pyz"]
    before = sent[0].stat().st_mtime_ns
    link.ensure_agent()
    assert sent[0].stat().st_mtime_ns == before
    sent[0].write_bytes(b"damaged")
    assert link.ensure_agent()["sha256"] == agent_build.agent_hash()


def test_probe_sees_the_board_as_an_ordinary_user(board):
    found = remote.probe_host("board", str(board.board.root))
    assert found["board"]["board"] == "tx2" and found["software"]["l4t"] == "32.7.1"
    assert found["user"] == board.user and found["sudoers"].startswith(f"{board.user} ALL=(root) NOPASSWD: ")


def test_bench_measures_there_and_keeps_the_result_here(board, model, tmp_path):
    said = []
    found = bench.bench_model(model, host="board", save_to=tmp_path / "results", progress=said.append,
                              **options(board, mode="maxn", lock=True))
    assert found["preflight"]["board"]["board"] == "tx2" and found["runner"]["name"] == "tensorrt"
    assert found["preflight"]["mode"]["name"] == "MAXN" and "unlocked" not in found["marks"]
    assert results.load(found["saved"])["model"]["name"] == "net"
    assert any(text.startswith("sending net.onnx") for text in said) and any("measuring" in text for text in said)
    assert board.board.mode == "pmode:0003" and not board.board.locked
    if os.geteuid() == 0:  # entered as an ordinary user: every change went through sudo -n
        assert all(call.startswith("sudo -n") for call in board.board.calls[::2])
    assert {job["fetched"] for job in remote_jobs(board)} == {True}


def test_a_cut_connection_is_taken_up_again(board, model, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.2, 0.5, 1, 2, 4))
    said = []
    known = job_names(board)
    cutter = threading.Thread(target=lambda: (measuring(board, known), board.cut()))
    cutter.start()
    found = bench.bench_model(model, host="board", progress=said.append, **options(board, trials=2, window=2.0))
    cutter.join()
    assert any("connection lost" in text for text in said)
    assert len(found["trials"]) == 2
    assert len([text for text in said if text.startswith("trial 1/2: measuring")]) == 1  # nothing told twice


def test_the_same_command_fetches_what_was_left(board, model, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", ())
    known = job_names(board)
    cutter = threading.Thread(target=lambda: (measuring(board, known), board.cut()))
    cutter.start()
    with pytest.raises(CannotMeasure, match="the same command again"):
        bench.bench_model(model, host="board", **options(board, window=1.0))
    cutter.join()
    left = [job["id"] for job in remote_jobs(board) if not job["fetched"]]
    said = []
    bench.bench_model(model, host="board", progress=said.append, **options(board, window=1.0))
    assert any(left[-1] in text and "an earlier call started" in text for text in said)


def there(board, model, **given):
    """A measurement that runs on the board, and the thread that follows it; its outcome comes into the list."""
    outcome, known = [], job_names(board)

    def follow():
        try:
            outcome.append(bench.bench_model(model, host="board", **options(board, **given)))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    return measuring(board, known), thread, outcome


def test_a_busy_board_says_who_holds_it(board, model, tmp_path):
    identity, thread, outcome = there(board, model, trials=5, window=20.0)
    with pytest.raises(CannotMeasure, match=f"board is busy: the measurement of net.onnx of {board.user} holds it since"
                       ) as caught:
        bench.bench_model(str(write_net(tmp_path / "other.onnx")), host="board", **options(board, wait=0))
    assert caught.value.exit_code == 3
    connection.Connection("board").call("cancel", {"id": identity})
    thread.join()
    assert "was cancelled there" in str(outcome[0])


def test_a_killed_follower_is_taken_up_again(board, model, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.2, 0.5, 1, 2, 4))
    _, thread, outcome = there(board, model, window=2.0)
    board.kill_agents("bench")
    thread.join()
    assert isinstance(outcome[0], dict) and outcome[0]["readings"], outcome[0]


def test_a_killed_job_is_told_and_the_board_put_back(board, model):
    identity, thread, outcome = there(board, model, trials=5, window=20.0, mode="maxn", lock=True)
    assert board.board.mode == "pmode:0000" and board.board.locked
    board.kill_agents("_job", "_trial")
    thread.join()
    assert f"job {identity} died before its end" in str(outcome[0]) and outcome[0].exit_code == 3
    remote.probe_host("board", str(board.board.root))
    assert board.board.mode == "pmode:0003" and not board.board.locked


def test_a_board_that_restarts_in_the_middle_is_waited_for_and_put_back(board, model, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.2, 0.5, 1, 2, 4, 8))
    identity, thread, outcome = there(board, model, trials=5, window=20.0, mode="maxn", lock=True)
    board.restart_board()
    thread.join()
    assert f"job {identity} ended with the board, which was restarted" in str(outcome[0])
    assert outcome[0].exit_code == 3 and not board.board.locked
    assert board.board.mode == "pmode:0003"  # the call that found this out had put it back before


def test_a_full_disk_is_told_when_the_agent_is_sent(board):
    place = board.board.home / connection.FOLDER
    agent, part = place / f"agent-{agent_build.agent_hash()[:16]}.pyz", None
    place.mkdir(parents=True, exist_ok=True)
    agent.unlink(missing_ok=True)
    part = agent.with_name(agent.name + ".part")
    part.symlink_to("/dev/full")  # the kernel's own answer to a write that finds no space
    try:
        with pytest.raises(CannotMeasure, match="its disk is full: free some space there") as caught:
            connection.Connection("board").ensure_agent()
        assert caught.value.exit_code == 3
    finally:
        part.unlink()


def test_a_full_disk_is_told_when_a_model_is_sent(board, tmp_path):
    files = board.board.home / ".local/state/edgesynth/files"
    connection.Connection("board").ensure_agent()
    files.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", files], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system may not be mounted here; that a full disk is told is tested without one too")
    try:
        big = write_net(tmp_path / "big.onnx", padding="x" * 3_000_000)
        with pytest.raises(CannotMeasure, match="the board's disk is full") as caught:
            bench.bench_model(str(big), host="board", **options(board))
        assert caught.value.exit_code == 3
    finally:
        subprocess.run(["umount", files], check=True)


def test_an_engine_from_elsewhere_and_one_of_another_mode_are_measured_and_marked(board, model, tmp_path):
    net = str(write_net(tmp_path / "new.onnx", ms=1.5))
    built = remote.build_on_host("board", net, {"root": str(board.board.root), "batch": 1})
    engine = tmp_path / "bare.engine"
    engine.write_bytes((board.board.home / built["engine"]).read_bytes())  # without its side-car
    found = bench.bench_model(str(engine), host="board", **options(board))
    assert "origin_unknown" in found["marks"] and found["runner"]["precision"] is None
    found = bench.bench_model("board:" + built["engine"], host="board", **options(board, mode="maxq"))
    assert found["runner"]["built_in_mode"] == "MAXP_CORE_ARM" and "origin_unknown" not in found["marks"]
    assert any("built in power mode MAXP_CORE_ARM and is measured in MAXQ" in text for text in found["warnings"])


def test_ctrl_c_here_cancels_there(board, model, tmp_path):
    words = [sys.executable, "-m", "edgesynth", "bench", model, "--host", "board", "--batch", "1", "--trials", "5",
             "--window", "5", "--runner", "tensorrt"]
    # the command line has no --root, so this goes to the machine's own files: an ordinary job without settings
    known = job_names(board)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path)
    identity = measuring(board, known)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    job = next(job for job in remote_jobs(board) if job["id"] == identity)
    assert job["state"] == "cancelled"


def test_errors_of_the_board_keep_their_kind(board, model):
    with pytest.raises(UserError, match="no INT8"):
        bench.bench_model(model, host="board", **options(board, precision="int8"))
    with pytest.raises(UserError, match="no such file"):
        bench.bench_model("board:/nothing.engine", host="board", **options(board))
    (board.board.root / "no-sudo").write_text("")
    try:
        if os.geteuid() == 0:
            with pytest.raises(CannotMeasure, match="devices prepare"):
                bench.bench_model(model, host="board", **options(board, lock=True))
    finally:
        (board.board.root / "no-sudo").unlink()


@pytest.mark.parametrize("host, setting, words", [
    ("nowhere", {}, "refuses connections"), ("nameless", {}, "no such host"),
    ("board", {"key": "stranger_key"}, "ssh-copy-id"), ("board", {"known_hosts": "empty"}, "host key is not known")])
def test_what_keeps_one_out_is_named_with_its_remedy(board, model, host, setting, words):
    board.write_client_config(**setting)
    with pytest.raises(CannotMeasure, match=words):
        bench.bench_model(model, host=host, **options(board))


def test_a_changed_host_key_is_never_accepted(board, model):
    stranger = (board.client / "stranger_key.pub").read_text()
    (board.client / "changed").write_text(f"[127.0.0.1]:{board.port} {stranger}")
    board.write_client_config(known_hosts="changed")
    with pytest.raises(CannotMeasure, match="host key has changed"):
        bench.bench_model(model, host="board", **options(board))


def test_a_board_without_python_says_so(board):
    python = board.board.bin / "python3"
    target = os.readlink(python)
    python.unlink()
    python.write_text("#!/bin/sh\nexit 127\n")
    python.chmod(0o755)
    try:
        with pytest.raises(CannotMeasure, match="there is no python3"):
            remote.probe_host("board")
    finally:
        python.unlink()
        python.symlink_to(target)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=evil", "two words"])
def test_what_is_no_destination_is_refused(host):
    with pytest.raises(UserError, match="no ssh destination"):
        connection.Connection(host)


def test_the_agent_is_installed_as_edgesynth(board, tmp_path):
    done = subprocess.run([sys.executable, "-m", "edgesynth", "devices", "install-agent", "--host", "board"],
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    installed = board.board.home / ".local/bin/edgesynth"
    assert installed.read_bytes() == agent_build.agent_bytes()
    told = subprocess.run([board.python, installed, "version", "--json", "-"], capture_output=True, text=True)
    assert json.loads(told.stdout)["sha256"] == agent_build.agent_hash()
