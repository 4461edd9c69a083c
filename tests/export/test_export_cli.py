import json
import os

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import edgesynth
from devices.board import load_board
from devices.support.errors import CannotMeasure, CheckFailed, EdgesynthError, UserError
from export import document, engine, lint, source
from export.dialect import dialect_of
from export.exporter import export_file
from export.lint import Lint
from export.rules.finding import Finding
from export.samples import Samples, judge, read_samples

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8, 4))

def number():
    return 3

def wants(argument):
    return make()

class Fft(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs()

class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Ones(nn.Module):
    def forward(self, x):
        return torch.ones(x.shape[0], 3)

def fails():
    return torch.load("none.pt")

fft, decides, ones = Fft, Decides, Ones
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(40, np.int64))
    np.save(tmp_path / "wrong.npy", images[:, :1])
    return tmp_path


def run(*words):
    """The exit code of the command as main() gives it, and what it printed."""
    result = CliRunner().invoke(edgesynth.cli, ["export", *words])
    if isinstance(result.exception, EdgesynthError):
        assert "\n" not in str(result.exception)
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


MAKE = ("net.py:make", "--input", "3x8x8", "--target", "tx2")


def test_a_factory_becomes_a_file_and_a_report(folder):
    code, text = run(*MAKE, "--batch", "1:2:4", "--precision", "fp16", "--samples", "images.npz", "--json", "r.json")
    assert code == 0 and "opset 13" in text and "tell the builder" in text and "given images" in text
    report = json.loads((folder / "r.json").read_text())
    assert report["schema"] == "edgesynth.export/1" and report["path"] == "make-tx2.onnx" and report["engine"] is None
    assert document.description(onnx.load(folder / "make-tx2.onnx"))["precision_by"] == "builder"


def test_a_file_of_a_later_opset_is_checked_then_exported(folder):
    assert run("net.py:make", "--input", "3x8x8", "--target", "nvidia-gpu", "--out", "late.onnx")[0] == 0
    code, text = run("--check", "late.onnx", "--target", "tx2", "--json", "-")
    findings = json.loads(text)["findings"]
    assert code == 0 and {f["state"] for f in findings} == {"mended"} and not (folder / "late-tx2.onnx").exists()
    code, text = run("--check", "late.onnx", "--target", "tx2", "--out", "mended.onnx")
    assert code == 0 and "mended.onnx: mended; that it answers as before is what export without --check proves" in text
    assert document.opset_of(onnx.load(folder / "mended.onnx")) == 13
    assert run("late.onnx", "--target", "tx2", "--out", "early.onnx")[0] == 0
    assert "nothing that TensorRT 8.0.1" in run("--check", "early.onnx", "--target", "tx2")[1]


def test_a_check_that_finds_errors_ends_with_one(folder):
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 4, 4]), ("y", [1, 1]))]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], "the_det")], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), "det.onnx")
    code, text = run("--check", "det.onnx", "--target", "tx2")
    assert code == 1 and "1 place" in text
    code, text = run("det.onnx", "--target", "tx2", "--out", "out.onnx")
    assert code == 2 and "the_det" in text and not (folder / "out.onnx").exists()


def test_a_check_refuses_what_it_would_pass_over(folder):
    code, text = run("--check", "net.onnx", "--target", "tx2", "--precision", "fp32", "--samples", "images.npz")
    assert code == 2 and text == "--check only reads the file as it is: leave --precision and --samples out"


def test_a_long_node_is_named_whole(folder, monkeypatch):
    assert run(*MAKE, "--out", "net.onnx")[0] == 0
    node = "Conv /" + "abcdefghij" * 12
    found = Lint(onnx.ModelProto(), [Finding("rule", node, "warning", "a problem of some words", "a remedy " * 5)])
    monkeypatch.setattr(lint, "lint", lambda model, dialect: found)
    text = run("--check", "net.onnx", "--target", "tx2")[1]
    assert "…" not in text and text.count("j") >= 12, text


def test_a_file_name_that_is_no_utf_8_is_exported(folder):
    assert run(*MAKE, "--out", "net.onnx")[0] == 0
    os.rename("net.onnx", "n\udce9t.onnx")
    code, text = run("n\udce9t.onnx", "--target", "tx2", "--out", "out.onnx")
    assert code == 0 and onnx.load("out.onnx").graph.name == "n\ufffdt", text
    export_file("n\udce9t.onnx", None, "by-call.onnx", "tx2")
    assert onnx.load("by-call.onnx").graph.name == "n\ufffdt"


def stand_in(monkeypatch, builder):
    """Let this function build the engines."""
    monkeypatch.setattr(engine, "require_builder", lambda host: None)
    monkeypatch.setattr(engine, "build_engine", builder)


def test_names_with_brackets_are_shown_as_they_are(folder, monkeypatch):
    built = {"engine": "/srv[/b]/net.engine", "cached": False, "sidecar": {"board": "nano[b]"}}
    stand_in(monkeypatch, lambda report, host, say: built)
    code, text = run(*MAKE, "--out", "net[b].onnx", "--engine")
    assert code == 0 and "net[b].onnx · tx2" in text and "/srv[/b]/net.engine" in text and "of a nano[b]" in text
    assert "net[b].onnx: nothing that" in run("--check", "net[b].onnx", "--target", "tx2")[1]
    found = Lint(onnx.ModelProto(), [Finding("rule", "Conv [b]/a", "warning", "[/b] in it", "take [b] out")])
    monkeypatch.setattr(lint, "lint", lambda model, dialect: found)
    code, text = run("--check", "net[b].onnx", "--target", "tx2")
    assert code == 0 and all(words in text for words in ("Conv [b]/a", "[/b] in it", "take [b] out"))


def test_accuracy_is_compared_on_labelled_images(folder):
    code, text = run(*MAKE, "--samples", "images.npz", "--verify-accuracy")
    assert code == 0 and "top-1 accuracy" in text and "on 40 images" in text


def test_int8_where_the_board_has_it(folder):
    code, text = run(
        "net.py:make", "--input", "3x8x8", "--target", "orin-nx", "--precision", "int8", "--samples", "images.npz"
    )
    assert code == 0 and "int8" in text


BAD = {
    "unknown target": (("net.py:make", "--input", "3x8x8", "--target", "tx9"), "did you mean tx"),
    "int8 of a tx2": ((*MAKE, "--precision", "int8"), "has no INT8: its GPU"),
    "unknown precision": ((*MAKE, "--precision", "fp8"), "unknown precision"),
    "unknown jetpack": ((*MAKE, "--jetpack", "4.7"), "unknown JetPack of tx2 '4.7': known: 4.6, 4.6.1-4.6.6"),
    "no input shape": (("net.py:make", "--target", "tx2"), "with --input"),
    "bad input shape": (("net.py:make", "--target", "tx2", "--input", "3x0x8"), "no input shape"),
    "another input shape": (("net.py:make", "--target", "tx2", "--input", "1x8x8"), "does not run on input 1x8x8"),
    "no such factory": (("net.py:mak", "--target", "tx2", "--input", "3x8x8"), "did you mean make"),
    "no module": (("net.py:number", "--target", "tx2", "--input", "3x8x8"), "returned int"),
    "a factory with arguments": (("net.py:wants", "--target", "tx2", "--input", "3x8x8"), "such as def make(): "),
    "no such file": (("none.onnx", "--target", "tx2"), "no such file"),
    "no such folder": (("no/ne", "--target", "tx2"), "no such folder: MODEL is"),
    "no such network": (("none", "--target", "tx2"), "no network of this name comes with edgesynth"),
    "no model": (("net.py", "--target", "tx2"), "MODEL is"),
    "a damaged file": (("damaged.onnx", "--target", "tx2"), "damaged"),
    "an empty file": (("empty.onnx", "--target", "tx2"), "damaged"),
    "a later ir": (("later.onnx", "--target", "tx2"), "install a newer onnx"),
    "missing weights": (("outside.onnx", "--target", "tx2"), "weights file gone.data is missing"),
    "noise for int8": (
        ("net.py:make", "--input", "3x8x8", "--target", "orin-nx", "--precision", "int8"),
        "real images",
    ),
    "images of another shape": ((*MAKE, "--samples", "wrong.npy"), "1x8x8, but the network takes 3x8x8"),
    "calibration of another shape": (
        ("net.py:make", "--input", "3x8x8", "--target", "orin-nx", "--precision", "int8", "--samples", "wrong.npy"),
        "1x8x8, but the network takes 3x8x8",
    ),
    "samples that are none": ((*MAKE, "--samples", "net.py"), "not an .npy or .npz"),
    "no samples": ((*MAKE, "--samples", "none.npz"), "no such file"),
    "accuracy without labels": ((*MAKE, "--verify-accuracy"), "labelled images"),
    "negative batch": ((*MAKE, "--batch", "-1"), "at least 1"),
    "an unwritable output": ((*MAKE, "--out", "no/where.onnx"), "no such folder"),
    "a file with NaN weights": (("nan.onnx", "--target", "tx2"), "the weights hold NaN or infinity"),
    "an operator of nobody": (("foreign.onnx", "--target", "tx2"), "is no operator of ONNX"),
    "an operator that torch cannot write": (
        ("net.py:fft", "--input", "3x8x8", "--target", "tx2"), "operator aten::fft_rfft2"
    ),
    "a decision on values": (("net.py:decides", "--input", "3x8x8", "--target", "tx2"), "net.py:22: forward decides"),
    "a factory that fails": (("net.py:fails", "--input", "3x8x8", "--target", "tx2"), "fails when it is called"),
    "an answer to nothing": (("net.py:ones", "--input", "3x8x8", "--target", "tx2"), "does not depend on its input"),
    "a report in no folder": ((*MAKE, "--json", "no/where.json"), "no such folder"),
    "an engine of another name": ((*MAKE, "--engine", "--out", "a.bin"), "ends in .onnx"),
    "metadata that is none": ((*MAKE, "--metadata", "net.py"), "not JSON"),
    "a name that is no text": ((*MAKE, "--metadata", "five.json"), "name must be a text"),
    "metadata of edgesynth's own": ((*MAKE, "--metadata", "own.json"), "batch is written by edgesynth itself"),
    "a host without an engine": ((*MAKE, "--host", "nvidia@tx2"), "add --engine"),
    "a batch that the file fixes": (("fixed.onnx", "--target", "tx2", "--batch", "1:2:4"), "fixes its input to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_no_file(folder, case):
    words, expected = BAD[case]
    (folder / "damaged.onnx").write_bytes(b"\x08\x07\x12\xff nonsense")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "own.json").write_text('{"batch": 4}')
    (folder / "five.json").write_text('{"name": 5}')
    if words[0] in ("later.onnx", "outside.onnx", "fixed.onnx", "nan.onnx", "foreign.onnx"):
        assert run("net.py:make", "--input", "3x8x8", "--target", "tx2", "--out", words[0])[0] == 0
        model = onnx.load(words[0])
        if words[0] == "later.onnx":
            model.ir_version = 99
        if words[0] == "nan.onnx":
            weights = np.full(model.graph.initializer[0].dims, np.nan, np.float32)
            model.graph.initializer[0].CopyFrom(
                onnx.numpy_helper.from_array(weights, model.graph.initializer[0].name)
            )
        if words[0] == "foreign.onnx":
            model.graph.node[-1].domain = "com.nobody"
            model.opset_import.add(domain="com.nobody", version=1)
        if words[0] == "outside.onnx":
            tensor = model.graph.initializer[0]
            onnx.external_data_helper.set_external_data(tensor, "gone.data")
            tensor.ClearField("raw_data")
        (folder / words[0]).write_bytes(model.SerializeToString())
    before = {path.name for path in folder.rglob("*") if "__pycache__" not in path.parts}
    code, text = run(*words)
    assert code == 2 and expected in text, text
    assert {path.name for path in folder.rglob("*") if "__pycache__" not in path.parts} == before


def test_weights_beside_the_file_are_brought_into_it(folder):
    assert run(*MAKE, "--out", "a.onnx")[0] == 0
    onnx.save(onnx.load("a.onnx"), "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    assert run("b.onnx", "--target", "tx2", "--out", "c.onnx")[0] == 0
    assert document.external_files(onnx.load("c.onnx", load_external_data=False)) == []


@pytest.mark.parametrize("where, told", [((), "no TensorRT"), (("--host", "no such/board"), "is no ssh destination")])
def test_what_no_engine_can_be_built_of_is_not_exported_first(folder, where, told):
    code, text = run(*MAKE, "--engine", *where)
    assert code == (2 if where else 3) and told in text
    assert "writing make" not in text and not os.path.exists("make-tx2.onnx")


def test_a_build_that_fails_leaves_the_file_and_says_so(folder, monkeypatch):
    def fail(report, host, say):
        raise CannotMeasure("TensorRT cannot build it")

    stand_in(monkeypatch, fail)
    code, text = run(*MAKE, "--engine")
    assert code == 3 and "TensorRT cannot build it; make-tx2.onnx itself is written" in text
    assert os.path.exists("make-tx2.onnx")


def calibrated(name, base):
    """The file of a board of one's own."""
    data = dict(load_board(base).data, name=name, calibrated_from=base)
    with open(f"{name}.json", "w") as stream:
        json.dump(data, stream)
    return f"{name}.json"


@pytest.mark.parametrize("base, warned", [("tx2", False), ("nano", True)])
def test_an_engine_of_the_board_that_a_calibrated_one_was_made_of(folder, monkeypatch, base, warned):
    built = {"engine": "make.engine", "cached": False, "sidecar": {"board": "tx2", "tensorrt": "8.2.1"}}
    stand_in(monkeypatch, lambda report, host, say: built)
    target = calibrated("my-board", base)
    code, text = run("net.py:make", "--input", "3x8x8", "--target", target, "--engine", "--host", "board")
    assert code == 0 and "make.engine" in text
    assert ("the file was written for my-board, the engine is of a tx2" in text) is warned


def test_a_calibrated_host_reads_what_its_base_does(folder):
    mine, base = dialect_of(calibrated("my-pc", "nvidia-gpu")), dialect_of("nvidia-gpu")
    assert (mine.target, mine.opset, mine.tensorrt) == ("my-pc", base.opset, base.tensorrt)


def test_the_folder_of_a_network_needs_the_front_door(tmp_path, monkeypatch):
    monkeypatch.setattr("export.NETWORK_READER", None)
    with pytest.raises(UserError, match="edgesynth command"):
        source.load_source(str(tmp_path))


def test_a_conversion_that_costs_accuracy_fails():
    labels = np.arange(100) % 4
    right, wrong = np.eye(4)[labels], np.eye(4)[(labels + (np.arange(100) < 10)) % 4]
    samples = Samples(np.zeros((100, 1)), labels)
    assert judge(samples, [right], [right], "int8").loss == 0
    with pytest.raises(CheckFailed, match="costs too much"):
        judge(samples, [right], [wrong], "int8")
    assert judge(samples, [wrong], [right], "int8").loss < 0


@pytest.mark.parametrize("labels", [np.array([0, 9]), np.array([-1, 0]), np.zeros((2, 2), int)])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(UserError, match="label"):
        judge(Samples(np.zeros((2, 1)), labels), [np.zeros((2, 4))], [np.zeros((2, 4))], "fp32")


def test_objects_in_a_sample_file_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([object()], dtype=object))
    np.save(tmp_path / "b.npy", np.array([object()], dtype=object))
    np.savez(tmp_path / "c.npz", pictures=np.zeros(3))
    np.savez(tmp_path / "d.npz", images=np.zeros((3, 1)), labels=np.zeros(2))
    for name in "abcd":
        with pytest.raises(UserError):
            read_samples(next(tmp_path.glob(f"{name}.np*")))


def test_the_command_is_imported_without_torch():
    import subprocess
    import sys

    words = "import export.cli, sys; assert not {'torch', 'onnxruntime', 'onnx', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_dicts_name_their_outputs_and_a_file_says_the_rest(folder):
    (folder / "net.py").write_text(
        NET + "\nclass Two(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = make()\n\n"
        "    def forward(self, x, scale=2.0):\n        return {'classes': self.net(x), 'map': x * scale}\n"
    )
    words = {"normalisation": {"mean": [0.5]}, "labels": ["a", "b", "c", "d"], "trained on": "digits"}
    (folder / "words.json").write_text(json.dumps(words))
    assert run("net.py:Two", *MAKE[1:], "--metadata", "words.json", "--out", "a.onnx")[0] == 0
    model = onnx.load("a.onnx")
    assert [value.name for value in model.graph.output] == ["classes", "map"]
    assert [value.name for value in model.graph.input] == ["input"]  # the default of `scale` is no input
    said = document.description(model)
    assert {name: said[name] for name in words} == words
    assert run("a.onnx", "--target", "tx2", "--out", "b.onnx")[0] == 0
    assert document.description(onnx.load("b.onnx"))["labels"] == words["labels"]  # kept from file to file


def test_a_precision_in_capitals_is_the_same_one(folder):
    assert run(*MAKE, "--out", "net.onnx")[0] == 0
    words = ("--target", "orin-nx", "--precision", "INT8", "--samples", "images.npz")
    assert run("net.onnx", *words)[0] == 0 and (folder / "net-orin-nx-int8.onnx").exists()
    code, text = run("net-orin-nx-int8.onnx", *words, "--out", "again.onnx")
    assert code == 2 and "it is quantised already" in text


def test_accuracy_stands_beside_the_size_of_a_reduced_precision(folder):
    code, text = run(*MAKE, "--samples", "images.npz", "--precision", "fp16")
    lines = text.splitlines()
    size = next(i for i, line in enumerate(lines) if line.startswith("size"))
    assert code == 0 and lines[size + 1].startswith("accuracy   top-1 accuracy") and "on 40 images" in lines[size + 1]
    np.savez(folder / "masks.npz", images=np.zeros((20, 3, 8, 8), np.float32), labels=np.zeros((20, 8, 8), np.int64))
    code, text = run(*MAKE, "--samples", "masks.npz", "--precision", "fp16")
    assert code == 0 and not [line for line in text.splitlines() if line.startswith("accuracy")]
