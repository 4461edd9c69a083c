"""What may be trained in full, beside what G makes and the search evaluated."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from toy_problem import ToyProblem

from synth.run.finalists import WANTED, Made, evaluated, levels_between, likely, promising, wanted
from synth.run.problem import Evaluated
from synth.run.warm_start import WarmStart
from synth.search.decisions import to_words
from synth.search.moves import violation
from synth.search.synthesis import Settings, Synthesis


def test_what_the_inquisitor_wants_by_now_was_never_evaluated_and_may_be_promising():
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=1, batch=2, seed=1))
    run.run()
    earlier = Evaluated([to_words(problem.space.sites, (3,) * 5 + (2,) * 3 + (1,)),
                         to_words(problem.space.sites, (1,) * 5 + (0,) * 3 + (1,))], [], None, None, False)
    lab = SimpleNamespace(space=problem.space, requirements=problem.requirements, known=WarmStart((earlier,)))
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
    assert known.names == ["candidate-0-0", "candidate-0-1", "known-0-0", "known-0-1"]
    assert [known.row(i) for i in range(2)] == run.reports[0].candidates and known.row(3) == (1,) * 5 + (0,) * 3 + (1,)
    assert list(known.feasible) == [True, True, False, True], "the largest breaks a requirement on costs"
    chosen = promising(run.inquisitor, known.joined(made), 3, set(), wishes)
    assert any(i >= len(known.names) for i in chosen) and len(set(chosen)) == 3


def test_levels_go_from_what_1r_allows_to_what_the_prototype_has():
    assert levels_between(np.log(0.12), np.log(0.03), 3) == pytest.approx(np.log([0.12, 0.06, 0.03]))
    assert levels_between(np.log(0.12), np.log(0.03), 1) == pytest.approx([np.log(0.12)])
    assert levels_between(-2.0, -1.5, 2) == [-2.0, -2.0], "φ is worse than 1r allows"


@pytest.fixture(scope="module")
def searched():
    """(an inquisitor that saw one cycle, what could be made)."""
    problem = ToyProblem()
    run = Synthesis(problem, Settings(cycles=1, batch=4, seed=1))
    run.run()
    drawn = run.inquisitor.moves.random(200, np.random.default_rng(0))
    decisions = np.unique(problem.space.canonical(drawn), axis=0)
    free = violation(problem.requirements, problem.space.costs(decisions)) <= 0
    none = np.zeros(len(decisions), dtype=bool)
    return run.inquisitor, Made([None] * len(decisions), [""] * len(decisions), decisions, none, free)


def test_finalists_are_likely_to_reach_each_level_in_turn(searched):
    inquisitor, made = searched
    theory, free = inquisitor.theory, np.flatnonzero(made.feasible)
    belief = theory.believe(made.decisions)
    loose, strict = theory.bound + 0.3, theory.bound - 2.0
    chosen = likely(inquisitor, made, 3, set(), 0.5, [loose, strict])
    assert len(set(chosen)) == 3 and made.feasible[chosen].all()
    reaching = [i for i in free if belief.holds(loose)[i] >= 0.5]
    assert len(reaching) > 5 and not any(belief.holds(strict)[free] >= 0.5)
    assert chosen[0] == max(reaching, key=lambda i: belief.performance()[i])
    sure = (strict - belief.log_error) / belief.log_error_sd
    assert chosen[1] == max((i for i in free if i != chosen[0]), key=lambda i: sure[i]), "none does: the most certain"
    surer = [i for i in free if belief.holds(loose)[i] >= 0.75 and i not in chosen[:2]]
    assert chosen[2] == max(surer, key=lambda i: belief.performance()[i]), "more certain the second time"


def test_at_one_level_finalists_are_chosen_ever_more_safely(searched):
    inquisitor, made = searched
    level = inquisitor.theory.bound + 0.3
    chosen = likely(inquisitor, made, 4, set(), 0.35, [level, level])
    chance = inquisitor.theory.believe(made.decisions[chosen]).holds(level)
    assert (chance >= 1 - 0.65 / np.arange(1, 5)).all()


def test_a_level_far_out_of_reach_has_the_most_certain_networks(searched):
    inquisitor, made = searched
    belief = inquisitor.theory.believe(made.decisions)
    free = np.flatnonzero(made.feasible)
    assert not belief.holds(-40.0)[free].any(), "to the last digit"
    sure = (-40.0 - belief.log_error[free]) / belief.log_error_sd[free]
    assert likely(inquisitor, made, 2, set(), 0.5, [-40.0]) == free[np.argsort(-sure)[:2]].tolist()


def test_what_was_tried_is_not_chosen_again(searched):
    inquisitor, made = searched
    levels = [inquisitor.theory.bound, inquisitor.theory.bound - 0.5]
    assert len(likely(inquisitor, made, 10_000, set(), 0.5, levels)) == made.feasible.sum()
    tried = {made.row(i) for i in likely(inquisitor, made, 5, set(), 0.5, levels)}
    assert not {made.row(i) for i in likely(inquisitor, made, 5, tried, 0.5, levels)} & tried
    everything = {made.row(i) for i in range(len(made.decisions))}
    assert likely(inquisitor, made, 5, everything, 0.5, levels) == []
    assert promising(inquisitor, made, 5, everything, [inquisitor.theory.wish()]) == []
