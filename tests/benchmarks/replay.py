"""Searches replayed on a table of trained networks of one space (table_of_networks.py).

A table of two hundred cannot answer for every network that a search asks of half a billion. So a committee fitted to it
answers (emulator.py). What it leaves unexplained of networks it did not see is, in the family "digits", drawn anew for
every network by a hash of its decisions: a part of the truth that no model can know, so that whoever evaluates many
different networks near the edge of 1r draws lots. In the family "digits-smooth" it is left out. The real residuals of
like networks are alike to some degree: the truth lies between the two.

`number` draws the committee's members and the residuals, `run_seed` the noise of training: fifty numbers are fifty
plausible digits spaces, and an interval over them covers what the table does not know. What this cannot show: effects
of the bank being written back, and anything that neither the committee nor independent residuals express. Probe
responses are those before the first cycle.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from emulator import cross_validated, features, fit, samples
from table_of_networks import FINAL, HERE, SCHEMA, SHORT

from devices.support.files import read_json
from synth.data.dataset import load_dataset
from synth.networks.rewriting import OPERATORS
from synth.objective.performance import performance
from synth.objective.requirements import Requirements
from synth.probing.probing import SIGNS, STATISTICS, Insight, Probes
from synth.run.order import Order
from synth.run.preparation import traced_prototype
from synth.run.problem import teaches_the_link
from synth.run.scope import FRESH, scope_of, space_of, with_margins
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, choice_counts, rows
from synth.search.link import log_error
from synth.search.moves import Moves
from synth.search.probe_table import ProbeTable
from synth.space.parent import ElasticParent
from synth.space.prices import Prices
from synth.space.space import ACTIVATION, ATTENTION, NONLINEARITY, OPERATOR, Choices, NetworkSpace
from synth.training.recipe import RECIPES

FAMILY, SMOOTH = "digits", "digits-smooth"
MEMBERS, PER_NUMBER = 18, 6  # of the committee, and how many of them each number draws
LEAST_ACCURACY = 0.1
BEAM = 48  # networks that the search with the truth in hand goes on from


@dataclass(frozen=True)
class Table:
    """decisions [n, sites]; loss, loss_se, short_error [n]: log loss, its standard error and log error of the short
    training; error [n]: log error after full training (mean accuracy of the repeats). loss_noise, error_noise: standard
    deviations between trainings of one network that differ in the seed alone, NaN where none was trained twice. images:
    of the validation split. entries: the rows of the file, with every training."""

    space: NetworkSpace
    requirements: Requirements
    known: list[Observation]
    probes: ProbeTable
    decisions: IntArray
    groups: list[str]
    loss: FloatArray
    loss_se: FloatArray
    short_error: FloatArray
    error: FloatArray
    loss_noise: float
    error_noise: float
    images: int
    entries: list[dict[str, Any]]
    parent_insights: dict[str, Insight]

    def probed(self, index: Sequence[int]) -> ProbeTable:
        """The probe table as it stands once these networks were evaluated."""
        probes = Probes(self.space, np.zeros(len(self.space.parent.channels.keep_all())), self.parent_insights)
        probes.table = copy.deepcopy(self.probes)
        for i in index:
            insights = {name: Insight(*values) for name, values in self.entries[i]["insights"].items()}
            probes.record(self.entries[i]["decisions"], insights)
        return probes.table


def smoothed_log_error(accuracy: FloatArray, images: int) -> FloatArray:
    """log(1 - accuracy), no error counted as half of one."""
    return np.log(((1.0 - accuracy) * images + 0.5) / (images + 1.0))


def table_space(order: Order, choices: Choices, expansion: int) -> tuple[NetworkSpace, Requirements, int]:
    """The space of a run, its requirements with margins, and the size of the validation split."""
    dataset = load_dataset(order.data, order.data_root)
    traced = traced_prototype(order, dataset)
    parent = ElasticParent(traced.network, traced.weights).widened(expansion)
    stated = order.stated_requirements()
    assert stated is not None
    requirements = with_margins(stated, parent, order, dataset)
    space = space_of(parent, None, Prices(requirements, order.resolve_target(), order.precision), choices)
    return space, requirements, len(dataset.validation)


def table_choices(sites: Sequence[tuple[str, list[str]]]) -> Choices:
    """What the space of a table lets decide, by its sites: older ones have fewer operators,
    1x1 convolutions anywhere, keep activations and have no attention."""
    kinds = {name.rpartition("/")[2] for name, _ in sites}
    operators = [tuple(choices) for name, choices in sites if name.endswith(f"/{OPERATOR}")] or [OPERATORS]
    nonlinearities = next((tuple(choices[:-1]) for name, choices in sites if name.endswith(f"/{NONLINEARITY}")), ())
    return Choices(max(operators, key=len), ACTIVATION in kinds, nonlinearities, ATTENTION in kinds,
                   blind=len({*operators}) == 1)


def probes_of(space: NetworkSpace, probed: dict, data: str) -> ProbeTable:
    table = ProbeTable(space.sites, STATISTICS, SIGNS, scope_of(RECIPES[data]["short"]).slope_sd)
    table.values[:] = np.array(probed["values"], dtype=np.float64)  # None becomes NaN
    table.visits[:] = np.array(probed["visits"])
    return table


def spread(samples: Sequence[FloatArray]) -> float:
    """Pooled standard deviation within groups of at least two; NaN where there is none."""
    several = [s for s in samples if len(s) > 1]
    if not several:
        return math.nan
    return float(np.sqrt(sum(((s - s.mean()) ** 2).sum() for s in several) / sum(len(s) - 1 for s in several)))


@functools.cache
def load_table(path: Path = HERE, data_root: str | None = None) -> Table:
    """data_root: of the user's copy of the data that the table is of; digits need none."""
    value = read_json(path, SCHEMA)
    order = Order.from_arguments(value["card"].get("order", Order("tx2").arguments()))
    for expansion in (1, FRESH.expansion):
        space, requirements, images = table_space(replace(order, data_root=data_root), table_choices(value["sites"]),
                                                  expansion)
        if value["sites"] == [[site.name, list(site.choices)] for site in space.sites]:
            break
    else:
        raise SystemExit(f"{path}: made of another space; make it anew with table_of_networks.py")
    whole = [entry for entry in value["networks"] if entry.get(SHORT) and entry.get(FINAL)]
    shorts = [np.array(entry[SHORT]) for entry in whole]
    finals = [np.array(entry[FINAL]) for entry in whole]
    return Table(
        space, requirements, [Observation.from_json(o) for o in value["known"]],
        probes_of(space, value["probed"], order.data),
        rows((entry["decisions"] for entry in whole), len(space.sites)), [entry["group"] for entry in whole],
        np.array([s[:, 0].mean() for s in shorts]), np.array([s[:, 1].mean() for s in shorts]),
        smoothed_log_error(np.array([s[:, 2].mean() for s in shorts]), images),
        smoothed_log_error(np.array([f[:, 2].mean() for f in finals]), images),
        spread([s[:, 0] for s in shorts]), spread([smoothed_log_error(f[:, 2], images) for f in finals]),
        images, whole, {name: Insight(*values) for name, values in value["probed"]["parent"].items()},
    )  # fmt: skip


class Emulated:
    """What the table says of every network, and with what error of networks that were left out."""

    def __init__(self, table: Table) -> None:
        if math.isnan(table.loss_noise + table.error_noise):
            raise SystemExit("the table has no network that was trained twice: let table_of_networks.py end its work")
        self.table = table
        at = features(table.space, table.decisions)
        self.targets = np.column_stack([table.loss, table.error])
        random = np.random.default_rng(7)
        self.committee = fit(at, self.targets, samples(MEMBERS, len(at), random), seed=7)
        self.left_out = cross_validated(at, self.targets, PER_NUMBER, seed=8)
        missed = self.targets - self.left_out
        covariance = missed.T @ missed / len(missed)
        noise = np.diag([table.loss_noise**2, table.error_noise**2])
        values, vectors = np.linalg.eigh(covariance - noise)
        self.residual = vectors * np.sqrt(np.maximum(values, 1e-4))  # a root of what is a network's own
        self.to_error = np.polyfit(table.loss, table.short_error, 1)
        self.error_scatter = float((table.short_error - np.polyval(self.to_error, table.loss)).std())
        self.to_se = np.polyfit(table.loss, np.log(table.loss_se), 1)


@functools.cache
def emulated(path: Path = HERE) -> Emulated:
    return Emulated(load_table(path))


class Replay:
    """A problem of the cycle that answers from the table; beside it, what only a judge may ask. Deterministic in
    (number, run seed, cycle, position in the batch)."""

    def __init__(self, number: int, run_seed: int = 0, path: Path = HERE, family: str = FAMILY):
        self.number, self.run_seed, self.family = number, run_seed, family
        self.emulated = emulated(path)
        self.table = self.emulated.table
        self.space, self.requirements = self.table.space, self.table.requirements
        self.counts = choice_counts(self.space.sites)
        bound = self.requirements.accuracy_bound
        assert bound is not None
        self.accuracy_bound = bound
        random = np.random.default_rng([number, 55])
        self.members = random.choice(MEMBERS, PER_NUMBER, replace=False)
        self.salt = random.integers(1, 2**62, size=len(self.space.sites), dtype=np.uint64) | np.uint64(1)

    # --- truth -----------------------------------------------------------------------------------------------------

    def true(self, decisions: IntArray) -> FloatArray:
        """[n, 2] log loss after the short training and log error after the full one, each the mean over seeds."""
        d = self.space.canonical(decisions)
        smooth = self.emulated.committee.predict(features(self.space, d))[self.members].mean(0)
        return smooth if self.family == SMOOTH else smooth + self._own(d) @ self.emulated.residual.T

    def _own(self, decisions: IntArray) -> FloatArray:
        """[n, 2] standard normal numbers that belong to each network: a multiplicative hash, mixed as in SplitMix64."""
        uniform = []
        with np.errstate(over="ignore"):
            key = ((decisions.astype(np.uint64) + np.uint64(1)) * self.salt).sum(axis=1, dtype=np.uint64)
            for step in (np.uint64(0x9E3779B97F4A7C15), np.uint64(0x3C6EF372FE94F82A)):
                x = key + step
                x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                uniform.append(((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53 + 2**-54)
        radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def accuracy(self, decisions: IntArray) -> FloatArray:
        """[n] after full training."""
        return np.maximum(1.0 - np.exp(self.true(decisions)[:, 1]), LEAST_ACCURACY)

    def truth(self, decisions: IntArray) -> FloatArray:
        """[n] U where 1r holds, -inf where it does not."""
        d = self.space.canonical(decisions)
        costs, accuracy = self.space.costs(d), self.accuracy(d)
        holds = (accuracy >= self.accuracy_bound) & (self.requirements.cost_slack(costs) >= 0).all(axis=1)
        return np.where(holds, performance(accuracy, costs), -np.inf)

    def optimum(self) -> tuple[float, Decisions]:
        """The best U under 1r that a long search with the truth in hand finds."""
        random = np.random.default_rng([self.number, 56])
        moves = Moves(self.space)
        drawn = self.space.canonical(random.integers(0, self.counts, size=(30_000, len(self.counts))))
        drawn = np.concatenate([drawn, self.table.decisions])
        best = drawn[np.argsort(-self.truth(drawn), kind="stable")[:BEAM]]
        for _ in range(20):
            near = self.space.canonical(moves.neighbours(best).reshape(-1, len(self.counts)))
            at = random.integers(0, len(near), 2 * len(near))
            site = random.integers(0, len(self.counts), len(at))
            pairs = near[at].copy()
            pairs[np.arange(len(at)), site] = random.integers(0, self.counts[site])
            pool = np.unique(np.concatenate([best, near, self.space.canonical(pairs)]), axis=0)
            before, best = best, pool[np.argsort(-self.truth(pool), kind="stable")[:BEAM]]
            if np.array_equal(before, best):
                break
        return float(self.truth(best[:1])[0]), tuple(int(c) for c in best[0])

    # --- what the cycle sees ---------------------------------------------------------------------------------------

    def initial(self) -> list[Observation]:
        return self.table.known

    def probe_table(self) -> ProbeTable:
        return self.table.probes

    def observe(self, random: np.random.Generator, batch: Sequence[Decisions]) -> list[Observation]:
        e = self.emulated
        loss = self.true(rows(batch, len(self.counts)))[:, 0]
        loss = loss + self.table.loss_noise * random.standard_normal(len(batch))
        error = np.polyval(e.to_error, loss) + e.error_scatter * random.standard_normal(len(batch))
        accuracy, se = 1 - np.minimum(np.exp(error), 0.9), np.exp(np.polyval(e.to_se, loss))
        return [Observation(tuple(d), float(v), float(s), float(a))
                for d, v, s, a in zip(batch, loss, se, accuracy, strict=True)]  # fmt: skip

    def evaluate(self, cycle: int, batch: Sequence[Decisions]) -> list[Observation]:
        random = np.random.default_rng([self.number, self.run_seed, cycle])
        seen = self.observe(random, batch)
        if teaches_the_link(cycle, len(batch)):
            error = self.true(rows(batch[:1], len(self.counts)))[0, 1]
            error += self.table.error_noise * random.standard_normal()
            seen[0] = replace(seen[0], final_accuracy=float(1 - np.exp(min(error, float(log_error(LEAST_ACCURACY))))))
        return seen

    def end_cycle(self, cycle: int, state: object) -> None:
        """Nothing is kept."""
