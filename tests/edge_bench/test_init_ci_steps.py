"""The gate as CI runs it: the written workflow's steps, in order, in a real git repository, against the stand-in board
over real ssh; and the script alone, on a machine that measures itself."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ssh_server
from actions import Job, check_workflow
from agent_on_board import write_net
from bench_samples import write_model
from built import ROOT, build_wheel, dependencies
from front_door import call
from pages import checked
from stand_in_rails import rails_following

from edge_bench.agent import store
from edge_bench.agent_build import agent_hash

WHY_NOT = ssh_server.why_not()
if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") == "required":  # .ci/run installs what they need
    raise RuntimeError(f"the ssh tests must run here: {WHY_NOT}")
BASELINE, WORKFLOW = ".edgesynth/baseline.json", ".github/workflows/edgesynth-tx2.yml"
GIT = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "n@e.invalid", "GIT_COMMITTER_NAME": "n",
       "GIT_COMMITTER_EMAIL": "n@e.invalid", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
# The stand-in's tree of files is no root of a file system; its python3 tells the agent where it is, as a chroot would.
PYTHON3 = """#!{python}
import json, os, sys, tempfile
words = sys.argv[1:]
os.environ["LOAD_FILE"] = {load!r}
if words[1:2] and words[1] in ("bench", "build", "probe") and "--stdin" in words:
    request = tempfile.TemporaryFile()
    request.write(json.dumps(dict(json.load(sys.stdin), root={root!r})).encode())
    request.seek(0)
    os.dup2(request.fileno(), 0)
os.execv({python!r}, [{python!r}] + words)
"""


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=repository, env={**os.environ, **GIT}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", message)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty git repository, the working folder."""
    found = tmp_path / "repository"
    found.mkdir()
    git(found, "init", "--quiet", "-b", "main")
    monkeypatch.chdir(found)
    return found


def machine(tmp_path: Path, *first: Path) -> dict[str, str]:
    """The environment of a runner's machine: a Python 3.10 or newer that has what edgesynth needs, and no edgesynth;
    pip has no index to ask."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").symlink_to(os.path.realpath(sys.executable))
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": ":".join([*map(str, first), str(bin_folder), "/usr/local/bin:/usr/bin:/bin"]), "HOME": str(home),
            "PYTHONPATH": str(dependencies(tmp_path / "dependencies")), "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8", "TMPDIR": "/tmp"}


def further_sessions(repository: Path, results: list[Path]) -> None:
    """Two more sessions like those that were measured, of the two hours after: a baseline pools three."""
    for hour in ("01", "02"):
        for path in results:
            more = copy.deepcopy(json.loads(path.read_text()))
            more["created"] = more["created"][:11] + hour + more["created"][13:]
            (repository / "more.json").write_text(json.dumps(more))
            answer = call("check", repository / "more.json", "--baseline", repository / BASELINE, "--update", "--force")
            assert answer.code == 0, answer.err
    (repository / "more.json").unlink()


@pytest.mark.timeout(900)  # it measures three times
@pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
def test_the_workflow_guards_a_board_over_ssh(repository, tmp_path):
    server = ssh_server.SshBoard()
    try:
        _guard(server, repository, tmp_path)
    finally:
        server.close()


def _guard(server, repository, tmp_path):
    board = server.board
    python3 = board.bin / "python3"
    python3.unlink()
    board.program("python3", PYTHON3.format(python=server.python, root=str(board.root), load=str(board.root / "load")))
    wheel = build_wheel(tmp_path / "wheel")
    answer = call("init-ci", "--target", "tx2:maxn", "--host", "board", "--models", "nets/*.onnx", "--install", wheel,
                  "--tolerance", "energy=60%", "--tolerance", "latency=60%", "--check", "--force --more-sessions 0",
                  "--bench", "--trials 2 --window 1.2 --warmup-cap 5 --batch 1")
    assert answer.code == 0, answer.err
    (repository / "nets").mkdir()
    write_net(repository / "nets/net.onnx", ms=4.0)
    commit(repository, "a network and its gate")
    workflow = check_workflow((repository / WORKFLOW).read_text())
    environment = {**machine(tmp_path, server.bin), "EDGESYNTH_SESSIONS": "1"}

    def job(name, **given):
        folder = tmp_path / name
        leave = () if name == "first" else ("Install edgesynth",)
        return Job(workflow, "gate", repository, folder, environment, leave=leave, **given).run()

    assert job("fork", github={"event_name": "pull_request", "event": {"pull_request": {"head": {"repo": {
        "full_name": "stranger/nets"}}}}}).outcome == "skipped"

    with rails_following(board.root, board.root / "load"):
        first = job("first", inputs={"baseline": True})
        assert first.outcome == "success", first.log
        assert first.codes["Install edgesynth"] == 0 and "edgesynth, version" in first.log
        environment["PATH"] = f"{first.folder}/temp/edgesynth/bin:{environment['PATH']}"  # installed once is enough
        artifact = first.uploads["energy-gate-tx2-1"]
        (repository / ".edgesynth").mkdir()
        shutil.copy(artifact / "baseline.json", repository / BASELINE)
        further_sessions(repository, sorted((artifact / "results").glob("*.json")))
        commit(repository, "the first baseline")

        passed = job("passed")
        assert passed.outcome == "success", passed.log
        artifact = passed.uploads["energy-gate-tx2-1"]
        verdicts = json.loads((artifact / "check.json").read_text())
        assert verdicts["verdict"] in ("pass", "inconclusive")  # a busy machine may hide what it is
        (result,) = (artifact / "results").glob("*.json")
        kept = json.loads(result.read_text())
        assert (kept["preflight"]["board"]["serial"], kept["preflight"]["mode"]["name"]) == ("0421819000042", "MAXN")
        assert kept["preflight"]["software"]["agent"] == agent_hash()
        assert kept["preflight"]["clocks"]["locked"] and kept["power"]["source"]["name"] == "ina3221"
        assert store.load_record(str(artifact / "results" / kept["record"]["file"]))["power"]["samples"]
        assert "power of the total, VDD_IN (module)" in checked((artifact / "report.html").read_text())

        write_net(repository / "nets/net.onnx", ms=14.0)
        commit(repository, "a slower network")
        failed = job("failed")
    assert failed.outcome == "failure" and failed.codes["Measure and check"] == 1, failed.log
    assert "regression" in failed.log
    artifact = failed.uploads["energy-gate-tx2-1"]
    verdicts = json.loads((artifact / "check.json").read_text())
    assert verdicts["verdict"] == "regression"
    assert list((artifact / "results").glob("*.record.gz")) and (artifact / "report.html").stat().st_size > 10_000
    assert board.mode == "pmode:0003" and not board.locked  # put back after every job

    server.cut()
    server.server.kill()
    unreachable = job("unreachable")
    assert unreachable.outcome == "failure" and unreachable.codes["Measure and check"] == 3, unreachable.log
    assert "refuses connections" in unreachable.log and "nothing could be measured" in unreachable.log


@pytest.fixture
def edgesynth(tmp_path):
    """A folder for the PATH with this tree's edgesynth, as a board would have it."""
    place = tmp_path / "tools"
    place.mkdir()
    program = place / "edgesynth"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m edgesynth \"$@\"\n")
    program.chmod(0o755)
    return place


def gate(repository, edgesynth, *words, **variables):
    """The script under a plain shell, with git and the board's own edgesynth."""
    done = subprocess.run(["sh", "ci/edgesynth-gate-cpu.sh", *words], cwd=repository, capture_output=True, text=True,
                          env={"PATH": f"{edgesynth}:/usr/bin:/bin", "HOME": str(repository.parent), "LANG": "C.UTF-8",
                               "OMP_NUM_THREADS": "1", "EDGESYNTH_PAUSE": "0", **variables})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_script_guards_the_machine_that_it_runs_on(repository, edgesynth):
    answer = call("init-ci", "--target", "cpu", "--on-board", "--no-power", "--tolerance", "latency=100%", "--check",
                  "--force --more-sessions 0", "--bench", "--trials 3 --window 0.2 --threads 1")
    assert answer.code == 0 and "on the board itself" in answer.out
    (repository / "models").mkdir()
    write_model(repository / "models/net.onnx")
    done = gate(repository, edgesynth)
    assert done.returncode == 2 and "there is no baseline yet" in done.stderr
    done = gate(repository, edgesynth, "baseline", EDGESYNTH_SESSIONS="2")
    assert done.returncode == 0 and "session 2 of 2 begins in 0 s" in done.stderr, done.stderr
    entry = json.loads((repository / BASELINE).read_text())["entries"][0]
    assert len(entry["sessions"]) == 2
    done = gate(repository, edgesynth)
    assert done.returncode == 0, done.stderr
    assert "net" in checked((repository / "edgesynth-out/report.html").read_text())
    assert git(repository, "status", "--porcelain", "--untracked-files=all", "edgesynth-out") == ""

    commit(repository, "a network, its gate and its baseline")
    slow = write_model(repository / "models/net.onnx", features=4_000_000, operator="Sin")
    done = gate(repository, edgesynth)
    assert done.returncode == 1 and "regression" in done.stderr, done.stderr
    done = gate(repository, edgesynth, EDGESYNTH_AGAINST="HEAD", EDGESYNTH_BASELINE="none.json")
    assert done.returncode == 1 and "regression" in done.stderr, done.stderr
    report = checked((repository / "edgesynth-out/report.html").read_text())
    assert "against the models of HEAD" in report and "net (head) beside net (base), interleaved on" in report
    slow.write_bytes(b"no network")
    write_model(repository / "models/other.onnx")
    done = gate(repository, edgesynth)  # one cannot be measured, the other is not in the baseline
    assert done.returncode in (2, 3) and (repository / "edgesynth-out/report.html").exists(), done.stderr


def test_the_script_says_what_is_missing(repository, edgesynth):
    assert call("init-ci", "--target", "cpu", "--on-board").code == 0
    done = gate(repository, edgesynth, "baseline")
    assert done.returncode == 2 and "models/*.onnx: there is no such model" in done.stderr
    assert gate(repository, edgesynth, "bseline").returncode == 2
    done = gate(repository, edgesynth, EDGESYNTH="nothing-of-the-kind")
    assert done.returncode == 2 and "Python 3.10 or newer" in done.stderr


def test_this_projects_own_job_writes_a_gate_for_its_own_network(repository, edgesynth, tmp_path):
    """The step of .github/workflows/board.yml that makes what the next steps run; those run in the tests above."""
    shutil.copytree(ROOT / ".github", repository / ".github")
    (step,) = [step for step in check_workflow((repository / ".github/workflows/board.yml").read_text())
               ["jobs"]["jetson"]["steps"] if step["name"] == "Export a network and write the gate for it"]
    environment = {**os.environ, "PATH": f"{edgesynth}:{os.environ['PATH']}", "BOARD": "nvidia@tx2"}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=repository, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (repository / "models/network.onnx").stat().st_size > 10_000
    assert (repository / "ci/edgesynth-gate-tx2.sh").is_file()


def test_a_board_checks_out_with_git_alone(repository, tmp_path):
    """The steps of a board that runs its own jobs, but for the gate itself, which the test above runs."""
    assert call("init-ci", "--on-board").code == 0
    commit(repository, "the gate")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    workflow = check_workflow((repository / WORKFLOW).read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **GIT}
    one = Job(workflow, "gate", repository, tmp_path / "runner", environment)
    one.github.update(server_url=f"file://{repository.parent}", repository=repository.name)
    (one.work / "left over.txt").write_text("of another job")
    (one.work / "edgesynth-out").mkdir()
    one.run()
    assert one.codes[steps[0]["name"]] == 0, one.log
    assert git(one.work, "rev-parse", "HEAD") == one.github["sha"] and not (one.work / "left over.txt").exists()
    assert one.codes["Measure and check"] == 2 and "edgesynth here that can check" in one.log
    assert one.codes["Keep results, raw records and report"] == 0 and one.outcome == "failure"
    assert (tmp_path / "edgesynth-artifacts/1-1").is_dir()
