"""`edgesynth devices probe | prepare | build-agent | read-log`, and that an agent's words stay within the doctrine."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import edgesynth
from devices.support.errors import UserError
from edge_bench import agent_build, connection, devices_cli

LINES = ("RAM 2344/7852MB (lfb 11x4MB) CPU [1%@345,off,off,1%@345,0%@345,2%@345] VDD_SYS_GPU 151/150 VDD_IN 3055/3000\n"
         "RAM 2344/7852MB (lfb 11x4MB) CPU [1%@345,off,off,1%@345,0%@345,2%@345]\n")


def run(*words):
    return CliRunner().invoke(edgesynth.cli, ["devices", *map(str, words)], catch_exceptions=False)


def test_the_agent_is_written_as_one_executable_file(tmp_path):
    path = tmp_path / "a.pyz"
    done = run("build-agent", "--out", path)
    assert done.exit_code == 0 and agent_build.agent_hash() in done.output
    assert path.read_bytes() == agent_build.agent_bytes() and path.stat().st_mode & 0o111


def test_probe_is_about_this_machine(tmp_path):
    path = tmp_path / "probe.json"
    done = run("probe", "--json", path)
    assert done.exit_code == 0 and "runners" in done.output
    found = json.loads(path.read_text())
    assert found["schema"] == "edgesynth.probe/1" and found["runners"]["onnxruntime"]


def test_prepare_prints_nothing_to_install_where_nothing_is_needed(monkeypatch):
    found = {"board": {"board": "cpu"}, "modes": [], "sudoers": "ALL"}
    monkeypatch.setattr(devices_cli, "_probe", lambda host: found)
    done = CliRunner().invoke(edgesynth.cli, ["devices", "prepare"], catch_exceptions=False)
    assert done.stdout == "" and "cpu has no power modes; nothing needs to be prepared" in done.stderr


def test_prepare_prints_a_sudoers_file_and_how_to_install_it(monkeypatch):
    found = {**devices_cli._probe(None), "modes": [{"id": 0, "name": "MAXN"}]}
    monkeypatch.setattr(devices_cli, "_probe", lambda host: found)
    done = CliRunner().invoke(edgesynth.cli, ["devices", "prepare"], catch_exceptions=False)
    rules = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(rules) == 1 and "NOPASSWD" in rules[0] and "--store /var/lib/edgesynth/" in rules[0]
    assert "install -d -o root -g root -m 755 /var/lib/edgesynth" in done.stdout


def test_what_these_commands_did_is_json_too(tmp_path, monkeypatch):
    board = {**devices_cli._probe(None), "modes": [{"id": 0, "name": "MAXN"}]}
    monkeypatch.setattr(devices_cli, "_probe", lambda host: board)
    prepared = json.loads(run("prepare", "--json", "-").stdout)
    assert prepared["needed"] and prepared["sudoers"] == board["sudoers"] and len(prepared["install"]) == 3
    board["modes"] = []
    prepared = json.loads(run("prepare", "--json", "-").stdout)
    assert (prepared["needed"], prepared["sudoers"], prepared["install"]) == (False, None, [])

    built = json.loads(run("build-agent", "--out", tmp_path / "a.pyz", "--json", "-").stdout)
    assert built["sha256"] == agent_build.agent_hash() and built["bytes"] == (tmp_path / "a.pyz").stat().st_size

    monkeypatch.setattr(connection.Connection, "ensure_agent", lambda link: {"sha256": "5a"})
    monkeypatch.setattr(connection.Connection, "install", lambda link: "~/.local/bin/edgesynth")
    installed = json.loads(run("install-agent", "--host", "nvidia@tx2", "--json", "-").stdout)
    assert (installed["host"], installed["path"]) == ("nvidia@tx2", "~/.local/bin/edgesynth")


def test_a_log_is_read_line_by_line(tmp_path):
    path = tmp_path / "t.log"
    path.write_text(LINES)
    done = run("read-log", path, "--json", "-")
    found = json.loads(done.output)
    assert [line["total_mw"] for line in found["lines"]] == [3055, None]
    assert found["lines"][0]["rails"] == {"VDD_SYS_GPU": 151, "VDD_IN": 3055} and found["lines"][1]["reason"]
    shown = run("read-log", path).output
    assert "2 lines, 1 with a total" in shown and "total = VDD_IN" in shown


def test_rails_of_a_log_are_shown_where_no_total_is_known(tmp_path):
    path = tmp_path / "t.log"
    path.write_text("RAM 1/30697MB (lfb 5x4MB) CPU [0%@729] VDD_GPU 2402mW/2402mW VDD_NEW 400mW/400mW\n")
    shown = " ".join(run("read-log", path).output.split())
    assert "1 line, 0 with a total" in shown and "VDD_GPU 2402 2402 2402 1" in shown
    assert "1 line: none of VDD_GPU, VDD_NEW is known to be the total" in shown


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 5000, b"a,b,c\n1,2,3\n"])
def test_what_is_no_log_is_refused(tmp_path, content):
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(UserError):
        run("read-log", path)
    with pytest.raises(UserError, match="no such file"):
        run("read-log", tmp_path / "nothing.log")
    with pytest.raises(UserError, match="did you mean tx2"):
        run("read-log", path, "--board", "tx3")
