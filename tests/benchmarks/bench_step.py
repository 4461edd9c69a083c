"""How fast a training step is on one core, and what each measure gains: for a network of dense convolutions (resnet20)
and for one of depthwise and 1x1 convolutions (the anchor), on images of CIFAR-10's size.

    python tests/benchmarks/bench_step.py                 about a minute
    python tests/benchmarks/bench_step.py --compile       also a compiled step (minutes of compiling)
    python tests/benchmarks/bench_step.py --json step.json

All variants of a network are timed in turns, several times over, so that a busy machine slows all alike; the table has
the median and its spread between rounds. Those where freed memory is kept come last, since that is for the rest of the
process. Images are random: time does not depend on what they show.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as functional
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json
from synth.networks.module import build
from synth.networks.tracing import trace
from synth.prototypes.mobilenet import anchor
from synth.prototypes.resnet import resnet20
from synth.training.memory import keep_freed_memory
from synth.training.optimiser import FlatOptimiser
from synth.training.precision import answers, is_fast_in_bf16

BATCH, STEPS, ROUNDS = 128, 3, 5
PLAIN = "plain PyTorch"
NETWORKS = {"resnet20": resnet20, "anchor": anchor}
Step = Callable[[], None]


def plain(make, size: int = 32) -> Step:
    """What a first script does: PyTorch's own module, memory order and optimiser."""
    module = make(3, (32, 32), 10)
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.01)
    images, labels = torch.randn(BATCH, 3, size, size), torch.randint(0, 10, (BATCH,))

    def step() -> None:
        functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return step


def ours(make, size: int = 32, precision: str = "fp32", compiled: bool = False, optimiser: str = "adamw") -> Step:
    """The step of synth.training.training: the network's own graph, channels last, flat optimiser."""
    network, weights = trace(make(3, (32, 32), 10), (3, 32, 32), "bench")
    module = build(network, weights).train()
    flat = FlatOptimiser(module, optimiser, decay=0.02, momentum=0.95, average_steps=100)
    images = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    called = torch.compile(module) if compiled else module

    def step() -> None:
        functional.cross_entropy(answers(called, images, precision), labels).backward()
        flat.step(0.001)
    return step


def rate(step: Step) -> float:
    """Images a second of processor time: what other processes take does not count."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return BATCH * STEPS / (time.process_time() - start)


def timed(steps: dict[str, Step]) -> dict[str, list[float]]:
    """Rates of every step, in turns."""
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {variant: [] for variant in steps}
    for _ in range(ROUNDS):
        for variant, step in steps.items():
            found[variant].append(rate(step))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title="training step on one core, images per second")
    for column in ("network", "variant", "images/s", "spread", "gain"):
        table.add_column(column, justify="left" if column in ("network", "variant") else "right")
    rows = []
    found: dict[str, dict[str, list[float]]] = {name: {} for name in NETWORKS}
    for name, make in NETWORKS.items():
        steps = {PLAIN: plain(make), "channels last, flat optimiser": ours(make),
                 "and Muon": ours(make, optimiser="muon")}
        if options.compile:
            steps["and compiled"] = ours(make, compiled=True)
        found[name] |= timed(steps)
    if not keep_freed_memory():
        print("the C library here is not glibc: freed memory cannot be kept", file=sys.stderr)
    for name, make in NETWORKS.items():
        steps = {"+ freed memory kept": ours(make), "+ images of 24 x 24": ours(make, 24)}
        if is_fast_in_bf16("cpu"):
            steps |= {"+ bfloat16": ours(make, precision="bf16"),
                      "+ bfloat16 and 24 x 24": ours(make, 24, "bf16")}
        found[name] |= timed(steps)
    for name, variants in found.items():
        base = float(np.median(variants[PLAIN]))
        for variant, rates in variants.items():
            middle, spread = float(np.median(rates)), float(np.std(rates, ddof=1))
            table.add_row(name, variant, f"{middle:.0f}", f"±{spread:.0f}", f"{middle / base:.2f}x")
            rows.append({"network": name, "variant": variant, "images_per_second": rates, "gain": middle / base})
    Console(width=120).print(table)
    if options.json:
        write_json(options.json, {"batch": BATCH, "torch": torch.__version__, "rows": rows}, "edgesynth.bench-step/1")


if __name__ == "__main__":
    main()
