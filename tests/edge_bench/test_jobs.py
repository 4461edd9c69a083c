"""Jobs on a stand-in board: they outlive their followers, stop when told, and leave the board as it was."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from agent_on_board import wait_for, write_net

from devices.support.errors import CannotMeasure
from devices.support.files import write_json
from edge_bench.agent import evaluate, jobs, state, store, uploads


@pytest.fixture
def model(tmp_path):
    return write_net(tmp_path / "net.onnx")


def running(agent):
    """The id of the job that runs, once it measures."""
    def measuring():
        for job in agent.result("jobs"):
            path = agent.board.home / "state/edgesynth/jobs" / job["id"] / "events.jsonl"
            if job["state"] == "running" and path.exists() and "warming up" in path.read_text():
                return job["id"]
        return None
    return wait_for(measuring, 60)


def job_pid(agent, identity):
    return int((agent.board.home / "state/edgesynth/jobs" / identity / "pid").read_text())


def long_request(agent, model, **given):
    return agent.request(model, trials=3, window=4.0, mode="maxn", lock=True, **given)


def test_settings_hold_for_the_job_and_come_back(agent, model):
    end = agent.call("bench", agent.request(model, mode="maxn", lock=True))[-1]
    state = end["result"]["preflight"]
    assert state["mode"]["name"] == "MAXN" and state["clocks"]["locked"] is True
    assert "unlocked" not in end["result"]["marks"]
    assert agent.board.mode == "pmode:0003" and not agent.board.locked
    record = store.unpack(base64.b64decode(end["record"]))
    assert json.loads(json.dumps(evaluate.evaluate(record))) == end["result"]


def test_a_lost_follower_leaves_the_job_and_the_same_call_takes_it_up(agent, model):
    request = agent.request(model, trials=2, window=1.0)
    first = agent.start("bench", request)
    identity = json.loads(first.stdout.readline())["id"]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    events = agent.call("bench", request)
    assert events[0] == {"event": "job", "id": identity, "resumed": True}
    assert events[-1]["event"] == "result" and [event["number"] for event in events[1:]] == list(range(len(events) - 1))
    # the result waits until it has been fetched and acknowledged; then the same call measures anew
    assert agent.call("bench", request)[0]["id"] == identity
    agent.result("jobs", {"acknowledge": identity})
    assert agent.call("bench", request)[0]["id"] != identity


def test_a_file_that_was_made_anew_at_its_path_is_measured_anew(agent, model):
    request = agent.request(model)
    first = agent.call("bench", request)[0]["id"]
    assert agent.call("bench", request)[0]["id"] == first
    write_net(model, ms=2.0)
    assert agent.call("bench", request)[0]["id"] != first


def test_paths_of_a_program_count_from_where_it_calls(agent, model):
    for more, code, words in (({}, 0, ""),
                              ({"power_source": "replay:rec.gz"}, 2, f"{model.parent}/rec.gz: there is no")):
        text = json.dumps({**agent.request(model), "model": model.name, **more})
        done = subprocess.run([agent.python, agent.pyz, "bench", "--stdin"], env=agent.environment, input=text,
                              cwd=model.parent, capture_output=True, text=True)
        end = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == code and words in end.get("message", ""), end


def test_a_name_beyond_ascii_is_measured_where_no_locale_says_utf_8(agent, model):
    bare = {**agent.environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    beyond = model.rename(model.with_name("größe.onnx"))
    words = ["bench", beyond.name, "--root", agent.board.root, "--batch", "1", "--trials", "1", "--window", "0.3"]
    done = subprocess.run([agent.python, agent.pyz, *words, "--json", "-"], cwd=model.parent, env=bare,
                          capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode("utf-8"))["model"]["name"] == "größe"


def test_a_name_that_is_no_utf_8_is_one_sentence_before_a_job_is_started(agent, model):
    name = b"n\xe9t.onnx"
    os.rename(model, os.fsencode(model.parent) + b"/" + name)
    done = subprocess.run([agent.python, agent.pyz, "bench", name, "--root", agent.board.root], cwd=model.parent,
                          env=agent.environment, capture_output=True)
    assert done.returncode == 2 and "/n�t.onnx: only files whose whole path" in done.stderr.decode()
    assert agent.result("jobs") == []


def test_cancel_stops_and_puts_back(agent, model):
    follower = agent.start("bench", long_request(agent, model))
    identity = running(agent)
    assert agent.board.locked
    assert agent.result("cancel", {"id": identity})["state"] == "cancelled"
    assert agent.board.mode == "pmode:0003" and not agent.board.locked
    assert json.loads(follower.stdout.read().splitlines()[-1])["event"] == "cancelled"
    follower.wait()


def test_a_job_cancelled_as_soon_as_it_is_started_says_so(agent, model):
    follower = agent.start("bench", long_request(agent, model))
    identity = json.loads(follower.stdout.readline())["id"]
    os.kill(job_pid(agent, identity), signal.SIGTERM)  # the interpreter is hardly up
    assert json.loads(follower.stdout.read().splitlines()[-1])["event"] == "cancelled"
    follower.wait()
    assert agent.result("jobs")[-1]["state"] == "cancelled"


def test_a_busy_board_says_who_holds_it(agent, model):
    first = agent.start("bench", long_request(agent, model))
    identity = running(agent)
    end = agent.call("bench", agent.request(model, wait=0))[-1]
    assert end["event"] == "error" and end["exit_code"] == 3
    assert "the board is busy: the measurement of net.onnx of" in end["message"]
    assert agent.result("probe", {"root": str(agent.board.root)})["busy"]["what"] == "the measurement of net.onnx"
    agent.result("cancel", {"id": identity})
    first.wait()


def test_a_busy_board_is_waited_for(agent, model):
    first = agent.start("bench", long_request(agent, model))
    identity = running(agent)
    waiting = [agent.start("bench", agent.request(model, seed=seed)) for seed in (1, 2)]
    names = []
    for process in waiting:
        names.append(json.loads(process.stdout.readline())["id"])
        assert "the board is busy: the measurement of net.onnx of" in json.loads(process.stdout.readline())["text"]
    assert "3 jobs are running here: name one of" in agent.call("cancel", {})[-1]["message"]
    assert agent.result("cancel", {"id": names[1]})["state"] == "cancelled"
    assert json.loads(waiting[1].stdout.read().splitlines()[-1])["event"] == "cancelled"
    agent.result("cancel", {"id": identity})
    assert json.loads(waiting[0].stdout.read().splitlines()[-1])["event"] == "result"
    for process in (first, *waiting):
        process.wait()


def test_whatever_the_agent_is_called_for_next_it_repairs_first(agent, model):
    follower = agent.start("bench", long_request(agent, model))
    os.kill(job_pid(agent, running(agent)), signal.SIGKILL)
    follower.wait()
    assert agent.board.mode == "pmode:0000" and agent.board.locked
    events = agent.call("version")
    assert events[0] == {"event": "progress", "text": "putting back the settings that an interrupted measurement left"}
    assert events[-1]["event"] == "result"
    assert agent.board.mode == "pmode:0003" and not agent.board.locked
    assert len(agent.call("version")) == 1


def test_a_repair_that_is_not_possible_stops_no_verb(agent, model):
    follower = agent.start("bench", long_request(agent, model))
    os.kill(job_pid(agent, running(agent)), signal.SIGKILL)
    follower.wait()
    (agent.board.root / "no-sudo").write_text("")
    for name in ("nvpmodel", "jetson_clocks"):
        agent.board.program(name, "#!/bin/sh\necho 'a password is required'; exit 1\n")
    events = agent.call("version")
    assert "could not be put back" in events[1]["text"] and events[-1]["event"] == "result"
    assert (agent.board.home / "state/edgesynth/journal.json").exists()


@pytest.mark.parametrize("reboot", [False, True])
def test_a_killed_job_is_told_and_the_next_one_repairs(agent, model, reboot):
    follower = agent.start("bench", long_request(agent, model))
    identity = running(agent)
    os.kill(job_pid(agent, identity), signal.SIGKILL)
    end = json.loads(follower.stdout.read().splitlines()[-1])
    assert end["event"] == "error" and end["exit_code"] == 3 and "died" in end["message"]
    follower.wait()
    assert agent.board.mode == "pmode:0000" and agent.board.locked  # left as the job had set it
    if reboot:
        agent.board.write("proc/sys/kernel/random/boot_id", "boot-2\n")
    assert agent.call("bench", agent.request(model))[-1]["event"] == "result"
    assert agent.board.mode == "pmode:0003"
    assert agent.board.locked == reboot  # a real reboot unlocks by itself
    assert [job["state"] for job in agent.result("jobs")] == ["died", "result"]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Makes the folder of a job that died, in a state folder of this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def make(identity):
        path = Path(state.make_folder(state.home("jobs", identity)))
        write_json(path / "request.json", {"kind": "bench", "key": "k", "created": 0.0, "request": {}, "boot_id": None},
                   jobs.SCHEMA)
        return path
    return make


def test_a_job_that_a_full_disk_ended_says_so(kept, monkeypatch):
    (kept("a") / "log.txt").write_text("OSError: [Errno 28]")
    monkeypatch.setattr(jobs.shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(CannotMeasure, match=r"job a died before its end: the disk of .*/jobs/a is full: free some"):
        jobs.follow("a", None)


def test_old_jobs_are_forgotten_whatever_else_lies_there(kept, monkeypatch):
    folders = [kept(name) for name in "bcd"]
    (folders[0].parent / "a").write_text("no job")
    monkeypatch.setattr(jobs, "KEEP", 1)
    monkeypatch.setattr(jobs, "agent_command", lambda *words: ["true"])
    new = jobs.start("bench", {})  # its name begins with the year, and goes before theirs
    assert {"a", "d"} <= set(jobs.identities()) <= {"a", "d", new}


def test_a_home_that_takes_nothing_stops_no_look(agent, model):
    agent.environment["XDG_STATE_HOME"] = "/proc/none"
    assert [event["event"] for event in agent.call("version")] == ["result"]
    assert agent.result("jobs") == [] and agent.result("probe", {"root": str(agent.board.root)})["jobs"] == []
    end = agent.call("bench", agent.request(model))[-1]
    assert end["exit_code"] == 2 and "/proc/none" in end["message"] and "(XDG_STATE_HOME names" in end["message"]


def test_a_person_stops_a_job_with_ctrl_c(agent, model):
    words = [agent.python, agent.pyz, "bench", model, "--root", agent.board.root, "--batch", "1", "--trials", "3",
             "--window", "4", "--mode", "maxn"]
    process = subprocess.Popen([str(word) for word in words], env=agent.environment, stderr=subprocess.PIPE, text=True)
    running(agent)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and "stopped" in process.stderr.read()
    assert agent.board.mode == "pmode:0003"


def test_an_unknown_job_is_one_sentence(agent):
    for verb, request in (("cancel", {"id": "../x"}), ("jobs", {"follow": "nothing"}), ("cancel", {})):
        end = agent.call(verb, request)[-1]
        assert end["event"] == "error" and end["exit_code"] == 2


def put(agent, header, content):
    process = subprocess.run([agent.python, agent.pyz, "put", "--stdin"], env=agent.environment,
                             input=header + b"\n" + content, capture_output=True)
    assert b"Traceback" not in process.stderr, process.stderr
    return json.loads(process.stdout)


def header(content, **given):
    return json.dumps({"name": "net.onnx", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
                       **given}).encode()


def test_put_keeps_a_file_by_its_content(agent):
    content = os.urandom(3_000_000)
    assert put(agent, header(content, query=True), b"")["result"]["present"] is False
    path = put(agent, header(content), content)["result"]["path"]
    assert Path(path).read_bytes() == content
    assert put(agent, header(content, query=True), b"")["result"]["present"] is True


def test_a_file_that_was_asked_for_is_not_the_next_to_go(agent, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", agent.environment["XDG_STATE_HOME"])
    monkeypatch.setattr(uploads, "KEEP", 2)

    def sent(content, age_s):
        path = uploads.receive(io.BytesIO(header(content) + b"\n" + content))["path"]
        os.utime(Path(path).parent, (time.time() - age_s,) * 2)

    for age_s, content in ((30, b"first"), (20, b"second"), (10, b"third")):
        sent(content, age_s)
    assert put(agent, header(b"first", query=True), b"")["result"]["present"] is True
    sent(b"fourth", 0)
    there = [put(agent, header(content, query=True), b"")["result"]["present"]
             for content in (b"first", b"second", b"third", b"fourth")]
    assert there == [True, False, True, True]


@pytest.mark.parametrize("given, cut, code", [
    ({}, 10, 3), ({"sha256": "0" * 64}, None, 3), ({"name": "../evil"}, None, 2), ({"name": ".hidden"}, None, 2),
    ({"sha256": "../../x"}, None, 2), ({"folder": "/etc"}, None, 2), ({"bytes": "many"}, None, 2),
    ({"bytes": 1 << 60}, None, 3)])
def test_put_refuses_what_is_cut_damaged_or_misnamed(agent, given, cut, code):
    content = b"x" * 1000
    end = put(agent, header(content, **given), content[:cut])
    assert end["event"] == "error" and end["exit_code"] == code
    assert not [path for path in (agent.board.home / "state").rglob("*") if path.is_file()]


def test_requests_that_are_no_json_are_refused(agent):
    for text in (b"", b"{", b"[]"):
        done = subprocess.run([agent.python, agent.pyz, "bench", "--stdin"], env=agent.environment, input=text,
                              capture_output=True)
        assert json.loads(done.stdout)["exit_code"] == 2 and done.returncode == 2
