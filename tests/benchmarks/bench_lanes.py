"""Training steps on a GPU: told one by one or recorded, in one lane or many, images per second of all lanes together.

    python tests/benchmarks/bench_lanes.py                    a minute on a GPU; on a CPU it only shows that it runs
    python tests/benchmarks/bench_lanes.py --seconds 30       stops after so long, the rest of the rows is left out
    python tests/benchmarks/bench_lanes.py --json lanes.json

The network is the hand-drawn anchor (32.5 k parameters, 4 M MACs) on made-up images of 32 x 32, distilled from logits,
by the recipe of finals; resnet20x2 is a teacher. Every row trains for two seconds, all its lanes at once.

An H200 trains 144,000 images of 32 x 32 px a second in sixteen lanes, and no more where a step tells it a third of the
calls: its kernels are what takes the time, half of it cuDNN's batch norms, a block of threads a channel, and a tenth
the slopes of depthwise weights (`anchor-hardswish`, batches of 256, torch 2.11).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.console import Console
from rich.table import Table

from devices.support.files import write_json
from synth.data.dataset import Split
from synth.networks.module import build
from synth.networks.network import Network
from synth.networks.tracing import trace
from synth.prototypes.mobilenet import anchor
from synth.prototypes.resnet import resnet20x2
from synth.training.epochs import Lesson, RecordedEpochs, plain_epoch
from synth.training.lanes import Lanes, wait_until
from synth.training.optimiser import FlatOptimiser
from synth.training.precision import layout
from synth.training.recipe import RECIPES

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
IMAGES, SECONDS = (25_600, 2.0) if ON_GPU else (512, 0.2)


@dataclass(frozen=True)
class Row:
    network: str = "anchor"
    batch: int = 256
    precision: str = "fp32"
    lanes: int = 16
    small: bool = False
    recorded: bool = True


ROWS = (
    Row(), Row(lanes=8), Row(lanes=32), Row(lanes=1), Row(lanes=1, recorded=False), Row(batch=128), Row(small=True),
    Row(precision="bf16"), Row("resnet20x2", precision="bf16", lanes=1), Row(lanes=4),
    Row(lanes=4, precision="bf16"),
)  # fmt: skip


def lesson(row: Row, network: Network, weights: dict[str, torch.Tensor], split: Split, logits: torch.Tensor) -> Lesson:
    recipe = replace(RECIPES["cifar10"]["final"], epochs=logits.shape[0], batch=row.batch, precision=row.precision)
    module = build(network, weights).to(DEVICE).train()
    optimiser = FlatOptimiser(module, "adamw", decay=recipe.decay, momentum=0.9, average_steps=100,
                              layout=layout(row.precision, DEVICE))
    return Lesson(module, split, recipe, logits, optimiser, 0, 0)


def steps_per_second(row: Row, split: Split, logits: torch.Tensor) -> float:
    """Of all lanes together."""
    shape = split.images.shape[1:]
    made = {"anchor": anchor, "resnet20x2": resnet20x2}[row.network](3, (32, 32), 10)
    network, weights = trace(made, (int(shape[0]), int(shape[1]), int(shape[2])), row.network)
    begun: set[int] = set()

    def lane(number: int) -> float:
        one = lesson(row, network, weights, split, logits)
        epochs = RecordedEpochs(one) if row.recorded else None
        if epochs is not None:
            epochs(0, row.small)
        begun.add(number)
        wait_until(lambda: len(begun) == row.lanes)
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            (epochs or (lambda epoch, small: plain_epoch(one, epoch, small)))(0, row.small)
            steps += one.steps_per_epoch
        return steps / (time.perf_counter() - start)

    return sum(Lanes(row.lanes, DEVICE).map(lane, range(row.lanes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--json")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    made = torch.Generator().manual_seed(0)
    split = Split(torch.randn(IMAGES, 3, 32, 32, generator=made), torch.randint(0, 10, (IMAGES,), generator=made))
    split, logits = split.to(DEVICE), torch.randn(2, IMAGES, 10, generator=made).to(DEVICE)
    device = torch.cuda.get_device_name() if ON_GPU else "CPU"
    table = Table(title=f"training steps on {device}, torch {torch.__version__}")
    for column in ("network", "batch", "precision", "lanes", "px", "steps", "steps/s", "k images/s", "ms a step"):
        table.add_column(column, justify="right")
    rows = []
    for row in ROWS if ON_GPU else ROWS[-1:]:
        if time.monotonic() > until:
            break
        rate = steps_per_second(row, split, logits)
        how = "recorded" if row.recorded else "one by one"
        px = RECIPES["cifar10"]["final"].small_px if row.small else 32
        table.add_row(row.network, str(row.batch), row.precision, str(row.lanes), str(px), how, f"{rate:.0f}",
                      f"{rate * row.batch / 1000:.0f}", f"{1000 * row.lanes / rate:.2f}")
        rows.append({**asdict(row), "steps_per_second": rate})
    Console(width=120).print(table)
    if options.json:
        found = {"device": device, "torch": torch.__version__, "rows": rows}
        write_json(options.json, found, "edgesynth.bench-lanes/1")


if __name__ == "__main__":
    main()
