"""Benchmarks are run by hand; that they can be imported, and call what there is, is seen here."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tarfile
import time
from argparse import Namespace
from pathlib import Path

import pytest

from edgesynth import cli
from synth.search.synthesis import Settings, Synthesis

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_benchmark_can_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    module = importlib.import_module(name)
    assert module.__file__ == str(FOLDER / f"{name}.py") and module.__doc__


@pytest.mark.parametrize("kind", ["ReinforceInquisitor", "EvolvingInquisitor"])
def test_other_ways_to_move_the_generator_take_a_step(kind, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent / "synth"))
    ablations, toy = importlib.import_module("ablations"), importlib.import_module("toy_problem")
    monkeypatch.setattr(ablations, "ROUNDS", 2)
    run = Synthesis(toy.ToyProblem(), Settings(cycles=1, batch=2), getattr(ablations, kind))
    before = run.generator.vector().clone()
    assert len(run.cycle(0).candidates) == 2 and not run.generator.vector().equal(before)


@pytest.fixture
def job(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("job_cifar10")


def test_the_job_calls_commands_that_there_are(job, tmp_path):
    options = Namespace(data_root="cifar", lanes=3, device="cpu", epochs=60, networks=None)
    called = []
    for stage in job.STAGES.values():
        for command in stage.commands(tmp_path, options):
            if command[: len(job.EDGESYNTH)] == job.EDGESYNTH:
                _, name, *words = command[len(job.EDGESYNTH) - 1 :]
                outer = cli.make_context("edgesynth", [name])  # whose -h commands keep, once they have met it
                context = cli.get_command(outer, name).make_context(name, words, outer)  # fails for an unknown option
                assert context.params["device"] == "cpu"
                called.append(name)
            else:
                assert Path(command[1]).is_file()
                called.append(Path(command[1]).name)
    assert called == ["synth", "table_of_networks.py", "bench_short_training.py", "train", "bench_many_networks.py",
                      "train"]


def test_fresh_seeds_are_tried_beside_the_search_that_trains_its_finalists(job, tmp_path):
    for name in ("generator/theta", "finished/half-written", "checkpoints/one", "cycles/0000/outcomes.json", ".lock"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(name)
    (command,) = job.STAGES["many"].commands(tmp_path, Namespace(lanes=3, device="cpu"))
    assert command[2] == str(tmp_path / "learned")
    learned = tmp_path / "learned"
    copied = {str(path.relative_to(learned)) for path in learned.rglob("*") if path.is_file()}
    assert copied == {"generator/theta", "cycles/0000/outcomes.json"}


@pytest.fixture
def stages(job, monkeypatch, tmp_path):
    """Four stages that write when they begin and end; b needs a, which ends with this code, c has two commands."""
    def stage(name, seconds=0.3, code=0, times=1, **after):
        words = [sys.executable, "-c", f"import sys, time; f = open({str(tmp_path / 'said')!r}, 'a', 1); "
                 f"f.write('+{name}\\n'); time.sleep({seconds}); f.write('-{name}\\n'); sys.exit({code})"]
        return job.Stage(lambda work, options: [words] * times, **after)

    def run(at_once=2, until=60.0, code=0, last=0.3, left=""):
        monkeypatch.setattr(job, "STAGES", {
            "a": stage("a", 0.6, code), "b": stage("b", after="a", left=left), "c": stage("c", times=2),
            "d": stage("d", last)})
        failing = pytest.raises(SystemExit, match="a, b: failed") if code > 1 else contextlib.nullcontext()
        with failing:
            job.Stages(tmp_path, Namespace(stages=list(job.STAGES))).run(at_once, time.monotonic() + until)
        said = (tmp_path / "said").read_text().split()
        (tmp_path / "said").unlink()
        return said

    return run


def test_stages_run_side_by_side_and_after_what_they_need(stages):
    said = stages()
    assert sorted(said) == sorted(["+a", "-a", "+b", "-b", "+c", "-c", "+c", "-c", "+d", "-d"])
    assert said.index("+b") > said.index("-a") > said.index("+c"), "c beside a, b after it"
    alone = stages(at_once=1)
    assert [word[1] for word in alone] == list("aabbccccdd")


def test_a_stage_may_begin_when_what_it_needs_is_there(stages, tmp_path):
    (tmp_path / "there").touch()
    said = stages(left="there")
    assert said.index("+b") < said.index("-a")
    said = stages(left="elsewhere")
    assert said.index("+b") > said.index("-a")


def test_where_a_stage_fails_what_needs_it_is_left_out_and_the_others_go_on(stages):
    assert sorted(stages(code=3)) == ["+a", "+c", "+c", "+d", "-a", "-c", "-c", "-d"]
    assert stages(code=1).count("-b") == 1, "a check that failed is no failure"


def test_a_job_ends_when_time_is_up(stages, job):
    begun = time.monotonic()
    with pytest.raises(job.TimeUp):
        stages(until=2.0, last=30.0)
    assert time.monotonic() - begun < 20


def test_the_job_collects_what_cannot_be_computed_again(job, tmp_path):
    kept, left = ["run/summary.json", "run/cycles/0000/outcomes.json", "finals/anchor/seed-0/weights.safetensors",
                  "many.json"], ["run/cycles/0000/bank.safetensors", "run/checkpoints/one.safetensors"]
    for name in kept + left:
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text(name)
    job.collect(tmp_path / "work", tmp_path / "out")
    found = []
    for path in sorted((tmp_path / "out").iterdir()):
        with tarfile.open(path) as archive:
            found += [member.name for member in archive.getmembers() if member.isfile()]
    assert sorted(found) == sorted(kept)


def test_a_replay_lets_decide_what_its_table_did(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    replay = importlib.import_module("replay")
    sites = [("stem/nonlinearity", ["hardswish", "relu"]), ("add/activation", ["linear", "relu"]),
             ("conv/attention", ["channels", "none"]), ("add/block", ["drop", "keep"])]
    assert replay.table_choices(sites).nonlinearities == ("hardswish",) and replay.table_choices(sites).activations
    assert replay.table_choices(sites).attention and not replay.table_choices(sites[3:]).attention
    assert replay.table_choices(sites[3:]).nonlinearities == () and not replay.table_choices(sites[3:]).activations
