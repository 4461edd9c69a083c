"""`edgesynth devices list | show | predict`, called as a person calls them."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tx2_zoo import build

from devices.cli import list_boards, predict, predict_onnx, show
from devices.support.errors import UserError


def run(command, *words: str) -> str:
    result = CliRunner().invoke(command, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_shows_every_board() -> None:
    output = run(list_boards)
    for word in ("tx2", "Jetson AGX Orin", "cost model", "fp16"):
        assert word in output
    boards = json.loads(run(list_boards, "--json", "-"))["boards"]
    assert [board["name"] for board in boards if board["cost_model"]] == ["tx2"]


def test_show_gives_every_value_its_source() -> None:
    output = run(show, "tx2")
    for word in ("VDD_IN", "JetsonPowerRails.md", "MAXP_CORE_ARM", "int8", "DP4A"):
        assert word in output
    assert json.loads(run(show, "nano", "--json", "-"))["name"] == "nano"


def test_predict_as_table_and_as_json(tmp_path: pathlib.Path) -> None:
    path = build("cnv_25", tmp_path)
    words = (str(path), "--target", "tx2:maxp", "--precision", "fp16", "--batch", "8")
    output = run(predict, *words)
    for word in ("predicted by the", "cost model", "module", "board", "img/J", "95 % interval"):
        assert word in output
    data = json.loads(run(predict, *words, "--json", "-"))
    assert data["schema"] == "edgesynth.prediction/1"
    assert (data["target"], data["precision"], data["batch"]) == ("tx2:maxp_core_arm", "fp16", 8)
    for what in ("power_w", "energy_mj", "img_per_joule"):
        assert set(data[what]) == {"module", "board"}
        assert data[what]["board"]["provenance"] == "predicted"
    assert data["latency_ms"]["low"] < data["latency_ms"]["value"] < data["latency_ms"]["high"]
    assert data["energy_mj"]["module"]["value"] < data["energy_mj"]["board"]["value"]
    assert data["layers"][0]["share"] >= data["layers"][-1]["share"]
    heaviest = data["layers"][1]  # after the host
    assert f"{heaviest['name']} dense {heaviest['latency_ms']:.3g} {100 * heaviest['share']:.1f} %" in [
        " ".join(line.split()) for line in output.splitlines()]
    run(predict, *words, "--json", str(tmp_path / "p.json"))
    assert json.loads((tmp_path / "p.json").read_text()) == data
    assert predict_onnx(path, "tx2:maxp", "fp16", 8).to_json()["latency_ms"] == data["latency_ms"]


@pytest.mark.parametrize(("words", "said"), [
    (("--target", "tx2", "--batch", "0"), "batch must be a positive whole number, not 0"),
    (("--target", "tx2", "--precision", "int8"), "Jetson TX2 has no INT8"),
    (("--target", "tx2", "--precision", "fp8"), "unknown precision of tx2 'fp8'"),
    (("--target", "tx2:maxx"), "unknown power mode of tx2 'maxx': did you mean maxq"),
    (("--target", "nano"), "Jetson Nano has no cost model yet"),
    (("--target", "tx22"), "unknown target 'tx22': did you mean tx2"),
])
def test_mistakes_end_in_one_sentence(words: tuple[str, ...], said: str, tmp_path: pathlib.Path) -> None:
    path = build("mlp_12.5", tmp_path)
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(predict, [str(path), *words], catch_exceptions=False)


def test_the_commands_need_neither_torch_nor_onnxruntime() -> None:
    code = ("import sys, devices.cli; loaded = {m.partition('.')[0] for m in sys.modules}; "
            "sys.exit(bool(loaded & {'torch', 'onnxruntime', 'onnx'}))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
