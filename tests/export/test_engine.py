"""`edgesynth export --engine`: over ssh from a workstation, and directly on the board; then bench on what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[1] / "edge_bench"
sys.path.append(str(HERE))  # the stand-in board and its ssh server

import ssh_server  # noqa: E402
from stand_in_board import StandInBoard  # noqa: E402

from edge_bench import bench, connection  # noqa: E402
from export.cli import export_model  # noqa: E402

WHY_NOT = ssh_server.why_not()
NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 4))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32))
    return tmp_path


@pytest.fixture(scope="module")
def server():
    if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") != "required":
        pytest.skip(WHY_NOT)
    found = ssh_server.SshBoard()
    yield found
    found.close()


def test_from_a_workstation_over_ssh(server, folder, monkeypatch):
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    words = ["net.py:make", "--input", "3x8x8", "--target", "tx2", "--batch", "1:4:8", "--precision", "fp16",
             "--samples", "images.npy", "--engine", "--host", "board", "--json", "report.json"]
    done = subprocess.run([sys.executable, "-m", "edgesynth", "export", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "building the engine on this device" in done.stderr and "sending make-tx2.onnx" in done.stderr
    engine = json.loads((folder / "report.json").read_text())["engine"]
    said = engine["sidecar"]
    assert (said["batches"], said["precision"], said["tensorrt"]) == ([1, 4, 8], "fp16", "8.2.1.8")
    assert said["profile"]["input"] == [[n, 3, 8, 8] for n in (1, 4, 8)] and len(said["layers"]) >= 4
    assert engine["engine"] in done.stdout and "batch 1 to 8, tuned for 4" in done.stdout
    # bench takes the same engine, at any batch of the range
    found = bench.bench_model("board:" + engine["engine"], host="board", trials=1, window=0.3, batch=8)
    assert found["batch"] == 8 and found["runner"]["precision"] == "fp16" and "origin_unknown" not in found["marks"]
    connection.Connection("board").close()


@pytest.mark.parametrize(
    ("version", "target", "precision", "told"),
    [
        ("8.2.1", "tx2", "fp32", []),
        ("8.2.1", "tx2", "fp16", ["BuilderFlag.FP16", "BuilderFlag.TF32"]),
        ("8.5.2", "orin-nx", "int8", ["BuilderFlag.FP16", "BuilderFlag.INT8", "BuilderFlag.TF32"]),
        ("10.3.0", "orin-nano", "fp32", []),
        ("11.4.0.106", "nvidia-gpu", "fp32", []),
        ("11.4.0.106", "nvidia-gpu", "fp16", ["BuilderFlag.TF32"]),
        ("11.4.0.106", "nvidia-gpu", "int8", ["BuilderFlag.TF32"]),
    ],
)
def test_directly_on_the_board(folder, monkeypatch, version, target, precision, told):
    """The builder is told the precision where it has flags for it, and finds it in the graph where it has none."""
    board = StandInBoard(folder / "board")
    board.enter(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", f"{HERE / 'doubles'}:{HERE / 'doubles_pycuda'}")
    monkeypatch.setenv("TENSORRT_DOUBLE", version)
    monkeypatch.setenv("TENSORRT_DOUBLE_INT8", "1")
    said = []
    options = {"precision": precision, "samples_path": "images.npy", "input_text": "3x8x8", "engine": True}
    report, engine = export_model("net.py:make", target, out="a.onnx", progress=said.append, **options)
    assert any("building the engine" in text for text in said)
    made = Path(engine["engine"]).read_bytes()
    assert json.loads(made.partition(b"\n")[2])["flags"] == told
    assert engine["sidecar"]["precision"] == precision and engine["sidecar"]["onnx_sha256"] == report.sha256
    assert engine["sidecar"]["batches"] == [1, 1, 1]
