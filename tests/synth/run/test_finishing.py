"""Which of the networks that were trained in full are kept, and in what order."""

from __future__ import annotations

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


def kept(done, wanted):
    return [(f.name, f.seed) for f in named(done, wanted)]


def test_of_more_than_are_wanted_the_best_the_most_accurate_and_some_between_are_kept():
    done = [one(2, 0.90), one(3, 0.91), one(4, 0.95), one(6, 0.96), one(8, 0.97), one(12, 0.99)]
    assert best_of(done) == pytest.approx(max(score(f) for f in done))
    names = kept(done, 4)
    assert [name for name, _ in names] == ["ferminet-a", "ferminet-b", "ferminet-c", "ferminet-d"]
    assert names[0][1] == 12 and names[-1][1] == 2  # the most accurate first; here the smallest has the best NetScore
    assert len({seed for _, seed in names}) == 4
    assert kept(done, 1) == [("ferminet-a", 2)]


def test_what_does_not_hold_only_makes_up_the_number():
    done = [one(2, 0.80, NO), one(3, 0.85, NO), one(4, 0.95), one(6, 0.96)]
    assert {seed for _, seed in kept(done, 3)} == {3, 4, 6}
    assert {seed for _, seed in kept(done, 2)} == {4, 6}
    assert best_of(done) == pytest.approx(max(score(f) for f in done if f.holds))


def test_when_nothing_holds_anything_nearly_as_good_is_better():
    done = [one(2, 0.80, NO), one(3, 0.85, NO)]
    assert best_of(done) == pytest.approx(max(map(score, done)) - 1.0)
    assert best_of([]) == -1.0


def test_one_network_may_be_both_the_best_and_the_most_accurate():
    done = [one(2, 0.99), one(3, 0.91), one(4, 0.92), one(6, 0.93), one(8, 0.94)]
    seeds = [seed for _, seed in kept(done, 3)]
    assert seeds[-1] == 2 and len(set(seeds)) == 3  # the last is the smallest, whatever else it is


def test_no_two_are_of_one_size_where_that_can_be():
    twins = [replace(one(2, 0.98 - number / 1000), name=f"twin-{number}") for number in range(4)]
    sizes = [f.network for f in named([*twins, one(3, 0.95), one(12, 0.99)], 3)]
    assert sizes == [GRAPHS[12], GRAPHS[3], GRAPHS[2]]
    assert [f.network for f in named([*twins, one(12, 0.99)], 3)] == [GRAPHS[12], GRAPHS[2], GRAPHS[2]]


def score(finished: Finished) -> float:
    found = costs(finished.network)
    return float(netscore(finished.metrics.accuracy, found.params, found.macs))
