"""`edgesynth synth`, `generate`, `evaluate` and `report` as a person calls them, over one tiny run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_run
import torch
from front_door import call

from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.options import SeedRange
from synth.run.problem import FINAL_LOGITS
from synth.run.scope import recipe_of
from synth.storage.network_folder import load_network, save_network
from synth.storage.run_folder import Manifest
from synth.storage.tensors import load_tensors
from synth.training.distillation import LOGITS, teacher_logits

HERE = Path(__file__).parents[1]
TINY = ("--target", "tx2", "--data", f"{HERE / 'tiny_run.py'}:data",
        "--prototype", f"{tiny_run.EXAMPLES / 'own_data.py'}:network",
        "--require", "accuracy >= 1 %", "--require", "params <= 100k", "--cycles", "1", "--batch", "2",
        "--ferminets", "1", "--workers", "1")


@pytest.fixture(scope="module")
def quick():
    """Recipes of few epochs, and nothing is measured, which takes its time whatever the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
        patch.setattr("synth.run.run.measure_here", lambda *given: {})
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, quick):
    """A run that `edgesynth synth --json PATH` made, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "a tiny run"  # which a shell takes for three words
    return out, call("synth", *TINY, "--out", out, "--json", out.parent / "summary.json")


def test_synth_shows_a_table_and_writes_the_summary(finished):
    out, answer = finished
    assert answer.code == 0, answer.err
    for word in ("ferminet-a", "accuracy", "params", "predicted"):
        assert word in answer.out
    assert "1r: accuracy >= 1%, params <= 100 k" in answer.err and "cycle" in answer.err
    written = json.loads((out.parent / "summary.json").read_text())
    assert written["schema"].startswith("edgesynth.") and written["schema"] == _json(out / "summary.json")["schema"]
    assert [row["name"] for row in written["networks"]] == ["network", "ferminet-a"]


def test_the_next_commands_can_be_typed_as_they_stand(finished):
    out, _ = finished
    steps = _json(out / "summary.json")["next_steps"]
    for what in ("measure it on the board", "measure it here"):
        assert shlex.split(steps[what])[:3] == ["edgesynth", "bench", str(out / "ferminet-a" / "ferminet-a.onnx")]
    assert shlex.split(steps["more networks"])[:4] == ["edgesynth", "generate", str(out), "--seeds"]


def test_the_manifest_holds_the_command_as_it_was_typed(finished):
    out, _ = finished
    manifest = Manifest.read(out)
    assert manifest.command.startswith("edgesynth synth --target tx2") and "'params <= 100k'" in manifest.command
    assert manifest.arguments["cycles"] == 1 and manifest.finished


def test_json_on_standard_output_is_all_there_is(finished):
    out, first = finished
    answer = call("synth", *TINY, "--out", out, "--resume", "--json", "-")
    assert answer.code == 0 and json.loads(answer.out) == _json(out.parent / "summary.json")
    assert call("synth", *TINY, "--out", out, "--resume").out == first.out  # shown again


def test_a_finished_run_is_not_overwritten_and_not_changed(finished):
    out, _ = finished
    before = (out / "steps.jsonl").read_bytes()
    assert "it holds a run already; go on with --resume" in call("synth", *TINY, "--out", out).sentence
    answer = call("synth", *TINY, "--out", out, "--resume", "--seed", 5)
    assert answer.code == 2 and "seed was 0, now 5" in answer.sentence
    assert (out / "steps.jsonl").read_bytes() == before


def test_a_missed_requirement_ends_with_one(finished, tmp_path):
    """Everything is written and shown, and only then the check fails."""
    out, _ = finished
    value = _json(out / "summary.json")
    for network in value["networks"]:
        for judgement in network["judgements"]:
            judgement["verdict"]["holds"] = "no"
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "summary.json").write_text(json.dumps(value))
    answer = call("synth", *TINY, "--out", copy, "--resume")
    assert answer.code == 1 and "ferminet-a" in answer.out
    assert answer.sentence.startswith("not every FermiNet satisfies 1r")


def test_another_network_teaches_in_the_place_of_the_prototype(finished, tmp_path, quick, monkeypatch):
    prototype, out = finished[0] / "prototype", tmp_path / "run"
    shutil.copytree(prototype, tmp_path / "teacher")
    network, weights = load_network(prototype)
    turned = {name: tensor.flip(0) if tensor.ndim else tensor for name, tensor in weights.items()}
    save_network(tmp_path / "teacher", network, turned, {})
    monkeypatch.chdir(tmp_path)
    answer = call("synth", *TINY, "--teacher", "teacher", "--out", out)
    assert answer.code == 0, answer.err
    manifest = Manifest.read(out)
    teacher = str(tmp_path / "teacher")  # wherever it is resumed from
    assert manifest.arguments["teachers"] == [teacher] and manifest.data[teacher]
    said, by_prototype = (load_tensors(run / "teacher.safetensors", LOGITS)[0] for run in (out, finished[0]))
    dataset = load_dataset(f"{HERE / 'tiny_run.py'}:data")
    recipe = recipe_of(tiny_run.order(), dataset, "final")
    for found, weights_of_it in ((said, turned), (by_prototype, weights)):
        wanted = teacher_logits(build(network, weights_of_it), dataset.train, recipe, view_seed=0)
        assert torch.allclose(found[FINAL_LOGITS], wanted, atol=0.05 * float(wanted.abs().max()))
    assert not torch.allclose(said[FINAL_LOGITS], by_prototype[FINAL_LOGITS], atol=0.1)
    save_network(tmp_path / "teacher", network, weights, {})
    answer = call("synth", *TINY, "--teacher", "teacher", "--out", out, "--resume")
    assert answer.code == 2 and "teacher" in answer.sentence and "chang" in answer.sentence


def test_a_teacher_that_no_recipe_listens_to_is_refused_before_anything_is_written(finished, tmp_path, quick):
    words = ("synth", *TINY, "--teacher", finished[0] / "prototype", "--out", tmp_path / "run", "--set")
    answer = call(*words, "distil=0")
    assert answer.code == 2 and "distil = 0" in answer.sentence and "--set distil=0.5" in answer.sentence
    assert not (tmp_path / "run").exists()
    assert call(*words, "short.distil=0").code == 0, "the full training is taught"


def test_generate_makes_more_of_the_seeds_asked_for(finished, tmp_path, quick, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    monkeypatch.delattr("synth.run.preparation.teacher_logits")  # the run has kept what φ answers
    answer = call("generate", out, "--seeds", "7:9", "--workers", 1, "--json", tmp_path / "made.json")
    assert answer.code == 0, answer.err
    made = _json(tmp_path / "made.json")
    assert made["schema"] == "edgesynth.generated/1" and [row["seed"] for row in made["networks"]] == [7, 8]
    assert f"{sum(row['holds'] for row in made['networks'])} of 2 satisfy 1r" in answer.out
    for row in made["networks"]:
        assert (Path(row["folder"]) / f"{row['name']}.onnx").is_file()
    again = call("generate", out, "--seeds", 7, "--workers", 1, "--json", "-")
    assert json.loads(again.out)["networks"] == made["networks"][:1]


def test_generate_of_an_unfinished_run_says_how_to_finish_it(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "run.json").write_text(json.dumps(_json(out / "run.json") | {"finished": None}))
    answer = call("generate", out)
    assert answer.code == 2 and "this run is not finished; go on with: edgesynth synth" in answer.sentence
    assert answer.sentence.endswith("--resume") and answer.sentence.count("--out") == 1


@pytest.mark.parametrize(("changed", "said"), [
    ({"arguments": {"colour": "red"}}, "ordered with colour, which this version of edgesynth does not know"),
    ({"arguments": {"target": "tx2"}}, "started otherwise"),
    ({"data": ["digits"]}, "damaged (its data are no object)"),
    ({"versions": None}, "damaged (its versions are no object)"),
    ({"arguments": 3}, "damaged (its arguments are no object)"),
])
def test_generate_with_the_manifest_of_another_version(finished, tmp_path, changed, said):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "run.json").write_text(json.dumps(_json(out / "run.json") | changed))
    answer = call("generate", out)
    assert answer.code == 2 and said in answer.sentence


@pytest.mark.parametrize(("words", "seeds"), [("7", [7]), ("100:103", [100, 101, 102]), ("0:1", [0])])
def test_seeds(words, seeds):
    assert SeedRange().convert(words, None, None) == seeds


def test_evaluate_a_ferminet(finished, tmp_path):
    out, _ = finished
    words = ("evaluate", out / "ferminet-a", "--data", f"{HERE / 'tiny_run.py'}:data")
    answer = call(*words, "--json", tmp_path / "e.json")
    assert answer.code == 0 and " of 60 validation images" in answer.out
    found = _json(tmp_path / "e.json")
    assert found["schema"] == "edgesynth.evaluation/1" and found["split"] == "validation" and found["count"] == 60
    assert found["accuracy"] == _json(out / "ferminet-a" / "card.json")["validation"]["accuracy"]
    test = json.loads(call(*words, "--split", "test", "--json", "-").out)
    assert test["accuracy"] == _json(out / "test.json")["metrics"]["ferminet-a"]["accuracy"]


def test_evaluate_on_other_data_and_on_damaged_networks(finished, tmp_path):
    out, _ = finished
    answer = call("evaluate", out / "ferminet-a", "--data", "digits")
    assert answer.code == 2 and "name the data it was made for" in answer.sentence
    words = ("--data", f"{HERE / 'tiny_run.py'}:data")
    for number, (name, change, said) in enumerate([
        ("weights.safetensors", lambda data: data[:-40], "damaged safetensors"),
        ("weights.safetensors", None, "there is no such file"),
        ("network.json", lambda data: data[:50], "damaged JSON"),
        ("network.json", lambda data: data.replace(b"edgesynth.network/1", b"edgesynth.network/9"),
         "it was written by another version of edgesynth"),
    ]):
        copy = tmp_path / str(number)
        shutil.copytree(out / "ferminet-a", copy)
        if change is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(change((copy / name).read_bytes()))
        answer = call("evaluate", copy, *words)
        assert answer.code == 2 and name in answer.sentence and said in answer.sentence
    other = tmp_path / "other"
    shutil.copytree(out / "ferminet-a", other)
    shutil.copy(out / "prototype" / "network.json", other / "network.json")
    answer = call("evaluate", other, *words)
    assert answer.code == 2 and "weights" in answer.sentence, answer


def test_report_is_rendered_again_from_the_run_alone(finished, tmp_path):
    out, _ = finished
    again = tmp_path / "again.html"
    answer = call("report", out, "--out", again, "--json", tmp_path / "summary.json")
    assert answer.code == 0 and f"report: {again}" in answer.out.replace("\n", "")
    assert again.read_bytes() == (out / "report.html").read_bytes()
    assert _json(tmp_path / "summary.json") == _json(out.parent / "summary.json")
    assert json.loads(call("report", out, "--json", "-").out) == _json(tmp_path / "summary.json")
    answer = call("report", out, "--out", tmp_path / "none" / "r.html")
    assert answer.code == 2 and "there is no such file or folder" in answer.sentence


def test_a_new_run_has_a_folder_of_its_own_name():
    from synth.run.cli import _new_folder

    names = {_new_folder("digits", "tx2:maxq").name[18:], _new_folder("some/own.py:load", "tx2").name[18:]}
    assert names == {"digits-tx2-maxq", "own-tx2"}


def _json(path: Path) -> dict:
    return json.loads(path.read_text())


TINY_COMMAND = """
import edgesynth, tiny_run, synth.run.preparation, synth.run.run
synth.run.scope.recipe_for, synth.run.run.measure_here = tiny_run.short_recipes, lambda *given: {}
edgesynth.main()
"""


def test_ctrl_c_says_how_to_go_on_and_going_on_ends_the_same(finished, tmp_path, quick):
    out = tmp_path / "run"
    words = [*TINY[:-1], "2", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TINY_COMMAND, "synth", *words]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    journal = out / "steps.jsonl"
    while process.poll() is None and not (journal.exists() and len(journal.read_text().splitlines()) >= 2):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and printed == "" and "Traceback" not in said, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("edgesynth: stopped; nothing is lost, go on with: edgesynth synth") and str(out) in last
    assert last.endswith("--resume")
    assert call("synth", *words, "--resume").code == 0
    assert _json(out / "ferminet-a" / "network.json") == _json(finished[0] / "ferminet-a" / "network.json")
