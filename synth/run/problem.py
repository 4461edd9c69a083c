"""The cycle's problem on real networks: candidates are drawn from the elastic parent, trained briefly and probed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devices.support.files import read_json, write_json
from synth.energy.loop import BoardLoop
from synth.networks.module import Weights, fresh_weights
from synth.objective.requirements import Requirements
from synth.probing.probing import Probes
from synth.run.candidates import Outcome, Task, run_task, seed_of
from synth.search.decisions import Decisions, Observation, from_words, to_words
from synth.search.probe_table import ProbeTable
from synth.search.synthesis import CycleReport
from synth.space.anchors import anchors
from synth.space.parent import Origin
from synth.space.space import NetworkSpace
from synth.storage.network_folder import WEIGHTS
from synth.storage.run_folder import RunFolder
from synth.storage.tensors import load_tensors, save_tensors
from synth.training.recipe import Recipe
from synth.training.workers import Pool

BANK, BANK_FILE, FINAL_FILE = "edgesynth.bank/1", "bank.safetensors", "final.safetensors"
EVALUATED = "edgesynth.evaluated/2"
CYCLES = "cycles"  # folder of what they left
WRITE_BACK_STEP = 0.1
LINK_EVERY = 20  # candidates, of which one is trained in full as well, for the link to be learnt
FINAL = "final"  # trainings long enough to be cut
SHORT_LOGITS, FINAL_LOGITS = "logits.short", "logits.final"  # keys of the shared arrays


@dataclass(frozen=True)
class Recipes:
    """How candidates are trained to be told apart, and how what is kept is trained. view_seed: of both."""

    short: Recipe
    final: Recipe
    view_seed: int


@dataclass(frozen=True)
class Evaluated:
    """What one cycle left on disk: its candidates (words of `decisions.to_words`) and their outcomes, and the bank with
    what they learnt written back; None where the cycle left it as it was. final: the first candidate's outcome after
    full training, in the cycles that have one, with weights unless an earlier version left it."""

    candidates: list[list[str]]
    outcomes: list[dict[str, Any]]
    final: Outcome | None
    bank: Weights | None
    rolled_back: bool


class NetworkProblem:
    """A `synth.search.decisions.Problem`. Every cycle is a step of the run folder, so that a resumed run replays it.
    in_full: what cycles, those of earlier runs as well, trained in full and kept."""

    def __init__(self, space: NetworkSpace, requirements: Requirements, probes: Probes, pool: Pool, folder: RunFolder,
                 recipes: Recipes, seed: int, parent_outcome: Outcome,
                 on_cycle: Callable[[CycleReport], None] = lambda report: None, loop: BoardLoop | None = None,
                 on_training: Callable[[str, int, int], None] = lambda what, done, total: None,
                 earlier: Sequence[Evaluated] = ()) -> None:
        self.space, self.requirements, self.probes = space, requirements, probes
        self._pool, self._folder, self._recipes, self._seed = pool, folder, recipes, seed
        self._parent_outcome, self._on_cycle, self._loop = parent_outcome, on_cycle, loop
        self._on_training, self._earlier = on_training, earlier
        self.anchors = anchors(space)
        self.in_full: dict[Decisions, Outcome] = {}

    # --- the problem -----------------------------------------------------------------------------------------------

    def initial(self) -> list[Observation]:
        """Anchors, trained briefly and in full, φ itself where candidates inherit from it (a short training from fresh
        weights would know less than φ), and what cycles of earlier runs evaluated."""
        metrics = self._parent_outcome.metrics
        known = []
        if self._recipes.short.inherits:
            known = [Observation(self.space.own, metrics.log_loss, metrics.log_loss_se, metrics.accuracy,
                                 metrics.accuracy)]

        def compute() -> list[dict[str, Any]]:
            full = [self.task(row, self._recipes.final, FINAL_LOGITS, FINAL)[0] for row in self.anchors]
            short = [self.task(row, self._recipes.short, SHORT_LOGITS, "short")[0] for row in self.anchors]
            outcomes = self._trained("anchors", [*full, *short])  # the longest first
            return [{"network": to_words(self.space.sites, row), "short": brief.to_json(), "final": final.to_json()}
                    for row, final, brief in zip(self.anchors, outcomes[:len(full)], outcomes[len(full):], strict=True)]

        def save(path: Path, rows: list[dict[str, Any]]) -> None:
            write_json(path, {"anchors": rows}, EVALUATED)

        if self._loop is not None:
            self._loop.begin_first()
        rows = self._folder.step("anchors.json", compute, save, lambda p: read_json(p, EVALUATED)["anchors"])
        if self._loop is not None:
            self._loop.end()
        self.anchors = [from_words(self.space.sites, row["network"]) for row in rows]
        for decisions, row in zip(self.anchors, rows, strict=True):
            short, final = Outcome.from_json(row["short"]), Outcome.from_json(row["final"])
            self.probes.record(decisions, short.insights)
            known.append(_observation(decisions, short, final.metrics.accuracy))
        for evaluated in self._earlier:
            known += self._learn(evaluated)
        return known

    def evaluate(self, cycle: int, batch: Sequence[Decisions]) -> list[Observation]:
        in_full = teaches_the_link(cycle, len(batch))
        evaluated = self._folder.step(_place(cycle), lambda: self._evaluate(batch, in_full), _save_cycle, load_cycle)
        if self._loop is not None:
            self._loop.end()
        return self._learn(evaluated)

    def _learn(self, evaluated: Evaluated) -> list[Observation]:
        if evaluated.bank is not None:
            self.space.parent.bank = evaluated.bank
        self._keep_in_full(evaluated)
        candidates = [from_words(self.space.sites, words) for words in evaluated.candidates]
        observations = []
        for number, (decisions, row) in enumerate(zip(candidates, evaluated.outcomes, strict=True)):
            outcome = Outcome.from_json(row)
            self.probes.record(decisions, outcome.insights)
            final = evaluated.final if number == 0 else None
            observations.append(_observation(decisions, outcome, None if final is None else final.metrics.accuracy))
        return observations

    def probe_table(self) -> ProbeTable:
        return self.probes.table

    def end_cycle(self, cycle: int, state: CycleReport) -> None:
        self._on_cycle(state)
        if self._loop is not None:
            self._loop.begin_cycle(state)

    def recall_bank(self, cycles: int) -> None:
        """The bank as the last of `cycles` cycles left it."""
        own = (load_cycle(self._folder.path / _place(cycle)) for cycle in reversed(range(cycles)))
        for evaluated in itertools.chain(own, reversed(self._earlier)):
            if evaluated.bank is not None:
                self.space.parent.bank = evaluated.bank
                return

    def recall_in_full(self, cycles: int) -> None:
        """What the first `cycles` cycles, and those of earlier runs, trained in full and kept."""
        own = (load_cycle(self._folder.path / _place(cycle)) for cycle in range(cycles))
        for evaluated in itertools.chain(self._earlier, own):
            self._keep_in_full(evaluated)

    def _keep_in_full(self, evaluated: Evaluated) -> None:
        if evaluated.final is not None and evaluated.final.weights is not None:
            self.in_full[from_words(self.space.sites, evaluated.candidates[0])] = evaluated.final

    # --- candidates ------------------------------------------------------------------------------------------------

    def task(self, decisions: Decisions, recipe: Recipe | None, teacher: str | None, purpose: str,
             keep_weights: bool = False) -> tuple[Task, Mapping[str, Origin]]:
        """Weights are inherited from the bank, unless the recipe says otherwise. On digits a full training inherits as
        well: fresh weights would end better than those that the bank begins with (10 % of the errors), but not better
        than those that the cycles have written back to it (in whole runs the best FermiNet was 0.9 ±1.0 NetScore points
        lower with fresh ones, six seeds)."""
        network, origins = self.space.parent.draw(self.space.design(decisions))
        seed = seed_of(self._seed, network, purpose)
        inherits = recipe is None or recipe.inherits
        weights = self.space.parent.inherit(origins) if inherits else fresh_weights(network, seed)
        checkpoints = self._folder.checkpoints if purpose == FINAL else None
        probed = () if recipe is None else self.probes.vertices  # untrained, only the loss is of interest
        return Task(network, weights, seed, recipe, teacher, self._recipes.view_seed, probed, keep_weights,
                    checkpoints), origins

    def finish(self, batch: Sequence[Decisions]) -> Iterator[Outcome]:
        """Train candidates in full, with distillation; outcomes with weights, in order, as soon as they are there."""
        tasks = [self._full(d) for d in batch]
        return self._pool.map(run_task, tasks) if tasks else iter(())

    def _full(self, decisions: Decisions) -> Task:
        return self.task(decisions, self._recipes.final, FINAL_LOGITS, FINAL, keep_weights=True)[0]

    def _trained(self, what: str, tasks: Sequence[Task]) -> list[Outcome]:
        outcomes = []
        for outcome in self._pool.map(run_task, tasks):
            outcomes.append(outcome)
            self._on_training(what, len(outcomes), len(tasks))
        return outcomes

    def _evaluate(self, batch: Sequence[Decisions], in_full: bool) -> Evaluated:
        short = [self.task(d, self._recipes.short, SHORT_LOGITS, "short", keep_weights=True) for d in batch]
        full = [self._full(d) for d in batch[:int(in_full)]]
        outcomes = self._trained("candidates", [*full, *(task for task, _ in short)])  # the longest first
        results = [(outcome, origins) for outcome, (_, origins) in zip(outcomes[len(full):], short, strict=True)]
        parent, final = self.space.parent, outcomes[0] if full else None
        candidates, found = [to_words(self.space.sites, d) for d in batch], [o.to_json() for o, _ in results]
        if not self._recipes.short.inherits:  # what fresh weights learnt is no neighbour of what the bank holds
            return Evaluated(candidates, found, final, None, False)
        before = {key: tensor.clone() for key, tensor in parent.bank.items()}
        worth_before = self._anchor_loss()
        parent.write_back(((origins, outcome.weights or {}) for outcome, origins in results), WRITE_BACK_STEP)
        learnt = parent.bank
        rolled_back = self._anchor_loss() > worth_before
        parent.bank = before
        return Evaluated(candidates, found, final, None if rolled_back else learnt, rolled_back)

    def _anchor_loss(self) -> float:
        """Mean log loss of the anchors with inherited weights, norms recalibrated, untrained."""
        tasks = [self.task(row, None, None, "anchor")[0] for row in self.anchors]
        return float(np.mean([outcome.metrics.log_loss for outcome in self._pool.map(run_task, tasks)]))


def teaches_the_link(cycle: int, batch: int) -> bool:
    """Whether the first of the `batch` candidates of this cycle is trained in full."""
    return (cycle + 1) * batch // LINK_EVERY > cycle * batch // LINK_EVERY


def _observation(decisions: Decisions, outcome: Outcome, final_accuracy: float | None = None) -> Observation:
    metrics = outcome.metrics
    return Observation(decisions, metrics.log_loss, metrics.log_loss_se, metrics.accuracy, final_accuracy)


def _place(cycle: int) -> str:
    return f"{CYCLES}/{cycle:04d}"


def _save_cycle(path: Path, evaluated: Evaluated) -> None:
    path.mkdir(parents=True, exist_ok=True)
    final = evaluated.final
    value = {"candidates": evaluated.candidates, "outcomes": evaluated.outcomes,
             "final": None if final is None else final.to_json(), "rolled_back": evaluated.rolled_back}
    write_json(path / "outcomes.json", value, EVALUATED)
    if final is not None and final.weights is not None:
        save_tensors(path / FINAL_FILE, final.weights, WEIGHTS)
    if evaluated.bank is not None:
        save_tensors(path / BANK_FILE, evaluated.bank, BANK)


def load_cycle(path: Path) -> Evaluated:
    """What a cycle left in its folder."""
    value = read_json(path / "outcomes.json", EVALUATED)
    bank, weights = (load_tensors(path / name, schema)[0] if (path / name).exists() else None
                     for name, schema in ((BANK_FILE, BANK), (FINAL_FILE, WEIGHTS)))
    final = None if value["final"] is None else Outcome.from_json(value["final"], weights)
    return Evaluated(value["candidates"], value["outcomes"], final, bank, value["rolled_back"])
