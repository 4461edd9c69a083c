"""The paper's experiment on CIFAR-10 from end to end, as one job that may be cut at any time and goes on where it was.

    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR                       on what there is: a GPU or not
    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR --seconds 540         stop after so long
    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR --workers 8 --lanes 6 several trainings on one GPU

Stages, each from what the one before left in WORK; exit code 1 when time was up, and the same command goes on:
  search   `edgesynth synth` under "accuracy >= 82.5 %" after 12 epochs, where the hand-drawn anchor reaches 83.2 % (and
           88.7 % after 60): a generator, and four FermiNets
  finals   `edgesynth train` of each FermiNet and of the hand-drawn anchor on all 50,000 images, distilled from
           ResNet-20, three seeds each
  table    trained networks of the space (table_of_networks.py), off which bench_short_training.py reads what the short
           training is worth

It prints what each stage took. Costs: on two CPU cores about two hours of search and a core-hour for each seed of a
final; on a GPU it has not been run yet.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from synth.device import AUTO, DEVICES

HERE = Path(__file__).parent
EDGESYNTH = [sys.executable, "-m", "edgesynth"]
GRACE_S = 20.0  # for a command to write its checkpoint after Ctrl-C


class TimeUp(Exception):
    """The job goes on with the same command."""


def together(commands: Sequence[list[str]], lanes: int, until: float) -> None:
    """Run commands, so many at once; Ctrl-C for all when time is up. TimeUp then, SystemExit where one failed."""
    waiting, running = list(commands), []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        while waiting or running:
            while waiting and len(running) < lanes:
                running.append(subprocess.Popen(waiting.pop(0), env=environment, start_new_session=True))
            time.sleep(0.5)
            for process in [p for p in running if p.poll() is not None]:
                running.remove(process)
                if process.returncode not in (0, 1):  # 1: a check failed, which the summary says as well
                    raise SystemExit(f"{' '.join(map(str, process.args))}: ended with {process.returncode}")
            if time.monotonic() > until:
                raise TimeUp
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGINT)
        for process in running:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def search(work: Path, options: argparse.Namespace) -> list[list[str]]:
    out = work / "run"
    command = [*EDGESYNTH, "synth", "--target", "tx2", "--prototype", "resnet20", "--data", "cifar10",
               "--require", "accuracy >= 82.5 %", "--cycles", "6", "--batch", "6", "--epochs", "12",
               "--workers", str(options.workers), "--device", options.device, "--out", str(out)]
    return [command + rooted(options) + (["--resume"] if (out / "run.json").exists() else [])]


def finals(work: Path, options: argparse.Namespace) -> list[list[str]]:
    networks = {"anchor": "anchor"} | {p.name: str(p) for p in sorted((work / "run").glob("ferminet-?"))}
    return [[*EDGESYNTH, "train", network, "--data", "cifar10", *rooted(options), "--on", "train+validation",
             "--teacher", "resnet20", "--epochs", str(options.epochs), "--seeds", "0:3", "--device", options.device,
             "--out", str(work / "finals" / name)] for name, network in networks.items()]


def table(work: Path, options: argparse.Namespace) -> list[list[str]]:
    made = work / "cifar10_table.json"
    return [[sys.executable, str(HERE / "table_of_networks.py"), "--data", "cifar10", *rooted(options), "--work",
             str(work / "table"), "--workers", str(options.workers), "--device", options.device, "--out", str(made)]]


def rooted(options: argparse.Namespace) -> list[str]:
    return ["--data-root", str(options.data_root)] if options.data_root else []


STAGES = {"search": search, "finals": finals, "table": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data-root", help="folder with your copy of CIFAR-10; without it it is downloaded")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--epochs", type=int, default=100, help="of the finals")
    parser.add_argument("--workers", type=int, default=2, help="of the search and the table")
    parser.add_argument("--lanes", type=int, default=2, help="finals trained at once")
    parser.add_argument("--device", choices=DEVICES, default=AUTO)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    until = time.monotonic() + options.seconds - GRACE_S
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.stages:
        start = time.monotonic()
        try:
            together(STAGES[name](options.work, options), options.lanes, until)
        except TimeUp:
            print(f"{name}: time was up after {time.monotonic() - start:.0f} s; go on with the same command")
            sys.exit(1)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
