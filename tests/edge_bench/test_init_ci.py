"""`edgesynth init-ci`: what it writes, held to the structure of its kind; what it refuses; what it leaves alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from actions import check_workflow, evaluate, load
from front_door import call
from hypothesis import given
from hypothesis import strategies as st

from edge_bench.workflow import advice
from edge_bench.workflow.plan import files, make_plan
from edge_bench.workflow.writing import edited, sealed

WORKFLOW, SCRIPT = ".github/workflows/edgesynth-tx2.yml", "ci/edgesynth-gate-tx2.sh"
FORK = {"event_name": "pull_request", "repository": "team/nets",
        "event": {"pull_request": {"head": {"repo": {"full_name": "stranger/nets"}}}}}
OWN = {**FORK, "event": {"pull_request": {"head": {"repo": {"full_name": "team/nets"}}}}}
WILD = "it's \"$(rm -rf /)\" `x` ${{ github.token }} é\\n"


def planned(target="tx2", host="nvidia@tx2", requirement="edgesynth==0.1.0", **asked):
    return files(make_plan(target, host, requirement, **asked))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("asked", [{}, {"host": None, "on_board": True}, {"target": "orin-nano", "label": "bench-7"},
                                   {"target": "tx2:maxq", "bench": "--batch 8 --precision fp16", "power": False},
                                   {"models": (WILD,), "requirement": WILD, "check": "--summary 'a b'"},
                                   {"against": True}, {"host": None, "on_board": True, "against": True}])
def test_the_workflow_is_one_that_github_reads(asked):
    made = planned(**asked)
    workflow = check_workflow(next(text for path, text in made.items() if path.endswith(".yml")))
    (job,) = workflow["jobs"].values()
    assert job["concurrency"]["group"].startswith("edgesynth-")
    assert not evaluate(job["if"], {"github": FORK}) and evaluate(job["if"], {"github": OWN})
    assert evaluate(job["if"], {"github": {"event_name": "push"}})
    last = job["steps"][-1]
    assert evaluate(last["if"].removeprefix("${{").removesuffix("}}"), {}, failed=True)
    measure = next(step for step in job["steps"] if step["name"] == "Measure and check")
    assert ("EDGESYNTH_AGAINST=${BASE:+origin/$BASE} " in measure["run"]) == asked.get("against", False)
    if asked.get("on_board"):  # Ubuntu 18.04 cannot run JavaScript actions
        assert all("run" in step for step in job["steps"])
        assert workflow["defaults"]["run"]["shell"] == "sh -e {0}"


@pytest.mark.parametrize(("spoil", "why"), [
    (lambda text: text.replace("timeout-minutes", "timeout-minuets"), "timeout"),
    (lambda text: text.replace("pull_request:", "pull_request_target:"), "pull_request_target"),
    (lambda text: text.replace("@08c6903cd8c0fde910a37f88322edcfb5dd907a8", "@v5"), "not pinned"),
    (lambda text: text.replace("run: sh", "run: echo ${{ github.head_ref }}; sh"), "an expression in a script"),
    (lambda text: text.replace("contents: read", "contents: write"), None),
    (lambda text: text.replace("inputs.baseline &&", "inputs.baseline &"), "not understood"),
    (lambda text: text.replace("head.repo.full_name == github.repository", "head.repo.full_name != ''"), None),
    (lambda text: text.replace("permissions:\n", "permissions: {contents: read}\npermissions:\n"), "comes twice"),
    (lambda text: text.replace("cancel-in-progress: false", "cancel-in-progress: true"), None)])
def test_the_check_of_the_structure_can_fail(spoil, why):
    text = planned()[WORKFLOW]
    check_workflow(text)
    with pytest.raises(AssertionError, match=why):
        check_workflow(spoil(text))


def test_gitlab_gets_the_same_script(repository):
    answer = call("init-ci", "--host", "nvidia@tx2", "--gitlab")
    assert "variable ACTION=baseline" in answer.out and "artifacts (edgesynth-out/)" in answer.out
    assert answer.code == 0 and "include" in answer.out and not (repository / ".github").exists()
    found = yaml.safe_load((repository / ".gitlab/edgesynth-tx2.yml").read_text())
    job = found["energy-gate-tx2"]
    assert set(job) == {"stage", "tags", "resource_group", "interruptible", "timeout", "rules", "variables",
                        "before_script", "script", "artifacts"}
    assert job["tags"] == ["edgesynth-tx2"] and job["resource_group"] == "edgesynth-nvidia-tx2"
    turns = yaml.safe_load(planned(gitlab=True, against=True)[".gitlab/edgesynth-tx2.yml"])["energy-gate-tx2"]
    assert turns["script"] == [f'EDGESYNTH_AGAINST=$CI_MERGE_REQUEST_DIFF_BASE_SHA sh {SCRIPT} "$ACTION"']
    assert job["script"] == [f'sh {SCRIPT} "$ACTION"'] and job["artifacts"]["when"] == "always"
    assert job["artifacts"]["paths"] == ["edgesynth-out/"] and job["rules"][0]["when"] == "never"


@pytest.mark.parametrize("asked", [{}, {"models": (WILD, "a b/*.onnx"), "baseline": "it's.json"},
                                   {"host": None, "on_board": True, "bench": "--shape 'x=1x3'"}])
def test_the_script_is_one_that_a_plain_shell_reads(tmp_path, asked):
    script = tmp_path / "gate.sh"
    script.write_text(sealed(planned(**asked)[SCRIPT]))
    for shell in ("dash", "bash", "busybox"):
        if shutil.which(shell):
            words = [shell, "sh"] if shell == "busybox" else [shell]
            done = subprocess.run([*words, "-n", script], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "--shell", "sh", "--severity", "warning", script],
                                  capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@given(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
       st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20))
def test_whatever_is_named_stays_one_word(model, requirement):
    if model.startswith(("-", "/")) or ".." in Path(model).parts or Path(model).is_absolute():
        return
    made = planned(models=(model,), requirement=requirement)
    (line,) = [line for line in made[SCRIPT].splitlines() if line.startswith("set -- ") and "results" not in line]
    plain = model.replace("*", "+").replace("?", "+")  # patterns are the shell's to read
    line = line.replace("*", "+").replace("?", "+")
    done = subprocess.run(["sh", "-c", f'{line}; printf "%s|" "$#" "$@"'], capture_output=True, text=True)
    assert done.stdout == f"1|{plain}|"
    steps = {step["name"]: step for step in check_workflow(made[WORKFLOW])["jobs"]["gate"]["steps"]}
    assert steps["Install edgesynth"]["env"]["REQUIREMENT"] == requirement


def test_a_job_says_what_was_asked_for():
    script = planned(target="tx2:maxq", bench="--batch 8", tolerance=["energy=3%,latency_p99=10%"],
                     check="--force")[SCRIPT]
    assert 'bench "$model" --power --lock --mode MAXQ --batch 8 ${host:+--host "$host"}' in script
    assert "--tolerance energy=3% --tolerance latency_p99=10% --force \\\n" in script
    assert '--against "$against" --power --lock --mode MAXQ --batch 8 --tolerance energy=3% --tolerance ' \
           'latency_p99=10% \\\n' in script  # check refuses --force there
    assert '--update --force' in script and "sessions=${EDGESYNTH_SESSIONS-3}" in script
    assert " --mode " not in planned()[SCRIPT]  # the present mode is kept unless one was named
    assert " --lock " not in planned(target="cpu")["ci/edgesynth-gate-cpu.sh"]


def test_what_to_do_next_is_said_in_order(repository):
    answer = call("init-ci", "--host", "nvidia@tx2")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"written    {SCRIPT}\nwritten    {WORKFLOW}\n\nnext\n")
    places = [answer.out.index(words) for words in (
        "with the label edgesynth-tx2", "known_hosts", "ssh-keygen -lf", "ssh-copy-id nvidia@tx2",
        "edgesynth devices prepare --host nvidia@tx2", "3 sessions", f"sh {SCRIPT} baseline",
        "the artifact energy-gate-tx2-1", "outside collaborators")]
    assert places == sorted(places)
    body = json.loads(call("init-ci", "--host", "nvidia@tx2", "--json", "-").out)
    assert body["files"] == {SCRIPT: "unchanged", WORKFLOW: "unchanged"} and body["label"] == "edgesynth-tx2"
    assert any("prepare" in step for step in body["next"])
    assert "not the root of a git repository" in body["next"][-1]
    (repository / ".git").mkdir()
    assert "not the root" not in call("init-ci", "--host", "nvidia@tx2").out


@pytest.mark.parametrize(("origin", "wanted", "doubtful"), [
    (None, "edgesynth==", False), ('{"url": "file:///clone", "dir_info": {"editable": true}}', "edgesynth==", True),
    ('{"url": "https://git.invalid/e.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
     "edgesynth @ git+https://git.invalid/e.git@abc", False)])
def test_a_runner_installs_what_is_installed_here(monkeypatch, origin, wanted, doubtful):
    class Distribution:
        def read_text(self, name):
            return origin

    monkeypatch.setattr(advice.metadata, "distribution", lambda name: Distribution())
    monkeypatch.setattr(advice.metadata, "version", lambda name: "0.1.0")
    requirement, doubt = advice.default_requirement()
    assert requirement.startswith(wanted) and bool(doubt) == doubtful


def test_what_a_person_edited_is_not_overwritten_unasked(repository):
    assert call("init-ci", "--host", "nvidia@tx2").code == 0
    assert "replaced" in call("init-ci", "--host", "nvidia@other").out  # ours to change
    script = repository / SCRIPT
    script.write_text(script.read_text().replace("set -u", "set -eu"))
    before = (repository / WORKFLOW).read_text()
    answer = call("init-ci", "--host", "nvidia@tx2")
    assert answer.code == 2 and "edited by hand" in answer.sentence and "--force" in answer.sentence
    assert (repository / WORKFLOW).read_text() == before, "all or nothing"
    assert "set -eu" in script.read_text()
    assert call("init-ci", "--host", "nvidia@tx2", "--force").code == 0 and "set -eu" not in script.read_text()
    assert script.stat().st_mode & 0o111


def test_a_second_board_leaves_the_first_ones_files_alone(repository):
    assert call("init-ci", "--host", "nvidia@tx2", "--bench", "--batch 8").code == 0
    before = {path: path.read_text() for path in repository.rglob("*") if path.is_file()}
    assert call("init-ci", "--target", "orin-nx", "--host", "nvidia@orin").code == 0
    assert {path: path.read_text() for path in before} == before
    assert "sh ci/edgesynth-gate-orin-nx.sh" in (repository / ".github/workflows/edgesynth-orin-nx.yml").read_text()


def test_somebodys_own_file_is_not_ours(repository):
    (repository / "ci").mkdir()
    (repository / SCRIPT).write_text("#!/bin/sh\n")
    assert "edited by hand" in call("init-ci", "--host", "nvidia@tx2").sentence
    assert not (repository / WORKFLOW).exists()
    (repository / SCRIPT).write_bytes(b"\xff\xfe")
    assert "no text file" in call("init-ci", "--host", "nvidia@tx2").sentence


@given(st.text(max_size=60), st.integers(0, 60), st.text(min_size=1, max_size=3))
def test_an_edit_is_seen(text, place, inserted):
    whole = sealed(text)
    assert not edited(whole)
    assert edited(whole[:place % len(text or "x")] + inserted + whole[place % len(text or "x"):])


@pytest.mark.parametrize(("words", "said"), [
    ((), "name the board with --host USER@BOARD, or write --on-board"),
    (("--host", "a b"), "no ssh destination"), (("--host", "-oProxyCommand=x"), "no ssh destination"),
    (("--host", "b", "--on-board"), "leave --host out"), (("--host", "b", "--target", "tx3"), "unknown target 'tx3'"),
    (("--host", "b", "--target", "tx2:fast"), "unknown power mode"),
    (("--host", "b", "--tolerance", "speed=5%"), "speed"),
    (("--host", "b", "--bench", "--btach 8"), "bench has no --btach"), (("--host", "b", "--bench", "'"), "No closing"),
    (("--host", "b", "--bench", "--batch x"), "--bench: argument --batch: invalid int value: 'x'"),
    (("--host", "b", "--bench", "--batch 0"), "--batch 0 makes no sense"),
    (("--host", "b", "--bench", "net.onnx"), "--bench: unrecognized arguments: net.onnx"),
    (("--host", "b", "--bench", "--power"), "--power follows from"),
    (("--host", "b", "--check", "--update"), "--update is not for a gate"),
    (("--host", "b", "--check", "--inconclusive fail x"), "'x' belongs to no option"),
    (("--host", "b", "--models", ""), "one is empty"), (("--host", "b", "--label", "a b"), "no runner label"),
    (("--host", "b", "--models", "/abs/*.onnx"), "below the repository"),
    (("--host", "b", "--baseline", "../b.json"), "below the repository"),
    (("--host", "b", "--out", "none"), "there is no such folder")])
def test_mistakes_are_one_sentence(repository, words, said):
    answer = call("init-ci", *words)
    assert answer.code == 2 and said in answer.sentence
    assert list(repository.iterdir()) == []


def test_this_projects_own_workflows_are_held_to_the_same():
    folder = Path(__file__).parents[2] / ".github/workflows"
    found = {path.name: check_workflow(path.read_text()) for path in folder.glob("*.yml")}
    assert found
    jobs = {name: job for workflow in found.values() for name, job in workflow["jobs"].items()}
    assert any(isinstance(job["runs-on"], str) for job in jobs.values())
    (board,) = [job for job in jobs.values() if isinstance(job["runs-on"], list)]
    ours = {"github": {"event_name": "push"}}
    assert not evaluate(board["if"], ours), "skipped where there is no board"
    assert evaluate(board["if"], {**ours, "vars": {"EDGESYNTH_BOARD": "tx2"}})
    assert not evaluate(board["if"], {"github": FORK, "vars": {"EDGESYNTH_BOARD": "tx2"}})


def test_on_is_a_word():
    assert list(load("on: push\nyes: true")) == ["on", "yes"]


@pytest.mark.parametrize("asked", [{}, {"host": None, "on_board": True}, {"gitlab": True}])
def test_the_published_schema_accepts_it(tmp_path, asked):
    """The schema store's, as check-jsonschema brings it; this project's own workflows too."""
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema, of the test extra")
    (text,) = [text for path, text in planned(**asked).items() if path.endswith(".yml")]
    place = tmp_path / "one.yml"
    place.write_text(text)
    gitlab = ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    schema = gitlab if asked.get("gitlab") else ["vendor.github-workflows"]
    own = [] if asked.get("gitlab") else sorted((Path(__file__).parents[2] / ".github/workflows").glob("*.yml"))
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, place, *own],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
