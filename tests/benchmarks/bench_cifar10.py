"""CIFAR-10: what the networks that come with edgesynth reach, beside what is published.

    python tests/benchmarks/bench_cifar10.py                        by the cards of the shipped networks
    python tests/benchmarks/bench_cifar10.py --data-root FOLDER     evaluated anew on the test split
    python tests/benchmarks/bench_cifar10.py --json cifar10.json

Accuracy is of the test split, which was read for networks that were chosen before. Rows marked "published" were never
run here; their sources are in published_cifar10.json. NetScore as in arXiv 1806.05512, batch norm folded for our own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from devices.support.files import read_json, write_json
from synth.objective.performance import information_density, netscore
from synth.zoo.shelf import card_of, shipped

PUBLISHED = Path(__file__).parent / "published_cifar10.json"


def own_rows(root: str | None) -> list[dict[str, Any]]:
    """One row a shipped network; accuracy from its card, or evaluated now."""
    rows = []
    for (data, name), folder in shipped().items():
        if data != "cifar10":
            continue
        card = card_of(folder)
        accuracy = card["test"]["accuracy"] if root is None else evaluated(folder, root)
        if accuracy != card["test"]["accuracy"]:
            print(f"{name}: {accuracy:.4f} now, {card['test']['accuracy']:.4f} on its card", file=sys.stderr)
        rows.append({"name": name, "accuracy": accuracy, "params": card["params"], "macs": card["macs"],
                     "source": f"edgesynth, {card['on']} split" + ("" if root is None else ", evaluated now"),
                     "note": card.get("note", "")})
    return rows


def evaluated(folder: Path, root: str) -> float:
    from synth.data.dataset import load_dataset
    from synth.networks.module import build
    from synth.storage.network_folder import load_network
    from synth.training.evaluation import evaluate

    network, weights = load_network(folder)
    return evaluate(build(network, weights), load_dataset("cifar10", root).test).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root")
    parser.add_argument("--json")
    options = parser.parse_args()
    published = [{**row, "source": f"published: {row['source']}"}
                 for row in read_json(PUBLISHED, "edgesynth.published/1")["rows"]]
    rows = [*own_rows(options.data_root), *published]
    for row in rows:
        row["density"] = float(information_density(row["accuracy"], row["params"]))
        row["netscore"] = None if row["macs"] is None else float(netscore(row["accuracy"], row["params"], row["macs"]))
    rows.sort(key=lambda row: -(row["netscore"] or 0.0))
    table = Table(title="CIFAR-10, test split")
    for title in ("network", "accuracy", "parameters", "MACs", "%/M", "NetScore", "source"):
        table.add_column(title, justify="left" if title in ("network", "source") else "right")
    for row in rows:
        table.add_row(row["name"], f"{100 * row['accuracy']:.2f} %", f"{row['params'] / 1e3:.1f} k",
                      "not published" if row["macs"] is None else f"{row['macs'] / 1e6:.2f} M",
                      f"{row['density']:.0f}", "–" if row["netscore"] is None else f"{row['netscore']:.1f}",
                      row["source"] + (f" ({row['note']})" if row.get("note") else ""))
    Console(width=160).print(table)
    if options.json:
        write_json(options.json, {"rows": rows}, "edgesynth.bench-cifar10/1")


if __name__ == "__main__":
    main()
