"""What Torch-Pruning makes of φ and of the elastic parent: paths of networks by falling cost, for the replay.

    python tests/benchmarks/pruned_paths.py        trains φ on digits (a minute), writes digits_pruned.json

Torch-Pruning (Fang et al., DepGraph, CVPR 2023, arXiv 2301.12900; MIT) takes the least important coupled channels of
the whole network, group magnitude, at each of twenty ratios; its widths are rounded to the nearest that the space has.
One path starts from trained φ, one from the parent with separable convolutions everywhere (weights from the bank). It
leaves no block out. Importance is that of one training of φ (seed 0); the test split is not read.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch_pruning

from devices.support.files import canonical_json, write_bytes
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.progress import Progress
from synth.run.order import Order
from synth.run.preparation import Laboratory, laboratory, traced_prototype
from synth.search.decisions import choice_counts
from synth.space.space import WIDTH
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.device import Compute

SCHEMA = "edgesynth.pruned-paths/1"
HERE = Path(__file__).parent / "digits_pruned.json"
RATIOS = np.linspace(0.0, 0.95, 20)


def path(lab: Laboratory, operator: str) -> list[list[int]]:
    """Decisions along one path, by rising ratio."""
    space = lab.space
    base = choice_counts(space.sites) - 1
    for j, site in enumerate(space.sites):
        if operator in site.choices:
            base[j] = site.choices.index(operator)
    network, origins = space.parent.draw(space.design(tuple(int(c) for c in base)))
    rows = []
    for ratio in RATIOS:
        module = copy.deepcopy(build(network, space.parent.inherit(origins)).eval())
        pruner = torch_pruning.pruner.MagnitudePruner(
            module, torch.zeros(1, *network.input_shape), global_pruning=True, pruning_ratio=float(ratio),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), max_pruning_ratio=0.95,
            ignored_layers=[part for part in module.modules() if isinstance(part, torch.nn.Linear)])
        pruner.step()
        row = base.copy()
        for j, place in enumerate(space.places):
            if place.kind == WIDTH:
                width = module.layer(place.name).out_channels
                row[j] = int(np.abs(np.array(space.widths[place.name]) - width).argmin())
        rows.append([int(c) for c in row])
    return rows


def main() -> None:
    order = Order("tx2")
    dataset = load_dataset(order.data)
    manifest = Manifest("pruned_paths", order.arguments(), {order.data: dataset.checksum})
    with tempfile.TemporaryDirectory() as folder, RunFolder.start(Path(folder) / "run", manifest) as run, laboratory(
            order, dataset, traced_prototype(order, dataset), run, Compute(), Progress()) as lab:
        sites = [[site.name, list(site.choices)] for site in lab.space.sites]
        paths = {"φ": path(lab, "dense"), "the parent, separable": path(lab, "separable")}
    card = {"command": "python tests/benchmarks/pruned_paths.py", "torch_pruning": torch_pruning.__version__,
            "torch": torch.__version__, "data": {order.data: dataset.checksum}}
    write_bytes(HERE, canonical_json({"schema": SCHEMA, "card": card, "sites": sites, "paths": paths}).encode())


if __name__ == "__main__":
    main()
