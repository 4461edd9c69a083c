"""What a GPU does again and again, recorded once as a CUDA graph and replayed.

The kernels of a small network take a few microseconds each, and telling a GPU one by one to run them takes longer.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from synth.training.lanes import wait_until

Body = Callable[[], None]
WARM_UP = 2  # runs before recording: in them libraries choose and load their kernels
AHEAD = 32  # replays that wait on a stream, so that it is busy while other lanes record


class Recorder:
    """Turns what a body does, to tensors that stay where they are, into one call. changed: all that it changes."""

    def __init__(self, changed: Sequence[torch.Tensor]) -> None:
        self._changed = list(changed)
        self._pool: Any = None

    def record(self, body: Body) -> Body:
        """A replay of `body`, of which nothing has happened yet; on a CPU it is `body` itself. The current stream must
        not be the default one."""
        if self._changed[0].device.type != "cuda":
            return body
        kept = [tensor.clone() for tensor in self._changed]
        for _ in range(WARM_UP):
            body()
        with torch.no_grad():
            for tensor, before in zip(self._changed, kept, strict=True):
                tensor.copy_(before)
        graph = torch.cuda.CUDAGraph()
        with _no_garbage_collection():
            # torch.cuda.graph would wait for whatever else the GPU does
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                body()
            except BaseException:
                with contextlib.suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        self._pool = graph.pool()  # shared by graphs that never run at the same time
        return graph.replay


class Pace:
    """Keeps a thread at most AHEAD replays before the GPU; others go on while it waits."""

    def __init__(self, device: torch.device) -> None:
        self._paces = device.type == "cuda"
        self._events: deque[torch.cuda.Event] = deque()

    def __call__(self) -> None:
        """After every replay."""
        if not self._paces:
            return
        event = torch.cuda.Event() if len(self._events) < AHEAD else self._events.popleft()
        wait_until(event.query)  # true of one that was never recorded
        event.record()
        self._events.append(event)

    def finish(self) -> None:
        """Wait for the last replay."""
        if self._events:
            wait_until(self._events[-1].query)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What is collected may belong to the GPU, and freeing it would spoil a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
