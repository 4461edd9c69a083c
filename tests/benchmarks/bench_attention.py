"""What attention over channels would be worth as a decision of the space: a drawn network with and without it.

    python tests/benchmarks/bench_attention.py --data-root CIFAR               20 to 40 minutes of a core a row and seed
    python tests/benchmarks/bench_attention.py --data-root CIFAR --epochs 1    a look
    python tests/benchmarks/bench_attention.py --data-root CIFAR --json attention.json

`drawn.py:hardswish_narrower` as it is, and with efficient channel attention (ECA; Wang et al. 2020, arXiv 1910.03151)
behind the depthwise convolution of every block: the mean of each channel over the map, mixed with those of its two
neighbours, says how much of it goes on. Both are trained by the recipe of a search's finalists, taught by resnet20, and
judged on the validation split. Parameters and MACs are counted as for NetScore: batch norms folded, a MAC being one of
a convolution over the map or of a linear layer.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import drawn
import torch
import torch.nn.functional as functional
from rich.console import Console
from rich.table import Table
from torch import nn

from devices.support.files import write_json
from synth.data.dataset import Dataset, load_dataset
from synth.networks.costs import costs
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.objective.performance import netscore
from synth.prototypes.mobilenet import InvertedResidual
from synth.storage.network_folder import load_network
from synth.training.device import AUTO, DEVICES, device_named
from synth.training.distillation import teacher_logits
from synth.training.evaluation import evaluate
from synth.training.recipe import Recipe, recipe_for
from synth.training.training import train
from synth.zoo.shelf import find

RECIPE = ("batch=256", "rate=0.02", "small_share=0.5")


class ChannelAttention(nn.Module):
    """[N, C, H, W] weighed channel by channel; it begins near the identity's slope, the same for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 0.5, 0.0]))
        self.bias = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3))[:, None]
        weights = functional.conv1d(means, self.weight[None, None], self.bias, padding=1)[:, 0]
        return x * functional.hardsigmoid(weights)[:, :, None, None]


def plain(dataset: Dataset) -> nn.Module:
    return drawn.hardswish_narrower(dataset.shape[0], len(dataset.classes))


def attentive(dataset: Dataset) -> nn.Module:
    network = plain(dataset)
    for block in network.modules():
        if isinstance(block, InvertedResidual):
            block.branch.insert(len(block.branch) - 2, ChannelAttention())  # before the 1x1 and its norm
    return network


def row(name: str, module: nn.Module, dataset: Dataset, seed: int, logits: torch.Tensor, recipe: Recipe, device: str
        ) -> dict[str, Any]:
    base = costs(trace(plain(dataset), dataset.shape)[0])
    params = base.params + sum(p.numel() for m in module.modules() if isinstance(m, ChannelAttention)
                               for p in m.parameters())
    module.to(device)
    train(module, dataset.train, recipe, seed=seed, view_seed=0, teacher=logits)
    metrics = evaluate(module, dataset.validation)
    return {"network": name, "seed": seed, "params": params, "macs": base.macs, "validation": metrics.to_json(),
            "netscore": float(netscore(metrics.accuracy, params, base.macs))}


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
        for name, make in (("plain", plain), ("attentive", attentive)):
            torch.manual_seed(seed)
            rows.append(row(name, make(dataset), dataset, seed, logits, recipe, device))
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
