"""When a run measures what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synth.energy.choice import choose
from synth.energy.feedback import Feedback, Request
from synth.energy.questions import Choice, cycle_requests, first_requests
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.search.synthesis import CycleReport
from synth.space.space import NetworkSpace


class BoardLoop:
    """When a run measures what: some networks before it, some beside every cycle but the first, and what is finished.

    count: measurements beside a cycle at most; twice as many before the first. pick: how they are chosen.
    """

    def __init__(self, feedback: Feedback, space: NetworkSpace, count: int, cycles: int, seed: int,
                 pick: Choice = choose):
        self.feedback, self.space, self.count, self.cycles, self.seed = feedback, space, count, cycles, seed
        self.pick = pick
        self._open = False

    def begin_first(self) -> None:
        self._begin("first", lambda: first_requests(self.space, 2 * self.count, self.seed, self.pick))

    def begin_cycle(self, report: CycleReport) -> None:
        """Beside the cycle after the one of the report, when there is one."""
        following = report.cycle + 1
        if following < self.cycles:
            self._begin(f"cycle-{following:04d}",
                        lambda: cycle_requests(self.space, report, self.count, self.pick))

    def decide(self, phase: str, trained: Sequence[tuple[Network, Weights]]) -> None:
        """Measure what is to be decided on, by the full protocol, at every batch that is asked about."""
        each = {network.digest: (network, weights) for network, weights in trained}
        self._begin(phase, lambda: [Request(network, batch, full=True, weights=weights)
                                    for network, weights in each.values() for batch in self.space.prices.batches])
        self.end()

    def _begin(self, phase: str, asked: Callable[[], Sequence[Request]]) -> None:
        self.feedback.begin(phase, asked)
        self._open = True

    def end(self) -> None:
        """Wait for what was begun, if anything was, and learn from it."""
        if self._open:
            self._open = False
            self.feedback.end()
