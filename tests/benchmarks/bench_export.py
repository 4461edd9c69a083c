"""How long export, check and parity take, and how much memory: a FermiNet's size and a network of 25 M parameters.

    python tests/benchmarks/bench_export.py [--json PATH]

Each case runs in a process of its own, so that its peak memory is its own. The limits are those of the project: 60 s
and 3 GB for 25 M parameters on 2 cores, 10 s for a FermiNet; start-up of Python and torch is not counted in seconds.
The processor's own seconds stand beside the clock's: on a busy machine only they mean something.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

SCHEMA = "edgesynth.bench-export/1"
# name: (widths, blocks a stage, shape of an image, classes, most seconds, most GB)
CASES = {
    "FermiNet-sized": ((16, 32, 64), (1, 1, 1), (3, 32, 32), 10, 10.0, 3.0),
    "25 M parameters": ((64, 128, 256, 512), (3, 4, 6, 4), (3, 224, 224), 1000, 60.0, 3.0),
}
PRECISIONS = (("tx2", "fp32"), ("tx2", "fp16"), ("nvidia-gpu", "fp16"), ("orin-nx", "int8"))


def network(widths, blocks, shape, classes):
    """A residual network of 3x3 convolutions in stages."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))
            self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
            alike = stride == 1 and inputs == outputs
            self.short = nn.Identity() if alike else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x):
            return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))

    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(shape[0], widths[0], 3, 2 if shape[1] > 64 else 1, 1)]
    channels = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            layers.append(Block(channels, width, 2 if i == 0 and (stage or shape[1] > 64) else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def measure(case, target, precision, pipe):
    """One export in this process; sends {"seconds", "gigabytes", "parameters", "megabytes", "relative_error"}."""
    import torch

    from export.exporter import export_network

    torch.set_num_threads(2)
    widths, blocks, shape, classes, _, _ = CASES[case]
    module = network(widths, blocks, shape, classes)
    images = torch.randn(16, *shape, generator=torch.Generator().manual_seed(1)).numpy()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = export_network(module, shape, images, Path(folder) / "a.onnx", target, precision=precision)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds = {"seconds": report.duration_s, "cpu_seconds": time.process_time() - began}
    size = {"gigabytes": peak, "parameters": report.params, "megabytes": report.size_bytes / 1e6}
    pipe.send({**seconds, **size, "relative_error": report.parity.relative_error})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="PATH")
    place = parser.parse_args().json
    spawn = multiprocessing.get_context("spawn")
    rows = []
    print(
        f"{'network':<17}{'target':<12}{'precision':<11}{'params':>9}{'file':>10}{'time':>9}{'cpu':>9}{'peak':>9}{'error':>10}"
    )
    for case, (_, _, _, _, seconds, gigabytes) in CASES.items():
        for target, precision in PRECISIONS:
            here, there = spawn.Pipe()
            process = spawn.Process(target=measure, args=(case, target, precision, there))
            process.start()
            there.close()
            row = {"case": case, "target": target, "precision": precision, **here.recv()}
            process.join()
            row["within"] = row["seconds"] <= seconds and row["gigabytes"] <= gigabytes
            rows.append(row)
            size = f"{row['parameters'] / 1e6:>7.2f} M{row['megabytes']:>7.1f} MB"
            cost = f"{row['seconds']:>7.1f} s{row['cpu_seconds']:>7.1f} s{row['gigabytes']:>6.2f} GB"
            verdict = "" if row["within"] else "  BEYOND THE LIMIT"
            print(
                f"{case:<17}{target:<12}{precision:<11}{size}{cost}{row['relative_error']:>10.1e}{verdict}", flush=True
            )
    if place:
        Path(place).write_text(json.dumps({"schema": SCHEMA, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
