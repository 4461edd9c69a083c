"""Single networks: trained once a seed by `edgesynth train`, found by name, and judged by `edgesynth evaluate`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from front_door import call

from devices.support.errors import UserError
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.prototypes.resnet import ResNet
from synth.storage.network_folder import load_network, save_network
from synth.training.evaluation import Metrics, evaluate
from synth.training.recipe import RECIPES
from synth.zoo import shelf

WORDS = ("train", "resnet8", "--data", "digits", "--epochs", 1)
TEACHER = "a trained network"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of one epoch, and what the command said."""
    out = tmp_path_factory.mktemp("trained") / "resnet8"
    return out, call(*WORDS, "--seeds", "0:2", "--out", out, "--json", out.parent / "t.json")


def test_every_seed_has_its_network_and_a_card(trained):
    out, answer = trained
    assert answer.code == 0 and "standard deviation" in answer.out and answer.out.count("on validation") == 2
    cards = [json.loads((out / f"seed-{seed}" / "card.json").read_text()) for seed in (0, 1)]
    assert [card["seed"] for card in cards] == [0, 1] and cards[0]["data"] == "digits"
    assert cards[0]["command"].startswith("edgesynth train resnet8") and len(cards[0]["losses"]) == 1
    assert cards[0]["validation"] != cards[1]["validation"]
    assert not list(out.rglob("checkpoint*"))
    rows = json.loads((out.parent / "t.json").read_text())
    assert rows["schema"] == "edgesynth.trained/1"
    assert [row["validation"] for row in rows["seeds"]] == [card["validation"] for card in cards]


def test_the_figures_of_a_card_are_those_of_its_weights(trained):
    out, _ = trained
    network, weights = load_network(out / "seed-1")
    found = evaluate(build(network, weights), load_dataset("digits").validation)
    assert found.to_json() == shelf.card_of(out / "seed-1")["validation"]
    answer = call("evaluate", out / "seed-1")  # the card names the data
    assert answer.code == 0 and f"{100 * found.accuracy:.2f} %" in answer.out and "NetScore" in answer.out


def test_a_network_that_is_always_wrong_has_no_netscore(trained, monkeypatch):
    out, _ = trained
    wrong = Metrics(9.0, 2.2, 0.1, 0.0, 0.05, 40)
    monkeypatch.setattr("synth.training.evaluation.evaluate", lambda module, split: wrong)
    answer = call("evaluate", out / "seed-1", "--json", "-")
    assert answer.code == 0 and json.loads(answer.out)["netscore"] is None


def test_what_is_done_is_not_done_again(trained):
    out, first = trained
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert call(*WORDS, "--seeds", "0:2", "--out", out).out == first.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    answer = call("train", "resnet8", "--epochs", 2, "--out", out)
    assert answer.code == 2 and "holds a training that differs in recipe" in answer.sentence


def test_a_network_of_a_folder_is_trained_anew_with_a_teacher(trained, tmp_path):
    out, _ = trained
    answer = call("train", out / "seed-0", "--epochs", 1, "--on", "train+validation", "--teacher", out / "seed-1",
                  "--out", tmp_path / "new")
    assert answer.code == 0 and "on validation" not in answer.out  # nothing is left to tell it by
    for split, seen in (("validation", True), ("test", False)):
        answer = call("evaluate", tmp_path / "new" / "seed-0", "--split", split, "--json", tmp_path / "e.json")
        assert ("trained on these images" in answer.out) == seen
        assert json.loads((tmp_path / "e.json").read_text())["trained_on"] == seen
    assert "trained on these" not in call("evaluate", out / "seed-1").out
    card = shelf.card_of(tmp_path / "new" / "seed-0")
    assert card["validation"] is None and card["teacher"] and card["on"] == "train+validation"
    assert (tmp_path / "new" / "teacher-train+validation.safetensors").exists()
    fresh, old = load_network(tmp_path / "new" / "seed-0"), load_network(out / "seed-0")
    assert fresh[0].digest == old[0].digest and not torch.equal(fresh[1]["head.weight"], old[1]["head.weight"])


def test_several_teachers_teach_by_the_mean_of_their_probabilities(trained, tmp_path):
    out, _ = trained
    words = ("train", "resnet8", "--epochs", 1, "--teacher", out / "seed-0", "--teacher", out / "seed-1", "--out")
    assert call(*words, tmp_path / "both").code == 0
    assert call("train", "resnet8", "--epochs", 1, "--teacher", out / "seed-0", "--out", tmp_path / "first").code == 0
    card = shelf.card_of(tmp_path / "both" / "seed-0")
    first = shelf.card_of(tmp_path / "first" / "seed-0")
    assert card["teacher"].split()[0] == first["teacher"] and len(card["teacher"].split()) == 2
    assert card["taught_by"] == f"{out / 'seed-0'}, {out / 'seed-1'}"
    both, alone = (load_network(tmp_path / name / "seed-0")[1] for name in ("both", "first"))
    assert not torch.equal(both["head.weight"], alone["head.weight"])


def test_several_networks_train_at_once_as_they_do_one_by_one(trained, tmp_path):
    out, _ = trained
    answer = call("train", "resnet8", "anchor", "--epochs", 1, "--workers", 2, "--out", tmp_path, "--json", "-")
    rows = json.loads(answer.out)["seeds"]
    assert answer.code == 0 and [row["network"] for row in rows] == ["resnet8", "anchor"]
    assert {p.name for p in tmp_path.iterdir()} == {"resnet8", "anchor"} and not list(tmp_path.rglob("epochs"))
    alone, together = load_network(out / "seed-0")[1], load_network(tmp_path / "resnet8" / "seed-0")[1]
    assert all(torch.equal(alone[name], together[name]) for name in alone)


def test_values_of_the_recipe_can_be_set(tmp_path):
    answer = call("train", "resnet8", "--epochs", 1, "--set", "batch=500", "--set", "rate=0.002", "--set",
                  "optimiser=sgd", "--out", tmp_path)
    recipe = shelf.card_of(tmp_path / "seed-0")["recipe"]
    assert answer.code == 0 and (recipe["batch"], recipe["rate"], recipe["optimiser"]) == (500, 0.002, "sgd")


def test_a_network_is_trained_as_a_candidate_is(tmp_path):
    answer = call("train", "resnet8", "--recipe", "short", "--epochs", 1, "--out", tmp_path)
    short = replace(RECIPES["digits"]["short"], epochs=1)
    assert answer.code == 0 and shelf.card_of(tmp_path / "seed-0")["recipe"] == short.to_json()
    assert short != replace(RECIPES["digits"]["final"], epochs=1)


def test_a_teacher_of_other_data_is_refused(trained, tmp_path):
    network, weights = trace(ResNet(3, 10, widths=(4,), blocks=1), (3, 32, 32), "other")
    save_network(tmp_path / "other", network, weights, {})
    answer = call("train", "resnet8", "--epochs", 1, "--teacher", tmp_path / "other", "--out", tmp_path / "new")
    assert answer.code == 2 and "but digits has images of" in answer.sentence and not (tmp_path / "new").exists()


@pytest.mark.parametrize(("words", "said"), [
    (("train", "resnet8", "--set", "batch", "--out", "x"), "--set batch: NAME=VALUE is expected"),
    (("train", "resnet8", "--set", "batches=3", "--out", "x"),
     "unknown value of a recipe 'batches': did you mean batch?"),
    (("train", "resnet8", "--set", "rate=fast", "--out", "x"), "no recipe: "),
    (("train", "resnet8", "--set", "batch=2.5", "--out", "x"), "batch = 2.5: it must be a whole number"),
    (("train", "resnet8", "--set", "small_px=24", "--out", "x"),
     "would enlarge images of 8 x 8 instead of shrinking them; it must be at most 8"),
    (("train", "a/ferminet-d", "b/ferminet-d", "--out", "x"),
     "two of the networks have one name, by which their folders are called: train them in calls of their own"),
    (("train", "resnet9", "--out", "x"),
     "resnet9: there is no such folder, and no prototype or network of this name comes "
     "with edgesynth (anchor, anchor-hardswish, ferminet-a, ferminet-b, ferminet-c, ferminet-d, mobilenetv2, resnet20, "
     "resnet20x2, resnet8, shufflenet)"),
    (("train", "resnet8", "--teacher", "none", "--out", "x"), "none: there is no such folder"),
    (("train", "resnet8", "--teacher", "t", "--teacher", "t", "--out", "x"), "a teacher is named twice"),
    (("train", "resnet8", "--recipe", "prototype", "--teacher", TEACHER, "--out", "x"),
     "the recipe has distil = 0, by which a teacher has no part in the loss; give it one with --set distil=0.5"),
    (("train", "resnet8", "--epochs", "0", "--out", "x"), "0 is not in the range"),
    (("train", "resnet8", "--seeds", "18446744073709551616", "--out", "x"), "seeds end at 18446744073709551615"),
    (("train", "resnet8"), "missing option '--out'"),
])  # fmt: skip
def test_what_cannot_be_trained(words, said, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call(*(trained[0] / "seed-0" if word == TEACHER else word for word in words))
    assert answer.code == 2 and said in answer.sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["a file", "a file/below"])
def test_where_no_folder_can_be_made_nothing_is_trained(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("a file").write_text("text")
    answer = call(*WORDS, "--out", out)
    assert answer.code == 2 and f"{out}: a part of the path is a file, not a folder" in answer.sentence


def test_a_gpu_that_is_not_there(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "torch finds no GPU here" in call(*WORDS, "--device", "cuda", "--out", tmp_path / "x").sentence


def test_shipped_networks_are_found_by_name_and_data(trained, tmp_path, monkeypatch):
    out, _ = trained
    monkeypatch.setattr(shelf, "SHELF", tmp_path)
    shutil.copytree(out / "seed-0", tmp_path / "digits" / "little")
    assert shelf.find("little") == shelf.find("little", "digits") == tmp_path / "digits" / "little"
    with pytest.raises(UserError, match="little was trained on digits: use --data digits"):
        shelf.find("little", "cifar10")
    with pytest.raises(UserError, match="comes with edgesynth"):
        shelf.find("large", "digits")
    checksum = load_dataset("digits").checksum
    assert shelf.trained_for("little", "digits", checksum) == tmp_path / "digits" / "little"
    assert shelf.trained_for("little", "digits", "other data") is None
    assert call("evaluate", "little").code == 0


@pytest.mark.parametrize("folder", shelf.shipped().values(), ids=lambda folder: Path(folder).name)
def test_what_is_shipped_is_whole(folder):
    network, weights = load_network(folder)
    card = shelf.card_of(folder)
    assert card["network"] == network.digest and card["data_sha256"] and card["command"].startswith("edgesynth ")
    module = build(network, weights).eval()
    assert module(torch.zeros(2, *network.input_shape)).shape == (2, *network.output_shape)


OWN = """import numpy as np

def grey():
    def pair(count, seed):
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        return random.integers(0, 128, (count, 1, 8, 8)).astype(np.uint8) + 100 * labels[:, None, None, None], labels
    return {name: (images.astype(np.uint8), labels) for name, (images, labels) in {
        "train": pair(60, SEED), "validation": pair(30, 1), "test": pair(30, 2)}.items()}

"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network trained on one's own data, in a file that is called as a data set of ours."""
    monkeypatch.chdir(tmp_path)
    Path("digits.py").write_text(OWN + "SEED = 0\n")
    assert call("train", "resnet8", "--data", "digits.py:grey", "--epochs", 1, "--out", "out").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "out" / "seed-0"


def test_ones_own_data_are_found_again(own):
    card = shelf.card_of(own)
    assert card["data"] == f"{own.parents[1]}/digits.py:grey" and card["recipe"]["rate"] == 0.01  # not that of digits
    answer = call("evaluate", own, "--json", "-")
    assert answer.code == 0 and json.loads(answer.out)["accuracy"] == card["validation"]["accuracy"]


def test_data_that_are_not_those_of_the_card_are_refused(own):
    file = own.parents[1] / "digits.py"
    file.write_text(OWN + "SEED = 77\n")
    assert "seed-0: was trained on other data than" in call("evaluate", own).sentence
    assert call("evaluate", own, "--data", f"{file}:grey").code == 0
    file.unlink()
    answer = call("evaluate", own)
    assert answer.code == 2 and "digits.py: there is no such file); name them with --data" in answer.sentence
