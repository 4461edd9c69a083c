"""What attention over channels is worth as a decision of the space: a drawn network with and without it.

    python tests/benchmarks/bench_attention.py --data-root CIFAR               20 to 40 minutes of a core a row and seed
    python tests/benchmarks/bench_attention.py --data-root CIFAR --epochs 1    a look
    python tests/benchmarks/bench_attention.py --data-root CIFAR --json attention.json

`drawn.py:hardswish_narrower` as it is, and with attention (`synth.networks.rewriting.with_attention`) behind the
depthwise convolution of every block. Both are trained by the recipe of a search's finalists, taught by resnet20, and
judged on the validation split.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import drawn
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from devices.support.files import write_json
from synth.data.dataset import Dataset, load_dataset
from synth.networks.costs import costs
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.objective.performance import netscore
from synth.storage.network_folder import load_network
from synth.training.device import AUTO, DEVICES, device_named
from synth.training.distillation import teacher_logits
from synth.training.evaluation import evaluate
from synth.training.recipe import Recipe, recipe_for
from synth.training.training import train
from synth.zoo.shelf import find

RECIPE = ("batch=256", "rate=0.02", "small_share=0.5")


def row(name: str, make: Callable[[int, int], nn.Module], dataset: Dataset, seed: int, logits: torch.Tensor,
        recipe: Recipe, device: str) -> dict[str, Any]:
    network, weights = trace(make(dataset.shape[0], len(dataset.classes)), dataset.shape, name)
    cost, module = costs(network), build(network, weights).to(device)
    train(module, dataset.train, recipe, seed=seed, view_seed=0, teacher=logits)
    metrics = evaluate(module, dataset.validation)
    return {"network": name, "seed": seed, "params": cost.params, "macs": cost.macs, "validation": metrics.to_json(),
            "netscore": float(netscore(metrics.accuracy, cost.params, cost.macs))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="folder with your copy of CIFAR-10; without it it is downloaded")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--device", choices=DEVICES, default=AUTO)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = device_named(options.device)
    dataset = load_dataset("cifar10", options.data_root)
    recipe = recipe_for("cifar10", "final", images=len(dataset.train), size=dataset.shape[1:],
                        changes=[*RECIPE, f"epochs={options.epochs}"])
    teacher = build(*load_network(find("resnet20", "cifar10"))).eval().to(device)
    logits = teacher_logits(teacher, dataset.train.to(device), recipe, view_seed=0, precision="bf16")
    rows = []
    for seed in range(options.seeds):
        for name, make in (("plain", drawn.hardswish_narrower), ("attentive", drawn.attentive)):
            torch.manual_seed(seed)
            rows.append(row(name, make, dataset, seed, logits, recipe, device))
            print(f"{name}, seed {seed}: {100 * rows[-1]['validation']['accuracy']:.2f} %", flush=True)
    table = Table(title=f"validation after {options.epochs} epochs")
    for title in ("", "seed", "parameters", "MACs", "accuracy", "log loss", "NetScore"):
        table.add_column(title, justify="right" if title else "left")
    for one in rows:
        found = one["validation"]
        table.add_row(one["network"], str(one["seed"]), f"{one['params']:,}", f"{one['macs'] / 1e6:.2f} M",
                      f"{100 * found['accuracy']:.2f} %", f"{found['log_loss']:.3f}",
                      f"{one['netscore']:.1f}")
    Console().print(table)
    if options.json:
        write_json(options.json, {"epochs": options.epochs, "rows": rows}, "edgesynth.bench-attention/1")


if __name__ == "__main__":
    main()
