"""Jobs side by side on one GPU: threads of this process, each with a stream of its own.

Kernels of different streams run at the same time, which a small network, whose kernels fill a fraction of a GPU, needs;
those of different processes would take turns.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")

_lane = threading.local()


class LaneClosed(Exception):
    """Nobody waits for this job any more."""


def side_by_side(
    function: Callable[[Job], Result], jobs: Sequence[Job], lanes: int, device: str
) -> Iterator[Result]:
    """function(job) of every job, so many at once, in the order of the jobs. What one raises is raised here; jobs that
    are not done by then, or when the caller stops early, are left at their next `check_open`."""
    closed = threading.Event()

    def run(job: Job) -> Result:
        _lane.closed = closed
        torch.set_num_threads(1)
        check_open()
        with side_stream(torch.device(device)):
            result = function(job)
            if device == "cuda":
                torch.cuda.current_stream().synchronize()
            return result

    if device == "cuda":
        torch.cuda.synchronize()  # what the jobs read was written on the caller's stream
    executor = ThreadPoolExecutor(lanes, "lane")
    try:
        for future in [executor.submit(run, job) for job in jobs]:
            yield future.result()
    finally:
        closed.set()
        executor.shutdown(cancel_futures=True)


def check_open() -> None:
    """LaneClosed in a lane whose results nobody waits for; nothing anywhere else."""
    closed = getattr(_lane, "closed", None)
    if closed is not None and closed.is_set():
        raise LaneClosed


@contextlib.contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, a stream that is not the default one: a new one, unless the current one is."""
    if device.type != "cuda" or torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        yield
        return
    before, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)
