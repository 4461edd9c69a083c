"""The paper's experiment on CIFAR-10 from end to end, as one job that may be cut at any time and goes on where it was.

    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR                   on what there is: a GPU or not
    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR --seconds 540     stop after so long
    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR --lanes 16        so many trainings at once
    python tests/benchmarks/job_cifar10.py WORK --data-root CIFAR --collect OUT     leave what is worth keeping in OUT

Stages, each from what those before it left in WORK; on a GPU two at a time, since a search leaves it idle while it
thinks (each has its lanes: 16 took up to 116 GB of an H200 together). Exit code 1 when time was up, and the same
command goes on:
  search   `edgesynth synth`: a generator, and four FermiNets trained for SEARCH["epochs"]
  table    trained networks of the space (table_of_networks.py), and what the short training is worth by them
           (bench_short_training.py)
  finals   `edgesynth train` of each FermiNet (or of --networks) and of what people draw (DRAWN) by one recipe: on all
           50,000 images, distilled from resnet20x2, three seeds each
  many     what 100 fresh seeds of the generator give, trained briefly (bench_many_networks.py), as soon as the search's
           cycles are done
  peers    MobileNetV2 and ShuffleNet, which the paper compares with, trained as the finals are, one seed each

--collect is for a machine that is handed back: at the end, or when time is up, one archive of networks, one of the run,
one of the table, without what can be computed again (checkpoints, banks, a teacher's answers).

The requirement of the search is below the 89 % of the paper by what the finals gain: they train longer, on a ninth more
images, with a better teacher. Of what 20 epochs leave wrong they leave 0.77 to 0.79.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from synth.training.device import AUTO, CPU, CUDA, DEVICES, device_named

HERE = Path(__file__).parent
EDGESYNTH = [sys.executable, "-m", "edgesynth"]
GRACE_S = 20.0  # for a command to write its checkpoint
TEACHER = "resnet20x2"
SEARCH = {"require": "accuracy >= 87 %", "cycles": 6, "batch": 16, "epochs": 20, "finalists": 16, "teacher": TEACHER}
FASTER = ("--set", "batch=256", "--set", "final.rate=0.02", "--set", "short.rate=0.014",  # for a GPU: half the steps
          "--set", "final.small_share=0.5")
SEEDS = "0:3"
TABLE = "cifar10_table.json"
FERMINETS = ("ferminet-a", "ferminet-b", "ferminet-c", "ferminet-d")
DRAWN = (f"{HERE / 'drawn.py'}:attentive",)
PEERS = ("mobilenetv2", "shufflenet")
AT_ONCE = {CUDA: 2, CPU: 1}  # stages
ARCHIVES = {"networks": ("finals", "peers"), "run": ("run",), "table": ("table", "*.json")}  # of WORK
COMPUTED_AGAIN = {"checkpoints", "bank.safetensors", "teacher.safetensors", "teacher-train+validation.safetensors"}


class TimeUp(Exception):
    """The job goes on with the same command."""


class Stages:
    """Runs stages, several at once, each command in a session of its own."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work, self.options = work, options
        self.waiting = [name for name in STAGES if name in options.stages]
        self.commands: dict[str, list[list[str]]] = {}  # of stages under way, still to be run
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.begun: dict[str, float] = {}
        self.failed: list[str] = []

    def run(self, at_once: int, until: float) -> None:
        """All of them. TimeUp when it is, those under way being stopped; SystemExit at the end where some failed."""
        try:
            while self.waiting or self.running:
                for name in [n for n in self.waiting if not self._waits(n)][: at_once - len(self.running)]:
                    self.waiting.remove(name)
                    self.commands[name] = STAGES[name].commands(self.work, self.options)
                    self.begun[name] = time.monotonic()
                    self._next(name)
                time.sleep(0.2)
                for name, process in list(self.running.items()):
                    if process.poll() is not None:
                        self._ended(name, process)
                if time.monotonic() > until:
                    raise TimeUp
            if self.failed:
                raise SystemExit(f"{', '.join(self.failed)}: failed, see above")
        finally:
            for process in self.running.values():
                os.killpg(process.pid, signal.SIGTERM)  # as Ctrl-C, which is ignored where the job is in the background
            for process in self.running.values():
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

    def _waits(self, name: str) -> bool:
        """Whether this needs what another stage has not left yet."""
        stage = STAGES[name]
        return stage.after in {*self.waiting, *self.running} and not (stage.left and (self.work / stage.left).exists())

    def _next(self, name: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.running[name] = subprocess.Popen(self.commands[name].pop(0), env=environment, start_new_session=True)

    def _ended(self, name: str, process: subprocess.Popen[bytes]) -> None:
        del self.running[name]
        if process.returncode not in (0, 1):  # 1: a check failed, which the summary says as well
            lost = [other for other in self.waiting if STAGES[other].after == name]
            self.waiting = [other for other in self.waiting if other not in lost]
            self.failed += [name, *lost]
        elif self.commands[name]:
            self._next(name)
        else:
            print(f"{name}: {time.monotonic() - self.begun[name]:.0f} s", flush=True)


def search(work: Path, options: argparse.Namespace) -> list[list[str]]:
    out = work / "run"
    asked = [word for name, value in SEARCH.items() for word in (f"--{name}", str(value))]
    synth = [*EDGESYNTH, "synth", "--target", "tx2", "--prototype", "resnet20", "--data", "cifar10", *asked, *FASTER,
             "--workers", str(options.lanes), "--device", options.device, "--out", str(out), *rooted(options)]
    return [synth + (["--resume"] if (out / "run.json").exists() else [])]


def finals(work: Path, options: argparse.Namespace) -> list[list[str]]:
    networks = options.networks or [str(work / "run" / name) for name in FERMINETS]
    return [trained(work, options, [*DRAWN, *networks], "finals", SEEDS)]


def peers(work: Path, options: argparse.Namespace) -> list[list[str]]:
    return [trained(work, options, PEERS, "peers", "0:1")]


def trained(work: Path, options: argparse.Namespace, networks: Sequence[str], out: str, seeds: str) -> list[str]:
    return [*EDGESYNTH, "train", *networks, "--data", "cifar10", *rooted(options), "--on", "train+validation",
            "--teacher", TEACHER, "--epochs", str(options.epochs),
            "--seeds", seeds, "--set", "batch=256", "--set", "rate=0.02", "--workers", str(options.lanes),
            "--device", options.device, "--out", str(work / out)]


def many(work: Path, options: argparse.Namespace) -> list[list[str]]:
    learned = work / "learned"  # a copy, since the search may still be training its finalists
    if (work / "run").exists() and not learned.exists():
        shutil.copytree(work / "run", learned, ignore=shutil.ignore_patterns("finished", "checkpoints", ".*"))
    return [[sys.executable, str(HERE / "bench_many_networks.py"), str(learned), "--short", "100", "--beside", "8",
             "--workers", str(options.lanes), "--device", options.device, "--json", str(work / "many.json")]]


def table(work: Path, options: argparse.Namespace) -> list[list[str]]:
    made = [sys.executable, str(HERE / "table_of_networks.py"), "--data", "cifar10", *rooted(options), "--work",
            str(work / "table"), "--workers", str(options.lanes), "--device", options.device, "--out",
            str(work / TABLE)]
    ranked = [sys.executable, str(HERE / "bench_short_training.py"), "--table", str(work / TABLE), *rooted(options),
              "--splits", "0", "--json", str(work / "short.json")]
    return [made, ranked]


def rooted(options: argparse.Namespace) -> list[str]:
    return ["--data-root", str(options.data_root)] if options.data_root else []


def collect(work: Path, out: Path) -> None:
    """One archive each of what is worth keeping, as far as it is there."""
    out.mkdir(parents=True, exist_ok=True)
    for name, patterns in ARCHIVES.items():
        found = sorted(path for pattern in patterns for path in work.glob(pattern))
        if found:
            with tarfile.open(out / f"{name}.tar.xz", "w:xz") as archive:
                for path in found:
                    archive.add(path, path.relative_to(work), filter=_worth_keeping)
            print(f"{out / name}.tar.xz: {(out / f'{name}.tar.xz').stat().st_size / 1e6:.1f} MB", flush=True)


def _worth_keeping(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(entry.name).name in COMPUTED_AGAIN else entry


@dataclass(frozen=True)
class Stage:
    """commands: one after the other. after: the stage that leaves what they need, at its end or when `left` is there,
    a path in WORK."""

    commands: Callable[[Path, argparse.Namespace], list[list[str]]]
    after: str = ""
    left: str = ""


STAGES = {"search": Stage(search), "table": Stage(table), "finals": Stage(finals, "search"),
          "many": Stage(many, "search", "run/generator"), "peers": Stage(peers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data-root", help="folder with your copy of CIFAR-10; without it it is downloaded")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--epochs", type=int, default=60, help="of the finals and the peers")
    parser.add_argument("--networks", nargs="+", help="folders of networks for the finals; else those of the search")
    parser.add_argument("--lanes", type=int, default=2, help="trainings at once")
    parser.add_argument("--device", choices=DEVICES, default=AUTO)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--collect", type=Path, metavar="OUT", help="folder for archives of what is worth keeping")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        until = time.monotonic() + options.seconds - GRACE_S
        Stages(options.work, options).run(AT_ONCE[device_named(options.device)], until)
    except TimeUp:
        print("time was up; go on with the same command")
        sys.exit(1)
    finally:
        if options.collect:
            collect(options.work, options.collect)


if __name__ == "__main__":
    main()
