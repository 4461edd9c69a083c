"""Whole runs on digits, with and without what no replay can show: what candidates learnt being written back, and full
trainings that start from it.

    python tests/benchmarks/bench_whole_runs.py --seeds 0-4 [--json runs.json]     about a minute a run on one core

Each run is `edgesynth synth --target tx2 --seed N` as a person calls it: cycles, finishing, full trainings. Without
write-back the bank stays as the closed-form fit made it; "fresh" starts full trainings from fresh weights in place of
the bank's. Of the FermiNets that hold 1r on validation: the best NetScore (at its validation accuracy, with which 1r is
decided, and at its test accuracy, which nothing was chosen by), and how many hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from bench_oracle import interval, numbers_of
from rich.console import Console
from rich.table import Table

import synth.run.problem
from devices.support.files import append_line, read_lines, write_json
from synth.objective.performance import netscore
from synth.run.order import Order
from synth.run.run import synthesise

SCHEMA = "edgesynth.bench-whole-runs/1"
SHIPPED, NO_WRITE_BACK, FRESH = ARMS = ("as shipped", "no write-back", "fresh")


@contextlib.contextmanager
def no_write_back() -> Iterator[None]:
    step = synth.run.problem.WRITE_BACK_STEP
    synth.run.problem.WRITE_BACK_STEP = 0.0
    try:
        yield
    finally:
        synth.run.problem.WRITE_BACK_STEP = step


def run(arm: str, seed: int) -> dict[str, Any]:
    start = time.process_time()
    order = Order("tx2", seed=seed, changes=("final.inherits=false",) if arm == FRESH else ())
    with tempfile.TemporaryDirectory() as folder, no_write_back() if arm == NO_WRITE_BACK else contextlib.nullcontext():
        summary = synthesise(order, Path(folder) / "run", command="bench_whole_runs")
    rows = [{name: row.readings[name].value for name in ("accuracy", "validation_accuracy", "params", "macs")}
            for row in summary.ferminets if row.holds == "yes"]
    scores = {name: [float(netscore(row[name], row["params"], row["macs"])) for row in rows]
              for name in ("validation_accuracy", "accuracy")}
    best = int(np.argmax(scores["validation_accuracy"])) if rows else -1
    return {"arm": arm, "seed": seed, "hold": len(rows), "seconds": time.process_time() - start, "ferminets": rows,
            "best": scores["validation_accuracy"][best] if rows else None,
            "best_on_test": scores["accuracy"][best] if rows else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-4", help="1,2,10-15")
    parser.add_argument("--records", help="JSON Lines of finished runs: an interrupted benchmark goes on from there")
    parser.add_argument("--json")
    options = parser.parse_args()
    runs = read_lines(options.records) if options.records else []
    known = {(r["arm"], r["seed"]) for r in runs}
    for seed in numbers_of(options.seeds):
        for arm in ARMS:  # in turns, so that a busy machine slows all
            if (arm, seed) in known:
                continue
            runs.append(run(arm, seed))
            if options.records:
                append_line(options.records, runs[-1])
            print(f"{arm} {seed}: {runs[-1]['best']}", file=sys.stderr)
    table = Table(title="best NetScore of the FermiNets that hold: mean ± half of the 95 % interval over seeds")
    for column in ("arm", "runs", "on validation", "on test", "of four hold", "CPU s"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm in ARMS:
        own = [r for r in runs if r["arm"] == arm and r["hold"]]
        cells = ["{:.2f} ±{:.2f}".format(*interval(np.array([r[key] for r in own])))
                 for key in ("best", "best_on_test")]
        table.add_row(arm, str(len(own)), *cells, f"{np.mean([r['hold'] for r in own]):.1f}",
                      f"{np.mean([r['seconds'] for r in own]):.0f}")
    by = {(r["arm"], r["seed"]): r for r in runs if r["hold"]}
    for arm in (NO_WRITE_BACK, FRESH):
        both = [seed for of, seed in by if of == SHIPPED and (arm, seed) in by]
        for key, where in (("best", "validation"), ("best_on_test", "test")) if len(both) > 1 else ():
            gaps = np.array([by[SHIPPED, seed][key] - by[arm, seed][key] for seed in both])
            print("as shipped less {}: {:+.2f} ±{:.2f} NetScore points on {} ({} seeds)".format(
                arm, *interval(gaps), where, len(gaps)))
    Console(width=120).print(table)
    if options.json:
        write_json(options.json, {"runs": runs}, SCHEMA)


if __name__ == "__main__":
    main()
