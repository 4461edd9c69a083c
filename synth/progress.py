"""Progress for people, on standard error: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

EVERY_S = 5.0  # between plain lines


class Stage:
    """One part of a run: `at` says how far it is, `note` what is to be told of it."""

    def __init__(self, progress: Progress, name: str, total: int, task: TaskID | None) -> None:
        self.name, self.total, self.done, self.text = name, total, 0, ""
        self._progress, self._task, self._said = progress, task, time.monotonic()

    def at(self, done: int, text: str | None = None) -> None:
        self.done = done
        self.text = self.text if text is None else text
        self._show()

    def note(self, text: str) -> None:
        self.text = text
        self._show()

    def _show(self) -> None:
        if self._task is not None and self._progress.bars is not None:
            self._progress.bars.update(self._task, completed=self.done, text=self.text)
        elif time.monotonic() - self._said > EVERY_S and not self._progress.quiet:
            self._said = time.monotonic()
            self._progress.say(f"{self.name} {self.done}/{self.total}  {self.text}".rstrip())


class Progress:
    """Stages one after the other. quiet: nothing is shown."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)
        self.bars: Bars | None = None
        self.times: dict[str, float] = {}
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        started = time.monotonic()
        if self.quiet or not sys.stderr.isatty():
            stage = Stage(self, name, total, None)
            yield stage
        else:
            columns = (TextColumn("{task.description:<11}"), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                       BarColumn(24), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
            with Bars(*columns, console=self.console, transient=True) as self.bars:
                stage = Stage(self, name, total, self.bars.add_task(name, total=total, text=""))
                yield stage
            self.bars = None
        seconds = time.monotonic() - started
        self.times[name] = self.times.get(name, 0.0) + seconds
        self.say(f"{name:<11} {stage.done}/{stage.total}  {stage.text:<52}{_clock(seconds)}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
