"""Tensors on disk come back bit for bit, or with one sentence about the file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError

torch = pytest.importorskip("torch", reason="needs the synth extra")

from synth.storage.tensors import load_tensors, save_tensors  # noqa: E402

SCHEMA = "edgesynth.weights/1"


def example():
    tied = torch.arange(6.0).reshape(2, 3)
    return {"b": tied, "a": tied.t(), "steps": torch.tensor(7), "mask": torch.tensor([True, False])}


def test_round_trip(tmp_path):
    save_tensors(tmp_path / "w.safetensors", example(), SCHEMA, {"seed": 3, "data": "digits"})
    tensors, card = load_tensors(tmp_path / "w.safetensors", SCHEMA)
    assert card == {"seed": 3, "data": "digits"}
    assert tensors.keys() == example().keys()
    for name, tensor in example().items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype


def test_the_bytes_depend_on_the_content_alone(tmp_path):
    save_tensors(tmp_path / "1", example(), SCHEMA, {"x": 1, "y": 2})
    save_tensors(tmp_path / "2", dict(reversed(list(example().items()))), SCHEMA, {"y": 2, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@given(st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_one_sentence(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "w.safetensors"
    save_tensors(path, example(), SCHEMA)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(UserError, match=r"w\.safetensors: damaged"):
        load_tensors(path, SCHEMA)


def test_other_files_are_refused(tmp_path):
    save_tensors(tmp_path / "w", example(), "edgesynth.generator/1")
    with pytest.raises(UserError, match=r"edgesynth\.generator/1"):
        load_tensors(tmp_path / "w", SCHEMA)
    with pytest.raises(UserError, match="no such file"):
        load_tensors(tmp_path / "none", SCHEMA)
