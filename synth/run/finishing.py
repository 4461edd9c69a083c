"""From what was learnt to FermiNets: rounds of full trainings, judged on validation, and what gets which name."""

from __future__ import annotations

import functools
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from devices.support.errors import UserError
from devices.support.reading import MEASURED, Z95, Reading
from synth.energy.loop import BoardLoop
from synth.networks.costs import costs
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.objective.performance import netscore
from synth.objective.requirements import YES, Verdict
from synth.probing.probing import Insight
from synth.progress import Progress, Stage
from synth.run.candidates import Outcome
from synth.run.finalists import Made, evaluated, likely, make, promising, wanted
from synth.run.preparation import Laboratory
from synth.run.problem import NetworkProblem
from synth.search.decisions import Decisions
from synth.search.synthesis import Synthesis
from synth.space.quantities import on_board
from synth.storage.network_folder import card_of, load_network, save_network
from synth.storage.run_folder import RunFolder
from synth.training.evaluation import Metrics

SEEDS = 256  # that finalists are chosen from
# The least probability that 1r holds for a finalist, round by round. Bold at first: what is learnt when one does not
# hold is worth its training (replayed on trained digits networks, the best FermiNet is 1.8 NetScore points better).
LIKELY = (0.35, 0.6, 0.8, 0.95)
PUSH = 2  # finalists at least that are trained at once, when all is had and better ones are looked for


@dataclass(frozen=True)
class Finished:
    """A network after full training. seed: of the generator, None for one that the search evaluated. verdicts: by
    requirement, on validation. insights: by vertex."""

    name: str
    seed: int | None
    decisions: Decisions
    repaired: bool
    network: Network
    weights: Weights
    metrics: Metrics
    verdicts: dict[str, Verdict]
    insights: Mapping[str, Insight]

    @property
    def holds(self) -> bool:
        return all(verdict.holds == YES for verdict in self.verdicts.values())


def judge(lab: Laboratory, network: Network, metrics: Metrics) -> dict[str, Verdict]:
    """Every requirement on one trained network: accuracy on validation, costs exact, measured or predicted."""
    verdicts = {}
    for item in lab.requirements.items:
        reading = (accuracy_reading(metrics, "validation") if item.metric == "accuracy"
                   else lab.space.prices.reading(item, network))
        verdicts[str(item)] = item.judge(reading)
    return verdicts


def accuracy_reading(metrics: Metrics, split: str) -> Reading:
    """Accuracy as a fraction, with the 95 % interval of its binomial spread."""
    spread = Z95 * metrics.accuracy_se
    low, high = max(metrics.accuracy - spread, 0.0), min(metrics.accuracy + spread, 1.0)
    return Reading(metrics.accuracy, "", MEASURED, f"{split} split, {metrics.count} images", low, high)


def finish(lab: Laboratory, problem: NetworkProblem, synthesis: Synthesis, folder: RunFolder,
           progress: Progress) -> list[Finished]:
    """FermiNets A (most accurate) to the smallest: chosen by belief from generated seeds, trained with distillation,
    kept where 1r holds on validation and, where boards take part, as measured by the full protocol; what fails is
    replaced by the next best of what was learnt from it: seeds, what the search evaluated, and what the inquisitor
    would evaluate next. Then as many again are trained that may be better still: full trainings teach more than
    anything else (4 points on the same replay)."""
    rounds = Rounds(lab, problem, synthesis, folder)
    if lab.loop is not None:
        lab.loop.decide("prototype", [(lab.prototype.network, lab.prototype.weights)])
    with progress.stage("finishing", rounds.finalists) as stage:
        rounds.fill(stage)
        rounds.improve(stage)
    return named(rounds.done, rounds.wanted)


class Rounds:
    """Full trainings, round by round; each teaches the inquisitor what the next is chosen by. wanted: FermiNets;
    finalists: networks to train in full, more where 1r does not hold for enough of them."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem, synthesis: Synthesis, folder: RunFolder) -> None:
        self.lab, self.problem, self.folder = lab, problem, folder
        self.inquisitor, self.generator = synthesis.inquisitor, synthesis.generator
        self.wanted = lab.order.ferminets
        self.finalists = lab.order.finalists or 2 * self.wanted
        self.push = max(PUSH, self.finalists // 3)
        self.done: list[Finished] = []
        self._tried: set[Decisions] = set()
        self._rounds = 0
        self._reports = synthesis.reports
        self._generated = self._generate()

    def fill(self, stage: Stage) -> None:
        """Until 1r holds for as many as are wanted: seeds that it holds for by belief; after the first round also what
        the search evaluated and what the inquisitor wants, and more surely from round to round."""
        for least in LIKELY:
            missing = self.wanted - sum(f.holds for f in self.done)
            if missing <= 0:
                return
            if not self.done:
                made, count = self._generated, max(self.finalists // 2, missing)
            else:
                made = self._all()
                count = max(missing + (missing < self.wanted), self.push)  # one to spare, once some hold
            chosen = likely(self.inquisitor, made, count, self._tried, least)
            if not chosen:
                return
            self._train(made, chosen, stage)

    def improve(self, stage: Stage) -> None:
        """Until all finalists are trained: what may be better than the best so far."""
        while len(self.done) < self.finalists:
            made = self._all()
            count = min(self.push, self.finalists - len(self.done))
            chosen = promising(self.inquisitor, made, count, self._tried, best_of(self.done))
            if not chosen:
                return
            self._train(made, chosen, stage)

    def _train(self, made: Made, chosen: Sequence[int], stage: Stage) -> None:
        self._tried |= {made.row(i) for i in chosen}
        results: list[Finished] = []
        for finished in train_in_full(self.lab, self.problem, made, chosen, self.folder):
            results.append(finished)
            trained = [*self.done, *results]
            stage.at(min(len(trained), self.finalists), f"{sum(f.holds for f in trained)} hold · best NetScore "
                                                        f"{best_of(trained):.1f}")
        if self.lab.loop is not None:
            results = _decided(self.lab, self.lab.loop, f"final-{self._rounds}", results)
        self._rounds += 1
        self.done += results
        if self.lab.loop is not None:
            self._generated = self._generate()  # what was measured moves the repair of requirements on costs
        self.inquisitor.theory.observe_in_full([(f.decisions, f.metrics.accuracy) for f in results])

    def _all(self) -> Made:
        """Seeds, what the search evaluated, and what the inquisitor wants by now."""
        proposed = wanted(self.lab, self.inquisitor, self.generator, f"-{self._rounds}")
        return self._generated.joined(evaluated(self.lab, self._reports)).joined(proposed)

    def _generate(self) -> Made:
        return make(self.lab, self.generator, range(SEEDS), label="" if self.lab.loop is None else f"-{self._rounds}")


def _decided(lab: Laboratory, loop: BoardLoop, phase: str, results: Sequence[Finished]) -> list[Finished]:
    """Judged anew on what boards measure of those that 1r may hold for: what fails on validation is not worth it."""
    words = {str(item) for item in lab.requirements.items if not on_board(item)}
    hopeful = [f for f in results if all(f.verdicts[word].holds == YES for word in words)]
    loop.decide(phase, [(f.network, f.weights) for f in hopeful])
    return [replace(f, verdicts=judge(lab, f.network, f.metrics)) for f in results]


def best_of(done: Sequence[Finished]) -> float:
    """The best NetScore on validation of those for which 1r holds; of all, less a little, when it holds for none."""
    scores = {f.name: _score(f) for f in done}
    holding = [scores[f.name] for f in done if f.holds]
    return max(holding) if holding else max(scores.values(), default=0.0) - 1.0


def _score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))


def train_in_full(lab: Laboratory, problem: NetworkProblem, made: Made, chosen: Sequence[int],
                  folder: RunFolder) -> Iterator[Finished]:
    """Full training of some rows of `made`, each a step of the run in "finished/NAME", as soon as it is done."""
    waiting = [i for i in chosen if not folder.done(f"finished/{made.names[i]}")]
    outcomes = problem.finish([made.row(i) for i in waiting])
    for i in chosen:
        network, _ = lab.space.parent.draw(lab.space.design(made.row(i)))

        def save(path: Path, outcome: Outcome, network: Network = network, i: int = i) -> None:
            card = {**outcome.to_json(), "seed": made.seeds[i], "repaired": bool(made.repaired[i]),
                    "decisions": list(made.row(i))}
            save_network(path, network, outcome.weights or {}, card)

        load = functools.partial(_load_outcome, made.row(i))
        outcome = folder.step(f"finished/{made.names[i]}", functools.partial(next, outcomes), save, load)
        yield Finished(made.names[i], made.seeds[i], made.row(i), bool(made.repaired[i]), network,
                       outcome.weights or {}, outcome.metrics, judge(lab, network, outcome.metrics),
                       outcome.insights)
    next(outcomes, None)  # lets the pool know that all were taken


def _load_outcome(decisions: Decisions, path: Path) -> Outcome:
    card = card_of(path)
    if card["decisions"] != list(decisions):
        raise UserError(f"{path}: holds another network than is made of its seed here and now (another machine's "
                        "arithmetic, or another version's): go on where this run was begun, or remove that folder")
    _, weights = load_network(path)
    return Outcome.from_json(card, weights)


def named(done: Sequence[Finished], wanted: int) -> list[Finished]:
    """The FermiNets by name: ferminet-a the most accurate on validation, the last the smallest, by cost between. Only
    when too few satisfy 1r, others make up the number; their verdicts say so."""
    holding = [f for f in done if f.holds]
    others = sorted((f for f in done if not f.holds), key=lambda f: -f.metrics.accuracy)
    kept = _spread(holding, wanted) + others[: max(0, wanted - len(holding))]
    by_size = sorted(kept, key=_size, reverse=True)
    if len(by_size) > 1:
        first = max(by_size[:-1], key=lambda f: f.metrics.accuracy)
        by_size.remove(first)
        by_size.insert(0, first)
    return [replace(f, name=f"ferminet-{letter}") for f, letter in zip(by_size, string.ascii_lowercase, strict=False)]


def _spread(holding: list[Finished], wanted: int) -> list[Finished]:
    """The best by NetScore, the most accurate, and between them by size, no two of one size where that can be."""
    if len(holding) <= wanted:
        return holding
    best, accurate = max(holding, key=_score), max(holding, key=lambda f: f.metrics.accuracy)
    picked = list({f.name: f for f in (best, accurate)}.values())
    for share in np.linspace(0, 1, wanted + 2 - len(picked))[1:-1]:
        aim = (1 - share) * np.log(_size(best)) + share * np.log(_size(accurate))
        sizes = {_size(f) for f in picked}
        free = [f for f in holding if _size(f) not in sizes] or [f for f in holding if f not in picked]
        picked.append(min(free, key=lambda f, aim=aim: abs(np.log(_size(f)) - aim)))  # type: ignore[misc]
    return picked[:wanted]


def _size(finished: Finished) -> float:
    """Parameters times MACs, what NetScore pays for."""
    found = costs(finished.network)
    return float(found.params) * float(found.macs)

