"""A network trained by itself, once a seed: what a prototype, a rival or a chosen FermiNet reaches by one recipe."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from devices.support.errors import UserError
from devices.support.factories import is_factory
from devices.support.files import sha256_file
from synth.checkpoint import Checkpoint
from synth.data.dataset import Dataset, Split
from synth.distillation import teacher_logits
from synth.evaluation import Metrics, evaluate
from synth.networks.costs import costs
from synth.networks.module import Weights, build, fresh_weights, weights_of
from synth.networks.network import Network
from synth.networks.tracing import trace
from synth.preparation import LOGITS, load_network, save_network
from synth.progress import Progress
from synth.prototypes.registry import PROTOTYPES, load_prototype
from synth.recipe import Recipe, recipe_for
from synth.tensors import load_tensors, save_tensors
from synth.training import train
from synth.workers import single_thread
from synth.zoo.shelf import card_of, find

TRAIN, WHOLE = "train", "train+validation"  # what to train on
VIEW_SEED = 0  # of the views, the same for all seeds, so that a teacher looks at them once


@dataclass(frozen=True)
class Trained:
    """One seed's network. validation: None when it was part of what was trained on."""

    seed: int
    folder: Path
    network: Network
    validation: Metrics | None


def fresh(word: str, dataset: Dataset, seed: int) -> tuple[Network, Weights]:
    """A prototype (a name or a factory), a shipped network or a network's folder, with fresh weights from the seed: a
    prototype's own way of drawing them, torch's for the others."""
    if word in PROTOTYPES or is_factory(word):
        return trace(load_prototype(word, dataset, seed=seed), dataset.shape, word.rpartition(":")[2])
    network, _ = load_fitting(word, find(word, dataset.name), dataset)
    return network, fresh_weights(network, seed)


def load_fitting(word: str, folder: Path, dataset: Dataset) -> tuple[Network, Weights]:
    """The trained network of a folder, which was named by `word`; UserError when it is not made for these data."""
    network, weights = load_network(folder)
    if network.input_shape != dataset.shape or network.output_shape != (len(dataset.classes),):
        raise UserError(f"{word}: reads {network.input_shape} and gives {network.output_shape}, but {dataset.name} has "
                        f"images of {dataset.shape} in {len(dataset.classes)} classes; name the data it was made for")
    return network, weights


def train_seeds(word: str, dataset: Dataset, recipe: Recipe, seeds: Sequence[int], out: Path, *, command: str,
                on: str = TRAIN, teacher: str | None = None, device: str = "cpu",
                progress: Progress | None = None) -> Iterator[Trained]:
    """Train fresh weights from every seed into out/seed-N; a seed that is done is taken from there, one that was cut
    goes on. teacher: a trained network whose answers are part of the loss, as much as the recipe says.

    UserError when a folder holds a training by other settings.
    """
    progress = progress or Progress(quiet=True)
    network, _ = fresh(word, dataset, seeds[0])
    split = (dataset.train if on == TRAIN else joined(dataset.train, dataset.validation)).to(device)
    taught_by = None if teacher is None or recipe.distil == 0 else find(teacher, dataset.name)
    about = {"network": network.digest, "data": dataset.name, "data_sha256": dataset.checksum, "on": on,
             "recipe": recipe.to_json(),
             "teacher": None if taught_by is None else sha256_file(taught_by / "weights.safetensors")}
    logits = None
    for seed in seeds:
        folder = out / f"seed-{seed}"
        if (folder / "card.json").is_file():
            yield _done(folder, seed, about)
            continue
        with single_thread():
            if taught_by is not None and logits is None:
                logits = _taught(taught_by, split, recipe, out / f"teacher-{on}.safetensors", about, device, progress)
            module = build(*fresh(word, dataset, seed)).to(device)
            checkpoint = Checkpoint(folder / "checkpoint.safetensors", about=about)
            with progress.stage(f"{word} {seed}", recipe.epochs) as stage:
                history = train(module, split, recipe, seed=seed, view_seed=VIEW_SEED, teacher=logits,
                                progress=lambda done, _, stage=stage: stage.at(done),  # type: ignore[misc]
                                checkpoint=checkpoint)
                validation = evaluate(module, dataset.validation) if on == TRAIN else None
                stage.note("" if validation is None else f"{100 * validation.accuracy:.2f} % val")
            found = costs(network)
            card = {"name": word, "command": command, "seed": seed, **about, "taught_by": teacher,
                    "losses": list(history.losses), "seconds": history.seconds, "device": device,
                    "params": found.params, "macs": found.macs,
                    "validation": None if validation is None else validation.to_json(),
                    "versions": {"torch": torch.__version__, "python": platform.python_version()}}
            save_network(folder, network, weights_of(module.cpu()), card)
            checkpoint.remove()
        yield Trained(seed, folder, network, validation)


def joined(a: Split, b: Split) -> Split:
    return Split(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]))


def recipe_named(purpose: str, dataset: Dataset, epochs: int | None) -> Recipe:
    """The recipe of a data set for a purpose, over another number of epochs when one is given."""
    recipe = recipe_for(dataset.name, purpose, images=len(dataset.train), size=dataset.shape[1:])
    return recipe if epochs is None else replace(recipe, epochs=epochs)


def _done(folder: Path, seed: int, about: dict[str, Any]) -> Trained:
    card = card_of(folder)
    differ = [name for name, value in about.items() if card.get(name) != value]
    if differ:
        raise UserError(f"{folder}: holds a training that differs in {', '.join(differ)}; choose another --out")
    network, _ = load_network(folder)
    return Trained(seed, folder, network, None if card["validation"] is None else Metrics(**card["validation"]))


def _taught(folder: Path, split: Split, recipe: Recipe, cache: Path, about: dict[str, Any], device: str,
            progress: Progress) -> torch.Tensor:
    """The teacher's logits, kept on disk in half precision for the seeds and the next call."""
    identity = {name: about[name] for name in ("data_sha256", "on", "teacher")}
    identity |= {"views": recipe.different_views, "augmentation": recipe.to_json()["augmentation"]}
    if cache.exists():
        tensors, card = load_tensors(cache, LOGITS)
        if card == identity:
            return tensors["logits"].float()
    network, weights = load_network(folder)
    with progress.stage("teacher", recipe.different_views) as stage:
        logits = teacher_logits(build(network, weights).to(device), split, recipe, view_seed=VIEW_SEED,
                                precision="bf16", progress=lambda done, _: stage.at(done)).half()
    os.makedirs(cache.parent, exist_ok=True)
    save_tensors(cache, {"logits": logits}, LOGITS, identity)
    return logits.float()
