"""What an energy requirement does to the networks: at batch 1 with small inputs, energy on a TX2 follows launches and
hardly MACs, which pulls against NetScore; at a batch of 16 and more it follows the work, which pulls the same way.

    python tests/benchmarks/bench_energy_front.py --json front.json
    python tests/benchmarks/bench_energy_front.py --batches 1 --shares 0 0.9 --cycles 4          (a quick look)

For each batch the requirement runs from nothing up to near the best that the space can reach, by the cost model (with
its margin of one standard error, as in every run). A level is a share of the way, in logarithm, from the prototype's
images per joule to the best of the space. Each level is a whole search of its own; shown are the FermiNet with the best
NetScore of it, and what the generator makes of fresh seeds: its median launches, MACs, share of separable convolutions
and of dropped blocks. Accuracies are those of a landscape, as in bench_board_in_loop.py; costs and energies are real
predictions for the digits space. Means over seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "synth"))
import board_runs as runs

from devices.layer_cost import fuse
from synth.networks.costs import costs, operations_of
from synth.objective.requirements import Requirements
from synth.run.finalists import make
from synth.search.synthesis import FRESH_FROM
from synth.space.feasibility import best_for

SCHEMA = "edgesynth.bench-energy-front/1"
SEEDS_OF_G = 64


def level(share: float, batch: int) -> tuple[str, float]:
    """The requirement in words and its bound, margin included: what the prediction itself must reach is `share` of the
    way from the prototype to the best of the space."""
    asked = f"img_per_joule >= 1 @ batch={batch}"
    space, prices = runs.digits_space((asked,))
    (item,) = prices.requirements.on_costs
    own = prices.reading(item, space.parent.network).value
    best = prices.reading(item, best_for(space, item)).value
    reach = math.exp((1 - share) * math.log(own) + share * math.log(best))
    sigma = prices.requirements.relative_sigma[item.key]
    bound = reach * math.exp(-sigma)
    return f"img_per_joule >= {bound:.4g} @ batch={batch}", bound


def one(batch: int, share: float | None, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    words, bound = ("", 0.0) if share is None else level(share, batch)
    required = (f"accuracy >= {given.accuracy} %", *((words,) if words else ()))
    with tempfile.TemporaryDirectory() as folder:
        run = runs.run(Path(folder) / "run", seed, given.cycles, required, measure=0, boards=[])
    _, prices = runs.digits_space((f"img_per_joule >= 1 @ batch={batch}",))
    (item,) = prices.requirements.on_costs
    holding = [f for f in run.done if f.holds]
    found: dict[str, Any] = {"batch": batch, "share": share, "bound": bound, "seed": seed, "holding": len(holding),
                             "of": len(run.done)}
    if holding:
        best = max(holding, key=lambda f: runs.netscore_of(run, f))
        exact = costs(best.network)
        found |= {"netscore": runs.netscore_of(run, best), "params": exact.params, "macs": exact.macs,
                  "launches": len(fuse(operations_of(best.network))), "accuracy": best.metrics.accuracy,
                  "img_per_joule": prices.reading(item, best.network).value}
    made = make(run.lab, run.synthesis.generator, range(FRESH_FROM + 5000, FRESH_FROM + 5000 + SEEDS_OF_G))
    space = run.lab.space
    networks = [space.parent.draw(space.design(made.row(i)))[0] for i in range(SEEDS_OF_G)]
    operators = [column for column, place in enumerate(space.places) if place.kind == "operator"]
    blocks = [column for column, place in enumerate(space.places) if place.kind == "block"]
    split = [space.sites[operators[0]].choices.index(name) for name in ("separable", "project")]
    found |= {"g_launches": float(np.median([len(fuse(operations_of(network))) for network in networks])),
              "g_macs": float(np.median([costs(network).macs for network in networks])),
              "g_split": float(np.isin(made.decisions[:, operators], split).mean()),
              "g_dropped": float((made.decisions[:, blocks] == 0).mean()),
              "g_repaired": float(made.repaired.mean())}
    return found


def show(rows: list[dict[str, Any]], given: argparse.Namespace) -> None:
    console = Console(width=160)
    for batch in given.batches:
        table = Table(title=f"batch {batch}: accuracy >= {given.accuracy} %, {given.seeds} seeds", box=None,
                      header_style="dim")
        for title in ("level", "img/J >=", "hold", "best NetScore", "launches", "params", "MACs", "img/J p",
                      "G: launches", "MACs", "split convolutions", "blocks dropped", "repaired"):
            table.add_column(title, justify="right")
        for share in (None, *given.shares):
            mine = [row for row in rows if row["batch"] == batch and row["share"] == share]
            good = [row for row in mine if "netscore" in row]

            def mean(name: str, of: list[dict[str, Any]], form: str = "{:.0f}") -> str:
                return form.format(np.mean([row[name] for row in of])) if of else "-"

            table.add_row(
                "none" if share is None else f"{100 * share:.0f} %", "-" if share is None else mean("bound", mine),
                f"{sum(row['holding'] for row in mine)} of {sum(row['of'] for row in mine)}",
                mean("netscore", good, "{:.1f}"), mean("launches", good, "{:.1f}"), mean("params", good),
                mean("macs", good), mean("img_per_joule", good), mean("g_launches", mine, "{:.1f}"),
                mean("g_macs", mine), mean("g_split", mine, "{:.2f}"), mean("g_dropped", mine, "{:.2f}"),
                mean("g_repaired", mine, "{:.2f}"))
        console.print(table)
        console.print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 0.8, 0.95])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=8)
    parser.add_argument("--accuracy", type=float, default=96.0, help="percent")
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()
    Requirements.parse((f"accuracy >= {given.accuracy} %",))
    rows = []
    for batch in given.batches:
        for share in (None, *given.shares):
            for seed in range(given.seeds):
                rows.append(one(batch, share, seed, given))
                print(f"batch {batch} share {share} seed {seed}: {rows[-1]}", file=sys.stderr, flush=True)
    show(rows, given)
    if given.json:
        write_json(Path(given.json), {"arguments": vars(given), "rows": rows}, SCHEMA)


if __name__ == "__main__":
    main()
