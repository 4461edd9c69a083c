"""A tiny run with a board in the loop; as a process of its own, which a test can kill:

    python board_process.py OUT LOG [--resume]

LOG gets a line for every measurement that begins.
"""

import argparse
import contextlib
from unittest import mock

import law_board
import tiny_run

from synth.energy.crew import Crew

# near what the prototype draws by the law, so that it is in doubt
REQUIRED = ("accuracy >= 1 %", "img_per_joule >= 900 @ batch=8", "latency_p99 <= 3 ms @ batch=8", "params <= 100k")
# what takes time and has tests of its own: long searches, many seeds, latencies of this machine, patience
SHORT = {"synth.run.run.measure_here": lambda *given: {},
         "synth.run.run.Crew": lambda *given: Crew(*given, pauses_s=(0.01,)),
         "synth.run.finishing.SEEDS": 32, "synth.run.preparation.MOST_SWAPS": 4, "synth.search.synthesis.LAST_STEPS": 2,
         "synth.search.synthesis.LAST_SEEDS": 8, "synth.search.inquisitor.GREEDY_STEPS": 2,
         "synth.search.inquisitor.SEED_STEPS": 2}


def run(out, boards=None, **changes):
    """(summary, boards)"""
    boards = [law_board.LawBoard()] if boards is None else boards
    with contextlib.ExitStack() as patched:
        for name, value in SHORT.items():
            patched.enter_context(mock.patch(name, value))
        return tiny_run.run(out, boards=boards,
                            **{"requirements": REQUIRED, "measure": 2, "cycles": 2, **changes}), boards


class Logged(law_board.LawBoard):
    def __init__(self, log):
        super().__init__()
        self.log = log

    def measure(self, job, keep, say):
        with open(self.log, "a") as stream:
            stream.write(f"{job.network} {job.batch} {job.full}\n")
        return super().measure(job, keep, say)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("log")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    run(given.out, [Logged(given.log)], resume=given.resume)
