"""Which of the networks that were trained in full are kept, and in what order."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from toy_problem import ToyProblem

from devices.support.errors import UserError
from synth.networks.costs import costs
from synth.networks.tracing import trace
from synth.objective.performance import netscore
from synth.objective.requirements import NO, YES, Verdict
from synth.progress import Progress
from synth.prototypes.resnet import ResNet
from synth.run.candidates import Outcome
from synth.run.finishing import Finished, Rounds, best_of, finish, named
from synth.run.warm_start import Trained, WarmStart
from synth.search.acquisition import Wish
from synth.search.synthesis import Settings, Synthesis
from synth.training.evaluation import Metrics

GRAPHS = {width: trace(ResNet(1, 10, widths=(width, 2 * width), blocks=1), (1, 8, 8), "net")[0]
          for width in (2, 3, 4, 6, 8, 12)}


def one(width: int, accuracy: float, holds: str = YES) -> Finished:
    metrics = Metrics(0.1, -2.3, 0.1, accuracy, 0.01, 100)
    verdict = Verdict(holds, 0.1 if holds == YES else -0.1, 0.0)
    return Finished(f"seed-{width}", width, (width,), False, GRAPHS[width], {}, metrics, {"accuracy": verdict}, {})


def kept(done, accuracies):
    return [(f.name, f.seed) for f in named(done, [math.log(1 - accuracy) for accuracy in accuracies])]


def test_each_level_of_accuracy_has_the_best_by_netscore_that_reaches_it():
    done = [one(2, 0.90), one(3, 0.91), one(4, 0.95), one(6, 0.96), one(8, 0.97), one(12, 0.99)]
    scores = [score(f) for f in done]
    assert scores == sorted(scores, reverse=True)  # the smaller, the better, if less accurate
    assert kept(done, [0.89, 0.905, 0.94, 0.965]) == [
        ("ferminet-a", 8), ("ferminet-b", 4), ("ferminet-c", 3), ("ferminet-d", 2)]
    assert kept(done, [0.89]) == [("ferminet-a", 2)]
    assert best_of(done, math.log(1 - 0.94)) == pytest.approx(scores[2])
    assert best_of(done) == pytest.approx(scores[0])


def test_a_level_that_none_reaches_has_the_most_accurate():
    done = [one(2, 0.90), one(3, 0.91), one(4, 0.95)]
    assert [seed for _, seed in kept(done, [0.89, 0.98])] == [4, 2]
    assert best_of(done, math.log(1 - 0.98)) == -math.inf


def test_where_one_is_the_best_for_several_levels_others_of_the_front_make_up_the_number():
    done = [one(2, 0.90), one(3, 0.91), one(4, 0.95), one(8, 0.93), one(12, 0.99)]
    assert [seed for _, seed in kept(done, [0.85, 0.89, 0.94])] == [4, 3, 2]
    assert [seed for _, seed in kept(done[:4], [0.85, 0.85, 0.85, 0.85])] == [4, 8, 3, 2]  # 8 is worse than 4 in all


def test_what_does_not_hold_only_makes_up_the_number():
    done = [one(2, 0.80, NO), one(3, 0.85, NO), one(4, 0.95), one(6, 0.96)]
    assert {seed for _, seed in kept(done, [0.9] * 3)} == {3, 4, 6}
    assert {seed for _, seed in kept(done, [0.9] * 2)} == {4, 6}
    assert best_of(done) == pytest.approx(max(score(f) for f in done if f.holds))
    assert best_of(done[:2]) == best_of([]) == -math.inf


def test_one_requirement_that_does_not_hold_is_enough():
    holding = one(2, 0.9)
    assert holding.holds
    assert not replace(holding, verdicts={**holding.verdicts, "params <= 1k": Verdict(NO, -0.1, 0.0)}).holds


def test_no_two_are_of_one_size_where_that_can_be():
    twins = [replace(one(2, 0.98 - number / 1000), name=f"twin-{number}") for number in range(4)]
    bound = [math.log(0.1)] * 3
    sizes = [f.network for f in named([*twins, one(3, 0.95), one(12, 0.99)], bound)]
    assert sizes == [GRAPHS[12], GRAPHS[3], GRAPHS[2]]
    assert [f.network for f in named([*twins, one(12, 0.99)], bound)] == [GRAPHS[12], GRAPHS[2], GRAPHS[2]]


BOUND = math.log(0.12)
GENERATE = Rounds._generate


class Believer:
    """A theory for which the best network known has an error of 10 % and a NetScore of 7."""

    def __init__(self, bound):
        self.bound = bound

    def incumbent(self, demand=None):
        return np.zeros((1, 1), dtype=np.int64), np.zeros(1), 7.0

    def believe(self, decisions):
        return SimpleNamespace(log_error=np.full(len(decisions), math.log(0.1)))

    def wish(self, demand):
        return Wish(np.float64(demand), np.float64(7.0))


def rounds(bound=BOUND, own=0.97, wanted=3, known=(), in_cycles=()):
    """Of φ with this accuracy, under 1r with this bound. known: trained in full by earlier runs. in_cycles: pairs of
    decisions and outcome."""
    space = SimpleNamespace(design=lambda decisions: GRAPHS[decisions[0]],
                            parent=SimpleNamespace(draw=lambda network: (network, {})))
    lab = SimpleNamespace(order=SimpleNamespace(ferminets=wanted, finalists=None), loop=None, space=space,
                          known=WarmStart(in_full=tuple(known)), requirements=SimpleNamespace(items=()),
                          prototype=SimpleNamespace(metrics=one(12, own).metrics))
    synthesis = SimpleNamespace(inquisitor=SimpleNamespace(theory=Believer(bound)), generator=None, reports=[])
    return Rounds(lab, SimpleNamespace(in_full=dict(in_cycles)), synthesis, None)


@pytest.fixture(autouse=True)
def nothing_is_generated(monkeypatch):
    monkeypatch.setattr(Rounds, "_generate", lambda self: None)


def test_levels_lie_between_what_1r_allows_and_the_prototype():
    assert rounds().levels == pytest.approx([BOUND, math.log(0.06), math.log(0.03)])
    assert rounds(wanted=1).levels == [BOUND]
    assert rounds(own=0.8).levels == [BOUND] * 3, "φ is worse than 1r allows"
    assert rounds(bound=math.inf).levels == pytest.approx([math.inf, math.log(0.1 * 0.3**0.5), math.log(0.03)])
    assert rounds(bound=math.inf, wanted=1).levels == [math.inf]


def test_each_level_has_its_turn():
    these = rounds()
    loose, middle, strict = these.levels
    assert these._in_turn() == [loose, middle, strict]
    these.done = [one(2, 0.90)]
    assert these._in_turn() == [middle, strict, loose], "what none reaches yet"
    these._serve(these._in_turn(), [5, 3])
    assert these._in_turn() == [loose, middle, strict]
    served = []
    for _ in range(2):  # two at a time
        wishes = [float(wish.demand) for wish in these._wishes()]
        assert wishes[0] == loose and sorted(wishes) == sorted(these.levels)
        served += wishes[1:2]
        these._serve(wishes, [0, 1])
    assert set(served) == {middle, strict}
    assert len(rounds(own=0.8)._in_turn()) == 1


def test_what_cycles_and_earlier_runs_trained_is_done_and_takes_the_place_of_no_finalist():
    earlier = one(4, 0.96)
    outcome = Outcome(earlier.metrics, {}, {})
    known = [Trained((4,), True, outcome, GRAPHS[4].digest), Trained((6,), False, outcome, GRAPHS[6].digest)]
    these, alone = rounds(known=known, in_cycles=[((8,), outcome)]), rounds()
    assert [(f.name, f.seed, f.network) for f in these.done] == [
        ("in-cycle-0", None, GRAPHS[8]), ("known-0", None, GRAPHS[4]), ("known-1", None, GRAPHS[6])]
    assert these._tried == {(4,), (6,), (8,)} and all(f.metrics == earlier.metrics for f in these.done)
    assert [f.repaired for f in these.done] == [False, True, False]
    assert (these.finalists - 3, these.push) == (alone.finalists, alone.push)
    with pytest.raises(UserError, match="decided on other things"):
        rounds(known=[replace(known[0], digest=GRAPHS[6].digest)])


def test_a_network_that_was_trained_in_full_again_is_one_network():
    """As where a cycle trains what an earlier run had trained: else it would be two of the FermiNets."""
    worse, better = (Outcome(one(4, accuracy).metrics, {}, {}) for accuracy in (0.95, 0.96))
    known = [Trained((4,), False, worse, GRAPHS[4].digest), Trained((6,), False, worse, GRAPHS[6].digest)]
    for in_cycle, earlier in ((worse, better), (better, worse)):
        these = rounds(known=[replace(known[0], outcome=earlier), *known], in_cycles=[((4,), in_cycle)])
        assert sorted(f.decisions for f in these.done) == [(4,), (6,)]
        assert max(f.metrics.accuracy for f in these.done) == 0.96


@pytest.mark.parametrize(("failing", "before", "rounds"), [
    (0, 0, [3, 2, 1]), (3, 0, [3, 3]), (2, 0, [3, 3]), (4, 0, [3, 3, 2]), (0, 3, [3, 2, 1]), (4, 1, [3, 3])])
def test_finalists_are_trained_until_enough_hold_and_then_for_better_ones(monkeypatch, failing, before, rounds):
    """All teach the inquisitor, round by round; the first are seeds. failing: so many of the first do not hold 1r.
    before: networks for which 1r holds that cycles trained in full."""
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=3, batch=4, seed=0))
    run.run()
    trained, known, sizes, names = [], [], [], []
    outcome = Outcome(one(12, 0.9).metrics, {}, {})
    problem.in_full = dict.fromkeys(run.reports[0].candidates[:before], outcome)

    def trainings(lab, problem, made, chosen, folder):
        known.append(len(run.inquisitor.theory.in_full))
        sizes.append(len(chosen))
        for i in chosen:
            width = sorted(GRAPHS)[len(trained) % len(GRAPHS)]
            trained.append(made.row(i))
            names.append(made.names[i])
            finished = one(width, 0.9, YES if len(trained) > failing else NO)
            yield replace(finished, name=made.names[i], decisions=made.row(i))

    monkeypatch.setattr(Rounds, "_generate", GENERATE)
    monkeypatch.setattr("synth.run.finishing.train_in_full", trainings)
    monkeypatch.setattr("synth.run.finishing._finished", lambda lab, name, seed, decisions, repaired, outcome: replace(
        one(12, 0.9), name=name, decisions=decisions))
    lab = SimpleNamespace(order=SimpleNamespace(ferminets=3, finalists=None), loop=None, known=WarmStart(),
                          prototype=SimpleNamespace(metrics=one(12, 0.97).metrics), space=problem.space,
                          requirements=problem.requirements)
    made = finish(lab, problem, run, None, Progress(quiet=True))
    assert sizes == rounds and len(set(trained)) == sum(rounds)
    assert known == [sum(rounds[:number]) for number in range(len(rounds))]
    assert run.inquisitor.theory.in_full == [(row, 0.9) for row in trained]
    assert all(name.startswith("seed-") for name in names[:rounds[0]])
    assert len(made) == 3 and all(f.holds for f in made)
    assert {f.decisions for f in made} <= {*trained, *problem.in_full} and not set(trained) & set(problem.in_full)


def test_a_level_improves_on_what_reached_it_or_on_what_is_believed():
    these = rounds()
    these.done = [one(2, 0.90), one(3, 0.96), one(4, 0.99, NO)]
    wanted = {float(wish.demand): float(wish.reference) for wish in these._wishes()}
    assert [wanted[level] for level in these.levels] == pytest.approx([*map(score, these.done[:2]), 7.0])


def score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))
