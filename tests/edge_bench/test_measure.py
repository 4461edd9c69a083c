"""What a measurement writes down around each trial, and what it says of one that died."""

from __future__ import annotations

import pytest
from stand_in_board import StandInBoard

from devices.support.errors import CannotMeasure
from edge_bench.agent import measure, trials


def test_over_current_is_told_of_each_trial(tmp_path, monkeypatch):
    board = StandInBoard(tmp_path)
    counter = "sys/class/hwmon/hwmon3/oc3_event_cnt"
    board.write(counter, "30\n")

    def run_trial(request, number, *_):
        board.write(counter, f"{30 + 5 * number}\n")
        return {}

    monkeypatch.setattr(trials, "run_trial", run_trial)
    request = {"root": str(board.root), "power": False, "power_source": None, "runner": "tensorrt"}
    record = {"trials": []}
    measure.run_trials(record, [(request, print)] * 3, print)
    assert [trial["over_current"] for trial in record["trials"]] == [{"oc3": 0}, {"oc3": 5}, {"oc3": 5}]


@pytest.mark.parametrize(("end", "said"), [
    ("kill -ILL $$", r"was killed by SIGILL \(numpy 1.19.5 does that .*: install numpy 1.19.4 there\) while it loaded"),
    ("kill -KILL $$", r"was killed by SIGKILL \(the kernel does that where memory runs out: .* add swap\) while it"),
    ("exit 3", "ended with exit code 3 while it loaded the model$")])
def test_a_trial_that_a_board_ends_says_why_that_happens(tmp_path, end, said):
    python = StandInBoard(tmp_path).bin / "python3"
    python.write_text(f"#!/bin/sh\n{end}\n")
    python.chmod(0o755)
    with trials.TrialProcess({"window": 1.0}, str(python)) as trial, pytest.raises(CannotMeasure, match=said):
        trial.next_event()
