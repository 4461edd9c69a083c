import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from toy_problem import SITES, ToySpace

from devices.support.errors import UserError
from synth.search.generator import Generator, latent, preference
from synth.search.moves import log_cost


def test_a_seed_always_means_the_same():
    first, second = Generator(SITES, seed=3), Generator(SITES, seed=3)
    assert (first.generate(range(50)) == second.generate(range(50))).all()
    assert (first.generate([7]) == first.generate(range(8))[7:]).all()
    assert (latent(12) == latent(12)).all() and preference(5).tolist() == preference(5).tolist()


def test_a_seed_means_the_same_in_another_process():
    code = "from synth.search.generator import latent; print(latent(-3).tolist(), latent(2**70).tolist())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{latent(-3).tolist()} {latent(2**70).tolist()}"


def test_latents_are_gaussian_and_preferences_fill_the_cube():
    many = np.stack([latent(seed) for seed in range(2000)])
    assert np.abs(many.mean(axis=0)).max() < 0.1 and np.abs(many.std(axis=0) - 1).max() < 0.1
    wants = np.stack([preference(seed) for seed in range(1000, 1064)])
    for pair in ((0, 1), (0, 2), (1, 2)):
        cells = {(int(4 * a), int(4 * b)) for a, b in wants[:, pair]}
        assert len(cells) == 16  # 64 consecutive seeds reach every cell of 4 x 4
    assert ((wants >= 0) & (wants < 1)).all()


def test_decisions_exist_and_differ_between_seeds():
    generator = Generator(SITES, seed=1)
    made = generator.generate(range(100))
    assert (made >= 0).all() and (made < generator.counts).all()
    assert len(np.unique(made, axis=0)) > 20


def test_probabilities_sum_to_one_over_what_exists():
    generator = Generator(SITES)
    probabilities = generator.log_probabilities(*generator.conditions([0, 1])).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(2, len(SITES), dtype=torch.float64))
    assert (probabilities[:, 8, 2:] == 0).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_theta_starts_inside_the_target_band(share):
    space = ToySpace()

    def cost(decisions):
        return log_cost(space, space.canonical(decisions))

    ends = np.array([[0] * 9, [3, 3, 3, 3, 3, 2, 2, 2, 1]])
    low, high = cost(ends)
    aim = low + share * (high - low)
    generator = Generator(SITES)
    reached = generator.aim(cost, aim - 0.6, aim + 0.6, range(64))
    assert aim - 0.6 <= reached <= aim + 0.6
    assert reached == np.median(cost(generator.generate(range(64))))


def test_a_preference_replaces_the_seeds_own():
    generator = Generator(SITES, seed=1)
    assert (generator.generate([4], preference(4)) == generator.generate([4])).all()
    assert (generator.generate(range(30), (1, 0, 0)) != generator.generate(range(30), (0, 1, 0))).any()


def test_what_was_saved_generates_the_same(tmp_path):
    generator = Generator(SITES, seed=5)
    generator.move(0.1 * torch.randn(generator.vector().shape, dtype=torch.float64))
    generator.save(tmp_path)
    again = Generator.load(tmp_path)
    assert again.sites == generator.sites
    assert (again.generate(range(200)) == generator.generate(range(200))).all()


def test_damage_ends_in_one_sentence(tmp_path):
    Generator(SITES).save(tmp_path)
    weights = tmp_path / "generator.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-8] + b"\0" * 7 + b"\1")
    with pytest.raises(UserError, match="restore both files"):
        Generator.load(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="no such file"):
        Generator.load(tmp_path)
    Generator(SITES).save(tmp_path)
    about = json.loads((tmp_path / "generator.json").read_text())
    (tmp_path / "generator.json").write_text(json.dumps({k: v for k, v in about.items() if k != "weights_sha256"}))
    with pytest.raises(UserError, match="restore both files"):
        Generator.load(tmp_path)
    (tmp_path / "generator.json").write_text("{")
    with pytest.raises(UserError, match="damaged JSON"):
        Generator.load(tmp_path)


def test_a_move_is_undone_by_its_opposite():
    generator = Generator(SITES)
    before = generator.vector()
    step = torch.randn(before.shape, dtype=torch.float64)
    generator.move(step)
    assert not torch.allclose(generator.vector(), before)
    generator.move(-step)
    assert torch.allclose(generator.vector(), before)
