"""A table of trained networks of one space: what the search would have seen of each, and what full training made of
it. Searches are replayed on it (bench_oracle.py), and what the short training is worth is read off it
(bench_short_training.py).

    python tests/benchmarks/table_of_networks.py --work DIR                 train what is missing, then write the table
    python tests/benchmarks/table_of_networks.py --work DIR --seconds 110   stop after so long; run again to go on
    python tests/benchmarks/table_of_networks.py --work DIR --data cifar10 --data-root CIFAR --device cuda --workers 8

The sample, after NAS-Bench-301 (Zela et al., arXiv 2008.09777), which covers both the space and where searches go:
  level      within ±20 % of one cost (the root of parameters times MACs), near where 1r begins to bind
  sizes      drawn at random leaning towards small or large choices, from bands of log cost
  front      what the inquisitor, shown all of the above, finds along the front by its local search
  generated  fresh seeds of a generator that has followed it
  near       changes of one to three decisions of the last two
All hold the exact requirements, as everything that a search evaluates does. Each network is trained briefly exactly as
a run does (on digits from weights inherited from the elastic parent; distilled from φ; seed 0) and in full from fresh
weights, every second of "level" twice each, every second of "front" twice in full, and some of "level" in full from
inherited weights as well. Nothing is written back, so that the order of training does not matter: what is told by the
fewest comes first. The test split is not read.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from devices.support.files import append_line, canonical_json, read_lines, write_bytes
from synth.data.dataset import load_dataset
from synth.probing.probing import Insight
from synth.progress import Progress
from synth.run.candidates import Outcome, Task, run_task
from synth.run.order import Order
from synth.run.preparation import Laboratory, laboratory, traced_prototype
from synth.run.problem import FINAL_LOGITS, SHORT_LOGITS, NetworkProblem
from synth.search.decisions import Decisions, IntArray, Observation
from synth.search.generator import Generator
from synth.search.inquisitor import Inquisitor
from synth.search.moves import Moves, log_cost, repair, violation
from synth.storage.run_folder import MANIFEST, Manifest, RunFolder, installed_versions
from synth.training.device import DEVICES, Compute, device_named

SCHEMA = "edgesynth.table-of-networks/1"
HERE = Path(__file__).parent / "digits_table.json"
LEVEL_SPREAD = 0.2  # relative, of the root of parameters times MACs
CHUNK = 6  # trainings handed to the workers at a time, unless there are more workers
SHORT, FINAL, INHERITED = "short", "final", "inherited"  # the last: in full, from inherited weights
Job = tuple[str, Decisions, str, int]  # group, network, purpose, repeat


@dataclass(frozen=True)
class Sample:
    """Which networks a table has. bands: of log(parameters times MACs), with so many networks each; level: log cost;
    the others: numbers of networks, by part; inherited: of "level", in full from inherited weights too."""

    order: Order
    bands: tuple[float, ...]
    per_band: int
    level: float
    level_count: int
    front: int
    generated: int
    near: int
    inherited: int


SAMPLES = {
    "digits": Sample(Order("tx2"), (16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.5), 12, 18.6, 40, 32, 24, 36, 10),
    "cifar10": Sample(Order("tx2", "resnet20", "cifar10", requirements=("accuracy >= 87 %",), epochs=20,
                            changes=("batch=256", "final.rate=0.02", "short.rate=0.014", "final.small_share=0.5")),
                      (22.5, 23.5, 24.5, 25.5, 26.5, 27.5), 12, 25.5, 32, 32, 24, 36, 4),
}


@dataclass(frozen=True)
class Training:
    """One training of one network. repeat: 0 is the run's own seed. metrics: of the validation split, as in
    `synth.training.evaluation.Metrics`. insights: of the probed vertices, after the short training only."""

    decisions: Decisions
    group: str
    purpose: str
    repeat: int
    log_loss: float
    log_loss_se: float
    accuracy: float
    insights: dict[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Decisions, str, int]:
        return self.decisions, self.purpose, self.repeat

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Training:
        return cls(**{**value, "decisions": tuple(value["decisions"])})


# --- the sample ------------------------------------------------------------------------------------------------------


def leaning(moves: Moves, count: int, random: np.random.Generator) -> IntArray:
    """[count, sites] random networks of all sizes: each leans by its own amount to its first or last choices."""
    lean = random.uniform(-4.0, 3.0, (count, 1))
    drawn = np.zeros((count, len(moves.counts)), dtype=np.int64)
    for j, n in enumerate(moves.counts):
        chance = np.exp(lean * np.arange(n) / max(n - 1, 1))
        drawn[:, j] = (random.random((count, 1)) > (chance / chance.sum(1, keepdims=True)).cumsum(1)).sum(1)
    return moves.space.canonical(np.minimum(drawn, moves.counts - 1))


def allowed(lab: Laboratory, decisions: IntArray) -> IntArray:
    """Those that hold the exact requirements, each once, in order."""
    decisions = decisions[violation(lab.requirements, lab.space.costs(decisions)) <= 0]
    _, first = np.unique(decisions, axis=0, return_index=True)
    return decisions[np.sort(first)]


def random_parts(lab: Laboratory, moves: Moves, sample: Sample) -> Iterator[tuple[str, IntArray]]:
    """The parts that need no training to be drawn."""
    random = np.random.default_rng(301)
    drawn = allowed(lab, leaning(moves, 60_000, random))
    cost = log_cost(lab.space, drawn)
    for low, high in itertools.pairwise(sample.bands):
        yield "sizes", drawn[(cost >= low) & (cost < high)][:sample.per_band]
    low, high = (sample.level + 2 * np.log(1 + side * LEVEL_SPREAD) for side in (-1, 1))
    yield "level", drawn[(cost >= low) & (cost < high)][-sample.level_count:]


def learnt_parts(lab: Laboratory, moves: Moves, sample: Sample, problem: NetworkProblem,
                 known: Sequence[Observation]) -> Iterator[tuple[str, IntArray]]:
    """The parts along the front, by what the trainings so far tell the inquisitor."""
    random = np.random.default_rng(302)
    inquisitor = Inquisitor(problem, 303)
    inquisitor.begin(known, problem.probe_table())
    generator = Generator(lab.space.sites, seed=303)
    middle = float(np.median(log_cost(lab.space, inquisitor.theory.incumbent()[0][:8])))
    generator.aim(lambda d: log_cost(lab.space, lab.space.canonical(d)), middle - 0.5, middle + 0.5, range(16))
    for step in range(10):
        generator.move(inquisitor.step(generator, range(16 * step, 16 * step + 16)).delta)
    pool, belief = inquisitor.pool.join()
    pool, belief = pool[belief.violation <= 0], belief.take(np.flatnonzero(belief.violation <= 0))
    chance, u = belief.holds(inquisitor.theory.bound), belief.performance()
    taken: list[int] = []
    for least in np.linspace(0.05, 0.95, sample.front):  # from bold to safe: the best U that holds with so much chance
        order = np.argsort(-np.where(chance >= least, u, -np.inf), kind="stable")
        taken.append(next(int(i) for i in order if int(i) not in taken))
    yield "front", pool[taken]
    made = repair(moves, lab.requirements, generator.generate(range(1000, 1400)))[0]
    made = allowed(lab, made)
    yield "generated", made[:sample.generated]
    base = np.concatenate([pool[taken], made[:sample.generated]])
    near = base[random.integers(len(base), size=20 * sample.near)].copy()
    for row in near:
        at = random.choice(len(moves.counts), random.integers(1, 4), replace=False)
        row[at] = random.integers(0, moves.counts[at])
    yield "near", allowed(lab, lab.space.canonical(near))[:sample.near]


def plan(parts: Iterator[tuple[str, IntArray]], seen: set[Decisions]) -> list[tuple[str, Decisions]]:
    """(group, network), each network in the first group that has it."""
    planned = []
    for group, decisions in parts:
        for row in decisions:
            key = tuple(int(c) for c in row)
            if key not in seen:
                seen.add(key)
                planned.append((group, key))
    return planned


def first_jobs(planned: Sequence[tuple[str, Decisions]]) -> list[Job]:
    """One short and one full training of every network."""
    return [(group, d, purpose, 0) for purpose in (SHORT, FINAL) for group, d in planned]


def level_jobs(planned: Sequence[tuple[str, Decisions]], inherited: int) -> list[Job]:
    """What tells how networks of one cost rank, what inheritance does, and the noise of training."""
    level = [(group, d) for group, d in planned if group == "level"]
    twice = [d for _, d in level][::2]
    jobs = first_jobs(level) + [("level", d, INHERITED, 0) for d in twice[:inherited]]
    return jobs + [("level", d, purpose, 1) for purpose in (SHORT, FINAL) for d in twice]


def front_jobs(planned: Sequence[tuple[str, Decisions]]) -> list[Job]:
    """The noise of full training along the front."""
    return [("front", d, FINAL, 1) for d in [d for group, d in planned if group == "front"][::2]]


# --- training --------------------------------------------------------------------------------------------------------


class Trainer:
    """Trains what is missing and appends each training to the records. at_once: trainings handed to the workers."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem, records: Path, seconds: float, at_once: int) -> None:
        self.lab, self.problem, self.records, self.at_once = lab, problem, records, at_once
        self.done = {t.key: t for t in map(Training.from_json, read_lines(records))}
        self.until = time.monotonic() + seconds

    def all(self, wanted: Sequence[Job]) -> bool:
        """Whether all of these trainings are there; False when time ran out."""
        jobs = [job for job in wanted if job[1:] not in self.done]
        for first in range(0, len(jobs), self.at_once):
            if time.monotonic() > self.until:
                print(f"{len(jobs) - first} trainings to go in this part, {len(self.done)} done", file=sys.stderr)
                return False
            chunk = jobs[first : first + self.at_once]
            outcomes = self.lab.pool.map(run_task, [self._task(*job[1:]) for job in chunk])
            for job, outcome in zip(chunk, outcomes, strict=True):
                self._record(job, outcome)
        return True

    def _task(self, decisions: Decisions, purpose: str, repeat: int) -> Task:
        recipes = self.lab.recipes
        short = purpose == SHORT
        recipe, teacher = (recipes.short, SHORT_LOGITS) if short else (recipes.final, FINAL_LOGITS)
        recipe = recipe if short else replace(recipe, inherits=purpose == INHERITED)
        name = SHORT if short else FINAL
        return self.problem.task(decisions, recipe, teacher, f"{name}/{repeat}" if repeat else name)[0]

    def _record(self, job: Job, outcome: Outcome) -> None:
        group, decisions, purpose, repeat = job
        insights = insights_of(outcome) if purpose == SHORT and not repeat else {}
        training = Training(decisions, group, purpose, repeat, outcome.metrics.log_loss, outcome.metrics.log_loss_se,
                            outcome.metrics.accuracy, insights)
        append_line(self.records, asdict(training))
        self.done[training.key] = training


def insights_of(outcome: Outcome) -> dict[str, list[float]]:
    return {name: [round(value, 4) for value in (i.rank, i.dependence, i.redundancy)]
            for name, i in outcome.insights.items()}


# --- the table -------------------------------------------------------------------------------------------------------


def write_table(path: Path, lab: Laboratory, known: Sequence[Observation], probed: dict[str, Any],
                trainings: Sequence[Training]) -> None:
    """The compact table, with its card: what it takes to make it anew, and to replay searches on it."""
    networks: dict[Decisions, dict[str, Any]] = {}
    for training in trainings:
        entry = networks.setdefault(training.decisions, {"decisions": list(training.decisions),
                                                         "group": training.group, "insights": {}})
        entry[training.purpose] = entry.get(training.purpose, [])
        entry[training.purpose].append([round(training.log_loss, 5), round(training.log_loss_se, 4),
                                        round(training.accuracy, 6)])
        entry["insights"] = entry["insights"] or training.insights
    order = lab.order
    data = "" if order.data == "digits" else f" --data {order.data}"
    card = {"command": f"python tests/benchmarks/table_of_networks.py --work DIR{data}",
            "versions": installed_versions(), "order": {**order.arguments(), "data_root": None},
            "data": {order.data: lab.dataset.checksum}, "networks": len(networks), "trainings": len(trainings)}
    value = {"card": card, "sites": [[s.name, list(s.choices)] for s in lab.space.sites],
             "known": [observation.to_json() for observation in known], "probed": probed,
             "networks": list(networks.values())}
    write_bytes(path, canonical_json({"schema": SCHEMA, **value}).encode())


def snapshot(lab: Laboratory) -> dict[str, Any]:
    """The probe table before the first cycle, and φ's insights."""
    table = lab.probes.table
    values = [[[None if np.isnan(v) else round(float(v), 5) for v in choice] for choice in site]
              for site in table.values]
    insights = {name: [i.rank, i.dependence, i.redundancy] for name, i in lab.probes.parent_insights.items()}
    return {"values": values, "visits": table.visits.tolist(), "parent": insights}


def make_table(sample: Sample, folder: Path, out: Path, seconds: float, compute: Compute) -> bool:
    """Whether the table is complete."""
    order = sample.order
    dataset, progress = load_dataset(order.data, order.data_root), Progress()
    manifest = Manifest("table_of_networks", order.arguments(), {order.data: dataset.checksum})
    until = time.monotonic() + seconds
    with RunFolder.start(folder, manifest, resume=(folder / MANIFEST).exists()) as run_folder, laboratory(
            order, dataset, traced_prototype(order, dataset), run_folder, compute, progress) as lab:
        problem = NetworkProblem(lab.space, lab.requirements, lab.probes, lab.pool, run_folder, lab.recipes,
                                 order.seed, lab.parent_outcome)
        known = problem.initial()
        probed = snapshot(lab)
        trainer = Trainer(lab, problem, folder / "trainings.jsonl", until - time.monotonic(),
                          max(CHUNK, compute.workers))
        moves = Moves(lab.space)
        first = plan(random_parts(lab, moves, sample), {o.decisions for o in known})
        complete = trainer.all(level_jobs(first, sample.inherited)) and trainer.all(first_jobs(first))
        if complete:
            observed = []
            for _, decisions in first:
                short, final = trainer.done[decisions, SHORT, 0], trainer.done[decisions, FINAL, 0]
                lab.probes.record(decisions, {n: Insight(*i) for n, i in short.insights.items()})
                observed.append(Observation(decisions, short.log_loss, short.log_loss_se, short.accuracy,
                                            final.accuracy))
            second = plan(learnt_parts(lab, moves, sample, problem, known + observed),
                          {o.decisions for o in (*known, *observed)})
            near = [(group, d) for group, d in second if group == "near"]
            complete = (trainer.all(first_jobs([item for item in second if item not in near]))
                        and trainer.all(front_jobs(second)) and trainer.all(first_jobs(near)))
        write_table(out, lab, known, probed, list(trainer.done.values()))
    return complete


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="folder for φ, its parent and the trainings so far")
    parser.add_argument("--data", choices=sorted(SAMPLES), default="digits")
    parser.add_argument("--data-root", help="folder with your copy of the data set")
    parser.add_argument("--out", type=Path, help="the table  [default: DATA_table.json here]")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; exit code 1 then")
    options = parser.parse_args()
    sample = SAMPLES[options.data]
    sample = replace(sample, order=replace(sample.order, data_root=options.data_root))
    out = options.out or HERE.with_name(f"{options.data}_table.json")
    compute = Compute(options.workers, device_named(options.device))
    sys.exit(0 if make_table(sample, options.work, out, options.seconds, compute) else 1)


if __name__ == "__main__":
    main()
