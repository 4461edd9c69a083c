"""From what was learnt to FermiNets: which of the generator's seeds and of the networks that the search evaluated are
worth full training, trained, and judged on validation."""

from __future__ import annotations

import functools
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from devices.support.errors import UserError
from devices.support.files import read_json
from devices.support.reading import MEASURED, Z95, Reading
from synth.energy.loop import BoardLoop
from synth.networks.costs import costs
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.objective.performance import netscore
from synth.objective.requirements import YES, Verdict
from synth.probing.probing import Insight
from synth.progress import Progress
from synth.run.candidates import Outcome
from synth.run.preparation import Laboratory
from synth.run.problem import NetworkProblem
from synth.search.acquisition import Wish, log_improvement
from synth.search.decisions import Decisions, IntArray, rows
from synth.search.inquisitor import Inquisitor
from synth.search.moves import Moves, log_cost, repair, violation
from synth.search.synthesis import CycleReport, Synthesis
from synth.space.quantities import on_board
from synth.storage.network_folder import load_network, save_network
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


@dataclass(frozen=True)
class Made:
    """What G makes of seeds, after repair, and networks that were evaluated (seed None): a row each. names: of what is
    made of them on disk."""

    seeds: list[int | None]
    names: list[str]
    decisions: IntArray
    repaired: np.ndarray
    feasible: np.ndarray

    def row(self, i: int) -> Decisions:
        return tuple(int(choice) for choice in self.decisions[i])


def make(lab: Laboratory, generator, seeds: Sequence[int], prefer: Sequence[float] | None = None,
         label: str = "") -> Made:
    """G(s) of every seed, repaired where exact requirements are missed. label: goes behind the names."""
    raw = generator.generate(seeds, prefer)
    fixed, changed, feasible = repair(Moves(lab.space), lab.requirements, raw)
    suffix = label if prefer is None else "-" + "-".join(f"{share:g}" for share in prefer)
    return Made(list(seeds), [f"seed-{seed}{suffix}" for seed in seeds], fixed, changed, feasible)


def evaluated(lab: Laboratory, reports: Sequence[CycleReport]) -> Made:
    """The candidates of all cycles. What the search believes in and saw, G may not have learnt to the last choice."""
    decisions = rows((row for report in reports for row in report.candidates), len(lab.space.sites))
    names = [f"candidate-{report.cycle}-{number}" for report in reports for number in range(len(report.candidates))]
    feasible = violation(lab.requirements, lab.space.costs(decisions)) <= 0
    return Made([None] * len(names), names, decisions, np.zeros(len(names), dtype=bool), feasible)


def both(a: Made, b: Made) -> Made:
    """The rows of a, then those of b."""
    arrays = (np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("decisions", "repaired", "feasible"))
    return Made([*a.seeds, *b.seeds], [*a.names, *b.names], *arrays)


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
    replaced by the next best of what was learnt from it. Then as many again are trained that may be better still, of
    seeds and of what the search evaluated: full trainings teach more than anything else (4 points on the same
    replay)."""
    inquisitor, generator = synthesis.inquisitor, synthesis.generator
    generated = make(lab, generator, range(SEEDS), label="" if lab.loop is None else "-0")
    if lab.loop is not None:
        lab.loop.decide("prototype", [(lab.prototype.network, lab.prototype.weights)])
    done: list[Finished] = []
    tried: set[Decisions] = set()
    wanted = lab.order.ferminets
    finalists = lab.order.finalists or 2 * wanted
    push = max(PUSH, finalists // 3)
    with progress.stage("finishing", finalists) as stage:
        for number in range(len(LIKELY) + -(-finalists // push)):
            holding = sum(f.holds for f in done)
            if number < len(LIKELY) and holding < wanted:  # more careful from round to round
                missing = wanted - holding
                count = max(finalists // 2, missing) if number == 0 else max(missing + (missing < wanted), push)
                made, chosen = generated, choose(lab, inquisitor, generated, count, tried, LIKELY[number])
            else:
                left, made = finalists - len(done), both(generated, evaluated(lab, synthesis.reports))
                chosen = better(lab, inquisitor, made, min(push, left), tried, best_of(done)) if left > 0 else []
            if not chosen:
                break
            tried |= {made.row(i) for i in chosen}
            results = []
            for finished in train_in_full(lab, problem, made, chosen, folder):
                results.append(finished)
                trained = [*done, *results]
                stage.at(min(len(trained), finalists), f"{sum(f.holds for f in trained)} hold · best NetScore "
                                                        f"{best_of(trained):.1f}")
            if lab.loop is not None:
                results = _decided(lab, lab.loop, f"final-{number}", results)
                # what was measured moves the repair of exact requirements
                generated = make(lab, generator, range(SEEDS), label=f"-{number + 1}")
            done += results
            inquisitor.observe_in_full([(f.decisions, f.metrics.accuracy) for f in results])
    return named(done, wanted)


def _decided(lab: Laboratory, loop: BoardLoop, phase: str, results: Sequence[Finished]) -> list[Finished]:
    """Judged anew on what boards measure of those that 1r may hold for: what fails on validation is not worth it."""
    words = {str(item) for item in lab.requirements.items if not on_board(item)}
    hopeful = [f for f in results if all(f.verdicts[word].holds == YES for word in words)]
    loop.decide(phase, [(f.network, f.weights) for f in hopeful])
    return [replace(f, verdicts=judge(lab, f.network, f.metrics)) for f in results]


def choose(lab: Laboratory, inquisitor: Inquisitor, made: Made, wanted: int, tried: set[Decisions],
           least: float) -> list[int]:
    """Rows of `made` to train next, of those for which 1r holds with probability `least`: the one with the greatest U,
    the most accurate, and between them by cost."""
    usable = _usable(made, tried)
    if not usable:
        return []
    decisions = made.decisions[usable]
    belief = inquisitor.believe(decisions)
    chance = belief.holds(inquisitor.bound)
    cost, utility = log_cost(lab.space, decisions), belief.performance()
    likely = np.flatnonzero(chance >= least)
    if len(likely) < wanted:
        likely = np.argsort(-chance, kind="stable")[:wanted]
    smallest = int(likely[np.argmax(utility[likely])])
    accurate = int(likely[np.argmin(belief.log_error[likely])])
    picked = [smallest, accurate]
    for share in np.linspace(0, 1, max(wanted, 2))[1:-1]:
        aim = (1 - share) * cost[smallest] + share * cost[accurate]
        free = [int(i) for i in likely if int(i) not in picked]
        if free:
            picked.append(min(free, key=lambda i: (abs(cost[i] - aim), -chance[i])))
    return [usable[i] for i in dict.fromkeys(picked)][:wanted]


def better(lab: Laboratory, inquisitor: Inquisitor, made: Made, wanted: int, tried: set[Decisions],
           reference: float) -> list[int]:
    """Rows of `made` whose full training promises most of U under 1r beyond `reference`."""
    usable = _usable(made, tried)
    if not usable:
        return []
    wish = Wish(np.float64(inquisitor.bound), np.float64(reference))
    worth = log_improvement(inquisitor.believe(made.decisions[usable]), wish)
    return [usable[i] for i in np.argsort(-worth, kind="stable")[:wanted]]


def best_of(done: Sequence[Finished]) -> float:
    """The best NetScore on validation of those for which 1r holds; of all, less a little, when it holds for none."""
    scores = {f.name: _score(f) for f in done}
    holding = [scores[f.name] for f in done if f.holds]
    return max(holding) if holding else max(scores.values(), default=0.0) - 1.0


def _score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))


def _usable(made: Made, tried: set[Decisions]) -> list[int]:
    """Rows of feasible networks that were not tried yet, each network once."""
    seen: dict[Decisions, int] = {}
    for i in range(len(made.decisions)):
        seen.setdefault(made.row(i), i)
    return [i for row, i in seen.items() if made.feasible[i] and row not in tried]


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
    card = read_json(path / "card.json", "edgesynth.card/1")
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

