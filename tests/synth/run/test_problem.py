"""The cycle's problem on real networks: what candidates start from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from devices.board import resolve_target
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.probing.probing import Probes, order_of_units
from synth.prototypes.resnet import ResNet
from synth.run.candidates import Outcome
from synth.run.problem import (
    FINAL,
    LINK_EVERY,
    Evaluated,
    NetworkProblem,
    Recipes,
    _save_cycle,
    load_cycle,
    teaches_the_link,
)
from synth.run.scope import scope_of
from synth.search.probe_table import FIRM_SLOPE_SD, SLOPE_SD
from synth.space.bank import elastic_parent
from synth.space.prices import Prices
from synth.space.space import NetworkSpace
from synth.training.evaluation import Metrics
from synth.training.recipe import recipe_for


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    torch.manual_seed(0)
    network, weights = trace(ResNet(1, 10, widths=(8, 16), blocks=4), (1, 8, 8), "resnet")
    parent = elastic_parent(network, weights, torch.randn(16, 1, 8, 8))
    order = order_of_units(parent.channels, np.zeros(len(parent.channels.keep_all())))
    space = NetworkSpace(parent, order, Prices(Requirements.parse(()), resolve_target("tx2")))
    recipes = Recipes(*(recipe_for("digits", purpose, images=100, size=(8, 8)) for purpose in ("short", "final")), 0)
    probes, folder = SimpleNamespace(vertices=()), SimpleNamespace(checkpoints=tmp_path_factory.mktemp("checkpoints"))
    return NetworkProblem(space, None, probes, None, folder, recipes, 0, None)


def test_candidates_inherit_and_only_full_trainings_are_kept_for_later(problem):
    row = problem.anchors[0]
    short, origins = problem.task(row, problem._recipes.short, None, "short")
    full, again = (problem.task(row, problem._recipes.final, None, FINAL)[0] for _ in range(2))
    inherited = problem.space.parent.inherit(origins)
    for task in (short, full, again):
        assert task.network.digest == short.network.digest and task.weights.keys() == inherited.keys()
        assert all(torch.equal(tensor, inherited[name]) for name, tensor in task.weights.items())
    assert short.checkpoints is None and full.checkpoints is not None
    assert full.seed == again.seed != short.seed  # the same network in the same run always trains alike


def test_where_candidates_start_from_fresh_weights_the_signs_of_probing_are_held_more_firmly(problem):
    short = problem._recipes.short
    inherited, fresh = (
        Probes(problem.space, np.zeros(1000), {}, scope_of(replace(short, inherits=inherits)).slope_sd).table
        for inherits in (True, False))
    assert (inherited.slope_sd, fresh.slope_sd) == (SLOPE_SD, FIRM_SLOPE_SD) and FIRM_SLOPE_SD < SLOPE_SD


def test_a_recipe_may_want_fresh_weights(problem):
    row, recipe = problem.anchors[0], replace(problem._recipes.short, inherits=False)
    task, origins = problem.task(row, recipe, None, "short")
    again = problem.task(row, recipe, None, "short")[0]
    inherited = problem.space.parent.inherit(origins)
    assert task.weights.keys() == inherited.keys()
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in task.weights.items())
    drawn = [name for name in inherited if name.endswith("conv1.weight")]
    assert drawn and not any(torch.equal(task.weights[name], inherited[name]) for name in drawn)


@pytest.mark.parametrize("batch", [2, 4, 7, 16, LINK_EVERY, 3 * LINK_EVERY])
def test_one_candidate_of_so_many_is_trained_in_full_but_no_more_than_one_a_cycle(batch):
    cycles = 60
    assert sum(teaches_the_link(cycle, batch) for cycle in range(cycles)) == min(cycles * batch // LINK_EVERY, cycles)


def test_what_a_cycle_trained_in_full_is_kept_with_its_weights(problem, tmp_path):
    task, _ = problem.task(problem.anchors[0], None, None, FINAL)
    whole = Outcome(Metrics(0.5, -0.7, 0.1, 0.9, 0.01, 100), {}, task.weights)
    for name, final in (("whole", whole), ("none", None), ("of-an-earlier-version", replace(whole, weights=None))):
        _save_cycle(tmp_path / name, Evaluated([], [], final, None, False))
        found = load_cycle(tmp_path / name).final
        if final is None or final.weights is None:
            assert found == final
        else:
            assert found.metrics == final.metrics and found.weights.keys() == final.weights.keys()
            assert all(torch.equal(found.weights[key], tensor) for key, tensor in final.weights.items())


def test_the_bank_is_as_the_last_left_it_that_wrote_back_earlier_runs_before_ones_own(problem, tmp_path):
    first = problem.space.parent.bank
    changed = [{name: tensor + step for name, tensor in first.items()} for step in (1, 2)]
    nothing, earlier, own = (Evaluated([], [], None, bank, False) for bank in (None, *changed))
    problem._folder.path = tmp_path

    def recalled(before, cycles):
        problem.space.parent.bank, problem._earlier = first, before
        for number, cycle in enumerate(cycles):
            _save_cycle(tmp_path / "cycles" / f"{number:04d}", cycle)
        problem.recall_bank(len(cycles))
        return problem.space.parent.bank

    try:
        for before, cycles, wanted in (([], [nothing], first), ([earlier, nothing], [nothing], earlier.bank),
                                       ([earlier], [nothing, own], own.bank)):
            found = recalled(before, cycles)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    finally:
        problem.space.parent.bank, problem._earlier = first, ()
