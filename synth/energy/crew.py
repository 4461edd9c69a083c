"""Several boards that share the work: each takes the next job as soon as it is free, and one that is lost is missed.

A thread a board only waits for ssh, so that training goes on beside it. What was measured is handed on at once, by
`on_answer`; nothing is lost but what was being measured.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devices.support.errors import CannotMeasure, EdgesynthError, UserError
from synth.energy.boards import Board, Job, Say

PAUSES_S = (5.0, 15.0, 45.0, 120.0)  # before a board that does not answer is asked again
ATTEMPTS = 2  # of a job on a board that answers, and cannot measure it
STOP, PREDICT = "stop", "predict"


class BoardLost(CannotMeasure):
    """Every board is lost; the run can go on later."""


OnAnswer = Callable[[Job, Board | None, "dict[str, Any] | str"], None]


class Crew:
    """boards: at least one. keep: folder of the results. lost: "stop" (BoardLost) or "predict" (the job is answered
    with the reason). pauses_s: see PAUSES_S; a board that was lost before is not waited for again."""

    def __init__(self, boards: Sequence[Board], keep: Path, say: Say, lost: str = STOP,
                 pauses_s: Sequence[float] = PAUSES_S):
        self.boards, self.keep, self.say, self.lost_policy = list(boards), keep, say, lost
        self.pauses_s = tuple(pauses_s)
        self.gone: dict[str, str] = {}  # board: why it is lost
        self._todo: deque[Job] = deque()
        self._changed = threading.Condition()
        self._open = 0  # jobs without an answer
        self._attempts: dict[Job, int] = {}
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._stopped = False

    def states(self, power: bool) -> dict[str, dict[str, Any]]:
        """{board: its state} of every board, asked at the same time. Raises what the first one that fails says."""
        found: dict[str, dict[str, Any]] = {}
        errors: dict[str, EdgesynthError] = {}

        def ask(board: Board) -> None:
            try:
                found[board.name] = board.state(power)
            except EdgesynthError as error:
                errors[board.name] = error

        threads = [threading.Thread(target=ask, args=(board,), daemon=True) for board in self.boards]
        for thread in threads:
            thread.start()
        for thread in threads:
            _wait(thread)
        for board in self.boards:
            if board.name in errors:
                raise errors[board.name]
        return {board.name: found[board.name] for board in self.boards}

    # --- jobs --------------------------------------------------------------------------------------------------------

    def start(self, jobs: Sequence[Job], on_answer: OnAnswer) -> None:
        """Begin; returns at once. on_answer: called with (job, board, result), or with (job, None, reason) for one that
        cannot be measured; from any thread, one at a time."""
        self._todo, self._open, self._attempts = deque(jobs), len(jobs), {}
        self._on_answer, self._error, self._stopped = on_answer, None, False
        self._threads = [threading.Thread(target=self._work, args=(board,), daemon=True) for board in self.boards]
        for thread in self._threads if jobs else ():
            thread.start()

    def join(self) -> None:
        """Wait until every job is answered. BoardLost when no board is left and the policy is to stop."""
        for thread in self._threads:
            if thread.is_alive():
                _wait(thread)
        self._threads = []
        if self._error is not None:
            raise self._error
        if self._open:
            reasons = "; ".join(dict.fromkeys(self.gone.values()))
            if self.lost_policy == STOP:
                raise BoardLost(reasons)
            for job in self._todo:
                self._on_answer(job, None, reasons)
            self._open = 0

    def stop(self) -> None:
        """End what runs on the boards, and forget the rest."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for board, thread in zip(self.boards, self._threads, strict=False):
            if thread.is_alive():
                with contextlib.suppress(EdgesynthError):  # a board that is lost cannot be told
                    board.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60.0)
        self._threads = []

    # --- a board's thread --------------------------------------------------------------------------------------------

    def _work(self, board: Board) -> None:
        try:
            while (job := self._next()) is not None:
                self._measure(board, job)
                if board.name in self.gone:
                    return
        except BaseException as error:  # a bug: raised where the answers are waited for
            with self._changed:
                self._error, self._stopped = error, True
                self._changed.notify_all()

    def _next(self) -> Job | None:
        """The next job; waits for one that another board may still give back. None when there will be none."""
        with self._changed:
            while not self._stopped and self._open:
                if self._todo:
                    return self._todo.popleft()
                self._changed.wait(0.5)
            return None

    def _measure(self, board: Board, job: Job) -> None:
        try:
            result = board.measure(job, self.keep, self.say)
        except UserError as error:  # the board cannot take this network, whoever asks
            self._answer(job, None, str(error))
        except CannotMeasure as error:
            if self._stopped:
                return
            self._give_back(job)
            if self._reached(board, job.power, str(error)):
                self._count(job, str(error))
        else:
            self.gone.pop(board.name, None)
            self._answer(job, board, result)

    def _reached(self, board: Board, power: bool, reason: str) -> bool:
        """Whether the board answers, now or after some patience."""
        for pause_s in (0.0, *(() if board.name in self.gone else self.pauses_s)):
            if pause_s:
                self.say(f"{reason}; asking again in {pause_s:g} s")
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped or not self._open, timeout=pause_s):
                    return True
            try:
                board.state(power)
                return True
            except CannotMeasure as error:
                reason = str(error)
        self.say(f"{board.name} is lost: {reason}")
        self.gone[board.name] = reason
        return False

    def _give_back(self, job: Job) -> None:
        with self._changed:
            self._todo.append(job)
            self._changed.notify_all()

    def _count(self, job: Job, reason: str) -> None:
        """A board that answers could not measure this job: after a few attempts it stays unmeasured."""
        with self._changed:
            self._attempts[job] = self._attempts.get(job, 0) + 1
            give_up = self._attempts[job] >= ATTEMPTS and job in self._todo
            if give_up:
                self._todo.remove(job)
        if give_up:
            self._answer(job, None, reason)

    def _answer(self, job: Job, board: Board | None, answer: dict[str, Any] | str) -> None:
        with self._changed:
            if not self._stopped or isinstance(answer, dict):  # what came in while stopping is kept as well
                self._on_answer(job, board, answer)
                self._open -= 1
            self._changed.notify_all()


def _wait(thread: threading.Thread) -> None:
    """Join a thread so that Ctrl-C is heard meanwhile."""
    while thread.is_alive():
        thread.join(0.2)
