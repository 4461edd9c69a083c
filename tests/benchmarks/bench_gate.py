"""How often the gate cries wolf and what it misses: simulated boards whose truth is known, through the gate's own code.

A session is a board at work: power rises with its heat (1.5 % of leakage from cold to warm, 120 s, from wherever the
last work left it), a trial's mean wanders by 0.3 % inside a run, the sensor averages over 0.42 s, shows steps of 38 mW
and is read every 50 ms over windows of 10 s. Runs differ by 2 %. What re-rolls those is not the same on every board,
so three worlds are shown: each fresh process, each session, or half of the variance each. Two more are held against
nothing: sessions that differ by 6 %, and a board whose power rises by 10 % while it heats, where models measured one
after the other stand beside models measured in turns.

The gate sees results and comparisons as `bench` and `compare` make them, and is asked through `check_sessions` and
`check_comparisons`, the further sessions included that it asks for when it cannot tell. Beside it, on the same
data: a plain ratio of the means against the tolerance; Student's t-test on pooled power samples (p < 0.05, as pyperf
pools its values); and both conditions together.

    python tests/benchmarks/bench_gate.py [--repetitions 1000] [--json PATH]

Shown for each protocol: the share of verdicts "regression" when nothing changed, at +3 % (within the tolerance) and at
+10 %; how many unchanged models passed or stayed inconclusive; how many improvements of 10 % were told; sessions or
pairs measured. Held against: with the default protocols, at most 1 % false alarms when nothing changed, at least 99 %
of 10 % regressions caught, in every world. Exit code 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.signal import lfilter

from edge_bench.agent import arguments, pair
from edge_bench.gate import baseline, checking, verdict
from edge_bench.gate.verdict import ModelVerdict

TOLERANCE = {"energy": 0.05}
WITHIN = 0.003
WARM_S, SETTLED_S, TRIAL_S, WINDOW_S = 120.0, 22.0, 16.0, 10.0
POWER_MW, IMAGE_S, QUANTUM_MW, RIPPLE_MW, INTERVAL_S, FILTER_S = 6000.0, 0.005, 38.0, 60.0, 0.05, 0.42
# name: (run-to-run standard deviation, share of its variance that re-rolls by session; the rest does by process; rise
# of power from cold to warm)
WORLDS = {"process": (0.02, 0.0, 0.015), "half and half": (0.02, 0.5, 0.015), "session": (0.02, 1.0, 0.015),
          "wild sessions": (0.06, 1.0, 0.015), "heating": (0.005, 0.0, 0.10)}
JUDGED = ("process", "half and half", "session")
EFFECTS = {"unchanged": 1.0, "+3 %": 1.03, "+10 %": 1.10, "-10 %": 0.90}

# name: (sessions of the baseline, trials a session, sessions at first, more when it cannot tell)
SESSIONS = {
    f"3 sessions, 5 trials; 1 + {checking.MORE_SESSIONS} (default)": (3, 5, 1, checking.MORE_SESSIONS),
    "3 sessions, 5 trials; 1": (3, 5, 1, 0), "3 sessions, 5 trials; 1 + 1": (3, 5, 1, 1),
    "3 sessions, 5 trials; 4": (3, 5, 4, 0), "3 sessions, 20 trials; 1": (3, 20, 1, 0),
    "3 sessions, 10 trials; 1 + 3": (3, 10, 1, 3), "5 sessions, 5 trials; 1": (5, 5, 1, 0),
    "5 sessions, 5 trials; 1 + 3": (5, 5, 1, 3), "10 sessions, 5 trials; 1": (10, 5, 1, 0),
    "10 sessions, 5 trials; 1 + 3": (10, 5, 1, 3)}
# name: (the side of each trial, measured once more when it cannot tell)
PAIRS = {f"in turns, {arguments.PAIRS} pairs + {arguments.PAIRS} (default)": (pair.order(arguments.PAIRS), True),
         "in turns, 3 pairs": (pair.order(3), False), "in turns, 6 pairs": (pair.order(6), False),
         "in turns, 12 pairs": (pair.order(12), False)}
ONE_AFTER_THE_OTHER = {"6 of one, then 6 of the other": (["base"] * 6 + ["head"] * 6, False)}
DEFAULTS = (next(iter(SESSIONS)), next(iter(PAIRS)))
RIVALLED = (*DEFAULTS, "3 sessions, 5 trials; 1")  # whose samples the rivals judge too


class Board:
    """Sessions of one simulated board of a world."""

    def __init__(self, world: str, seed: int):
        self.generator, self.made = np.random.default_rng(seed), 0
        self.run_to_run, self.share, self.leakage = WORLDS[world]

    def session(self, factors: list[float]) -> np.ndarray:
        """Power samples [trial, sample] in mW of one session, each trial's power times its factor."""
        draw, count = self.generator, len(factors)
        start = SETTLED_S + TRIAL_S * np.arange(count)[:, None]
        moments = start + INTERVAL_S * np.arange(int(WINDOW_S / INTERVAL_S))[None, :]
        heat = 1 + self.leakage * (1 - draw.uniform() * np.exp(-moments / WARM_S))
        level = (1 + self.run_to_run * (math.sqrt(self.share) * draw.normal()
                                        + math.sqrt(1 - self.share) * draw.normal(size=(count, 1)))
                 + WITHIN * draw.normal(size=(count, 1)))
        keep = math.exp(-INTERVAL_S / FILTER_S)  # what the sensor's average leaves of a load's ripple
        ripple = lfilter([1], [1, -keep], draw.normal(0, RIPPLE_MW * math.sqrt(1 - keep**2), moments.shape), axis=1)
        power = POWER_MW * level * heat * np.asarray(factors)[:, None] + ripple
        return np.round(power / QUANTUM_MW) * QUANTUM_MW

    def result(self, samples: np.ndarray, model: str = "net") -> dict:
        """The result that `bench` would have made of these samples, as far as the gate reads it."""
        self.made += 1
        energies = samples.mean(axis=1) * IMAGE_S
        return {"created": f"{self.made:08d}", "marks": [], "batch": 1, "layers": None,
                "model": {"name": "net", "sha256": model},
                "runner": {"name": "tensorrt", "precision": "fp16", "version": "8.2.1", "pipelined": False},
                "preflight": {"board": {"board": "tx2", "serial": "1"}, "mode": {"name": "MAXN"},
                              "software": {"l4t": "32.7.1", "tensorrt": "8.2.1"}, "clocks": {"locked": True}},
                "trials": [{"energy_mj": float(energy)} for energy in energies],
                # the bound that energy.per_image gives for a ripple of more than a step: what dithering leaves
                "power": {"scope": "module", "rounding_mj": 0.02 * QUANTUM_MW * IMAGE_S}}


def by_sessions(board: Board, factor: float, old: int, trials: int, first: int, more: int) -> tuple[ModelVerdict, dict]:
    """The gate against a stored baseline, and what the rivals say of the very same samples."""
    stored = [board.session([1.0] * trials) for _ in range(old)]
    entries: list[baseline.Entry] = []
    baseline.add_sessions(entries, [board.result(samples, "base") for samples in stored])
    new = [board.session([factor] * trials) for _ in range(first)]

    def measure_more() -> list[tuple[str, dict]]:
        new.extend(board.session([factor] * trials) for _ in range(more))
        return [("", board.result(samples, "head")) for samples in new[first:]]

    found = checking.check_sessions([board.result(samples, "head") for samples in new], entries, TOLERANCE,
                                more=measure_more if more else None)
    return found, rivals(np.concatenate(new), np.concatenate(stored))


def in_turns(board: Board, factor: float, order: list[str], again: bool) -> tuple[ModelVerdict, dict]:
    """The gate on comparisons whose trials run in that order."""
    seen: list[np.ndarray] = []

    def compare() -> dict:
        samples = board.session([factor if side == pair.HEAD else 1.0 for side in order])
        seen.append(samples)
        sides = {side: board.result(samples[[of == side for of in order]], side) for side in pair.SIDES}
        return {"created": sides["head"]["created"], "base": sides["base"], "head": sides["head"], "marks": [],
                "warnings": [], "layers": None}

    found = checking.check_comparisons(ModelVerdict("net"), [compare()], TOLERANCE,
                                   (lambda: [("", compare())]) if again else None)
    head = np.array([side == pair.HEAD for side in order])
    return found, rivals(np.concatenate([samples[head] for samples in seen]),
                         np.concatenate([samples[~head] for samples in seen]))


def rivals(new: np.ndarray, old: np.ndarray) -> dict[str, bool]:
    """{rule: whether it calls a regression} on pooled samples."""
    beyond = bool(new.mean() / old.mean() > 1 + TOLERANCE["energy"])
    found = stats.ttest_ind(new.ravel(), old.ravel(), equal_var=False)
    different = bool(found.pvalue < 0.05 and found.statistic > 0)
    return {"ratio": beyond, "t-test": different, "both": beyond and different}


def cell(ask: Callable[[Board, float], tuple[ModelVerdict, dict]], world: str, repetitions: int, seed: int) -> dict:
    """One protocol in one world: shares of every verdict, by effect, and those of the rivals."""
    row: dict = {"world": world}
    for number, (effect, factor) in enumerate(EFFECTS.items()):
        board = Board(world, 1000 * seed + number)
        verdicts: Counter = Counter()
        called: Counter = Counter()
        measured = 0
        for _ in range(repetitions):
            found, others = ask(board, factor)
            verdicts[found.verdict] += 1
            called.update(name for name, says in others.items() if says)
            measured += found.sessions["present"]
        row[effect] = {"measured": measured / repetitions,
                       "verdicts": {name: count / repetitions for name, count in verdicts.items()},
                       "rivals": {name: called[name] / repetitions for name in ("ratio", "t-test", "both")}}
    return row


def show(row: dict, title: str) -> None:
    share = {effect: row[effect]["verdicts"] for effect in EFFECTS}
    print(f"{title:38}{share['unchanged'].get('regression', 0):9.1%}{share['+3 %'].get('regression', 0):8.1%}"
          f"{share['+10 %'].get('regression', 0):9.1%} |{share['unchanged'].get('pass', 0):8.1%}"
          f"{share['unchanged'].get('inconclusive', 0):8.1%}{share['-10 %'].get('improvement', 0):9.1%} |"
          f"{row['unchanged']['measured']:7.1f}", flush=True)


def show_rivals(row: dict) -> None:
    for name in ("ratio", "t-test", "both"):
        cells = [row[effect]["rivals"][name] for effect in ("unchanged", "+3 %", "+10 %")]
        words = {"ratio": "ratio > 1.05", "t-test": "t-test on samples", "both": "both of these"}[name]
        print(f"    {words + ', same samples':34}" + "{:9.1%}{:8.1%}{:9.1%} |".format(*cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-defaults", action="store_true", help="leave the other protocols out")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    started, rows, missed = time.monotonic(), [], []
    for world, (spread, share, leakage) in WORLDS.items():
        print(f"\n\"{world}\": {100 * spread:g} % run-to-run, {share:.0%} of its variance by session, {leakage:.1%} "
              f"from cold to warm; {options.repetitions} each\n"
              f"{'':38}{'alarms when':>17}{'caught':>9} |{'unchanged':>16}{'told':>9} |\n"
              f"{'baseline; present':38}{'unchanged':>9}{'+3 %':>8}{'+10 %':>9} |{'pass':>8}{'unclear':>8}"
              f"{'-10 %':>9} | measured")
        asked: dict[str, Callable] = {name: lambda board, factor, p=p: by_sessions(board, factor, *p)
                                      for name, p in SESSIONS.items()}
        asked.update({name: lambda board, factor, p=p: in_turns(board, factor, *p) for name, p in PAIRS.items()})
        if world == "heating":
            asked.update({name: lambda board, factor, p=p: in_turns(board, factor, *p)
                          for name, p in ONE_AFTER_THE_OTHER.items()})
        for number, (name, ask) in enumerate(asked.items()):
            if (options.only_defaults or world not in JUDGED) and name not in (*RIVALLED, *ONE_AFTER_THE_OTHER):
                continue
            row = {"protocol": name, **cell(ask, world, options.repetitions, options.seed + number)}
            rows.append(row)
            show(row, name)
            if name in DEFAULTS and world in JUDGED:
                alarms = row["unchanged"]["verdicts"].get(verdict.REGRESSION, 0.0)
                caught = row["+10 %"]["verdicts"].get(verdict.REGRESSION, 0.0)
                missed += [f"{name}, {world}: {what}" for what, bad in (("alarms", alarms > 0.01),
                                                                       ("caught", caught < 0.99)) if bad]
            if name in RIVALLED:
                show_rivals(row)
    print(f"\n{time.monotonic() - started:.0f} s; " + ("all hold" if not missed else "missed: " + "; ".join(missed)))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "missed": missed}, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
