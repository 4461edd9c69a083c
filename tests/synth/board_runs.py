"""Whole runs of the search with a board in the loop and without training, for benchmarks of what the board is worth.

All is real but the accuracies: these come from a landscape over the decisions of the digits space (without those that
cost nothing), another one for every seed, seen with noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.layer_cost import fuse
from synth.data.dataset import load_dataset
from synth.energy.choice import choose
from synth.energy.crew import Crew
from synth.energy.feedback import Feedback
from synth.energy.loop import BoardLoop
from synth.networks.costs import costs, operations_of
from synth.networks.module import build, weights_of
from synth.objective.performance import netscore
from synth.progress import Progress
from synth.run.candidates import Outcome
from synth.run.finalists import make
from synth.run.finishing import finish
from synth.run.order import Order
from synth.run.preparation import (
    Laboratory,
    Prototype,
    _export_for_board,
    traced_prototype,
)
from synth.run.run import export_for_board
from synth.run.scope import ends_of, space_of, with_margins
from synth.search.decisions import Observation, rows
from synth.search.probe_table import ProbeTable
from synth.search.synthesis import FRESH_FROM, Settings, Synthesis
from synth.space.correction import Correction
from synth.space.prices import Prices
from synth.space.space import Choices
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.evaluation import Metrics

BEST_ERROR = 0.012  # of the whole prototype
DAMAGE = {"dense": 0.0, "separable": 0.10, "project": 0.14, "pointwise": 0.25}  # of an operator
# what the landscape knows of
CHOICES = Choices(("pointwise", "separable", "project", "dense"), activations=False, blind=True)
NOISE = 0.08  # of a short training's log loss
VALIDATION = 359


class Landscape:
    """log error after full training = log(BEST_ERROR) + damage(decisions); a short training shows it with noise."""

    def __init__(self, space, requirements, seed: int, on_cycle=lambda report: None, loop=None):
        self.space, self.requirements, self.loop = space, requirements, loop
        self.random, self.on_cycle = np.random.default_rng([seed, 0x10]), on_cycle
        self.seed, self.trained = seed, 0
        shape = np.random.default_rng([seed, 0x11])
        self.weight = shape.lognormal(0.0, 0.5, len(space.sites))
        self.table = ProbeTable(space.sites, ("damage",), (1,))
        for j, site in enumerate(space.sites):
            for choice in range(0, len(site.choices), 2):
                self.table.record(j, choice, (self._site(j, choice) * shape.lognormal(0.0, 0.3),))

    def _site(self, j: int, choice: int) -> float:
        site = self.space.sites[j]
        if site.kind == "operator":
            return float(self.weight[j] * DAMAGE[site.choices[choice]])
        missing = 1.0 - choice / max(len(site.choices) - 1, 1)
        return float(self.weight[j] * (0.35 if site.kind == "width" else 0.20) * missing**1.5)

    def log_error(self, decisions) -> np.ndarray:
        canonical = self.space.canonical(np.asarray(decisions))
        damage = np.array([[self._site(j, int(c)) for j, c in enumerate(row)] for row in canonical])
        return math.log(BEST_ERROR) + damage.sum(axis=1)

    def accuracy(self, decisions) -> np.ndarray:
        return 1.0 - np.minimum(np.exp(self.log_error(decisions)), 0.9)

    def _observation(self, decisions, noise: float, final: bool) -> Observation:
        row = rows([decisions], len(self.space.sites))
        loss = 2.4 + 0.9 * float(self.log_error(row)[0]) + noise
        accuracy = float(self.accuracy(row)[0])
        short = 1 - min(0.9, math.exp(loss - 1.0))
        return Observation(tuple(decisions), loss, NOISE, short, accuracy if final else None)

    def initial(self):
        if self.loop is not None:
            self.loop.begin_first()
            self.loop.end()
        whole = tuple(len(site.choices) - 1 for site in self.space.sites)
        middle = tuple((len(site.choices) - 1) // 2 for site in self.space.sites)
        return [self._observation(one, 0.0, True) for one in (whole, middle)]

    def evaluate(self, cycle, batch):
        found = [self._observation(one, NOISE * self.random.standard_normal(), cycle % 5 == 4 and not number)
                 for number, one in enumerate(batch)]
        if self.loop is not None:
            self.loop.end()
        return found

    def probe_table(self):
        return self.table

    def end_cycle(self, cycle, state):
        self.on_cycle(state)
        if self.loop is not None:
            self.loop.begin_cycle(state)

    def finish(self, batch):
        """"Full training": the landscape's accuracy, as a validation split of its size would show it."""
        for one in batch:
            self.trained += 1
            network, _ = self.space.parent.draw(self.space.design(one))
            right = round(VALIDATION * float(self.accuracy(rows([one], len(one)))[0]))
            smooth = (right + 2) / (VALIDATION + 4)
            metrics = Metrics(0.1, math.log(0.1), 0.1, right / VALIDATION,
                              math.sqrt(smooth * (1 - smooth) / (VALIDATION + 4)), VALIDATION)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                yield Outcome(metrics, {}, weights_of(build(network)))


@dataclass
class Run:
    lab: Laboratory
    problem: Landscape
    synthesis: Synthesis
    done: list[Any]
    seed: int

    @property
    def trained(self) -> int:
        return self.problem.trained


def run(folder: Path, seed: int, cycles: int, requirements: Sequence[str], *, measure: int, boards: Sequence[Any],
        pick=choose, ferminets: int = 4) -> Run:
    """Search and finish on the digits space."""
    order = Order(target="tx2", requirements=tuple(requirements), seed=seed, cycles=cycles, measure=measure,
                  ferminets=ferminets)
    dataset = load_dataset(order.data, None)
    traced = traced_prototype(order, dataset)
    parent = traced.parent
    required = with_margins(order.stated_requirements(), parent, order, dataset)
    prices = Prices(required, order.resolve_target(), order.precision)
    if measure:
        prices = replace(prices, correction=Correction(prices.prior_sd(ends_of(parent, prices))))
    space = space_of(parent, None, prices, CHOICES)
    with RunFolder.start(folder, Manifest("bench", order.arguments())) as opened:
        loop = None
        if measure:
            def export(network, weights, path):
                _export_for_board(lambda *what: export_for_board(dataset, order, *what), network, weights, path)

            crew = Crew(boards, opened.path / "board" / "results", lambda text: None)
            loop = BoardLoop(Feedback(opened, prices, crew, export), space, measure, cycles, seed, pick)
        problem = Landscape(space, required, seed, loop=loop)
        whole = tuple(len(site.choices) - 1 for site in space.sites)
        metrics = next(problem.finish([whole])).metrics
        problem.trained = 0
        lab = Laboratory(order, dataset, Prototype("resnet8", traced.network, traced.weights, metrics, False), space,
                         required, None, None, None, None, loop)
        synthesis = Synthesis(problem, Settings(cycles, order.batch, seed))
        synthesis.run()
        done = finish(lab, problem, synthesis, opened, Progress(quiet=True))
    return Run(lab, problem, synthesis, done, seed)


def digits_space(requirements: Sequence[str], target: str = "tx2") -> tuple[Any, Prices]:
    """The digits space with the prices of some requirements, margins included."""
    order = Order(target=target, requirements=tuple(requirements))
    dataset = load_dataset(order.data, None)
    traced = traced_prototype(order, dataset)
    parent = traced.parent
    prices = Prices(with_margins(order.stated_requirements(), parent, order, dataset), order.resolve_target(),
                    order.precision)
    return space_of(parent, None, prices, CHOICES), prices


def accurate(run: Run, finished) -> bool:
    return finished.verdicts[str(run.lab.requirements.items[0])].holds == "yes"


def netscore_of(run: Run, finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))


def fresh_networks(run: Run, count: int) -> list[Any]:
    """What the learned generator makes of fresh seeds, repaired by what is believed of energy in the end."""
    made = make(run.lab, run.synthesis.generator, range(FRESH_FROM + 5000, FRESH_FROM + 5000 + count))
    space = run.lab.space
    return [space.parent.draw(space.design(made.row(i)))[0] for i in range(count)]


def law_layers(network) -> list[dict[str, Any]]:
    """What `board_law.layers_of` reads from the exported file of a network, from the network itself."""
    by_name = {operation.name: operation for operation in operations_of(network)}
    found = []
    for layer in fuse(by_name.values(), siblings=False):
        head = by_name[layer.operations[0]]
        source = by_name[head.inputs[0]]
        while source.kind == "identity":
            source = by_name[source.inputs[0]]
        op = {"pool": "GlobalAveragePool", "linear": "Gemm"}.get(layer.kind, "Conv")
        if layer.kind == "elementwise":
            continue
        found.append({"op": op, "macs": head.macs, "weights": head.weights, "inputs": source.elements,
                      "outputs": head.elements, "channels": head.output_shape[0], "groups": head.groups,
                      "depth": head.macs // head.elements})
    return found


def true_img_per_joule(board, network, batch: int) -> float:
    """By the law itself, without noise."""
    latency_ms, power_mw = board.law["cost"](law_layers(network), batch)
    return 1e6 * batch / (latency_ms * power_mw)
