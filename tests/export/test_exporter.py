import subprocess
import sys
import warnings
from importlib import metadata

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from devices.support.errors import CheckFailed, UserError
from export import document, exporter, parity
from export.exporter import export_network

SHAPE = (1, 8, 8)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


@pytest.fixture
def images():
    return np.random.default_rng(1).standard_normal((20, *SHAPE)).astype(np.float32)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_was_asked_is_what_the_file_holds(tmp_path, images):
    path = tmp_path / "small.onnx"
    report = export_network(
        Small(),
        SHAPE,
        images,
        path,
        "tx2",
        labels=list("0123456789"),
        normalisation={"mean": [0.5], "std": [0.25]},
        name="small",
        metadata={"seed": 7},
    )
    model = onnx.load(path)
    assert (document.opset_of(model), model.ir_version) == (13, 7) == (report.opset, report.ir)
    assert [n.op_type for n in model.graph.node if n.op_type == "BatchNormalization"] == []
    assert report.inputs == {"input": [1, 1, 8, 8]} and report.outputs == {"output": [1, 10]}
    said = document.description(model)
    assert said["labels"] == list("0123456789") and said["normalisation"]["std"] == [0.25]
    assert (said["target"], said["seed"], said["name"], said["batch"]) == (
        "tx2",
        7,
        "small",
        {"min": 1, "opt": 1, "max": 1},
    )
    assert model.producer_name == "edgesynth"
    assert report.parity.relative_error < 1e-5 and report.parity.top1_agreement == 1 and report.parity.origin == "given"
    assert report.size_bytes == path.stat().st_size
    assert leftovers(tmp_path) == ["small.onnx"]


def test_a_source_tree_that_is_not_installed_exports_too(tmp_path, images, monkeypatch):
    def nowhere(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nowhere)
    export_network(Small(), SHAPE, images, tmp_path / "small.onnx", "tx2")
    model = onnx.load(tmp_path / "small.onnx")
    assert (model.producer_name, model.producer_version) == ("edgesynth", "")


def test_dynamic_batch_is_run_at_every_size(tmp_path, images):
    report = export_network(Small(), SHAPE, images, tmp_path / "d.onnx", "tx2", batch="1:4:9")
    assert report.inputs == {"input": ["batch", 1, 8, 8]} and report.parity.images >= 14


def test_fixed_batch_of_several(tmp_path):
    report = export_network(Small(), SHAPE, None, tmp_path / "d.onnx", "tx2", batch=8)
    assert report.inputs == {"input": [8, 1, 8, 8]} and report.parity.origin == "random"


def test_a_second_export_writes_the_same_bytes_and_the_mode_is_kept(tmp_path, images):
    network = Small().train()
    network.norm.eval()
    first = export_network(network, SHAPE, images, tmp_path / "a.onnx", "tx2")
    second = export_network(network, SHAPE, images, tmp_path / "b.onnx", "tx2")
    assert first.sha256 == second.sha256
    assert network.training and network.conv.training and not network.norm.training


def test_nothing_is_shown_that_the_user_can_do_nothing_about(tmp_path, images, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_network(Small(), SHAPE, images, tmp_path / "a.onnx", "tx2")
    assert capfd.readouterr() == ("", "")


def test_tuples_and_dicts_become_named_outputs(tmp_path, images):
    class Two(Small):
        def forward(self, x):
            return {"classes": super().forward(x), "map": self.conv(x)}

    report = export_network(Two(), SHAPE, images, tmp_path / "a.onnx", "tx2", output_names=["classes", "map"])
    assert report.outputs == {"classes": [1, 10], "map": [1, 8, 8, 8]}


def test_decisions_on_shapes_are_allowed(tmp_path, images):
    class Even(Small):
        def forward(self, x):
            return super().forward(x if x.shape[2] % 2 == 0 else -x)

    export_network(Even(), SHAPE, images, tmp_path / "a.onnx", "tx2", batch="1:2:3")


def test_values_of_the_network_itself_are_no_decision_on_the_input(tmp_path, images):
    export_network(OnConstants(), SHAPE, images, tmp_path / "a.onnx", "tx2")
    export_network(Anchored(), SHAPE, images, tmp_path / "a.onnx", "tx2")
    export_network(Checked(), SHAPE, images, tmp_path / "a.onnx", "orin-nx", jetpack="6.2")


def test_the_state_of_the_network_is_as_it_was(tmp_path, images):
    class Counts(Small):
        def forward(self, x):
            self.norm.num_batches_tracked += 1
            return super().forward(x)

    network = Counts()
    export_network(network, SHAPE, images, tmp_path / "a.onnx", "tx2")
    assert network.norm.num_batches_tracked == 0


class Attends(nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        torch.manual_seed(0)
        self.causal = causal
        self.norm, self.q, self.kv, self.head = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 10)

    def forward(self, x):
        x = self.norm(x[:, 0])
        key, value = self.kv(x).chunk(2, -1)
        mixed = torch.nn.functional.scaled_dot_product_attention(self.q(x), key, value, is_causal=self.causal)
        return self.head(mixed.mean(1))


class Encodes(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.encoder(x[:, 0])


@pytest.mark.parametrize("batch", ["1", "1:2:4"])
@pytest.mark.parametrize("module", [
    Attends(), Attends(causal=True), Encodes(), nn.Sequential(nn.Conv2d(1, 8, 1), nn.ChannelShuffle(4)),
    nn.AdaptiveAvgPool2d((3, 5)), nn.AdaptiveMaxPool2d(3), nn.ReflectionPad2d(2),
    nn.Sequential(nn.Conv2d(1, 8, 1), nn.GroupNorm(2, 8), nn.GELU("tanh"), nn.PixelShuffle(2), nn.PReLU(2)),
    nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1, groups=2)),
    nn.Sequential(nn.InstanceNorm2d(1, affine=True), nn.Hardswish(), nn.Mish()),
])  # fmt: skip
def test_what_torch_alone_cannot_write_at_opset_13(tmp_path, images, module, batch):
    report = export_network(module, SHAPE, images, tmp_path / "a.onnx", "tx2", batch=batch)
    assert report.parity.relative_error < 1e-5 and report.opset == 13
    half = export_network(module, SHAPE, images, tmp_path / "b.onnx", "nvidia-gpu", batch=batch, precision="fp16")
    assert half.parity.relative_error < 1e-2


class OnValues(Small):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class OnEquality(Small):
    """What torch's tracer does not warn of."""

    def forward(self, x):
        return super().forward(x) if torch.equal(x, x.abs()) else super().forward(-x)


class ThroughNumpy(Small):
    def forward(self, x):
        return super().forward(x) * float(x.numpy().mean())


class OnCount(Small):
    """A branch that noise never takes."""

    def forward(self, x):
        return super().forward(x) * 2 if (x > 9).nonzero().shape[0] > 0 else super().forward(x)


class Anchored(Small):
    """Reads numbers of its own through Python's lists and numpy."""

    def __init__(self):
        super().__init__()
        self.register_buffer("anchors", torch.tensor([1.0, 2.0]))

    def forward(self, x):
        return super().forward(x) * self.anchors.tolist()[1] * float(self.anchors.numpy()[0])


class Checked(Small):
    """torch itself reads values there to check its argument, which decides nothing."""

    def forward(self, x):
        kinds = torch.nn.functional.one_hot(x.flatten(1).argmax(1), 64).float()
        return super().forward(x) + kinds[:, :10]


class OnConstants(Small):
    """A value of the network's own is no decision on the input."""

    def forward(self, x):
        return super().forward(x) if self.norm.running_var.min() > 0 else x


class Remembers(Small):
    def forward(self, x):
        self.norm.running_var.mul_(0.9)
        return super().forward(x)


class WithoutBatch(Small):
    def forward(self, x):
        return super().forward(x), x.mean((0, 2, 3))


class TwoInputs(Small):
    def forward(self, x, mask):
        return super().forward(x * mask)


class OnNumbers(Small):
    def forward(self, x):
        return super().forward(x) * float(x.mean())


class Unsupported(Small):
    def forward(self, x):
        return super().forward(x) + torch.fft.fft(x).abs().mean((1, 2, 3))[:, None]


class FrozenBatch(Small):
    def forward(self, x):
        return super().forward(x).reshape(2, -1, 10).sum(0)


def broken(value):
    network = Small()
    network.fc.weight.data[3, 2] = value
    return network


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        (OnValues(), {}, "decides on the values"),
        (OnNumbers(), {}, "decides on the values"),
        (OnEquality(), {}, "decides on the values"),
        (ThroughNumpy(), {}, "decides on the values"),
        (OnCount(), {}, "decides on the values"),
        (Remembers(), {}, "changes the network's own norm.running_var"),
        (WithoutBatch(), {"batch": 2}, "output_1' is 1 for 2 images, but its first axis must count them"),
        (TwoInputs(), {}, r"wants more inputs \('mask'\)"),
        (Small().half(), {}, r"weights in conv.weight are float16.*return module.float\(\)"),
        (Unsupported(), {}, "operator aten::fft"),
        (broken(float("nan")), {}, "NaN or infinity in fc.weight"),
        (broken(float("inf")), {}, "NaN or infinity in fc.weight"),
        (Small(), {"input_shape": (3, 8, 8), "samples": None}, "does not run on input 3x8x8"),
        (Small(), {"samples": np.zeros((4, 1, 9, 9))}, "1x9x9, but the network takes 1x8x8"),
        (Small(), {"samples": np.full((4, 1, 8, 8), np.nan)}, "NaN or infinity"),
        (Small(), {"samples": np.zeros((0, 1, 8, 8))}, "sample images"),
        (Small(), {"batch": "0"}, "at least 1"),
        (Small(), {"batch": "8:1:32"}, "min <= opt <= max"),
        (Small(), {"batch": "many"}, "write one number"),
        (Small(), {"target": "tx3"}, "did you mean tx2"),
        (Small(), {"output_names": ["a", "b"]}, "has 1 output"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, images, network, arguments, words, capfd):
    asked = {"input_shape": SHAPE, "samples": images, "path": tmp_path / "a.onnx", "target": "tx2", **arguments}
    with pytest.raises(UserError, match=words) as caught:
        export_network(network, **asked)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")  # torch's pages of graphs stay away
    assert leftovers(tmp_path) == []


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, images, monkeypatch):
    monkeypatch.setattr(exporter, "trace", lambda *_, **__: pytest.fail("the work was done first"))
    for path, words in [(tmp_path, "is a folder"), (tmp_path / "no" / "a.onnx", "no such folder")]:
        with pytest.raises(UserError, match=words):
            export_network(Small(), SHAPE, images, path, "tx2")


def test_an_exporter_that_writes_another_opset_is_caught(tmp_path, images, monkeypatch):
    honest = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: honest(*a, **{**k, "opset_version": 18}))
    with pytest.raises(CheckFailed, match="opset 13 in one file and wrote opset 18"):
        export_network(Small(), SHAPE, images, tmp_path / "a.onnx", "tx2")
    assert leftovers(tmp_path) == []


def test_a_file_that_computes_something_else_fails_and_keeps_what_was_there(tmp_path, images, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"an older file")
    monkeypatch.setattr(parity.OnnxRunner, "__call__", lambda self, x: [self.session.run(None, {"input": x})[0] + 0.1])
    with pytest.raises(CheckFailed, match="does not compute what the network does"):
        export_network(Small(), SHAPE, images, tmp_path / "a.onnx", "tx2")
    assert leftovers(tmp_path) == ["a.onnx"] and (tmp_path / "a.onnx").read_bytes() == b"an older file"


def test_a_batch_that_the_trace_froze_fails(tmp_path, images):
    with pytest.raises((CheckFailed, UserError)):
        export_network(FrozenBatch(), SHAPE, images, tmp_path / "a.onnx", "tx2", batch="2:4:8")
    assert leftovers(tmp_path) == []


def test_the_compiler_of_torch_is_not_imported():
    """It takes seconds and 70 MB in every process that exports."""
    words = (
        "import sys; from torch import nn; from export.batch import Batch; from export.torch_onnx import trace\n"
        "trace(nn.Conv2d(3, 4, 3), (3, 8, 8), opset=13, batch=Batch.parse('1:2:4'))\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", words], check=True)
