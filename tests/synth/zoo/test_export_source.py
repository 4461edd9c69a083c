"""The folder of a network as something to export, through the front door."""

import json
import shutil

import pytest
from click.testing import CliRunner

import edgesynth
from devices.support.errors import UserError
from export.source import load_source
from synth.data.dataset import load_dataset
from synth.networks.tracing import trace
from synth.prototypes.registry import load_prototype
from synth.storage.network_folder import save_network


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
