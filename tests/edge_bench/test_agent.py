"""The zipapp: reproducible, whole, and the same under every Python that is installed."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from agent_on_board import AgentOnBoard, oldest_python, pythons, write_net
from stand_in_board import StandInBoard

from devices.support.errors import UserError
from edge_bench import agent_build
from edge_bench.agent import result as results
from edge_bench.agent import uploads


def test_same_sources_give_the_same_bytes(pyz):
    assert pyz.read_bytes() == agent_build.agent_bytes()
    assert hashlib.sha256(pyz.read_bytes()).hexdigest() == agent_build.agent_hash()


def test_other_hosts_at_other_times_build_the_same_bytes(tmp_path):
    """Another checkout, other file times and permissions, another umask, hash seed and time zone, another Python."""
    copy = tmp_path / "copy"
    for room in ("edge_bench", "devices"):
        shutil.copytree(Path(agent_build.__file__).parent.parent / room, copy / room)
    for number, path in enumerate(sorted(copy.rglob("*"))):
        os.chmod(path, 0o700)
        os.utime(path, (1e9 + number, 1e9 + number))
    (copy / "edge_bench/agent/.main.py.swp").write_bytes(b"an editor's")
    program = ("import os; os.umask(0o077); from edge_bench import agent_build; "
               "agent_build.write_agent('agent.pyz'); print(agent_build.agent_hash())")
    hashes = set()
    for version, python in pythons().items():
        if tuple(map(int, version.split("."))) < (3, 10):
            continue
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": version[-1], "TZ": "Asia/Tokyo"}
        done = subprocess.run([python, "-B", "-c", program], cwd=tmp_path, env=environment, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        hashes |= {done.stdout.strip(), hashlib.sha256((tmp_path / "agent.pyz").read_bytes()).hexdigest()}
    assert hashes == {agent_build.agent_hash()}


def test_it_holds_what_it_needs_and_nothing_of_the_host(pyz):
    names = set(zipfile.ZipFile(pyz).namelist())
    assert {"__main__.py", "edge_bench/agent/main.py", "devices/board.py", "devices/boards/tx2.json",
            "devices/support/files.py"} <= names
    assert not [name for name in names if name.split("/")[0] in ("synth", "export") or "factories" in name
                or name in ("edge_bench/cli.py", "devices/cost_model.py")]


def test_its_sources_are_python_3_6():
    for name, content in agent_build.agent_files().items():
        if name.endswith(".py"):
            ast.parse(content, name, feature_version=(3, 6))
            assert b"from __future__ import annotations" not in content, name


def test_vermin_finds_no_newer_name(tmp_path):
    for name, content in agent_build.agent_files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", "from vermin import main; main()", "-t=3.6-", "--no-tips",
                           "--violations", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", pythons())
def test_every_module_imports_and_verbs_answer(pyz, tmp_path, version):
    board = StandInBoard(tmp_path, pythons()[version])
    agent = AgentOnBoard(pyz, board, pythons()[version])
    program = ("import sys, zipfile, importlib; sys.path.insert(0, sys.argv[1])\n"
               "for name in zipfile.ZipFile(sys.argv[1]).namelist():\n"
               "    if name.endswith('.py') and name != '__main__.py':\n"
               "        importlib.import_module(name[:-3].replace('/', '.').replace('.__init__', ''))\n"
               "from devices.board import load_board, known_boards\n"
               "print(len(known_boards()), load_board('tx2').title)")
    done = subprocess.run([agent.python, "-W", "error", "-c", program, pyz], capture_output=True, text=True,
                          cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("Jetson TX2")
    found = agent.result("version")
    assert found["sha256"] == agent_build.agent_hash() and found["python"].startswith(version)
    probed = agent.result("probe", {"root": str(board.root)})
    assert probed["board"]["board"] == "tx2" and probed["runners"]["tensorrt"]
    assert [mode["name"] for mode in probed["modes"]][:2] == ["MAXN", "MAXQ"]
    assert "nvpmodel" in probed["sudoers"]
    # under cron, a service or ssh without LANG
    bare = {**agent.environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run([agent.python, pyz, "probe", "--root", str(board.root)], env=bare, capture_output=True)
    assert done.returncode == 0 and "·" in done.stdout.decode("utf-8"), done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize("version", sorted({next(iter(pythons())), list(pythons())[-1]}))
def test_an_onnx_file_is_built_and_measured(pyz, tmp_path, version):
    agent = AgentOnBoard(pyz, StandInBoard(tmp_path, pythons()[version]), pythons()[version])
    request = agent.request(write_net(tmp_path / "NET.ONNX", ms=2.0), batch=4, layers=True)
    events = agent.call("bench", request)
    assert events[0]["event"] == "job" and events[-1]["event"] == "result", events[-1]
    found = results.check(events[-1]["result"])
    assert found["runner"]["name"] == "tensorrt" and found["batch"] == 4 and found["runner"]["precision"] == "fp16"
    assert found["readings"]["compute_ms"]["value"] > 1.9 and found["preflight"]["board"]["board"] == "tx2"
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "fc"]
    assert found["runner"]["origin_unknown"] is False
    again = agent.result("build", {key: request[key] for key in ("model", "root", "batch")})
    assert again["cached"] is True and again["sidecar"]["onnx_sha256"]


def test_a_person_gets_a_table_a_file_and_an_exit_code(pyz, tmp_path):
    agent = AgentOnBoard(pyz, StandInBoard(tmp_path), oldest_python())
    write_net(tmp_path / "net.onnx")
    words = [agent.python, pyz, "bench", "net.onnx", "--trials", "1", "--window", "0.3", "--root", agent.board.root]
    done = subprocess.run([*words, "--json", "out.json"], cwd=tmp_path, env=agent.environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tx2 (serial …0042) · L4T 32.7.1 · tensorrt 8.2.1.8 fp16 · batch 1")
    assert results.load(str(tmp_path / "out.json")) and list((tmp_path / "results").glob("0001-net-tx2.json"))
    record = next((tmp_path / "results").glob("*.record.gz"))
    replay = subprocess.run([agent.python, pyz, "bench", "--replay", record, "--json", "-"], cwd=tmp_path,
                            env=agent.environment, capture_output=True, text=True)
    assert json.loads(replay.stdout) == json.loads((tmp_path / "out.json").read_text())
    wrong = subprocess.run([*words, "--batch", "-1"], cwd=tmp_path, env=agent.environment, capture_output=True,
                           text=True)
    assert wrong.returncode == 2 and wrong.stderr.strip().startswith("edgesynth: --batch -1")
    int8 = subprocess.run([*words, "--precision", "int8"], cwd=tmp_path, env=agent.environment, capture_output=True,
                          text=True)
    assert int8.returncode == 2 and "INT8" in int8.stderr


def person(agent, *words, content=b""):
    done = subprocess.run([agent.python, agent.pyz, *map(str, words)], env=agent.environment, input=content,
                          capture_output=True)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_person_sends_a_file_as_it_is(pyz, tmp_path):
    agent, content = AgentOnBoard(pyz, StandInBoard(tmp_path)), os.urandom(100_000)
    sha256 = hashlib.sha256(content).hexdigest()
    code, said, _ = person(agent, "put", "net.onnx", "--sha256", sha256.upper(), content=content)
    path = Path(said.splitlines()[0])
    assert code == 0 and path.name == "net.onnx" and path.read_bytes() == content and sha256 in said
    for words, data, remedy in ((["net.onnx", "--sha256", "0" * 64], content, "another file, or a damaged one"),
                                (["net.onnx"], b"", "nothing came"), ([], content, "put NAME"),
                                (["../evil"], content, "no plain file name")):
        code, _, errors = person(agent, "put", *words, content=data)
        assert code == 2 and remedy in errors, errors


@pytest.mark.parametrize("name", ["mein Netz (2).onnx", "größe.onnx", "_net[1].onnx", "$(reboot);'\".onnx"])
def test_any_name_of_a_file_is_taken(pyz, tmp_path, name):
    agent = AgentOnBoard(pyz, StandInBoard(tmp_path))
    code, said, _ = person(agent, "put", name, content=write_net(tmp_path / "net.onnx").read_bytes())
    assert code == 0 and Path(said.splitlines()[0]).name == name
    assert agent.result("bench", agent.request(Path(said.splitlines()[0])))["model"]["file"] == name


@pytest.mark.parametrize("name", [".net.onnx", "a/b.onnx", "a\nb.onnx", "..", "", "x" * 256, "a\udcff.onnx"])
def test_what_is_no_name_is_refused_with_a_remedy(name):
    with pytest.raises(UserError, match="is no plain file name: call the file something"):
        uploads.path_of("0" * 64, name)


def test_a_person_samples_power_and_follows_and_cancels_jobs(pyz, tmp_path):
    agent = AgentOnBoard(pyz, StandInBoard(tmp_path))
    agent.board.add_tegrastats()
    code, said, errors = person(agent, "samples", "--seconds", "0.6", "--root", agent.board.root)
    assert code == 0 and said.startswith("VDD_IN ") and "VDD_SYS_GPU" in said and "sampling power" in errors
    assert person(agent, "samples", "--seconds", "0")[0] == 2
    assert person(agent, "jobs")[1] == "no jobs\n"
    assert person(agent, "cancel")[0] == 2
    follower = agent.start("bench", agent.request(write_net(tmp_path / "net.onnx")))
    identity = json.loads(follower.stdout.readline())["id"]
    follower.stdout.read()
    follower.wait()
    code, said, errors = person(agent, "jobs", identity)
    assert code == 0 and said.startswith("tx2 (serial …0042)") and "warming up" in errors
    assert json.loads(person(agent, "jobs", identity, "--json", "-")[1])["model"]["name"] == "net"
    long = agent.start("bench", agent.request(tmp_path / "net.onnx", trials=5, window=20))
    running = json.loads(long.stdout.readline())["id"]
    assert person(agent, "cancel")[1] == f"{running} cancelled\n"  # the one that runs
    long.stdout.read()
    long.wait()
    assert person(agent, "jobs", running)[1] == f"{running} cancelled\n"
    listed = person(agent, "jobs")[1].splitlines()
    assert [line.split()[2] for line in listed] == ["result", "cancelled"]


def test_an_engine_from_elsewhere_is_marked(pyz, tmp_path):
    agent = AgentOnBoard(pyz, StandInBoard(tmp_path))
    built = agent.result("build", {"model": str(write_net(tmp_path / "net.onnx")), "root": str(agent.board.root)})
    engine = tmp_path / "mine.engine"
    engine.write_bytes(Path(built["engine"]).read_bytes())
    found = agent.result("bench", agent.request(engine, batch=None))
    assert "origin_unknown" in found["marks"] and found["batch"] == 1
    engine.write_bytes(engine.read_bytes()[:-30])
    end = agent.call("bench", agent.request(engine))[-1]
    assert end["event"] == "error" and end["exit_code"] == 2 and "damaged" in end["message"]
