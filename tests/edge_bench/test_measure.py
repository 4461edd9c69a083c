"""What a measurement writes down around each trial."""

from __future__ import annotations

from stand_in_board import StandInBoard

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
