"""Trained networks that teach others: their answers are part of the loss of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from devices.support.errors import UserError
from devices.support.files import sha256_file
from synth.data.dataset import Dataset
from synth.networks.module import Weights, build
from synth.networks.network import Network
from synth.training.distillation import Committee
from synth.training.recipe import Recipe
from synth.zoo.shelf import find, load_fitting, trained_on

PRECISION = "bf16"  # that they answer in, where the hardware is fast at it


@dataclass(frozen=True)
class Teachers:
    """networks: by the word that each was named by. checksums: {word: SHA-256 of its weights}."""

    networks: Mapping[str, tuple[Network, Weights]]
    checksums: Mapping[str, str]

    def module(self) -> nn.Module | None:
        """What answers for all of them, by the mean of their probabilities; None where there are none."""
        members = [build(network, weights) for network, weights in self.networks.values()]
        return members[0] if len(members) == 1 else Committee(members) if members else None


def teachers_named(words: Sequence[str], dataset: Dataset, unseen: str | None = None) -> Teachers:
    """Folders of trained networks, or names of shipped ones. unseen: a split that none may have been trained on.

    UserError for one that is not there, is named twice, does not fit the data or has seen too much.
    """
    if len(set(words)) < len(words):
        raise UserError("a teacher is named twice; name each once")
    networks, checksums = {}, {}
    for word in words:
        folder = find(word, dataset.word)
        networks[word] = load_fitting(word, folder, dataset)
        checksums[word] = sha256_file(folder / "weights.safetensors")
        if unseen is not None and trained_on(folder, dataset, unseen):
            raise UserError(f"--teacher {word}: was trained on the {unseen} split as well, by which FermiNets are "
                            "chosen; name a teacher that was not")
    return Teachers(networks, checksums)


def refuse_unheard(words: Sequence[str], *recipes: Recipe) -> None:
    """UserError for teachers that no recipe of a student listens to."""
    if words and not any(recipe.distil for recipe in recipes):
        raise UserError(f"--teacher {words[0]}: the recipe has distil = 0, by which a teacher has no part in the loss; "
                        "give it one with --set distil=0.5, or leave --teacher out")
