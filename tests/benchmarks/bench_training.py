"""What the training step costs, choice by choice; what the recipes reach; what a pool of workers weighs.

    python tests/benchmarks/bench_training.py [--json PATH] [--seeds 3] [--rounds 5]

The step's rows are measured in turn, round after round in one process with one thread, and the least CPU time of an
epoch is shown: other load on the machine lengthens some rounds, never shortens one. Recipes are judged on the
validation split of digits; the test split is not read.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from synth.data.dataset import Dataset, Split, load_dataset
from synth.prototypes.registry import load_prototype
from synth.prototypes.resnet import ResNet
from synth.training.device import Compute
from synth.training.distillation import teacher_logits
from synth.training.epochs import batches
from synth.training.evaluation import evaluate
from synth.training.optimiser import FlatOptimiser
from synth.training.recipe import RECIPES, Recipe
from synth.training.training import train
from synth.training.workers import Pool, Shared


@dataclass(frozen=True)
class Step:
    """One way to make a training step."""

    name: str
    batch: int
    channels_last: bool
    optimiser: str  # "loop", "foreach", "fused": torch.optim.AdamW; "flat": ours

    def epoch(self, dataset: Dataset) -> Callable[[], None]:
        """A function that trains resnet8 for one epoch."""
        module = load_prototype("resnet8", dataset)
        recipe = replace(RECIPES["digits"]["prototype"], batch=self.batch)
        step = self._stepper(module, recipe)
        module.train()

        def run() -> None:
            for _, images, labels in batches(dataset.train, recipe, 0, 0, 0):
                if not self.channels_last:
                    images = images.contiguous()
                nn.functional.cross_entropy(module(images), labels).backward()
                step()

        return run

    def _stepper(self, module: nn.Module, recipe: Recipe) -> Callable[[], None]:
        if self.optimiser == "flat":
            flat = FlatOptimiser(module, "adamw", decay=recipe.decay, momentum=0.9, average_steps=0)
            return lambda: flat.step(1e-3)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ways: dict[str, Any] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
        optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=recipe.decay, **ways[self.optimiser])

        def step() -> None:
            optimiser.step()
            optimiser.zero_grad()

        return step


STEPS = (
    Step("plain PyTorch", 64, False, "foreach"),
    Step("one call a tensor", 64, False, "loop"),
    Step("fused AdamW", 64, False, "fused"),
    Step("flat optimiser", 64, True, "flat"),
    Step("channels last, AdamW as it is", 64, True, "foreach"),
    Step("batch 32", 32, True, "flat"),
    Step("batch 128", 128, True, "flat"),
    Step("batch 256", 256, True, "flat"),
)


def bench_step(dataset: Dataset, rounds: int) -> list[dict[str, Any]]:
    runs = [(step, step.epoch(dataset)) for step in STEPS]
    best = dict.fromkeys(STEPS, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up
        for step, run in runs:
            start = time.process_time()
            run()
            best[step] = min(best[step], time.process_time() - start)
    plain = best[STEPS[0]]
    return [
        {
            "step": step.name, "batch": step.batch, "channels_last": step.channels_last, "optimiser": step.optimiser,
            "cpu_s_per_epoch": best[step], "images_per_s": len(dataset.train) / best[step], "gain": plain / best[step],
        }
        for step in STEPS
    ]


def bench_start() -> dict[str, Any]:
    """What the first optimiser of a process costs: torch.optim imports the compiler, ours nothing."""
    code = """
import sys, time, torch
from torch import nn
from synth.training.optimiser import FlatOptimiser
def pss(): return int(open('/proc/self/smaps_rollup').read().split('Pss:')[1].split()[0]) / 1e3
module = nn.Linear(4, 4)
before, start = pss(), time.process_time()
if sys.argv[1] == 'torch.optim': torch.optim.AdamW(module.parameters())
else: FlatOptimiser(module, 'adamw', decay=0.0, momentum=0.9, average_steps=0)
print(time.process_time() - start, pss() - before)
"""
    found = {}
    for name in ("torch.optim", "flat optimiser"):
        ran = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        seconds, megabytes = (float(word) for word in ran.stdout.split())
        found[name] = {"cpu_s": seconds, "pss_mb": megabytes}
    return found


def bench_recipes(dataset: Dataset, seeds: int) -> list[dict[str, Any]]:
    """The three recipes: the prototype's on resnet8, the others on a slim network from scratch, taught by it."""
    rows: list[dict[str, Any]] = []
    teachers: list[nn.Module] = []
    for purpose in ("prototype", "short", "final"):
        recipe = RECIPES["digits"][purpose]
        found, seconds = [], []
        for seed in range(seeds):
            logits = None
            if purpose == "prototype":
                module = load_prototype("resnet8", dataset, seed=seed)
                teachers.append(module)
            else:
                torch.manual_seed(seed)
                module = ResNet(1, 10, widths=(8, 12, 20), blocks=1)
                logits = teacher_logits(teachers[seed], dataset.train, recipe, view_seed=0)
            start = time.process_time()
            train(module, dataset.train, recipe, seed=seed, view_seed=0, teacher=logits)
            seconds.append(time.process_time() - start)
            found.append(evaluate(module, dataset.validation))
        rows.append({
            "recipe": purpose, "epochs": recipe.epochs, "seeds": seeds,
            "accuracy_mean": statistics.mean(metrics.accuracy for metrics in found),
            "accuracy_least": min(metrics.accuracy for metrics in found),
            "log_loss": statistics.mean(metrics.log_loss for metrics in found),
            "cpu_s": statistics.mean(seconds),
        })
    return rows


def weigh(shared: Shared, job: int) -> float:
    """PSS of a worker in MB, after a short training."""
    split = Split(shared["images"], shared["labels"])
    train(ResNet(1, 10, widths=(16, 32, 64), blocks=1), split, Recipe(1, batch=64), seed=job)
    return pss_mb("self")


def pss_mb(pid: int | str) -> float:
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0]) / 1e3


def bench_pool(dataset: Dataset) -> dict[str, Any]:
    import bench_training  # a pool imports nothing of a script, so the job must come from a module
    import psutil

    start = time.perf_counter()
    with Pool(Compute(2), {"images": dataset.train.images, "labels": dataset.train.labels}) as pool:
        ready = time.perf_counter() - start
        list(pool.map(bench_training.weigh, range(8)))
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        weights = {f"{process.pid} {process.name()}": pss_mb(process.pid) for process in processes}
    return {"ready_s": ready, "pss_mb": weights, "total_mb": sum(weights.values())}


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    shown = Table(title=title, title_justify="left")
    for key in rows[0]:
        shown.add_column(key)
    for row in rows:
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset("digits")
    console = Console(width=140)
    pool = bench_pool(dataset)
    console.print(f"pool of 2: ready in {pool['ready_s']:.1f} s, {pool['total_mb']:.0f} MB (PSS of all processes)")
    start = bench_start()
    for name, cost in start.items():
        console.print(f"first optimiser of a process, {name}: {cost['cpu_s']:.2f} s CPU, {cost['pss_mb']:.0f} MB")
    steps = bench_step(dataset, arguments.rounds)
    console.print(table("training step, resnet8 on digits, one thread", steps))
    recipes = bench_recipes(dataset, arguments.seeds)
    console.print(table("recipes, validation split of digits", recipes))
    if arguments.json:
        value = {"pool": pool, "start": start, "steps": steps, "recipes": recipes, "torch": torch.__version__}
        arguments.json.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
