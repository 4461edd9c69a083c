"""What a board in the loop is worth: on a stand-in whose time and power follow a law that the cost model does not
contain, does the energy requirement hold as measured, with feedback and without, and is a choice of what to measure
better than equally many random measurements?

    python tests/benchmarks/bench_board_in_loop.py --json board.json
    python tests/benchmarks/bench_board_in_loop.py --seeds 1 --cycles 4            (a quick look)
    python tests/benchmarks/bench_board_in_loop.py --law my_law.py --bound 900

Real here: the space of the digits prototype, the cost model, the search, the generator, the export of every measured
network, the law applied to the exported file's layers, sensor noise, the finishing rounds with the full protocol. Not
real: accuracies come from a smooth landscape with noise (another one for every seed) instead of training, so that five
seeds of three arms take minutes; the claim is about energy. One with training, over ssh:
tests/synth/energy/test_board_ssh.py.

--law names a Python file with IDLE_MW and cost(layers, batch) -> (ms, mW); see tests/edge_bench/doubles/board_law.py.
The same file serves the stand-in board behind ssh, through $BOARD_LAW. Default: tests/edge_bench/laws/waves.py.

"none" believes the cost model; "chosen" measures what is expected to remove most doubt; "random" measures equally many
networks, phase by phase, drawn from the same ones at random. All arms start from the same seed and landscape.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "synth"))
import board_runs as runs
import law_board

from synth.energy.choice import Chosen, Question, choose
from synth.energy.questions import QUICK_NOISE
from synth.objective.requirements import Requirements
from synth.search.moves import Moves
from synth.space.correction import Residuals
from synth.space.quantities import descriptors, quantity_of

SCHEMA = "edgesynth.bench-board-in-loop/1"
ARMS = ("none", "chosen", "random")
COUNTS = (2, 4, 8, 16, 32)
DRAWS = 20  # of random measurements, for the curve
SPREAD = 256  # networks of the whole space that the curve judges


@dataclass
class Recorder:
    """Picks as the arm says, and keeps how many it picked each time."""

    counts: list[int] = field(default_factory=list)

    def __call__(self, questions, weight, count, known) -> list[Chosen]:
        picked = choose(questions, weight, count, known)
        if not known:
            self.counts.append(len(picked))
        return picked


@dataclass
class RandomPick:
    """As many as another arm picked, drawn among the networks that matter."""

    counts: list[int]
    random: np.random.Generator

    def __call__(self, questions, weight, count, known) -> list[Chosen]:
        if not known:
            self.now = self.counts.pop(0) if self.counts else 0
        free = [row for row in range(len(weight)) if weight[row] > 0 and (row, questions[0].batch) not in known]
        rows = self.random.permutation(free)[: self.now]
        return [Chosen(int(row), questions[0].batch, 0.0) for row in rows]


def one_run(arm: str, seed: int, given: argparse.Namespace, counts: list[int], folder: Path) -> dict[str, Any]:
    """A whole search and its finish; what came of it by the law itself."""
    began = time.perf_counter()
    board = law_board.LawBoard(law=Path(given.law))
    pick = Recorder() if arm == "chosen" else RandomPick(list(counts), np.random.default_rng([seed, 77]))
    run = runs.run(folder, seed, given.cycles, (f"accuracy >= {given.accuracy} %",
                                                f"img_per_joule >= {given.bound} @ batch={given.batch}"),
                   measure=0 if arm == "none" else given.measure, boards=[] if arm == "none" else [board], pick=pick)
    truth = [runs.true_img_per_joule(board, f.network, given.batch) for f in run.done]
    held = [f for f, value in zip(run.done, truth, strict=True) if value >= given.bound and runs.accurate(run, f)]
    fresh = runs.fresh_networks(run, 64)
    fresh_truth = np.array([runs.true_img_per_joule(board, network, given.batch) for network in fresh])
    measured = run.lab.loop.feedback.correction.known.values() if run.lab.loop else []
    found = {
        "arm": arm, "seed": seed, "ferminets": len(run.done), "decided_to_hold": sum(f.holds for f in run.done),
        "hold_as_measured": len(held), "img_per_joule": truth,
        "best_netscore": max((runs.netscore_of(run, f) for f in held), default=None),
        "trained_in_full": run.trained, "quick": sum(not one.full for one in measured),
        "full": sum(one.full for one in measured),
        "fresh_seeds_that_hold": float((fresh_truth >= given.bound).mean()), "seconds": time.perf_counter() - began,
    }
    if arm == "chosen":
        found["counts"] = pick.counts
        found["curve"] = curve(run, board, given)
    return found


def curve(run, board, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The choice by itself, from nothing measured, over networks spread over the whole space: the share whose energy
    requirement is misjudged after n measurements, chosen one after the other, and at random (mean of many draws)."""
    space, prices = run.lab.space, run.lab.space.prices
    decisions = np.unique(Moves(space).random(SPREAD, np.random.default_rng([run.seed, 0x20])), axis=0)
    plain = replace(prices, correction=None)
    item = next(item for item in prices.requirements.on_costs if item.metric == "img_per_joule")
    quantity, sign = quantity_of(item)
    features = descriptors(space.layers(decisions))
    networks = [space.parent.draw(space.design(row))[0] for row in decisions]
    truth = np.log([runs.true_img_per_joule(board, network, given.batch) for network in networks])
    predicted = np.log([plain.reading(item, network).value for network in networks])
    seen = truth + np.random.default_rng([run.seed, 0x21]).normal(0.0, 0.01, len(truth))
    prior = plain.prior_sd(networks[:8])[quantity, item.batch]
    wants = truth >= np.log(given.bound)

    def after(rows: list[int]) -> tuple[Residuals, Any, float, float]:
        """(the model, its mean, misjudged share, mean sd) when these rows are measured."""
        model = Residuals(prior)
        if rows:
            at = np.array(rows)
            model.fit(features[at], sign * (seen[at] - predicted[at]), np.full(len(rows), QUICK_NOISE))
        mean, sd = model.predict(features)
        expected = predicted + sign * mean
        return model, expected, float((((expected) >= np.log(given.bound)) != wants).mean()), float(sd.mean())

    chosen: list[int] = []
    found = []
    draws = [np.random.default_rng([run.seed, 0x22, n]).permutation(len(truth)) for n in range(DRAWS)]
    for count in COUNTS:
        while len(chosen) < count:
            model, expected, _, _ = after(chosen)
            question = Question(item.slack(np.exp(expected)), model.covariance(features), QUICK_NOISE, 1)
            step = choose([question], np.ones(len(truth)), min(2, count - len(chosen)),
                          frozenset((row, 1) for row in chosen))
            if not step:
                break
            chosen += [one.row for one in step]
        _, _, wrong, spread = after(chosen)
        at_random = [after([int(row) for row in draw[:len(chosen)]]) for draw in draws]
        found.append({"asked": count, "measured": len(chosen), "chosen": wrong, "chosen_sd": spread,
                      "random": float(np.mean([one[2] for one in at_random])),
                      "random_sd": float(np.mean([one[3] for one in at_random]))})
    return found


def show(rows: list[dict[str, Any]], given: argparse.Namespace) -> None:
    console = Console(width=150)
    table = Table(title=f"1r: accuracy >= {given.accuracy} %, img_per_joule >= {given.bound} @ batch={given.batch}; "
                        f"law {Path(given.law).stem}; {given.cycles} cycles", box=None, header_style="dim")
    for title in ("arm", "seed", "FermiNets decided to hold", "hold as measured", "img/J of each", "best NetScore that "
                  "holds", "trained in full", "measured quick + full", "fresh seeds that hold"):
        table.add_column(title, justify="right")
    for row in sorted(rows, key=lambda row: (ARMS.index(row["arm"]), row["seed"])):
        best = row["best_netscore"]
        table.add_row(row["arm"], str(row["seed"]), f"{row['decided_to_hold']} of {row['ferminets']}",
                      f"{row['hold_as_measured']} of {row['ferminets']}",
                      " ".join(f"{value:.0f}" for value in row["img_per_joule"]),
                      "-" if best is None else f"{best:.1f}", str(row["trained_in_full"]),
                      f"{row['quick']} + {row['full']}",
                      f"{100 * row['fresh_seeds_that_hold']:.0f} %")
    console.print(table)
    for arm, total in totals(rows).items():
        best = "none holds" if total["best_netscore"] is None else f"{total['best_netscore']:.1f}"
        console.print(f"{arm:>7}: {total['held']} of {total['networks']} FermiNets hold as measured; best NetScore that"
                      f" holds, mean over seeds with one: {best}; fresh seeds that hold {100 * total['fresh']:.0f} %; "
                      f"{total['quick']} quick and {total['full']} full measurements, {total['trained']} trained",
                      highlight=False)
    console.print("\nthe choice by itself: networks of the whole space whose energy requirement is misjudged after n "
                  "measurements; and the mean sd of log energy")
    for number, asked in enumerate(COUNTS):
        points = [row["curve"][number] for row in rows if "curve" in row]
        if points:
            mean = {name: float(np.mean([point[name] for point in points])) for name in points[0]}
            console.print(f"  n = {asked:2d} ({mean['measured']:.0f} taken): chosen {100 * mean['chosen']:4.1f} %, "
                          f"random {100 * mean['random']:4.1f} %; sd {mean['chosen_sd']:.3f} and "
                          f"{mean['random_sd']:.3f}", highlight=False)


def totals(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for arm in ARMS:
        mine = [row for row in rows if row["arm"] == arm]
        best = [row["best_netscore"] for row in mine if row["best_netscore"] is not None]
        if mine:
            found[arm] = {
                "networks": sum(row["ferminets"] for row in mine), "held": sum(row["hold_as_measured"] for row in mine),
                "best_netscore": float(np.mean(best)) if best else None, "seeds_without": len(mine) - len(best),
                "fresh": float(np.mean([row["fresh_seeds_that_hold"] for row in mine])),
                **{name: sum(row[key] for row in mine)
                   for name, key in (("quick", "quick"), ("full", "full"), ("trained", "trained_in_full"))}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cycles", type=int, default=8)
    parser.add_argument("--measure", type=int, default=2, help="beside each cycle at most")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--bound", type=float, default=1100.0, help="images per joule")
    parser.add_argument("--accuracy", type=float, default=96.0, help="percent")
    parser.add_argument("--law", default=str(law_board.LAWS / "waves.py"), help="a law file; see above")
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()
    Requirements.parse((f"img_per_joule >= {given.bound} @ batch={given.batch}",))
    rows = []
    for seed in range(given.seeds):
        counts: list[int] = []
        for arm in ("none", "chosen", "random"):
            with tempfile.TemporaryDirectory() as folder:
                row = one_run(arm, seed, given, counts, Path(folder) / "run")
            counts = row.get("counts", counts)
            rows.append(row)
            print(f"seed {seed} {arm}: {row['hold_as_measured']} of {row['ferminets']} hold, best "
                  f"{row['best_netscore']}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    show(rows, given)
    if given.json:
        write_json(Path(given.json), {"arguments": vars(given), "rows": rows, "totals": totals(rows)}, SCHEMA)


if __name__ == "__main__":
    main()
