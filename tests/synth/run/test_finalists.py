"""What may be trained in full, beside what G makes and the search evaluated."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from toy_problem import ToyProblem

from synth.run.finalists import WANTED, evaluated, promising, wanted
from synth.search.moves import violation
from synth.search.synthesis import Settings, Synthesis


def test_what_the_inquisitor_wants_by_now_was_never_evaluated_and_may_be_promising():
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=1, batch=2, seed=1))
    run.run()
    lab = SimpleNamespace(space=problem.space, requirements=problem.requirements)
    made = wanted(lab, run.inquisitor, run.generator, "-2")
    assert made.names == [f"wanted-2-{number}" for number in range(WANTED)] and set(made.seeds) == {None}
    assert len(np.unique(made.decisions, axis=0)) == WANTED and not made.repaired.any()
    assert not {made.row(i) for i in range(WANTED)} & {o.decisions for o in run.inquisitor.theory.observations}
    assert (violation(problem.requirements, problem.space.costs(made.decisions)) <= 0).all() and made.feasible.all()
    again = wanted(lab, run.inquisitor, run.generator, "-2")
    assert np.array_equal(made.decisions, again.decisions), "a run that goes on finds the same"

    known = evaluated(lab, run.reports)
    chosen = promising(run.inquisitor, known.joined(made), 3, set(), run.inquisitor.theory.incumbent()[2])
    assert any(i >= len(known.names) for i in chosen)
