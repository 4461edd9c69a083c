import numpy as np
import pytest
from toy_problem import SITES, ToyBounds, ToyProblem, everything

from synth.search.decisions import Observation, rows
from synth.search.theory import Theory

KINDS = {0: 0.0, 2: 0.12}  # the operator of the second block, and what it is worth after full training alone


def observed(problem, decisions, final=True, noise=0.0):
    d = rows([decisions], len(SITES))
    loss = float(problem.log_loss(d)[0])
    error = loss - 0.6 - KINDS.get(decisions[6], 0.0) + noise
    return Observation(tuple(decisions), loss, 0.02, float(1 - np.exp(loss - 0.4)),
                       float(1 - np.exp(error)) if final else None)


def test_a_network_seen_in_full_is_believed_to_be_what_it_was_and_its_neighbours_more_like_it():
    """Networks of one kind end better than their short training tells: their neighbours are believed to, others not."""
    problem = ToyProblem(ToyBounds(validation_images=5000))
    random = np.random.default_rng(0)
    some = everything()[random.choice(len(everything()), 24, replace=False)]
    seen = [observed(problem, d, final=i < 10) for i, d in enumerate(problem.space.canonical(some).tolist())]
    theory = Theory(problem)
    theory.observe(seen, problem.probe_table())
    assert theory.link.alike > 0.3
    whole = rows((o.decisions for o in seen if o.final_accuracy is not None), len(SITES))
    truth = np.array([o.final_accuracy for o in seen if o.final_accuracy is not None])
    belief = theory.believe(whole)
    line, _ = theory.link.final_log_error(belief.log_loss, belief.log_loss_sd)
    assert np.abs(np.exp(belief.log_error) - (1 - truth)).mean() < np.abs(np.exp(line) - (1 - truth)).mean()

    rest = everything()
    rest = np.unique(problem.space.canonical(rest[random.choice(len(rest), 400, replace=False)]), axis=0)
    belief = theory.believe(rest)
    line, _ = theory.link.final_log_error(belief.log_loss, belief.log_loss_sd)
    better = belief.log_error - line
    kind = rest[:, 6]
    assert better[kind == 2].mean() < better[kind == 0].mean() - 0.01


@pytest.mark.parametrize("images", [None, 50])
def test_where_counting_explains_the_scatter_nothing_is_said_of_other_networks(images):
    problem = ToyProblem(ToyBounds(validation_images=images))
    theory = Theory(problem)
    theory.observe([observed(problem, d, noise=0.05 * (-1) ** i) for i, d in enumerate([[1] * 9, [2] * 5 + [1] * 4])],
                   problem.probe_table())
    belief = theory.believe(everything()[:50])
    line, sd = theory.link.final_log_error(belief.log_loss, belief.log_loss_sd)
    assert theory.link.alike == 0 and belief.log_error == pytest.approx(line)
    assert belief.log_error_sd == pytest.approx(sd)


def test_what_was_trained_in_full_alone_is_believed_too():
    problem = ToyProblem(ToyBounds(validation_images=5000))
    theory = Theory(problem)
    theory.observe([observed(problem, [1] * 9), observed(problem, [2] * 5 + [1] * 4)], problem.probe_table())
    unseen = (3, 2, 2, 1, 1, 0, 0, 0, 1)
    before = theory.believe(rows([unseen], 9)).log_error[0]
    theory.observe_in_full([(unseen, float(1 - np.exp(before + 0.3)))])
    after = theory.believe(rows([unseen], 9)).log_error[0]
    assert before + 0.1 < after < before + 0.31


def test_one_training_told_twice_counts_once():
    problem = ToyProblem(ToyBounds(validation_images=5000))
    seen = [observed(problem, [1] * 9), observed(problem, [2] * 5 + [1] * 4, final=False)]
    once, twice = Theory(problem), Theory(problem)
    for theory in (once, twice):
        theory.observe(seen, problem.probe_table())
    twice.observe_in_full([(seen[0].decisions, seen[0].final_accuracy)])
    later = Theory(problem)  # as where a cycle trains again what an earlier run had trained
    later.observe_in_full([(seen[0].decisions, seen[0].final_accuracy)])
    later.observe(seen, problem.probe_table())
    some = everything()[::97]
    for theory in (twice, later):
        assert np.array_equal(once.believe(some).log_error, theory.believe(some).log_error)
        assert np.array_equal(once.believe(some).log_error_sd, theory.believe(some).log_error_sd)
    twice.observe_in_full([(seen[0].decisions, seen[0].final_accuracy + 0.01)])  # from other weights
    assert not np.array_equal(once.believe(some).log_error, twice.believe(some).log_error)


@pytest.mark.parametrize("images", [None, 5000])
def test_what_is_drawn_of_networks_together_is_what_is_believed_of_each(images):
    problem = ToyProblem(ToyBounds(validation_images=images))
    random = np.random.default_rng(0)
    some = problem.space.canonical(everything()[random.choice(len(everything()), 12, replace=False)])
    theory = Theory(problem)
    theory.observe([observed(problem, d, final=i < 6) for i, d in enumerate(some.tolist())], problem.probe_table())
    far, near = [3] * 5 + [0, 2, 2, 0], [3] * 5 + [0, 2, 2, 1]
    networks = problem.space.canonical(np.array([some[0], [0] * 9, far, near]))
    belief, drawn = theory.believe(networks), theory.draw(networks, 20_000)
    assert drawn.mean(axis=0) == pytest.approx(belief.log_error, abs=0.02)
    assert drawn.std(axis=0) == pytest.approx(belief.log_error_sd, rel=0.05)
    correlation = np.corrcoef(drawn.T)
    assert correlation[2, 3] > 0.5 > correlation[2, 1], "neighbours are misjudged alike"


def test_a_short_training_that_was_seen_takes_the_place_of_what_was_foretold():
    problem = ToyProblem(ToyBounds(validation_images=5000))
    some = problem.space.canonical(everything()[::97])[:12]
    theory = Theory(problem)
    theory.observe([observed(problem, d) for d in some.tolist()], problem.probe_table())
    foretold = theory.believe(some)
    losses = foretold.log_loss - 0.5, np.full(len(some), 0.01)
    seen = theory.believe(some, losses=losses)
    assert np.array_equal(seen.log_loss, losses[0]) and np.array_equal(seen.log_loss_sd, losses[1])
    assert (seen.log_error < foretold.log_error).all()
    again = theory.believe(some, losses=(foretold.log_loss, foretold.log_loss_sd))
    assert np.allclose(again.log_error, foretold.log_error) and np.allclose(again.log_error_sd, foretold.log_error_sd)
    assert np.array_equal(seen.violation, foretold.violation)
