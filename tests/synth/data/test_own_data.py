"""The README's example of a user's own data and network, up to a trained network that reads new images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from synth.data.dataset import load_dataset
from synth.prototypes.registry import load_prototype
from synth.training.evaluation import evaluate
from synth.training.recipe import recipe_for
from synth.training.training import train
from synth.training.workers import single_thread

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_data.py"


def test_own_data_and_own_network_train():
    dataset = load_dataset(f"{EXAMPLE}:data")
    assert dataset.name == "own_data" and dataset.classes == ("circle", "cross", "square")
    assert dataset.shape == (3, 16, 16) and len(dataset.train) == 900 and dataset.train.images.std() > 0.9
    module = load_prototype(f"{EXAMPLE}:network", dataset)
    recipe = recipe_for(dataset.name, "short", images=len(dataset.train), size=dataset.shape[1:])
    with single_thread():
        train(module, dataset.train, recipe, seed=0)
    assert evaluate(module, dataset.validation).accuracy > 0.7  # one third by chance


def test_recipes_grow_with_the_data():
    def steps(images: int, purpose: str) -> float:
        recipe = recipe_for("own", purpose, images=images, size=(32, 32))
        return recipe.epochs * np.ceil(images / recipe.batch)

    for purpose in ("prototype", "short", "final"):
        for images in (20, 300, 5_000, 100_000):
            assert 4 <= steps(images, purpose) <= 20_000
        assert steps(5_000, "short") < steps(5_000, "final")
    assert torch.is_tensor(load_dataset("digits").train.images)
