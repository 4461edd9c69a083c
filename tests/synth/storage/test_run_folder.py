"""A run folder survives `kill -9` at every file operation, cuts at any byte, and refuses what it must not touch."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.support import files
from devices.support.errors import UserError
from synth.storage.run_folder import Manifest, RunFolder

MANIFEST = Manifest("edgesynth synth --target tx2", {"target": "tx2", "seed": 1, "requirements": ["params <= 1k"]},
                    {"digits": "ab12"}, {"python": "3.11"})


def draw(*what):
    """A float that depends on `what` alone: the honest stand-in of a seeded computation."""
    return int(hashlib.sha256(repr(what).encode()).hexdigest()[:12], 16) / 16**12


def save_json(path, value):
    files.write_json(path, {"value": value}, "test.value/1")


def load_json(path):
    return files.read_json(path, "test.value/1")["value"]


def save_folder(path, value):
    path.mkdir()
    files.write_text(path / "network.json", json.dumps(value))
    files.write_bytes(path / "weights.bin", repr(value).encode())


def load_folder(path):
    return json.loads((path / "network.json").read_text())


def work(path, resume=False, calls=None):
    """A small run with the shape of the real one; its result depends on every step and evaluation."""
    count = calls.append if calls is not None else lambda what: None
    with RunFolder.start(path, MANIFEST, resume=resume) as run:
        state = run.step("prototype", lambda: count("prototype") or [draw("prototype")], save_folder, load_folder)
        journal = run.journal("evaluations")
        for cycle in range(2):
            for decisions in ((0, cycle), (1, cycle)):
                key = (cycle, decisions)
                if key not in journal:
                    count(key)
                    journal.append(key, draw(*key, tuple(state)))
                state = [*state, journal[key]]
            state = run.step(f"cycles/{cycle}.json", lambda s=tuple(state): [draw(s)], save_json, load_json)
        run.finish()
    return state


def contents(path):
    """Everything that lies in a run folder and does not depend on the clock or the process."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in (".lock", "run.json")
    }


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    path = tmp_path_factory.mktemp("uncut") / "run"
    return work(path), path


def test_a_finished_run_is_read_back_and_not_done_again(uncut, tmp_path):
    result, path = uncut
    copy = tmp_path / "run"
    shutil.copytree(path, copy)
    calls = []
    assert work(copy, resume=True, calls=calls) == result
    assert calls == []
    assert contents(copy) == contents(path)
    assert Manifest.read(copy).finished


def killed_after(path, operations, resume):
    """Run `work` in a fork that dies without a goodbye after so many file operations; whether it died."""
    child = os.fork()
    if child == 0:
        left = [operations]

        def dying(function):
            def call(*args, **kwargs):
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return function(*args, **kwargs)

            return call

        for name in ("fsync", "replace", "mkdir", "open", "write", "unlink"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            work(path, resume=resume)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def test_killed_at_any_file_operation_it_ends_with_the_same_result(uncut, tmp_path):
    result, whole = uncut
    operations = 0
    while True:
        path = tmp_path / str(operations)
        if not killed_after(path, operations, resume=False):
            break
        assert work(path, resume=(path / "run.json").exists()) == result
        assert contents(path) == contents(whole)
        operations += 1
    assert operations > 40


def test_killed_again_and_again_it_still_ends_with_the_same_result(uncut, tmp_path):
    result, whole = uncut
    path = tmp_path / "run"
    kills = 0
    while killed_after(path, 5 + 7 * kills % 31, resume=(path / "run.json").exists()):
        kills += 1
        assert kills < 100
    assert kills > 5
    assert work(path, resume=True) == result
    assert contents(path) == contents(whole)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_at_any_byte_it_ends_with_the_same_result_or_names_the_file(uncut, data):
    result, whole = uncut
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        shutil.copytree(whole, path)
        victim = path / data.draw(st.sampled_from([*contents(whole), "run.json"]))
        size = victim.stat().st_size
        os.truncate(victim, data.draw(st.integers(0, size - 1)))
        try:
            assert work(path, resume=True) == result
        except UserError as error:
            assert victim.name in str(error)
            assert not victim.name.endswith(".jsonl")
            if victim.name == "run.json":
                return
            # and the remedy that it names works
            remedy = Path(str(error).split("delete ")[1].split(" and run")[0])
            shutil.rmtree(remedy) if remedy.is_dir() else remedy.unlink()
            assert work(path, resume=True) == result


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_never_changes_the_result_unseen(uncut, data):
    result, whole = uncut
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        shutil.copytree(whole, path)
        victim = path / data.draw(st.sampled_from(list(contents(whole))))
        spoilt = bytearray(victim.read_bytes())
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= data.draw(st.integers(1, 255))
        victim.write_bytes(bytes(spoilt))
        try:
            assert work(path, resume=True) == result
        except UserError as error:
            assert victim.name in str(error) or "steps.jsonl" in str(error)


def test_what_was_deleted_and_came_out_otherwise_is_said_once_and_taken_from_then_on(tmp_path):
    """On another machine, or by another version, what is made anew may differ by a bit."""
    work(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "prototype")
    said = []
    for _ in range(3):
        with RunFolder.start(tmp_path / "run", MANIFEST, resume=True) as run:
            assert run.step("prototype", lambda: [0.5], save_folder, load_folder) == [0.5]
            said.append([warning for warning in run.warnings if "made anew" in warning])
    assert [len(warnings) for warnings in said] == [1, 0, 0]


def test_other_arguments_are_refused_by_name(uncut, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(uncut[1], copy)
    before = contents(copy)
    other = Manifest("x", {"target": "nano", "seed": 1, "requirements": ["params <= 2k"]}, MANIFEST.data)
    with pytest.raises(UserError, match="target was tx2, now nano; requirements was params <= 1k, now params <= 2k"):
        RunFolder.start(copy, other, resume=True)
    with pytest.raises(UserError, match=r"data changed .*digits"):
        RunFolder.start(copy, Manifest("x", MANIFEST.arguments, {"digits": "ff"}), resume=True)
    assert contents(copy) == before


def test_other_versions_are_a_warning(uncut, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(uncut[1], copy)
    newer = Manifest("x", MANIFEST.arguments, MANIFEST.data, {"python": "3.12"})
    with RunFolder.start(copy, newer, resume=True) as run:
        assert "python 3.11 -> 3.12" in run.warnings[0]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UserError, match="thesis"):
            RunFolder.start(tmp_path, MANIFEST, resume=resume)
    assert [place.name for place in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_cannot_be_started_or_resumed(uncut, tmp_path):
    with pytest.raises(UserError, match="holds a run already"):
        RunFolder.start(uncut[1], MANIFEST)
    with pytest.raises(UserError, match="no run to resume"):
        RunFolder.start(tmp_path / "none", MANIFEST, resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="it is a file"):
        RunFolder.start(tmp_path / "file", MANIFEST)
    with pytest.raises(UserError, match="no run in this folder"):
        Manifest.read(tmp_path)


def test_a_run_of_another_version_is_refused(uncut, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(uncut[1], copy)
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**manifest, "schema": "edgesynth.run/99"}))
    with pytest.raises(UserError, match="another version"):
        RunFolder.start(copy, MANIFEST, resume=True)
    del manifest["arguments"]
    (copy / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        RunFolder.start(copy, MANIFEST, resume=True)


def test_two_processes_cannot_share_a_folder_and_a_dead_one_leaves_it(tmp_path):
    path = tmp_path / "run"
    RunFolder.start(path, MANIFEST).close()
    script = (
        "import sys; from synth.storage.run_folder import *; from tests_manifest import M;"
        "run = RunFolder.start(sys.argv[1], M, resume=True); print('in', flush=True); sys.stdin.read()"
    )
    (tmp_path / "tests_manifest.py").write_text(f"from synth.storage.run_folder import Manifest\nM = {MANIFEST!r}\n")
    other = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True)
    try:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError, match=f"process {other.pid} is working"):
            RunFolder.start(path, MANIFEST, resume=True)
    finally:
        other.kill()
        other.communicate()
    RunFolder.start(path, MANIFEST, resume=True).close()


def test_one_process_cannot_take_a_folder_twice(tmp_path):
    with RunFolder.start(tmp_path / "run", MANIFEST), pytest.raises(UserError, match="already"):
        RunFolder.start(tmp_path / "run", MANIFEST, resume=True)
    RunFolder.start(tmp_path / "run", MANIFEST, resume=True).close()


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
@pytest.mark.parametrize("operations", range(0, 30, 3))
def test_a_disk_that_refuses_is_one_sentence_and_loses_nothing(uncut, tmp_path, monkeypatch, code, words, operations):
    result, whole = uncut
    path = tmp_path / "run"
    left = [operations]

    def failing(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(code, os.strerror(code))
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "mkdir"):
            patch.setattr(os, name, failing(getattr(os, name)))
        with pytest.raises(UserError, match=words):
            work(path)
        assert not [place for place in path.rglob(".*") if place.name != ".lock"]
    assert work(path, resume=(path / "run.json").exists()) == result
    assert contents(path) == contents(whole)


def test_the_hint_says_how_to_go_on(tmp_path):
    with RunFolder.start(tmp_path / "my run", MANIFEST) as run:
        again = run.manifest.resume_command(run.path)
        assert again == f"edgesynth synth --target tx2 --out '{tmp_path}/my run' --resume"


def test_the_manifest_says_what_is_installed(tmp_path):
    RunFolder.start(tmp_path / "run", Manifest("edgesynth synth", {})).close()
    stored = Manifest.read(tmp_path / "run")
    assert {"python", "edgesynth", "numpy"} <= set(stored.versions)
    assert stored.started and stored.finished is None
