"""What may be trained in full, beside what G makes and the search evaluated."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from toy_problem import ToyProblem

from synth.run.finalists import WANTED, Made, evaluated, levels, likely, promising, wanted
from synth.search.moves import violation
from synth.search.synthesis import Settings, Synthesis


def test_what_the_inquisitor_wants_by_now_was_never_evaluated_and_may_be_promising():
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=1, batch=2, seed=1))
    run.run()
    lab = SimpleNamespace(space=problem.space, requirements=problem.requirements)
    theory = run.inquisitor.theory
    wishes = [theory.wish(), theory.wish(theory.bound - 0.3)]
    made = wanted(lab, run.inquisitor, run.generator, wishes, "-2")
    count = len(made.names)
    assert WANTED // 2 < count <= WANTED, "half for each wish, what both want once"
    assert made.names == [f"wanted-2-{number}" for number in range(count)] and set(made.seeds) == {None}
    assert len(np.unique(made.decisions, axis=0)) == count and not made.repaired.any()
    assert not {made.row(i) for i in range(count)} & {o.decisions for o in run.inquisitor.theory.observations}
    assert (violation(problem.requirements, problem.space.costs(made.decisions)) <= 0).all() and made.feasible.all()
    again = wanted(lab, run.inquisitor, run.generator, wishes, "-2")
    assert np.array_equal(made.decisions, again.decisions), "a run that goes on finds the same"

    known = evaluated(lab, run.reports)
    chosen = promising(run.inquisitor, known.joined(made), 3, set(), wishes)
    assert any(i >= len(known.names) for i in chosen) and len(set(chosen)) == 3


def test_levels_go_from_what_1r_allows_to_what_the_prototype_has():
    assert levels(np.log(0.12), np.log(0.03), 3) == pytest.approx(np.log([0.12, 0.06, 0.03]))
    assert levels(np.log(0.12), np.log(0.03), 1) == pytest.approx([np.log(0.12)])
    assert levels(-2.0, -1.5, 2) == [-2.0, -2.0], "φ is worse than 1r allows"


def test_finalists_are_likely_to_reach_each_level_in_turn():
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=1, batch=4, seed=1))
    run.run()
    theory, random = run.inquisitor.theory, np.random.default_rng(0)
    decisions = np.unique(problem.space.canonical(run.inquisitor.moves.random(200, random)), axis=0)
    free = violation(problem.requirements, problem.space.costs(decisions)) <= 0
    made = Made([None] * len(decisions), [""] * len(decisions), decisions, np.zeros(len(decisions), bool), free)
    demands = [theory.bound, theory.bound - 0.5]
    chosen = likely(run.inquisitor, made, 5, set(), 0.5, demands)
    assert len(set(chosen)) == 5 and free[chosen].all()
    belief = theory.believe(decisions)
    for number, demand in enumerate(demands):
        left = free.copy()
        left[chosen[:number]] = False
        reaching = left & (belief.holds(demand) >= 0.5)
        if reaching.any():
            assert belief.performance()[chosen[number]] == belief.performance()[reaching].max()
        else:
            assert belief.holds(demand)[chosen[number]] == belief.holds(demand)[left].max()
    assert len(likely(run.inquisitor, made, 10_000, set(), 0.5, demands)) == free.sum()
    tried = {made.row(i) for i in chosen}
    assert not {made.row(i) for i in likely(run.inquisitor, made, 5, tried, 0.5, demands)} & tried
