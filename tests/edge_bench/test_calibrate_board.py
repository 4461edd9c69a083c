"""`devices calibrate --host`: real measurements over ssh, on a board whose times and power follow a law."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import ssh_server

from devices import calibration_set
from devices.support.errors import CannotMeasure
from devices.support.files import read_lines
from edge_bench import connection
from edge_bench.calibration.calibrate import calibrate_board

HERE = Path(__file__).parent
sys.path.append(str(HERE / "doubles"))
import board_law  # noqa: E402

LAW = HERE / "laws" / "waves.py"
WHY_NOT = ssh_server.why_not()
if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") == "required":  # .ci/run installs what they need
    raise RuntimeError(f"the ssh tests must run here: {WHY_NOT}")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A board behind ssh that obeys the law and has a power source."""
    found = ssh_server.SshBoard()
    found.board.add_tegrastats(idle_mw=3100)
    law = found.board.home / "law.py"
    law.write_text(LAW.read_text())
    python = found.board.bin / "python3"
    python.unlink()
    python.write_text(f'#!/bin/sh\nBOARD_LAW="{law}" LOAD_FILE="{found.board.root}/load" exec {found.python} "$@"\n')
    python.chmod(0o755)
    found.hand_over()
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield found
    connection.Connection("board").close()
    found.close()


def test_what_is_measured_over_ssh_is_what_the_law_says(server, monkeypatch):
    monkeypatch.setattr(calibration_set, "NETWORKS", {"short": calibration_set.NETWORKS["short"]})
    said: list[str] = []

    def calibrate():
        calibrate_board("my-board.json", host="board", root=str(server.board.root), precisions=("fp16",),
                        trials=1, window=2.5, progress=said.append)

    with pytest.raises(CannotMeasure, match="1 measurement of 1 network: too few"):
        calibrate()
    (line,) = read_lines("my-board-calibration/measurements.jsonl")
    row, network = line["measured"], Path("my-board-calibration/networks/short.onnx").read_bytes()
    latency_ms, power_mw = board_law.load_law(str(LAW))["cost"](board_law.layers_of(board_law.graph_of(network)), 1)
    assert row["mode"] == "MAXP_CORE_ARM" and row["precision"] == "fp16" and row["scope"] == "module"
    assert row["latency_ms"] >= latency_ms  # the double sleeps, which a busy machine lengthens
    assert row["power_w"] == pytest.approx(power_mw / 1e3, rel=0.05)
    assert row["idle_w"] == pytest.approx(3.1, rel=0.05)
    assert len(list(Path("my-board-calibration/results").glob("*.record.gz"))) == 1
    said.clear()
    with pytest.raises(CannotMeasure, match="too few"):
        calibrate()
    assert not any(line.startswith("[") for line in said)  # nothing was measured again
