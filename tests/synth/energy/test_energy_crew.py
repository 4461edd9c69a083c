"""Boards that share the work: all is measured once, a lost board is waited for and then missed, stopping stops."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from devices.support.errors import CannotMeasure, UserError
from synth.energy.boards import Job
from synth.energy.crew import PREDICT, STOP, BoardLost, Crew
from synth.energy.feedback import one_state

JOBS = [Job(f"net{number}", Path(f"net{number}.onnx"), 8, False, True) for number in range(6)]


class FakeBoard:
    """plan: for every call what happens, "ok" at the end; "gone" is a board that does not answer any more."""

    def __init__(self, name, *plan, gate=None):
        self.name, self.plan, self.gate = name, list(plan), gate
        self.done, self.cancelled, self.asked, self.gone = [], threading.Event(), 0, False

    def state(self, power):
        self.asked += 1
        if self.gone:
            raise CannotMeasure(f"{self.name}: it does not answer")
        return {"board": "tx2"}

    def measure(self, job, keep, say):
        step = self.plan.pop(0) if self.plan else "ok"
        if step == "gone":
            self.gone = True
        if self.gone:
            raise CannotMeasure(f"{self.name}: the connection was lost")
        if step == "fails":
            raise CannotMeasure("the rail did not move")
        if step == "refuses":
            raise UserError("TensorRT cannot read it")
        if step == "bug":
            raise ZeroDivisionError("a bug")
        if step == "back":
            self.gone = False
        if self.gate is not None and not self.gate.wait(10):
            raise CannotMeasure(f"{self.name}: it was cancelled there")
        if self.cancelled.is_set():
            raise CannotMeasure(f"{self.name}: it was cancelled there")
        self.done.append(job.network)
        return {"readings": {}, "by": self.name}

    def cancel(self):
        self.cancelled.set()
        if self.gate is not None:
            self.gate.set()


def work(*boards, jobs=JOBS, lost=STOP, pauses=(0.01, 0.01)):
    answers, said = {}, []
    crew = Crew(boards, Path("."), said.append, lost, pauses)
    crew.start(jobs, lambda job, board, answer: answers.setdefault(job.network, (board and board.name, answer)))
    crew.join()
    return answers, said, crew


def test_boards_share_the_work_and_each_job_is_measured_once():
    gate = threading.Barrier(2, timeout=10)

    class Meeting(FakeBoard):
        def measure(self, job, keep, say):
            if not self.done:
                gate.wait()  # both are at work at the same time
            return super().measure(job, keep, say)

    a, b = Meeting("a"), Meeting("b")
    answers, _, _ = work(a, b)
    assert sorted(a.done + b.done) == [job.network for job in JOBS] and a.done and b.done
    assert {who for who, _ in answers.values()} == {"a", "b"}


def test_a_board_that_answers_again_is_waited_for():
    board = FakeBoard("a")
    asked = []

    def state(power):
        asked.append(1)
        if len(asked) < 3:
            raise CannotMeasure("a: it does not answer")
        board.gone = False
        return {}

    board.plan, board.state = ["ok", "gone"], state
    answers, said, crew = work(board)
    assert len(answers) == 6 and all(who == "a" for who, _ in answers.values())
    assert len(asked) == 3 and sum("asking again" in text for text in said) == 2 and not crew.gone


def test_the_work_of_a_lost_board_goes_to_the_others():
    lost, good = FakeBoard("lost", "gone"), FakeBoard("good")
    answers, _, crew = work(lost, good)
    assert sorted(good.done) == [job.network for job in JOBS] and len(answers) == 6
    assert crew.gone.keys() <= {"lost"}


def test_when_all_are_lost_the_run_stops():
    a, b = FakeBoard("a", "ok", "gone"), FakeBoard("b", "gone")
    with pytest.raises(BoardLost, match="does not answer") as caught:
        work(a, b)
    assert caught.value.exit_code == 3


def test_or_it_goes_on_with_predictions_and_says_why():
    answers, _, _ = work(FakeBoard("a", "ok", "ok", "gone"), lost=PREDICT)
    assert len(answers) == 6
    assert sorted(str(answer) for who, answer in answers.values() if who is None) == ["a: it does not answer"] * 4


def test_a_board_that_was_lost_is_asked_once_by_the_next_phase():
    board = FakeBoard("a", "gone")
    _, _, crew = work(board, lost=PREDICT, pauses=(0.01, 0.01))
    before = board.asked
    answers = {}
    crew.start(JOBS[:2], lambda job, who, answer: answers.setdefault(job.network, answer))
    crew.join()
    assert board.asked == before + 1 and len(answers) == 2
    board.gone = False
    crew.start(JOBS[:1], lambda job, who, answer: answers.__setitem__(job.network, who))
    crew.join()
    assert answers["net0"] is board and not crew.gone


def test_a_network_that_cannot_be_measured_is_given_up_and_the_others_are_not():
    answers, _, _ = work(FakeBoard("a", "fails", "ok", "ok", "ok", "ok", "ok", "fails"))
    assert answers["net0"] == (None, "the rail did not move")
    assert [name for name, (who, _) in answers.items() if who] == [f"net{n}" for n in range(1, 6)]
    answers, _, _ = work(FakeBoard("a", "refuses"))
    assert answers["net0"] == (None, "TensorRT cannot read it") and len(answers) == 6


def test_a_bug_is_raised_where_the_answers_are_waited_for():
    with pytest.raises(ZeroDivisionError):
        work(FakeBoard("a", "ok", "bug"))


def test_stopping_cancels_what_runs_and_keeps_what_is_there():
    gate = threading.Event()
    board, answers = FakeBoard("a", gate=gate), {}
    crew = Crew([board], Path("."), lambda text: None)
    crew.start(JOBS, lambda job, who, answer: answers.setdefault(job.network, answer))
    crew.stop()
    assert board.cancelled.is_set() and not board.done and not answers


def test_states_must_agree():
    assert one_state({"a": {"mode": "MAXN"}, "b": {"mode": "MAXN"}}) == {"mode": "MAXN"}
    with pytest.raises(UserError, match="a and b cannot share the work: mode is MAXN there and MAXQ here"):
        one_state({"a": {"mode": "MAXN"}, "b": {"mode": "MAXQ"}})


def test_the_first_that_cannot_be_asked_is_named():
    bad = FakeBoard("bad")
    bad.gone = True
    with pytest.raises(CannotMeasure, match="bad: it does not answer"):
        Crew([FakeBoard("a"), bad], Path("."), print).states(True)
