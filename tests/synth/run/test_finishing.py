"""Which of the networks that were trained in full are kept, and in what order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from synth.networks.costs import costs
from synth.networks.tracing import trace
from synth.objective.performance import netscore
from synth.objective.requirements import NO, YES, Verdict
from synth.prototypes.resnet import ResNet
from synth.run.finishing import Finished, best_of, named
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


def test_no_two_are_of_one_size_where_that_can_be():
    twins = [replace(one(2, 0.98 - number / 1000), name=f"twin-{number}") for number in range(4)]
    bound = [math.log(0.1)] * 3
    sizes = [f.network for f in named([*twins, one(3, 0.95), one(12, 0.99)], bound)]
    assert sizes == [GRAPHS[12], GRAPHS[3], GRAPHS[2]]
    assert [f.network for f in named([*twins, one(12, 0.99)], bound)] == [GRAPHS[12], GRAPHS[2], GRAPHS[2]]


def score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))
