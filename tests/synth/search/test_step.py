import numpy as np
import pytest
import torch
from toy_problem import SITES, ToySpace

from synth.search.generator import Generator
from synth.search.moves import Moves
from synth.search.step import fit

SEEDS = list(range(16))
TARGETS = Moves(ToySpace()).random(16, np.random.default_rng(0))


def divergence(generator, delta):
    old = generator.log_probabilities(*generator.conditions(SEEDS)).detach()
    generator.move(delta)
    new = generator.log_probabilities(*generator.conditions(SEEDS)).detach()
    return float(torch.nan_to_num(old.exp() * (old - new)).sum(-1).mean())


@pytest.mark.parametrize("radius", [0.02, 0.3])
def test_the_step_stays_in_the_trust_region(radius):
    generator = Generator(SITES)
    assert 0 < divergence(generator, fit(generator, SEEDS, TARGETS, radius, 24)) <= radius * 1.01


def test_steps_make_the_targets_likely_the_faster_the_wider_the_region():
    def agreement(radius):
        generator = Generator(SITES)
        for _ in range(3):
            generator.move(fit(generator, SEEDS, TARGETS, radius, 24))
        return float((generator.generate(SEEDS) == TARGETS).mean())

    untouched = float((Generator(SITES).generate(SEEDS) == TARGETS).mean())
    assert untouched < agreement(0.05) < agreement(1.0)
    assert agreement(1.0) > 0.6


def test_the_generator_itself_is_left_alone():
    generator = Generator(SITES)
    before = generator.vector()
    fit(generator, SEEDS, TARGETS, 0.5, 24)
    assert torch.equal(generator.vector(), before)


def test_seeds_do_not_collapse_when_all_targets_are_one():
    generator = Generator(SITES)
    one = np.tile(TARGETS[:1], (16, 1))
    for _ in range(8):
        generator.move(fit(generator, SEEDS, one, 1.0, 24))
    share = generator.log_probabilities(*generator.conditions(SEEDS)).exp().mean(0)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(-1) / torch.log(torch.tensor(generator.counts))
    assert float(entropy.detach().min()) > 0.1
