"""`edgesynth bench` as a command: exit codes, sentences, files."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

import pytest
from bench_samples import write_model
from onnx import TensorProto

from devices.support.errors import UserError
from edge_bench.agent import result as results
from edge_bench.bench import bench_model, predict_model
from edge_bench.compare import compare_models
from edge_bench.remote import upload

FAST = ["--trials", "2", "--window", "0.2"]


@pytest.fixture
def model(tmp_path):
    """An ONNX file with a dynamic batch."""
    return write_model(tmp_path / "net.onnx", batch="N")


def edgesynth(*words, cwd):
    done = subprocess.run([sys.executable, "-m", "edgesynth", *map(str, words)], cwd=cwd, capture_output=True,
                          text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_bench_measures_saves_and_replays(model, tmp_path):
    done = edgesynth("bench", model, *FAST, "--batch", 4, "--layers", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "latency    p50" in done.stdout and "saved      results/0001-net-" in done.stdout
    assert "trial 2/2: measuring" in done.stderr
    kept = results.load(str(tmp_path / "out.json"))
    assert kept["batch"] == 4 and kept["runner"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [4, 64]}]
    assert "quick" in kept["marks"] and kept["layers"][0]["ms"] > 0
    record = next((tmp_path / "results").glob("*.record.gz"))
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "out.json", "results"}  # no profile is left
    assert "layers     " in done.stdout and "MatMul" in done.stdout
    again = json.loads(edgesynth("bench", "--replay", record, "--json", "-", cwd=tmp_path).stdout)
    assert again == kept


def test_a_users_own_modules_do_not_replace_ours(model, tmp_path):
    for name in ("devices", "edge_bench", "statistics", "export"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')\n")
    done = subprocess.run(["edgesynth", "bench", model, *FAST], cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": sys.prefix + "/bin:/usr/bin:/bin"}, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options, words, sentence", [
    ({}, ["--batch", "4"], "built for batch 1, not 4"),
    ({}, ["--batch", "-1"], "--batch -1 makes no sense"),
    ({}, ["--trials", "0"], "--trials 0"),
    ({}, ["--window", "0"], "--window 0.0"),
    ({}, ["--shape", "z=1x64"], "no input is called 'z'"),
    ({}, ["--shape", "x=1x65"], "does not fit"),
    ({}, ["--runner", "tensorflow"], "unknown runner 'tensorflow'"),
    ({}, ["--target", "tx2"], "--target is for --predict"),
    ({}, ["--predict"], "--predict needs"),
    ({}, ["--predict", "--target", "tx3"], "did you mean tx2"),
    ({}, ["--predict", "--target", "tx2", "--power"], "nothing is measured"),
    ({"batch": "N", "features": "F"}, [], "give its size with --shape x=1x?"),
    ({"dtype": TensorProto.STRING, "operator": "Identity"}, [], "cannot be filled with numbers"),
    ({"operator": "NoSuchOperator"}, [], "onnxruntime refuses it"),
])
def test_bad_input_is_one_sentence(tmp_path, options, words, sentence):
    write_model(tmp_path / "net.onnx", **options)
    done = edgesynth("bench", "net.onnx", *([] if "--predict" in words else FAST), *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgesynth: ") and sentence in last
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("content, sentence", [
    (None, "there is no such file"), (b"", "the file is empty"), (b"\x00\xffgarbage" * 100, "damaged"),
    ("truncated", "damaged"), ("external", "in a file beside it that is missing"), ("folder", "is a folder")])
def test_bad_files_are_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "net.onnx"
    if content == "folder":
        path.mkdir()
    elif content == "truncated":
        write_model(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "external":
        write_model(path, external=True)
        (tmp_path / "net.onnx.data").unlink()
    elif content is not None:
        path.write_bytes(content)
    done = edgesynth("bench", "net.onnx", *FAST, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr


@pytest.mark.parametrize("begin", [
    bench_model, functools.partial(predict_model, target="tx2"), lambda path: upload(None, path, print)])
def test_who_names_a_network_is_told_to_export_it(tmp_path, begin):
    for name in ("ferminet-d", tmp_path):
        with pytest.raises(UserError, match="edgesynth export makes one of a network"):
            begin(str(name))


@pytest.mark.parametrize("words, sentence", [
    (["--save", "taken"], "taken: there is a file of that name already"),
    (["--save", "taken/below"], "taken/below: a part of the path is a file"),
    (["--json", "none/x.json"], "--json none/x.json: there is no such folder")])
@pytest.mark.parametrize("command", [["bench"], ["compare", "net.onnx"]])
def test_a_place_for_the_result_is_found_before_it_is_measured(model, tmp_path, command, words, sentence):
    (tmp_path / "taken").write_text("")
    done = edgesynth(*command, "net.onnx", *FAST, *words, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and "measuring" not in done.stderr, done.stderr


def test_predict_measures_nothing(model, tmp_path):
    done = edgesynth("bench", model, "--predict", "--target", "tx2", "--batch", 2, "--json", "p.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    predicted = json.loads((tmp_path / "p.json").read_text())
    assert predicted["latency_ms"]["provenance"] == "predicted" and predicted["batch"] == 2
    assert "predicted" in done.stdout and not (tmp_path / "results").exists()


def test_a_misspelt_option_is_refused_before_anything_is_measured(model):
    with pytest.raises(UserError, match="unknown option 'trails': did you mean trials"):
        bench_model(model, trails=9, host="nowhere")
    with pytest.raises(UserError, match="unknown option 'windows': did you mean window"):
        compare_models(model, model, windows=2.0)


@pytest.mark.parametrize("own, asked, batch", [(8, None, 8), (8, 8, 8), ("N", None, 1), ("N", 4, 4)])
def test_predict_takes_the_batch_of_the_file(tmp_path, own, asked, batch):
    found = predict_model(write_model(tmp_path / "net.onnx", batch=own), "tx2", batch=asked)
    assert found.batch == batch


def test_predict_takes_a_quantised_file_for_int8_as_a_board_does(tmp_path):
    with pytest.raises(UserError, match="Jetson TX2 has no INT8"):
        predict_model(write_model(tmp_path / "net.onnx", operator="QuantizeLinear"), "tx2")


def test_predict_refuses_a_batch_that_the_file_was_not_built_for(tmp_path):
    with pytest.raises(UserError, match="built for batch 8, not 4"):
        predict_model(write_model(tmp_path / "net.onnx", batch=8), "tx2", batch=4)


def test_help_imports_neither_torch_nor_onnxruntime(tmp_path):
    program = ("import sys, edgesynth; from click.testing import CliRunner\n"
               "for words in (['bench', '--help'], ['check', '--help'], ['compare', '--help']):\n"
               "    assert CliRunner().invoke(edgesynth.cli, words).exit_code == 0\n"
               "print([name for name in ('torch', 'onnxruntime', 'onnx', 'numpy', 'rich') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
