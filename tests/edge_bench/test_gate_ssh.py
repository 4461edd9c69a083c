"""The gate with a board behind a real ssh server: models in turns there, and more sessions where it cannot tell."""

from __future__ import annotations

import json
import os

import pytest
import ssh_server
from agent_on_board import write_net
from front_door import call
from test_gate_revision import git

from edge_bench import connection
from edge_bench.agent import comparison
from edge_bench.agent import result as results
from edge_bench.bench import bench_model
from edge_bench.compare import compare_models
from edge_bench.gate import baseline
from edge_bench.gate.remeasuring import measure_again

WHY_NOT = ssh_server.why_not()
if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") == "required":  # .ci/run installs what they need
    raise RuntimeError(f"the ssh tests must run here: {WHY_NOT}")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
QUICK = {"trials": 1, "window": 0.3, "batch": 1, "warmup_cap": 1.0}


@pytest.fixture(scope="module")
def server():
    found = ssh_server.SshBoard()
    yield found
    found.close()


@pytest.fixture
def board(server, monkeypatch, tmp_path):
    """The stand-in board behind ssh, reached as the host `board`, in a working folder outside of CI."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    server.write_client_config()
    yield server
    connection.Connection("board").close()


def test_both_models_are_built_and_measured_there(board, tmp_path):
    said = []
    found = compare_models(write_net(tmp_path / "old.onnx", 3.0), write_net(tmp_path / "new.onnx", 30.0), host="board",
                           save_to="results", progress=said.append, root=str(board.board.root), mode="maxn", lock=True,
                           **QUICK)
    assert found["base"]["runner"]["name"] == "tensorrt" and found["base"]["preflight"]["board"]["board"] == "tx2"
    assert found["order"] == ["base", "head"] and found["metrics"][0]["ratio"] > 1.2
    assert sum("building the engine" in text for text in said) == 2
    assert next(text for text in said if text.startswith("sending")).startswith("sending old.onnx")
    assert comparison.load(found["saved"])["record"] and board.board.mode == "pmode:0003" and not board.board.locked


def test_a_revision_is_held_against_there(board, tmp_path, monkeypatch):
    """From the command line, which has no --root: the board's own files are then this machine's, and no Jetson's."""
    git(tmp_path, "init", "-q")
    write_net(tmp_path / "net.onnx", 3.0)
    git(tmp_path, "add", "net.onnx")
    git(tmp_path, "commit", "-qm", "first")
    write_net(tmp_path / "net.onnx", 30.0)
    done = call("check", "net.onnx", "--against", "HEAD", "--host", "board", "--runner", "tensorrt", "--batch", 1,
                "--trials", 3, "--window", 0.3, "--warmup-cap", 1, "--layers", "--json", "check.json",
                "--tolerance", "latency=20%", "--summary", "summary.md")
    written = json.loads((tmp_path / "check.json").read_text())
    model = written["models"][0]
    assert done.code in (0, 1), done.err  # three pairs on a busy machine may be too few to tell
    assert model["method"] == "interleaved" and model["metrics"][0]["ratio"] > 1.2 and model["layers"]
    assert model["verdict"] == ("regression" if done.code else "inconclusive")
    assert model["line"] in done.out and "| net | latency |" in (tmp_path / "summary.md").read_text()
    assert comparison.load(model["results"][0])["head"]["runner"]["name"] == "tensorrt"


def test_a_result_is_measured_again_there(board, tmp_path):
    """The model is not on this machine any more: what was sent there is measured where it lies."""
    model = write_net(tmp_path / "net.onnx", 3.0)
    path = bench_model(model, host="board", save_to="results", root=str(board.board.root), **QUICK)["saved"]
    first = results.load(path)
    model.unlink()
    (again_at, second), = measure_again(first, path, 1, host="board", save_to="results", rest_s=0)
    assert second["model"]["sha256"] == first["model"]["sha256"] and second["created"] > first["created"]
    assert baseline.identity(second) == baseline.identity(first)
    assert results.load(again_at)["trials"] == second["trials"]
