"""A whole run: what it leaves, that it is the same every time, and that no cut changes it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import module_zoo
import numpy as np
import onnxruntime
import pytest
import tiny_run
import torch

from devices.support.errors import UserError
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.objective.share import share_error
from synth.progress import Progress
from synth.report.summary import RunSummary
from synth.run.preparation import _load_parent, _refuse_unreachable_accuracy, _save_parent, comes_trained
from synth.run.problem import NetworkProblem, load_cycle
from synth.run.run import generate
from synth.run.scope import recipe_of, scope_of
from synth.search.decisions import from_words
from synth.search.generator import Generator
from synth.space.parent import ElasticParent
from synth.storage.network_folder import load_network
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.evaluation import Metrics, evaluate


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never cut, and its summary."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, tiny_run.run(out)


def fingerprint(out: Path) -> dict[str, str]:
    """Everything of a run that must not depend on when it was made or cut."""
    from devices.support.files import sha256_file

    kept = {str(path.relative_to(out)): sha256_file(path) for path in sorted(out.rglob("*"))
            if path.suffix in (".safetensors", ".onnx") or path.name in ("network.json", "test.json", "card.json",
                                                                         "outcomes.json", "anchors.json")}
    summary = json.loads((out / "summary.json").read_text())
    for network in summary["networks"]:
        measured = network["readings"].pop("latency_here")  # a measurement is another one every time
        assert measured["provenance"] == "measured" and "quick" in measured["source"]
    kept["networks"] = json.dumps(summary["networks"])
    return kept


def test_a_run_leaves_what_it_says(finished):
    out, summary = finished
    assert [row.name for row in summary.networks] == ["network", "ferminet-a", "ferminet-b"]
    for row in summary.ferminets:
        network, weights = load_network(out / row.folder)
        assert row.readings["params"].value == sum(_folded(network, weights))
        images = torch.randn(4, *network.input_shape)
        with torch.no_grad():
            wanted = build(network, weights).eval()(images).numpy()
        session = onnxruntime.InferenceSession(out / row.folder / f"{row.name}.onnx")
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        assert np.abs(wanted - found).max() < 1e-4
        assert row.readings["img_per_joule@1:module"].provenance == "predicted"
        assert row.readings["accuracy"].provenance == "measured"
        assert {j.requirement.split()[0] for j in row.judgements} == {"accuracy", "img_per_joule", "params"}
        assert row.insights and set(row.insights) <= {vertex.name for vertex in network.vertices}
        for name, words in row.insights.items():
            rank, width = map(float, re.findall(r"rank ([\d.]+) of (\d+)", words)[0])
            assert 0 <= rank <= width + 0.05 and width == network.shapes[name][0]
    assert (out / "report.html").stat().st_size > 10_000
    assert RunSummary.load(out / "summary.json").to_json() == summary.to_json()


def _folded(network, weights):
    from synth.networks.costs import costs

    yield costs(network).params


def test_the_same_seed_gives_the_same_ferminets_whatever_the_workers(finished, tmp_path):
    out, _ = finished
    tiny_run.run(tmp_path / "again", workers=2)
    assert fingerprint(tmp_path / "again") == fingerprint(out)


@pytest.mark.parametrize(("right", "labels", "trained"), [
    (358, [0] * 180 + [1] * 180, True),  # two classes: nothing is better than twice chance
    (216, [0] * 216 + list(range(1, 10)) * 16, False),  # always the commonest
    (40, list(range(10)) * 36, False),  # chance, and a little luck
])  # fmt: skip
def test_a_prototype_comes_trained_when_it_is_better_than_guessing(right, labels, trained):
    metrics = Metrics(1.0, 0.0, 0.1, right / 360, share_error(right / 360, 360), 360)
    assert comes_trained(metrics, torch.tensor(labels)) == trained


def test_another_seed_gives_another_run(finished, tmp_path):
    out, _ = finished
    tiny_run.run(tmp_path / "other", seed=1)
    assert fingerprint(tmp_path / "other")["networks"] != fingerprint(out)["networks"]


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_and_resumed_it_ends_the_same(finished, tmp_path, seed):
    whole, _ = finished
    out, points = tmp_path / "cut", random.Random(seed)
    steps = len((whole / "steps.jsonl").read_text().splitlines())
    kills = sorted(points.sample(range(1, steps), 2))
    for attempt, kill_at in enumerate([*kills, None]):
        command = [sys.executable, str(Path(tiny_run.__file__)), str(out), *(["--resume"] if attempt else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        if kill_at is None:
            assert process.wait(120) == 0, process.stderr.read().decode()
            break
        journal = out / "steps.jsonl"
        while process.poll() is None and _lines(journal) < kill_at:
            time.sleep(0.01)
        time.sleep(points.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (out / "run.json").exists():
            shutil.rmtree(out, ignore_errors=True)
    assert fingerprint(out) == fingerprint(whole)


def _lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_resuming_a_finished_run_shows_it_again(finished):
    out, summary = finished
    before = fingerprint(out)
    assert tiny_run.run(out, resume=True).to_json() == summary.to_json()
    assert fingerprint(out) == before


def test_a_run_is_not_resumed_with_other_arguments(finished):
    out, _ = finished
    with pytest.raises(UserError, match="cycles was 3, now 5"):
        tiny_run.run(out, resume=True, cycles=5)
    with pytest.raises(UserError, match="holds a run already"):
        tiny_run.run(out)


def test_a_damaged_file_is_named_and_nothing_is_lost(finished, tmp_path):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(manifest | {"finished": None}))
    weights = copy / "prototype" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"prototype.weights\.safetensors"):
        tiny_run.run(copy, resume=True)
    assert weights.exists() and (copy / "generator" / "generator.safetensors").exists()


def test_what_a_cycle_trained_in_full_may_be_a_ferminet_and_is_not_trained_again(tmp_path, monkeypatch):
    """Nor by a run that starts from it."""
    monkeypatch.setattr("synth.run.problem.LINK_EVERY", 2)  # one in each cycle
    monkeypatch.setattr("synth.run.run.measure_here", lambda *_: {})
    kept, finish_of = [], NetworkProblem.finish

    def finish(self, batch):
        kept[-1:] = [dict(self.in_full)]
        assert not set(batch) & set(self.in_full)
        return finish_of(self, batch)

    monkeypatch.setattr(NetworkProblem, "finish", finish)
    first = tmp_path / "first"
    tiny_run.run(first)
    finals = [load_cycle(place).final for place in sorted((first / "cycles").iterdir())]
    assert [outcome.metrics for outcome in kept[0].values()] == [final.metrics for final in finals]
    kept.append({})
    tiny_run.run(tmp_path / "second", warm_start=str(first), cycles=1)
    assert list(kept[1])[:3] == list(kept[0]) and len(kept[1]) == 4


def test_more_networks_come_from_the_saved_generator(finished, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    before = (out / "generator" / "generator.safetensors").read_bytes()
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "left.safetensors").write_bytes(b"")
    done = generate(out, [100, 101, 102])
    assert not (out / "checkpoints").exists()
    assert [one.seed for one in done] == [100, 101, 102]
    for one in done:
        assert (out / "generated" / one.name / f"{one.name}.onnx").stat().st_size > 1000
    again = generate(out, [101])
    assert again[0].network == done[1].network and again[0].metrics == done[1].metrics
    assert (out / "generator" / "generator.safetensors").read_bytes() == before
    generator = Generator.load(out / "generator")
    assert np.array_equal(generator.generate([100]), generator.generate([100]))
    card = out / "finished" / done[0].name / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"decisions": [0]}))
    with pytest.raises(UserError, match=r"card\.json"):
        generate(out, [100])
    about = json.loads((out / "generator" / "generator.json").read_text())
    about["sites"][0][2][0] = "another choice"
    (out / "generator" / "generator.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="decides on other things"):
        generate(out, [101])


def test_seeds_of_one_network_are_trained_once(finished, tmp_path, monkeypatch):
    out, trained = tmp_path / "copy", []
    shutil.copytree(finished[0], out)
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    generate_of, finish_of = Generator.generate, NetworkProblem.finish
    monkeypatch.setattr(Generator, "generate", lambda self, seeds, prefer=None: generate_of(
        self, [seed // 2 for seed in seeds], prefer))  # 1000 and 1001 make one network

    def finish(self, batch):
        trained.extend(batch)
        return finish_of(self, batch)

    monkeypatch.setattr(NetworkProblem, "finish", finish)
    alone = generate(out, [1001])
    done = generate(out, [1000, 1002, 1001, 1003])
    assert len(trained) == len(set(trained)) == len({one.network for one in done})
    assert [(one.seed, one.name) for one in done] == [(n, f"seed-{n}") for n in (1000, 1002, 1001, 1003)]
    assert done[0].network == done[2].network == alone[0].network and done[0].metrics == alone[0].metrics
    for one in done:
        place = out / "generated" / one.name
        assert (place / f"{one.name}.onnx").is_file() and load_network(place)[0] == one.network
        assert json.loads((place / "card.json").read_text())["seed"] == one.seed


@pytest.fixture
def trained_anew(monkeypatch):
    """What is trained in full from now on."""
    found, finish_of = [], NetworkProblem.finish

    def finish(self, batch):
        found.extend(batch)
        return finish_of(self, batch)

    monkeypatch.setattr(NetworkProblem, "finish", finish)
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    return found


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_network_that_finishing_trained_is_not_trained_again(finished, tmp_path, monkeypatch, trained_anew):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    places = sorted((out / "finished").iterdir())
    decisions = json.loads((places[-1] / "card.json").read_text())["decisions"]
    monkeypatch.setattr(Generator, "generate", lambda self, seeds, prefer=None: np.array([decisions] * len(seeds)))
    first, second = generate(out, [3000, 3001])
    assert not trained_anew and sorted((out / "finished").iterdir()) == places
    network, weights = load_network(places[-1])
    for seed, one in ((3000, first), (3001, second)):
        assert (one.name, one.seed, one.network) == (f"seed-{seed}", seed, network)
        assert same_weights(one.weights, weights) and (out / "generated" / one.name / f"{one.name}.onnx").is_file()
        assert json.loads((out / "generated" / one.name / "card.json").read_text())["seed"] == seed


@pytest.mark.parametrize("inherits", [False, True])
def test_a_network_of_a_cycle_is_trained_again_only_where_it_inherits(inherits, tmp_path, monkeypatch, trained_anew):
    """From the bank, which is another one by then. One of the two cycles is an earlier run's."""
    monkeypatch.setattr("synth.run.problem.LINK_EVERY", 2)  # one in each cycle
    monkeypatch.setattr("synth.run.run.measure_here", lambda *_: {})
    asked = {"changes": (f"inherits={inherits}",), "cycles": 1, "finalists": 1, "ferminets": 1}
    tiny_run.run(tmp_path / "first", **asked)
    out = tmp_path / "second"
    tiny_run.run(out, warm_start=str(tmp_path / "first"), **asked)
    trained_anew.clear()
    for seed, place in enumerate(sorted(tmp_path.glob("*/cycles/0000"))):
        known = load_cycle(place)
        monkeypatch.setattr(Generator, "generate", lambda self, seeds, prefer=None, words=known.candidates[0]: np.array(
            [from_words(self.sites, words)] * len(seeds)))
        (one,) = generate(out, [seed])
        assert len(trained_anew) == (seed + 1 if inherits else 0)
        assert same_weights(one.weights, known.final.weights) is not inherits
        assert load_network(out / "generated" / one.name)[0] == one.network


@pytest.mark.parametrize("words, named", [
    (("params <= 3",), "params <= 3"), (("img_per_joule >= 10000000",), "img_per_joule"),
    (("latency <= 1 us", "accuracy >= 10 %"), "latency"), (("accuracy >= 99.99 %",), "accuracy")])
def test_what_cannot_be_reached_is_refused(tmp_path, words, named):
    with pytest.raises(UserError, match=named):
        tiny_run.run(tmp_path / "never", requirements=words)
    if not words[0].startswith("accuracy"):
        assert not (tmp_path / "never").exists(), "refused before anything is written"


@pytest.mark.parametrize("taught, inherits, said", [
    (False, True, "refused"), (False, False, "warned"), (True, True, "nothing"), (True, False, "nothing")])
def test_more_accuracy_than_the_prototype_has_takes_a_teacher_or_fresh_weights(finished, tmp_path, capsys, taught,
                                                                              inherits, said):
    """The teacher is the prototype of a run; φ is said to be worse."""
    dataset, teacher = load_dataset(tiny_run.order().data), finished[0] / "prototype"
    count, own = len(dataset.validation), evaluate(build(*load_network(teacher)), dataset.validation).accuracy
    order = tiny_run.order(teachers=(str(teacher),) if taught else ())
    asked = Requirements.parse((f"accuracy >= {100 * (own - 0.15):.0f} %",)).with_margins(count)
    weak = Metrics(2.0, 0.7, 0.1, own / 3, share_error(own / 3, count), count)
    with RunFolder.start(tmp_path / "run", Manifest("edgesynth synth", {}, {})) as folder:
        def check():
            _refuse_unreachable_accuracy(asked, weak, inherits, order, dataset, folder, "cpu", Progress())

        if said == "refused":
            with pytest.raises(UserError, match=r"to hold 'accuracy >= .* for sure takes"):
                check()
        else:
            check()
        assert folder.steps == (["teachers.json"] if taught else [])
    assert ("warning: to hold 'accuracy >=" in capsys.readouterr().err) == (said == "warned")


def test_an_interrupted_run_can_go_on(tmp_path, finished, monkeypatch):
    from synth.run import problem

    whole, _ = finished
    original, calls = problem.NetworkProblem._evaluate, []

    def interrupt(self, batch, in_full):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, batch, in_full)

    monkeypatch.setattr(problem.NetworkProblem, "_evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny_run.run(tmp_path / "cut")
    tiny_run.run(tmp_path / "cut", resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(whole)


def test_a_run_of_fresh_weights_keeps_the_bank_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    tiny_run.run(tmp_path / "run", changes=("inherits=false",), cycles=2)
    assert not list(tmp_path.glob("run/cycles/*/bank.safetensors"))
    assert not any(json.loads(path.read_text())["rolled_back"] for path in tmp_path.glob("run/cycles/*/outcomes.json"))
    assert len(generate(tmp_path / "run", [101])) == 1, "networks are drawn from the bank as it was made"


def test_a_run_of_a_space_without_more_width_is_not_gone_on_with(tmp_path):
    parent = ElasticParent(*trace(module_zoo.make("resnet"), module_zoo.INPUT_SHAPE, "resnet"))
    _save_parent(tmp_path, (parent, np.zeros(len(parent.channels.keep_all()))))
    assert _load_parent(tmp_path, parent)[0].network.digest == parent.network.digest
    with pytest.raises(UserError, match="decided on other things"):
        _load_parent(tmp_path, parent.widened(2))


@pytest.mark.parametrize("inherits, decided, expansion", [("true", set(), 1), ("false", {"hardswish"}, 2)])
def test_the_nonlinearity_attention_and_more_width_are_decided_on_where_weights_are_fresh(inherits, decided, expansion):
    order, dataset = tiny_run.order(data="digits", changes=(f"inherits={inherits}",)), load_dataset("digits")
    scope = scope_of(recipe_of(order, dataset, "short"))
    assert set(scope.choices.nonlinearities) == decided and ("inverted" in scope.choices.operators) == bool(decided)
    assert scope.choices.attention == bool(decided)
    assert scope.expansion == expansion


def test_requirements_that_nobody_stated_are_within_reach(tmp_path):
    summary = tiny_run.run(tmp_path / "derived", requirements=(), cycles=1, ferminets=1)
    accuracy, energy = summary.requirements
    assert accuracy.startswith("accuracy >= ") and energy.startswith("img_per_joule >= ") and "batch=8" in energy
    assert summary.networks[0].judgements[1].verdict.slack > -1
