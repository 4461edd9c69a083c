"""The board in the loop of a whole tiny run: what is measured is kept, replayed, decided on and shown as what it is."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import law_board
import pytest
import tiny_run
from board_process import run
from rich.console import Console

from devices.support.errors import CannotMeasure, UserError
from synth.energy.crew import PREDICT, BoardLost
from synth.report.table import console_table
from synth.run.run import generate


def as_text(summary):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(console_table(summary))
    return console.export_text()


def rows(out, phase):
    return json.loads((out / "board" / f"{phase}.json").read_text())["rows"]


def fingerprint(out):
    kept = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.suffix in (".safetensors", ".onnx") or path.parent.name == "board"
            or path.name in ("network.json", "test.json", "card.json", "outcomes.json")}
    return kept | {"networks": json.loads((out / "summary.json").read_text())["networks"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("board") / "whole"
    summary, boards = run(out)
    return out, summary, boards[0]


def test_final_networks_are_decided_on_measurements_and_every_number_says_what_it_is(finished):
    out, summary, board = finished
    for row in summary.ferminets:
        for judgement in row.judgements:
            if "batch=8" in judgement.requirement:
                assert judgement.reading.provenance == "measured" and "5 trials" in judgement.reading.source
        assert row.readings["img_per_joule@8:module"].provenance == "measured"
        assert row.readings["img_per_joule@1:module"].provenance == "predicted"  # nobody asked for batch 1
    assert all(one["full"] for one in rows(out, "final-0"))
    text = as_text(summary)
    assert "m measured: board, a stand-in by law, 5 trials" in text and "p predicted by tx2 cost model" in text
    assert summary.making.settings["measured on the board"] == len(set(board.measured))
    assert not any("decided by predictions" in warning for warning in summary.warnings)


def test_quick_measurements_are_chosen_by_what_they_teach(finished):
    out, _, board = finished
    first = rows(out, "first")
    assert 0 < len(first) <= 4 and not any(row["full"] for row in first)
    gains = [row["gain"] for row in first]
    assert gains == sorted(gains, reverse=True) and gains[-1] > 0
    assert len(board.measured) == len({(row["network"], row["full"]) for path in (out / "board").glob("*.json")
                                       if path.name != "state.json" for row in rows(out, path.stem)})


def test_a_measurement_narrows_what_is_predicted_of_others(finished):
    from synth.space.correction import Correction, Measurement
    from synth.space.quantities import ENERGY

    out, _, _ = finished
    known = [Measurement.from_json(row["measurement"]) for row in rows(out, "first")]
    correction = Correction({(ENERGY, 8): 0.3})
    correction.learn(known)
    import numpy as np

    _, sd = correction.of(ENERGY, 8, np.array([known[0].features]) + 0.2)
    assert sd[0] < 0.15


def test_a_resumed_run_asks_no_board_for_what_is_there(finished, tmp_path):
    out, summary, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(manifest | {"finished": None}))
    (copy / "summary.json").unlink()

    class Dead(law_board.LawBoard):
        def state(self, power):
            raise CannotMeasure("it does not answer")

        measure = None

    again, _ = run(copy, [Dead()], resume=True)
    assert again.to_json()["networks"] == summary.to_json()["networks"]
    assert fingerprint(copy) == fingerprint(out)


def test_killed_and_resumed_it_ends_the_same_and_measures_nothing_twice(finished, tmp_path):
    out, log = tmp_path / "cut", tmp_path / "measured.txt"
    whole, _, board = finished
    for kill_at in (len(board.measured) // 2, None):
        command = [sys.executable, str(Path(__file__).parents[1] / "board_process.py"), str(out), str(log),
                   *(["--resume"] if (out / "run.json").exists() else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        if kill_at is None:
            assert process.wait(250) == 0, process.stderr.read().decode()
            break
        while process.poll() is None and _lines(log) < kill_at:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert fingerprint(out) == fingerprint(whole)
    assert _lines(log) <= len(board.measured) + 1  # at most what was being measured when it was killed


def _lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


class Mortal(law_board.LawBoard):
    """Dies after some measurements."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def state(self, power):
        if self.after <= 0:
            raise CannotMeasure("board: it does not answer: is it on, and on this network?")
        return super().state(power)

    def measure(self, job, keep, say):
        if self.after <= 0:
            raise CannotMeasure("board: the connection was lost")
        self.after -= 1
        return super().measure(job, keep, say)


class Other(law_board.LawBoard):
    """The same board after an upgrade."""

    def state(self, power):
        return {**super().state(power), "tensorrt": "8.0.1"}


def test_a_board_that_is_lost_stops_the_run_which_goes_on_later_to_the_same_end(finished, tmp_path):
    whole, _, _ = finished
    out = tmp_path / "lost"
    with pytest.raises(BoardLost, match="does not answer"):
        run(out, [Mortal(3)])
    with pytest.raises(UserError, match=r"tensorrt was 8\.2\.1, now 8\.0\.1"):
        run(out, [Other()], resume=True)
    run(out, resume=True)
    assert fingerprint(out) == fingerprint(whole)


def test_or_the_run_goes_on_with_predictions_and_every_number_says_which_it_is(tmp_path):
    with pytest.raises(BoardLost):
        run(tmp_path / "lost", [Mortal(3)])
    summary, _ = run(tmp_path / "lost", [Mortal(0)], resume=True, board_lost=PREDICT)
    energies = {row.name: judgement.reading for row in summary.ferminets for judgement in row.judgements
                if judgement.requirement.startswith("img_per_joule")}
    # one may be among the three that were measured before the board was lost
    predicted = {name: reading for name, reading in energies.items() if reading.provenance != "measured"}
    assert predicted and {reading.provenance for reading in predicted.values()} == {"corrected"}
    assert all("corrected by 3 measurements" in reading.source for reading in predicted.values())
    (decided,) = [w for w in summary.warnings if w.startswith("decided by predictions, not measured: ")]
    assert [name for name in energies if f"{name}: img_per_joule" in decided] == list(predicted)
    assert any("does not answer" in warning for warning in summary.warnings)
    assert "p* predicted by tx2 cost model" in as_text(summary)
    again, _ = run(tmp_path / "lost", [law_board.LawBoard()], resume=True, board_lost=PREDICT)
    assert again.to_json() == summary.to_json()


def test_ctrl_c_ends_what_runs_on_the_board_and_the_run_goes_on_later(finished, tmp_path, monkeypatch):
    from synth.run.problem import NetworkProblem

    class Slow(law_board.LawBoard):
        def measure(self, job, keep, say):
            at_work.set()
            while not self.cancelled:
                time.sleep(0.01)
            raise CannotMeasure("it was cancelled there")

    def interrupt(*given):
        assert at_work.wait(30), "the board measures while candidates train"
        raise KeyboardInterrupt

    whole, _, _ = finished
    at_work, board = threading.Event(), Slow()
    with monkeypatch.context() as patch:
        patch.setattr(NetworkProblem, "_trained", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", [board])
    assert board.cancelled == 1
    run(tmp_path / "cut", resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(whole)


def test_more_networks_of_a_finished_run_are_predicted_with_what_was_measured(finished, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    done = generate(out, [500])
    assert done[0].verdicts["img_per_joule >= 900 img/J @ batch=8"].margin < 0.2


def test_boards_and_a_number_of_measurements_go_together(tmp_path):
    with pytest.raises(UserError, match="go together"):
        tiny_run.run(tmp_path / "a", measure=2)
    with pytest.raises(UserError, match="go together"):
        tiny_run.run(tmp_path / "b", boards=[law_board.LawBoard()])


def test_a_board_that_cannot_be_reached_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(CannotMeasure, match="does not answer"):
        run(tmp_path / "never", [Mortal(0)])
    assert not (tmp_path / "never").exists()


def test_what_no_prediction_promises_is_tried_where_a_board_can_tell(tmp_path):
    """Beyond the prediction's margin, and inside of its interval: the law says no, and the run says how far it came."""
    with pytest.raises(UserError, match="img_per_joule"):
        run(tmp_path / "never", requirements=("img_per_joule >= 10000000 @ batch=8",))
    with pytest.raises(UserError, match=r"no network of this space|cannot be met"):
        tiny_run.run(tmp_path / "predicted", requirements=("img_per_joule >= 4000 @ batch=8",))
    summary, _ = run(tmp_path / "tried", requirements=("img_per_joule >= 4000 @ batch=8",), cycles=1)
    assert all(row.holds == "no" for row in summary.ferminets)
    assert any("img_per_joule >= 4000" in warning and "relax" in warning for warning in summary.warnings)
