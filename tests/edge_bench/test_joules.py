"""What a measurement asks of its power samples, on a clock of its own."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from edge_bench.agent import energy, joules, trials
from edge_bench.agent.samples import Samples

WATTS = 100.0


class Board:
    """A clock, and a counter of energy that moves once in `refresh_s`; it is read every 50 ms while the time goes."""

    def __init__(self, refresh_s):
        self.now, self.refresh_s = 100.003, refresh_s
        source = {"name": "nvml", "scope": "gpu", "rails": ["gpu"], "totals": {"gpu": ["gpu"]}, "counter": True}
        self.samples = Samples({**source, "refresh_s": refresh_s}, 0.05)
        self.sleep(0.25)  # what a sampler sends first

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            moved = math.floor(self.now / self.refresh_s) * self.refresh_s
            self.samples.add(self.now, 1e3 * WATTS, 1e3 * WATTS * moved, [1e3 * WATTS])


@pytest.mark.parametrize("refresh_s", [0.02, 0.1, 0.3, 0.7])
def test_windows_are_as_long_as_a_slow_counter_needs(monkeypatch, refresh_s):
    board = Board(refresh_s)
    for module in (joules, trials):
        monkeypatch.setattr(module, "time", board)
    power = joules.PowerSession()
    power.sampler = SimpleNamespace(samples=board.samples, stop=lambda: board.samples)
    request = {"window": 1.0, "window_chosen": False}
    power.fit_windows([request], lambda text: None)
    power.measure_idle()
    start = board.now
    board.sleep(request["window"])
    end = board.now
    power.finish()
    for edges in ((start, end), power.idle):
        assert energy.window(board.samples, *edges).mean_mw == pytest.approx(1e3 * WATTS, rel=0.05)
