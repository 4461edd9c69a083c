"""SIGTERM and SIGHUP as Ctrl-C: a cancelled CI job or a dropped terminal leaves the board restored, a run resumable."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["as_ctrl_c", "exit_code"]

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[list[int]]:
    """Inside, the first SIGTERM or SIGHUP does what Ctrl-C would, and is put into the list; later ones are ignored, so
    that putting things back is not interrupted. What was ignored from the start, as by nohup, stays ignored."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield received
        return
    terminals = [number for number in (0, 1, 2) if os.isatty(number)]

    def stop(number: int, frame: Any) -> None:
        if received:
            return
        received.append(number)
        _leave([number for number in terminals if not os.isatty(number)])
        interrupt = signal.getsignal(signal.SIGINT)  # a command may hold Ctrl-C back; a background job ignores it
        (interrupt if callable(interrupt) else signal.default_int_handler)(number, frame)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(received: list[int]) -> int:
    """128 and the signal, as a shell says it; without one it was Ctrl-C."""
    return 128 + (received[0] if received else signal.SIGINT)


def _leave(terminals: list[int]) -> None:
    """Point what led to a terminal that has gone at nothing: a line said on the way out must not fail."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in terminals:
        os.dup2(nothing, number)
    os.close(nothing)
