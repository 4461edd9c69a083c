"""Jobs side by side on one GPU: threads of this process, each with a stream of its own.

Kernels of different streams run at the same time, which a small network, whose kernels fill a fraction of a GPU, needs;
those of different processes would take turns. Only one thread talks to the GPU at a time, the one that holds the baton:
what others tell it while one records a CUDA graph would spoil the recording. A thread hands the baton on where it would
wait for the GPU.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")
REST_S = 0.0005

_baton = threading.Lock()
_lane = threading.local()


class LaneClosed(Exception):
    """Nobody waits for this job any more."""


class Lanes:
    """So many threads that work on a device: "cuda", or another one, where there are no streams."""

    def __init__(self, count: int, device: str) -> None:
        self._device = torch.device(device)
        self._threads = ThreadPoolExecutor(count, "lane")

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """function(job) of every job, in the order of the jobs. What one raises is raised here; jobs that are not done
        by then, or when the caller stops early, are left at their next `check_open`."""
        closed = threading.Event()
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # what the jobs read was written on the caller's stream

        def run(job: Job) -> Result:
            _lane.closed = closed
            torch.set_num_threads(1)
            with _baton:
                check_open()
                with side_stream(self._device):
                    _lane.stream = torch.cuda.current_stream() if self._device.type == "cuda" else None
                    return function(job)

        futures = [self._threads.submit(run, job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            closed.set()
            for future in futures:
                future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.exception()  # waits for it
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # what recordings held is of no use to other recordings

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def check_open() -> None:
    """LaneClosed in a lane whose results nobody waits for; nothing anywhere else."""
    closed = getattr(_lane, "closed", None)
    if closed is not None and closed.is_set():
        raise LaneClosed


def wait_until(ready: Callable[[], bool]) -> None:
    """Return when `ready()`; in a lane, others go on meanwhile."""
    in_lane = hasattr(_lane, "closed")
    while not ready():
        if in_lane:
            _baton.release()
        try:
            time.sleep(REST_S)
        finally:
            if in_lane:
                _baton.acquire()


@contextlib.contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, a stream that is not the default one: the current one where it is not, a lane's own one, or a new one.
    Memory that is freed on a stream is kept for that stream alone."""
    if device.type != "cuda" or torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        yield
        return
    before = torch.cuda.current_stream(device)
    stream = getattr(_lane, "stream", None) or torch.cuda.Stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
