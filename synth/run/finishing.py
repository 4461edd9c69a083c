"""From what was learnt to FermiNets: rounds of full trainings, judged on validation, and what gets which name."""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections import Counter
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
from synth.run.finalists import Made, evaluated, levels_between, likely, make, promising, wanted
from synth.run.preparation import Laboratory
from synth.run.problem import NetworkProblem
from synth.run.warm_start import FINISHED
from synth.search.acquisition import Wish
from synth.search.decisions import DECIDED_OTHERWISE, Decisions
from synth.search.link import least_error, log_error
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
    """A network after full training. seed: of the generator, None for one that the inquisitor chose. verdicts: by
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
    """FermiNets for levels of accuracy, from φ's own (A, as far as one reaches it) to what 1r allows (the last): chosen
    by belief from generated seeds, trained with distillation, kept where 1r holds on validation and, where boards take
    part, as measured by the full protocol; what fails is replaced by the next best of what was learnt from it: seeds,
    what the search evaluated, and what the inquisitor would evaluate next. Then as many again are trained that may be
    better still: full trainings teach more than anything else (4 points on the same replay). What was trained in full
    before, in cycles or by earlier runs, may be among them as it is."""
    rounds = Rounds(lab, problem, synthesis, folder)
    if lab.loop is not None:
        lab.loop.decide("prototype", [(lab.prototype.network, lab.prototype.weights)])
    with progress.stage("finishing", rounds.finalists) as stage:
        rounds.fill(stage)
        rounds.improve(stage)
    return named(rounds.done, rounds.levels)


class Rounds:
    """Full trainings, round by round; each teaches the inquisitor what the next is chosen by. wanted: FermiNets, one
    for each of `levels` of accuracy (greatest log errors, the loosest first); finalists: networks to train in full,
    beside those that cycles and earlier runs have trained, and more where 1r does not hold for enough of them."""

    def __init__(self, lab: Laboratory, problem: NetworkProblem, synthesis: Synthesis, folder: RunFolder) -> None:
        self.lab, self.problem, self.folder = lab, problem, folder
        self.inquisitor, self.generator = synthesis.inquisitor, synthesis.generator
        self.wanted = lab.order.ferminets
        finalists = lab.order.finalists or 2 * self.wanted
        self.first, self.push = finalists // 2, max(PUSH, finalists // 3)
        self.levels = self._levels()
        self.done = known_in_full(lab, problem)
        self.finalists = finalists + len(self.done)
        if lab.loop is not None and self.done:
            self.done = _decided(lab, lab.loop, "known", self.done)
        self._tried = {f.decisions for f in self.done}
        self._served: Counter[float] = Counter()
        self._rounds = 0
        self._reports = synthesis.reports
        self._generated = self._generate()

    def fill(self, stage: Stage) -> None:
        """Until 1r holds for as many as are wanted: first, unless earlier runs have trained some, seeds that it holds
        for by belief; then also what the search evaluated and what the inquisitor wants, and more surely from round to
        round."""
        for least in LIKELY:
            missing = max(self.wanted - sum(f.holds for f in self.done), 0)
            if not self._rounds and not self.lab.known.in_full:
                made, count = self._generated, max(self.first, missing)
            elif not missing:
                return
            else:
                made = self._all(self._wishes())
                count = max(missing + (missing < self.wanted), self.push)  # one to spare, once some hold
            turn = self._in_turn()
            chosen = likely(self.inquisitor, made, count, self._tried, least, turn)
            if not chosen:
                return
            self._serve(turn, chosen)
            self._train(made, chosen, stage)

    def improve(self, stage: Stage) -> None:
        """Until all finalists are trained: what may be better than the best so far."""
        while len(self.done) < self.finalists:
            wishes = self._wishes()
            made = self._all(wishes)
            count = min(self.push, self.finalists - len(self.done))
            chosen = promising(self.inquisitor, made, count, self._tried, wishes)
            if not chosen:
                return
            self._serve([float(wish.demand) for wish in wishes], chosen)
            self._train(made, chosen, stage)

    def _levels(self) -> list[float]:
        """Where 1r asks nothing of accuracy, the loosest level does not either, and the others lie between what the
        best network known has and φ."""
        theory, own = self.inquisitor.theory, _log_error(self.lab.prototype.metrics)
        if math.isfinite(theory.bound):
            return levels_between(theory.bound, own, self.wanted)
        best = theory.incumbent()[0][:1]
        start = float(theory.believe(best).log_error[0]) if len(best) else own
        return [theory.bound, *levels_between(start, own, self.wanted)[1:]]

    def _in_turn(self) -> list[float]:
        """Each level once, those first that fewest were chosen for, and of these what no network reaches yet for which
        1r holds."""
        return sorted(dict.fromkeys(self.levels),
                      key=lambda level: (self._served[level], math.isfinite(best_of(self.done, level))))

    def _wishes(self) -> list[Wish]:
        """What to improve on at each level: the loosest first in every round, where NetScore is best, the others in
        turn."""
        wishes = []
        for level in dict.fromkeys([self.levels[0], *self._in_turn()]):
            best = best_of(self.done, level)
            wishes.append(Wish(np.float64(level), np.float64(best)) if math.isfinite(best)
                          else self.inquisitor.theory.wish(level))
        return wishes

    def _serve(self, levels: Sequence[float], chosen: Sequence[int]) -> None:
        """Count what was chosen for these levels in turn."""
        self._served.update(itertools.islice(itertools.cycle(levels), len(chosen)))

    def _train(self, made: Made, chosen: Sequence[int], stage: Stage) -> None:
        self._tried |= {made.row(i) for i in chosen}
        results: list[Finished] = []
        for finished in train_in_full(self.lab, self.problem, made, chosen, self.folder):
            results.append(finished)
            trained = [*self.done, *results]
            best = best_of(trained)
            stage.at(min(len(trained), self.finalists), f"{sum(f.holds for f in trained)} hold" + (
                f" · best NetScore {best:.1f}" if math.isfinite(best) else ""))
        if self.lab.loop is not None:
            results = _decided(self.lab, self.lab.loop, f"final-{self._rounds}", results)
        self._rounds += 1
        self.done += results
        if self.lab.loop is not None:
            self._generated = self._generate()  # what was measured moves the repair of requirements on costs
        self.inquisitor.theory.observe_in_full([(f.decisions, f.metrics.accuracy) for f in results])

    def _all(self, wishes: Sequence[Wish]) -> Made:
        """Seeds, what the search evaluated, and what the inquisitor wants by now."""
        proposed = wanted(self.lab, self.inquisitor, self.generator, wishes, f"-{self._rounds}")
        return self._generated.joined(evaluated(self.lab, self._reports)).joined(proposed)

    def _generate(self) -> Made:
        return make(self.lab, self.generator, range(SEEDS), label="" if self.lab.loop is None else f"-{self._rounds}")


def known_in_full(lab: Laboratory, problem: NetworkProblem) -> list[Finished]:
    """What cycles and earlier runs trained in full, judged by what is required now: every network once, the most
    accurate where it was trained again."""
    found = [_finished(lab, f"in-cycle-{number}", None, decisions, False, outcome)
             for number, (decisions, outcome) in enumerate(problem.in_full.items())]
    for number, trained in enumerate(lab.known.in_full):
        finished = _finished(lab, f"known-{number}", None, trained.decisions, trained.repaired, trained.outcome)
        if finished.network.digest != trained.digest:
            raise UserError(DECIDED_OTHERWISE)
        found.append(finished)
    best = {f.decisions: f for f in sorted(found, key=lambda f: f.metrics.accuracy)}
    return [f for f in found if best[f.decisions] is f]


def _decided(lab: Laboratory, loop: BoardLoop, phase: str, results: Sequence[Finished]) -> list[Finished]:
    """Judged anew on what boards measure of those that 1r may hold for: what fails on validation is not worth it."""
    words = {str(item) for item in lab.requirements.items if not on_board(item)}
    hopeful = [f for f in results if all(f.verdicts[word].holds == YES for word in words)]
    loop.decide(phase, [(f.network, f.weights) for f in hopeful])
    return [replace(f, verdicts=judge(lab, f.network, f.metrics)) for f in results]


def best_of(done: Sequence[Finished], level: float = math.inf) -> float:
    """The best NetScore on validation of those for which 1r holds and whose log error is no more than `level`; -inf
    where there is none."""
    return max((_score(f) for f in done if f.holds and _log_error(f.metrics) <= level), default=-math.inf)


def _log_error(metrics: Metrics) -> float:
    return float(log_error(metrics.accuracy, least_error(metrics.count)))


def _score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))


def train_in_full(lab: Laboratory, problem: NetworkProblem, made: Made, chosen: Sequence[int],
                  folder: RunFolder) -> Iterator[Finished]:
    """Full training of some rows of `made`, each a step of the run in "finished/NAME", as soon as it is done."""
    waiting = [i for i in chosen if not folder.done(f"{FINISHED}/{made.names[i]}")]
    outcomes = problem.finish([made.row(i) for i in waiting])
    for i in chosen:
        def save(path: Path, outcome: Outcome, i: int = i) -> None:
            network, _ = lab.space.parent.draw(lab.space.design(made.row(i)))
            card = {**outcome.to_json(), "seed": made.seeds[i], "repaired": bool(made.repaired[i]),
                    "decisions": list(made.row(i))}
            save_network(path, network, outcome.weights or {}, card)

        load = functools.partial(_load_outcome, made.row(i))
        outcome = folder.step(f"{FINISHED}/{made.names[i]}", functools.partial(next, outcomes), save, load)
        yield _finished(lab, made.names[i], made.seeds[i], made.row(i), bool(made.repaired[i]), outcome)
    next(outcomes, None)  # lets the pool know that all were taken


def _finished(lab: Laboratory, name: str, seed: int | None, decisions: Decisions, repaired: bool,
              outcome: Outcome) -> Finished:
    network, _ = lab.space.parent.draw(lab.space.design(decisions))
    return Finished(name, seed, decisions, repaired, network, outcome.weights or {}, outcome.metrics,
                    judge(lab, network, outcome.metrics), outcome.insights)


def _load_outcome(decisions: Decisions, path: Path) -> Outcome:
    card = card_of(path)
    if card["decisions"] != list(decisions):
        raise UserError(f"{path}: holds another network than is made of its seed here and now (another machine's "
                        "arithmetic, or another version's): go on where this run was begun, or remove that folder")
    _, weights = load_network(path)
    return Outcome.from_json(card, weights)


def named(done: Sequence[Finished], levels: Sequence[float]) -> list[Finished]:
    """One FermiNet for each level of accuracy (greatest log errors, the loosest first) by name: ferminet-a the most
    accurate on validation, the last the smallest, by size between. Only when too few satisfy 1r, others make up the
    number; their verdicts say so."""
    others = sorted((f for f in done if not f.holds), key=lambda f: -f.metrics.accuracy)
    kept = _for_levels([f for f in done if f.holds], levels)
    kept += others[: len(levels) - len(kept)]
    by_size = sorted(kept, key=_size, reverse=True)
    if len(by_size) > 1:
        first = max(by_size[:-1], key=lambda f: f.metrics.accuracy)
        by_size.remove(first)
        by_size.insert(0, first)
    return [replace(f, name=f"ferminet-{letter}") for f, letter in zip(by_size, string.ascii_lowercase, strict=False)]


def _for_levels(holding: Sequence[Finished], levels: Sequence[float]) -> list[Finished]:
    """For each level the best by NetScore of those that reach it, or the most accurate; where that is one for several
    levels, the next best make up the number: along the front of accuracy and NetScore, then of other sizes."""
    by_score = sorted(holding, key=_score, reverse=True)
    front: list[Finished] = []  # each more accurate than those before it
    for finished in by_score:
        if not front or finished.metrics.accuracy > front[-1].metrics.accuracy:
            front.append(finished)
    picked: list[Finished] = []
    for level in levels if front else ():
        best = next((f for f in front if _log_error(f.metrics) <= level), front[-1])
        if best not in picked:
            picked.append(best)
    while len(picked) < min(len(levels), len(holding)):
        sizes = {_size(f) for f in picked}
        free = [f for f in (*front, *by_score) if f not in picked]
        picked.append(next((f for f in free if _size(f) not in sizes), free[0]))
    return picked


def _size(finished: Finished) -> float:
    """Parameters times MACs, what NetScore pays for."""
    found = costs(finished.network)
    return float(found.params) * float(found.macs)

