"""`devices calibrate`: what is measured is kept, a cut run goes on, the file serves as a target, mistakes are told.

The measurements come from a law here, through the same results as those of `bench`; the board that answers the probe is
the stand-in. A run over ssh with real measurements is in test_calibrate_board.py.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from stand_in_board import StandInBoard

sys.path.append(str(Path(__file__).parent.parent / "devices"))
from board_laws import IDLE_W, same_shape

import edgesynth
from devices import calibration_set
from devices.board import load_board, resolve_target
from devices.calibration_set import NETWORKS
from devices.cost_model import CostModel
from devices.layer_cost import fuse
from devices.onnx_layers import operations_of_onnx
from devices.support.errors import CannotMeasure, UserError
from devices.support.files import read_lines
from edge_bench.calibration import calibrate as calibrating
from edge_bench.calibration.calibrate import calibrate_board


class LawBench:
    """Stands where `bench_model` does. fails: {how many measurements were made: what is raised at the next one}."""

    def __init__(self, mode: str | None = "MAXP_CORE_ARM", power: bool = True):
        self.random, self.mode, self.power = np.random.default_rng(0), mode, power
        self.asked: list[dict] = []
        self.fails: dict[int, BaseException] = {}

    def __call__(self, model, *, batch, precision, mode, progress, save_to, **options):
        if len(self.asked) in self.fails:
            raise self.fails.pop(len(self.asked))
        self.asked.append({"model": Path(model).stem, "batch": batch, "precision": precision, "mode": mode, **options})
        progress("preflight")
        progress("building the engine on this device (minutes, on a small board)")
        latency_ms, compute_ms, watts = same_shape(fuse(operations_of_onnx(model)), precision or "fp32", batch)
        values = {"latency_p50_ms": latency_ms, "compute_ms": compute_ms}
        if options["power"]:
            values["power_mw"] = 1e3 * watts
        readings = {name: {"value": value * np.exp(0.005 * self.random.standard_normal())}
                    for name, value in values.items()}
        return {"batch": batch, "created": "2026-01-31T12:00:00Z", "marks": ["quick", "unlocked"], "readings": readings,
                "runner": {"precision": precision}, "power": {"idle_mw": 1e3 * IDLE_W, "scope": "module"},
                "preflight": {"mode": self.mode and {"name": mode or self.mode},
                              "clocks": {"gpu": {"max_hz": 1122000000}}}, "saved": str(save_to / "0001.json")}


@pytest.fixture
def whole_set(tmp_path, monkeypatch):
    """A stand-in TX2 with a power source, which this process is on."""
    stand_in = StandInBoard(tmp_path / "board")
    stand_in.add_tegrastats()
    stand_in.enter(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return stand_in


@pytest.fixture
def board(whole_set, monkeypatch):
    """The same, with a set of six networks: 10 conditions and one of another precision."""
    few = ("short", "deep", "dense", "residual", "traffic", "stem")
    monkeypatch.setattr(calibration_set, "NETWORKS", {name: NETWORKS[name] for name in few})
    monkeypatch.setattr(calibration_set, "OTHER_PRECISION", ("dense",))
    return whole_set


def calibrate(board, bench, **options):
    said: list[str] = []
    done = calibrate_board("my-board.json", root=str(board.root), bench=bench, progress=said.append, **options)
    return done, said


def test_the_file_serves_as_a_target(whole_set, tmp_path):
    bench = LawBench()
    done, said = calibrate(whole_set, bench)
    assert {asked["model"] for asked in bench.asked} == set(NETWORKS)
    assert all(asked["mode"] is None and asked["power"] for asked in bench.asked)
    assert said[0] == "23 measurements, 0 are there already; kept in my-board-calibration"
    first = r"^\[1/23\] short, batch 1, fp16, MAXP_CORE_ARM · [\d.]+ ms, [\d.]+ W · "
    assert any(re.search(first, line) for line in said)
    assert any("building the engine" in line for line in said) and not any("preflight" in line for line in said)
    target = resolve_target("my-board.json:maxp")
    found = CostModel.for_target(target, "fp16").predict(fuse(operations_of_onnx(
        tmp_path / "my-board-calibration/networks/residual.onnx")), 4)
    assert found.energy_mj["module"].source == "my-board cost model 2026-01-31"
    assert "23 measurements of the calibration set on tx2 (serial …0042) L4T 32.7.1 TensorRT 8.2.1" in done.source
    assert [warning.partition(":")[0] for warning in done.warnings] == [
        "the clocks were not locked, so predictions mix what the governor chose"]
    html = done.page.read_text()
    assert html.count("<svg") == 2 and html.count("<circle") == 4 * 23 and "http" not in html
    assert len(html) < 60_000


def test_a_calibrated_board_is_the_board_that_it_was_made_of(board):
    calibrate(board, LawBench())
    target = resolve_target("my-board.json")
    assert target.board.name == "my-board" and target.board.base_name == "tx2"


def test_a_cut_run_keeps_what_it_has_and_goes_on(board):
    bench = LawBench()
    bench.fails = {5: KeyboardInterrupt()}
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        calibrate_board("my-board.json", root=str(board.root), bench=bench, progress=said.append)
    assert said[-1].startswith("5 measurements are kept in my-board-calibration; the same command goes on")
    with open("my-board-calibration/measurements.jsonl", "ab") as stream:
        stream.write(b'{"condition": {"netw')  # as a kill leaves it
    _, said = calibrate(board, bench)
    assert said[0].startswith("6 measurements, 5 are there already")
    assert len({(a["model"], a["batch"], a["precision"]) for a in bench.asked}) == len(bench.asked) == 11
    assert len(read_lines("my-board-calibration/measurements.jsonl")) == 11
    _, said = calibrate(board, bench)  # nothing is left to measure
    assert len(bench.asked) == 11 and said == ["fitting 11 measurements, leaving out one network at a time"]


def test_one_network_that_fails_is_left_out_and_two_in_a_row_end_the_run(board):
    bench = LawBench()
    bench.fails = {4: UserError("no implementation for a node")}
    done, said = calibrate(board, bench)
    assert any(line.endswith("left out: no implementation for a node") for line in said)
    assert len(done.calibration.fitted) == 10
    bench.fails = {len(bench.asked): UserError("no implementation for a node")}
    done, said = calibrate(board, bench)  # what fails again stands in the way of nothing
    assert any(line.endswith("left out: no implementation for a node") for line in said)
    assert len(done.calibration.fitted) == 10


def test_a_lost_board_ends_the_run(board):
    class Lost(LawBench):
        def __call__(self, *arguments, **options):
            if len(self.asked) == 7:
                raise CannotMeasure("the board does not answer")
            return super().__call__(*arguments, **options)

    with pytest.raises(CannotMeasure, match="7 measurements are kept"):
        calibrate(board, Lost())


def test_another_board_does_not_go_on_with_the_first(board):
    calibrate(board, LawBench())
    board.write("proc/device-tree/serial-number", "0421819000099\0")
    with pytest.raises(UserError, match=r"holds the calibration of tx2 \(serial …0042\).*this is tx2 \(serial …0099\)"):
        calibrate(board, LawBench())


def test_modes_and_precisions_that_are_asked_for(board):
    bench = LawBench()
    calibrate(board, bench, modes=("maxq", "MAXN"), precisions=("fp32",))
    assert [asked["mode"] for asked in bench.asked] == ["MAXQ"] * 10 + ["MAXN"] * 10
    assert {asked["precision"] for asked in bench.asked} == {"fp32"}
    assert [mode.name for mode in load_board("my-board.json").modes] == ["MAXQ", "MAXN"]


def test_a_jetson_that_no_board_file_fits_is_not_calibrated_as_a_host(board):
    board.write("proc/device-tree/model", "NVIDIA Jetson AGX Thor Developer Kit\0")
    bench = LawBench()
    with pytest.raises(UserError, match="no board file fits this Jetson"):
        calibrate(board, bench, power=False)
    assert not bench.asked


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"modes": ("maxx",)}, UserError, "unknown power mode of tx2 'maxx': did you mean maxq"),
    ({"precisions": ("int8",)}, UserError, "Jetson TX2 has no INT8"),
    ({"fit_only": True}, UserError, "nothing has been measured yet"),
])
def test_what_makes_no_sense_is_refused_before_anything_is_measured(board, options, error, said):
    bench = LawBench()
    with pytest.raises(error, match=said):
        calibrate(board, bench, **options)
    assert not bench.asked


def test_a_precision_that_the_set_is_not_made_for_is_refused_before_anything_is_measured(board):
    board.write("proc/device-tree/model", "NVIDIA Orin NX Developer Kit\0")
    bench = LawBench()
    with pytest.raises(UserError, match=r"--precision int8: .* not quantised; calibrate in fp16 or fp32"):
        calibrate(board, bench, precisions=("fp32", "INT8"), power=False)
    assert not bench.asked


@pytest.mark.parametrize("out", ["my-board", "tx2.json", "folder/nano.json"])
def test_a_file_of_another_name_is_refused(board, out):
    with pytest.raises(UserError, match=r"ends in \.json, such as my-board\.json"):
        calibrate_board(out, root=str(board.root), bench=LawBench())


def test_without_a_power_source_it_says_what_to_do(board):
    (board.root / "usr/bin/tegrastats").unlink()
    (board.bin / "tegrastats").unlink()
    with pytest.raises(CannotMeasure, match=r"no power source.*to calibrate times alone, say --no-power"):
        calibrate(board, LawBench())
    done, _ = calibrate(board, LawBench(), power=False)
    assert done.calibration.quantities == ["latency"] and done.page.read_text().count("<svg") == 1


def test_the_command_shows_the_fit(board, monkeypatch):
    calibrate(board, LawBench())
    monkeypatch.setattr(calibrating, "_measure", None)  # --fit-only asks no board
    done = CliRunner().invoke(edgesynth.cli, ["devices", "calibrate", "--fit-only"], catch_exceptions=False)
    assert done.exit_code == 0
    for word in ("left out", "ms", "mJ/image", "plot       my-board-calibration/fit.html", "--target my-board",
                 "warning    the clocks"):
        assert word in done.stdout, done.stdout
    done = CliRunner().invoke(edgesynth.cli, ["devices", "calibrate", "--fit-only", "--json", "-"],
                              catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["schema"] == "edgesynth.calibration-fit/1" and len(found["rows"]) == 11 and found["scope"] == "module"
    row = found["rows"][0]
    assert row["energy_fit_mJ"] == pytest.approx(row["energy_mJ"], rel=0.1)
