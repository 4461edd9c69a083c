"""What a GPU does again and again, recorded once as a CUDA graph and replayed.

The kernels of a small network take a few microseconds each, and telling a GPU one by one to run them takes longer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

Body = Callable[[], None]
WARM_UP = 2  # runs before recording: in them libraries choose and load their kernels
AHEAD = 8  # replays that wait on a stream
_one_at_a_time = threading.Lock()


class Recorder:
    """Turns what a body does, to tensors that stay where they are, into one call. changed: all that it changes."""

    def __init__(self, changed: Sequence[torch.Tensor]) -> None:
        self._changed = list(changed)
        self._pool: Any = None

    @torch.no_grad()
    def _put_back(self, kept: Sequence[torch.Tensor]) -> None:
        for tensor, before in zip(self._changed, kept, strict=True):
            tensor.copy_(before)

    def record(self, body: Body) -> Body:
        """A replay of `body`, of which nothing has happened yet; on a CPU it is `body` itself. The current stream must
        not be the default one."""
        if self._changed[0].device.type != "cuda":
            return body
        kept = [tensor.clone() for tensor in self._changed]
        for _ in range(WARM_UP):
            body()
        self._put_back(kept)
        with _one_at_a_time:
            graph = torch.cuda.CUDAGraph()
            # torch.cuda.graph would first collect garbage and wait for whatever else the GPU does
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                body()
            finally:
                graph.capture_end()
        self._pool = graph.pool()  # shared by graphs that never run at the same time
        return graph.replay


class Pace:
    """Keeps a thread at most AHEAD replays before the GPU: a launch that waits for room keeps other threads waiting."""

    def __init__(self, device: torch.device) -> None:
        self._paces = device.type == "cuda"
        self._events: deque[torch.cuda.Event] = deque()

    def __call__(self) -> None:
        """After every replay."""
        if not self._paces:
            return
        if len(self._events) < AHEAD:
            event = torch.cuda.Event(blocking=True)
        else:
            event = self._events.popleft()
            event.synchronize()
        event.record()
        self._events.append(event)
