"""The folder of a network as something to export, through the front door."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from front_door import call

import edgesynth
from devices.support.errors import UserError
from export import document
from export.source import load_source
from synth.data import cifar10
from synth.data.dataset import load_dataset
from synth.networks.tracing import trace
from synth.prototypes.registry import load_prototype
from synth.storage.network_folder import card_of, load_network, save_network
from synth.zoo.shelf import shipped


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    dataset = load_dataset("digits")
    network, weights = trace(load_prototype("resnet8", dataset), dataset.shape, "resnet8")
    path = tmp_path_factory.mktemp("runs") / "ferminet-a"
    path.mkdir()
    save_network(path, network, weights, {"data": "digits"})
    return path


def test_a_network_comes_with_its_images_and_labels(folder):
    source = load_source(str(folder))
    assert source.name == "ferminet-a" and source.input_shape == (1, 8, 8)
    assert len(source.samples.images) == len(source.samples.labels) > 100
    assert source.labels == [str(digit) for digit in range(10)] and source.normalisation["pixel_scale"] == 16
    assert not source.module.training


def test_it_is_exported_and_its_accuracy_compared(folder, tmp_path):
    words = ["--target", "tx2", "--precision", "fp16", "--verify-accuracy", "--out", str(tmp_path / "a.onnx")]
    result = CliRunner().invoke(edgesynth.cli, ["export", str(folder), *words, "--json", "-"])
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert report["accuracy"]["images"] > 100 and report["parity"]["origin"] == "given"


def test_a_network_that_comes_with_edgesynth_is_known_by_its_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("synth.zoo.shelf.SHELF", tmp_path)
    shutil.copytree(folder, tmp_path / "digits" / "ferminet-d")
    assert load_source("ferminet-d").name == "ferminet-d"
    words = ["ferminet-d", "--target", "tx2", "--out", str(tmp_path / "d.onnx")]
    assert CliRunner().invoke(edgesynth.cli, ["export", *words]).exit_code == 0 and (tmp_path / "d.onnx").is_file()
    with pytest.raises(UserError, match=r"ferminet-e: there is no such folder, and no network .* \(ferminet-d\)"):
        load_source("ferminet-e")


def test_data_that_do_not_fit_and_damage_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="nothing"):
        load_source(str(folder), data="nothing")
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(UserError):
        load_source(str(broken))
    (broken / "network.json").write_bytes((folder / "network.json").read_bytes())
    (broken / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match="weights"):
        load_source(str(broken))


def test_a_network_whose_data_are_gone_comes_with_what_its_card_says(folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    network, weights = load_network(own)
    card = {**load_dataset("digits").to_card(), "data": str(tmp_path / "gone.py:make")}
    save_network(own, network, weights, card)
    answer = call("export", own, "--target", "tx2", "--out", tmp_path / "a.onnx", "--json", tmp_path / "a.json")
    assert answer.code == 0 and "note       compared on noise" in answer.out
    assert "gone.py: there is no such file); name them with --data" in answer.out
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["parity"]["origin"] == "random" and len(report["notes"]) == 1
    assert document.description(document.load(tmp_path / "a.onnx"))["normalisation"]["pixel_scale"] == 16
    assert len(document.description(document.load(tmp_path / "a.onnx"))["labels"]) == 10
    answer = call("export", own, "--target", "tx2", "--verify-accuracy", "--out", tmp_path / "b.onnx")
    assert answer.code == 2 and "cannot be loaded" in answer.sentence and not (tmp_path / "b.onnx").exists()


def test_other_data_by_the_same_name_are_not_taken(folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    network, weights = load_network(own)
    mean = {"mean": [0.5], "std": [0.25], "pixel_scale": 255.0}
    save_network(own, network, weights, {"data": "digits", "data_sha256": "of others", "normalisation": mean})
    answer = call("export", own, "--target", "tx2", "--out", tmp_path / "a.onnx")
    assert answer.code == 0 and "was trained on other data than digits are now" in answer.out
    assert document.description(document.load(tmp_path / "a.onnx"))["normalisation"] == mean


def test_nothing_is_downloaded_that_is_not_needed(tmp_path, monkeypatch):
    def offline(url, *_):
        raise UserError(f"{url}: offline")

    monkeypatch.setattr("synth.data.cifar10.download", offline)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answer = call("export", "anchor", "--target", "tx2", "--out", tmp_path / "a.onnx")
    assert answer.code == 0 and "note       cifar10 has not been downloaded yet; give the folder" in answer.out
    assert not (tmp_path / "cache").exists()
    assert "truck" in document.description(document.load(tmp_path / "a.onnx"))["labels"]
    np.save(tmp_path / "s.npy", np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    answer = call("export", "anchor", "--target", "tx2", "--samples", tmp_path / "s.npy", "--out", tmp_path / "b.onnx")
    assert answer.code == 0 and "note" not in answer.out
    for words in (("--verify-accuracy",), ("--data", "cifar10")):
        answer = call("export", "anchor", "--target", "tx2", *words, "--out", tmp_path / "c.onnx")
        assert answer.code == 2 and "offline" in answer.sentence


def test_what_a_shipped_card_says_of_its_data_is_what_they_are():
    for (data, _), folder in shipped().items():
        card = card_of(folder)
        assert data == card["data"] == "cifar10" and card["labels"] == list(cifar10.CLASSES)
        assert card["normalisation"] == {"mean": list(cifar10.STATISTICS[0]), "std": list(cifar10.STATISTICS[1]),
                                         "pixel_scale": 255.0}
