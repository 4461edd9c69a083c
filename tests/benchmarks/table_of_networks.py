"""A table of trained networks of the digits space: what the search would have seen of each, and what full training
made of it. Searches are replayed on it (bench_table.py), and what the short training is worth is read off it
(bench_short_training.py).

    python tests/benchmarks/table_of_networks.py --work DIR                 train what is missing, then write the table
    python tests/benchmarks/table_of_networks.py --work DIR --seconds 110   stop after so long; run again to go on

The sample, after NAS-Bench-301 (Zela et al., arXiv 2008.09777), which covers both the space and where searches go:
  sizes      drawn at random leaning towards small or large choices, 12 from each of six bands of log cost
  level      40 within ±20 % of one cost (the root of parameters times MACs), near where 1r begins to bind
  front      what the inquisitor, shown all of the above, finds along the front by its local search
  generated  fresh seeds of a generator that has followed it
  near       changes of one to three decisions of the last two
All hold the exact requirements, as everything that a search evaluates does. Each network is trained
briefly and in full exactly as a run does (weights inherited from the elastic parent, distilled from φ; seed 0), every
second of "level" twice each, every second of "front" twice in full, and ten of "level" in full from scratch as well.
Nothing is written back, so that the order of training does not matter. The test split is not read.
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
import torch

from devices.support.files import append_line, canonical_json, read_lines, write_bytes
from synth.candidates import Outcome, Task, run_task
from synth.data.dataset import load_dataset
from synth.decisions import Decisions, IntArray, Observation
from synth.device import Compute
from synth.generator import Generator
from synth.inquisitor import Inquisitor
from synth.moves import Moves, log_cost, repair, violation
from synth.networks.module import build, weights_of
from synth.order import Order
from synth.preparation import Laboratory, laboratory, traced_prototype
from synth.probing import Insight
from synth.problem import FINAL_LOGITS, SHORT_LOGITS, NetworkProblem
from synth.progress import Progress
from synth.run_folder import MANIFEST, Manifest, RunFolder, installed_versions

SCHEMA = "edgesynth.table-of-networks/1"
HERE = Path(__file__).parent / "digits_table.json"
BANDS = (16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.5)  # of log(parameters times MACs)
PER_BAND = 12
LEVEL, LEVEL_SPREAD, LEVEL_COUNT = 18.6, 0.2, 40  # log cost; relative spread of the root; networks
FRONT, GENERATED, NEAR = 32, 24, 36
SCRATCH, CHUNK = 10, 6  # trained from scratch; trainings handed to the workers at a time
SHORT, FINAL, FROM_SCRATCH = "short", "final", "scratch"
Job = tuple[str, Decisions, str, int]  # group, network, purpose, repeat


@dataclass(frozen=True)
class Training:
    """One training of one network. repeat: 0 is the run's own seed. metrics: of the validation split, as in
    `synth.evaluation.Metrics`. insights: of the probed vertices, after the short training only."""

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


def random_parts(lab: Laboratory, moves: Moves) -> Iterator[tuple[str, IntArray]]:
    """The parts that need no training to be drawn."""
    random = np.random.default_rng(301)
    drawn = allowed(lab, leaning(moves, 60_000, random))
    cost = log_cost(lab.space, drawn)
    for low, high in itertools.pairwise(BANDS):
        yield "sizes", drawn[(cost >= low) & (cost < high)][:PER_BAND]
    low, high = (LEVEL + 2 * np.log(1 + side * LEVEL_SPREAD) for side in (-1, 1))
    yield "level", drawn[(cost >= low) & (cost < high)][-LEVEL_COUNT:]


def learnt_parts(lab: Laboratory, moves: Moves, problem: NetworkProblem,
                 known: Sequence[Observation]) -> Iterator[tuple[str, IntArray]]:
    """The parts along the front, by what the trainings so far tell the inquisitor."""
    random = np.random.default_rng(302)
    inquisitor = Inquisitor(problem, 303)
    inquisitor.observe(known, problem.probe_table())
    generator = Generator(lab.space.sites, seed=303)
    middle = float(np.median(log_cost(lab.space, inquisitor.incumbent()[0][:8])))
    generator.aim(lambda d: log_cost(lab.space, lab.space.canonical(d)), middle - 0.5, middle + 0.5, range(16))
    for step in range(10):
        generator.move(inquisitor.step(generator, range(16 * step, 16 * step + 16)).step.delta)
    pool, belief = inquisitor.pool.join()
    pool, belief = pool[belief.violation <= 0], belief.take(np.flatnonzero(belief.violation <= 0))
    chance, u = belief.holds(inquisitor.bound), belief.performance()
    taken: list[int] = []
    for least in np.linspace(0.05, 0.95, FRONT):  # from bold to safe: the best U that holds with so much chance
        order = np.argsort(-np.where(chance >= least, u, -np.inf), kind="stable")
        taken.append(next(int(i) for i in order if int(i) not in taken))
    yield "front", pool[taken]
    made = repair(moves, lab.requirements, generator.generate(range(1000, 1400)))[0]
    made = allowed(lab, made)
    yield "generated", made[:GENERATED]
    base = np.concatenate([pool[taken], made[:GENERATED]])
    near = base[random.integers(len(base), size=20 * NEAR)].copy()
    for row in near:
        at = random.choice(len(moves.counts), random.integers(1, 4), replace=False)
        row[at] = random.integers(0, moves.counts[at])
    yield "near", allowed(lab, lab.space.canonical(near))[:NEAR]


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


def further_jobs(planned: Sequence[tuple[str, Decisions]]) -> list[Job]:
    """What tells the noise of training and what inheritance does."""
    level, front = ([d for group, d in planned if group == name][::2] for name in ("level", "front"))
    jobs: list[Job] = [("level", d, SHORT, 1) for d in level]
    jobs += [("level", d, FINAL, 1) for d in level] + [("front", d, FINAL, 1) for d in front]
    return jobs + [("level", d, FROM_SCRATCH, 0) for d in level[:SCRATCH]]


# --- training --------------------------------------------------------------------------------------------------------


class Trainer:
    """Trains what is missing and appends each training to the records."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem, records: Path, seconds: float) -> None:
        self.lab, self.problem, self.records = lab, problem, records
        self.done = {t.key: t for t in map(Training.from_json, read_lines(records))}
        self.until = time.monotonic() + seconds

    def all(self, wanted: Sequence[Job]) -> bool:
        """Whether all of these trainings are there; False when time ran out."""
        jobs = [job for job in wanted if job[1:] not in self.done]
        for first in range(0, len(jobs), CHUNK):
            if time.monotonic() > self.until:
                print(f"{len(jobs) - first} trainings to go in this part, {len(self.done)} done", file=sys.stderr)
                return False
            chunk = jobs[first : first + CHUNK]
            outcomes = self.lab.pool.map(run_task, [self._task(*job[1:]) for job in chunk])
            for job, outcome in zip(chunk, outcomes, strict=True):
                self._record(job, outcome)
        return True

    def _task(self, decisions: Decisions, purpose: str, repeat: int) -> Task:
        recipes = self.lab.recipes
        short = purpose == SHORT
        recipe, teacher = (recipes.short, SHORT_LOGITS) if short else (recipes.final, FINAL_LOGITS)
        name = SHORT if short else FINAL
        task, _ = self.problem.task(decisions, recipe, teacher, f"{name}/{repeat}" if repeat else name)
        if purpose == FROM_SCRATCH:
            torch.manual_seed(task.seed)
            task = replace(task, weights=weights_of(build(task.network)))
        return task

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
    card = {"command": "python tests/benchmarks/table_of_networks.py --work DIR", "versions": installed_versions(),
            "seed": order.seed, "data": {order.data: lab.dataset.checksum}, "target": order.target,
            "networks": len(networks), "trainings": len(trainings)}
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


def make_table(folder: Path, out: Path, seconds: float, workers: int) -> bool:
    """Whether the table is complete."""
    order = Order("tx2")
    dataset, progress = load_dataset(order.data), Progress()
    manifest = Manifest("table_of_networks", order.arguments(), {order.data: dataset.checksum})
    until = time.monotonic() + seconds
    with RunFolder.start(folder, manifest, resume=(folder / MANIFEST).exists()) as run_folder, laboratory(
            order, dataset, traced_prototype(order, dataset), run_folder, Compute(workers), progress) as lab:
        problem = NetworkProblem(lab.space, lab.requirements, lab.probes, lab.pool, run_folder, lab.recipes,
                                 order.seed, lab.parent_outcome)
        known = problem.initial()
        probed = snapshot(lab)
        trainer = Trainer(lab, problem, folder / "trainings.jsonl", until - time.monotonic())
        moves = Moves(lab.space)
        first = plan(random_parts(lab, moves), {o.decisions for o in known})
        complete = trainer.all(first_jobs(first))
        if complete:
            observed = []
            for _, decisions in first:
                short, final = trainer.done[decisions, SHORT, 0], trainer.done[decisions, FINAL, 0]
                lab.probes.record(decisions, {n: Insight(*i) for n, i in short.insights.items()})
                observed.append(Observation(decisions, short.log_loss, short.log_loss_se, short.accuracy,
                                            final.accuracy))
            second = plan(learnt_parts(lab, moves, problem, known + observed),
                          {o.decisions for o in (*known, *observed)})
            near = [(group, d) for group, d in second if group == "near"]
            complete = (trainer.all(first_jobs([item for item in second if item not in near]))
                        and trainer.all(further_jobs([*first, *second])) and trainer.all(first_jobs(near)))
        write_table(out, lab, known, probed, list(trainer.done.values()))
    return complete


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="folder for φ, its parent and the trainings so far")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; exit code 1 then")
    options = parser.parse_args()
    sys.exit(0 if make_table(options.work, options.out, options.seconds, options.workers) else 1)


if __name__ == "__main__":
    main()
