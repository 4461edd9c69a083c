"""Benchmarks are run by hand; that they can be imported, and call what there is, is seen here."""

from __future__ import annotations

import importlib
import tarfile
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
    for parts in job.STAGES.values():
        for command in [command for part in parts for command in part(tmp_path, options)]:
            if command[: len(job.EDGESYNTH)] == job.EDGESYNTH:
                _, name, *words = command[len(job.EDGESYNTH) - 1 :]
                outer = cli.make_context("edgesynth", [name])  # whose -h commands keep, once they have met it
                context = cli.get_command(outer, name).make_context(name, words, outer)  # fails for an unknown option
                assert context.params["device"] == "cpu"
                called.append(name)
            else:
                assert Path(command[1]).is_file()
                called.append(Path(command[1]).name)
    assert called == ["train", "synth", "train", "bench_many_networks.py", "table_of_networks.py",
                      "bench_short_training.py", "train"]


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
             ("add/block", ["drop", "keep"])]
    assert replay.table_choices(sites).nonlinearities == ("hardswish",) and replay.table_choices(sites).activations
    assert replay.table_choices(sites[2:]).nonlinearities == () and not replay.table_choices(sites[2:]).activations
