"""Networks trained by themselves, once a seed: what a prototype, a rival or a chosen FermiNet reaches by one recipe."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devices.support.errors import UserError
from devices.support.factories import is_factory
from devices.support.files import explain, write_text
from synth.data.dataset import Dataset, Split
from synth.networks.costs import costs
from synth.networks.module import Weights, build, fresh_weights, weights_of
from synth.networks.network import Network
from synth.networks.tracing import trace
from synth.progress import Progress, Stage
from synth.prototypes.registry import PROTOTYPES, load_prototype
from synth.storage.network_folder import card_of, load_network, save_network
from synth.storage.tensors import load_tensors, save_tensors
from synth.training.checkpoint import Checkpoint
from synth.training.device import Compute
from synth.training.distillation import LOGITS, teacher_logits
from synth.training.evaluation import Metrics, evaluate
from synth.training.recipe import Recipe
from synth.training.training import train
from synth.training.workers import Pool, Shared, single_thread
from synth.zoo.shelf import find, load_fitting, shipped
from synth.zoo.teachers import PRECISION, refuse_unheard, teachers_named

TRAIN = "train"  # what to train on; the other choice is train+validation
EPOCHS = "epochs"  # a file with the number of those done, while a training lasts
WATCH_EVERY_S = 1.0
VIEW_SEED = 0  # of the views, the same for all seeds, so that a teacher looks at them once


@dataclass(frozen=True)
class Trained:
    """One seed's network. validation: None when it was part of what was trained on."""

    name: str
    seed: int
    folder: Path
    network: Network
    validation: Metrics | None


@dataclass(frozen=True)
class Job:
    """One training that is to be done. about: what decides it, for its checkpoint. card: what else its card says."""

    network: Network
    weights: Weights
    recipe: Recipe
    seed: int
    folder: Path
    about: dict[str, Any]
    card: dict[str, Any]


def fresh(word: str, dataset: Dataset, seed: int) -> tuple[Network, Weights]:
    """A prototype (a name or a factory), a shipped network or a network's folder, with fresh weights from the seed: a
    prototype's own way of drawing them, torch's for the others."""
    if word in PROTOTYPES or is_factory(word):
        return trace(load_prototype(word, dataset, seed=seed), dataset.shape, word.rpartition(":")[2])
    if os.sep not in word and not Path(word).exists() and word not in {name for _, name in shipped()}:
        raise UserError(f"{word}: there is no such folder, and no prototype or network of this name comes with "
                        f"edgesynth ({', '.join(sorted({*PROTOTYPES, *(name for _, name in shipped())}))})")
    network, _ = load_fitting(word, find(word, dataset.word), dataset)
    return network, fresh_weights(network, seed)


def train_networks(words: Sequence[str], dataset: Dataset, recipe: Recipe, seeds: Sequence[int], out: Path, *,
                   command: str, on: str = TRAIN, teachers: Sequence[str] = (), compute: Compute | None = None,
                   progress: Progress | None = None) -> Iterator[Trained]:
    """Train fresh weights of every network from every seed, several at once, into out/seed-N, or out/NAME/seed-N of
    more than one; what is done is taken from there, what was cut goes on. teachers: trained networks whose answers, the
    mean of their probabilities, are part of the loss, as much as the recipe says.

    UserError when a folder holds a training by other settings or cannot be made, for two networks of one name, a
    teacher named twice and one that the recipe makes nothing of.
    """
    compute, progress = compute or Compute(), progress or Progress(quiet=True)
    split = dataset.train if on == TRAIN else joined(dataset.train, dataset.validation)
    named = teachers_named(teachers, dataset)
    refuse_unheard(teachers, recipe)
    teacher = named.module()
    digest = " ".join(named.checksums.values()) if teacher is not None else None
    common = {"data_sha256": dataset.checksum, "on": on, "recipe": recipe.to_json(), "teacher": digest}
    done: dict[Path, Trained | None] = {}
    jobs = []
    for word, place in _places(words, out).items():
        for seed in seeds:
            network, weights = fresh(word, dataset, seed)
            folder, about = place / f"seed-{seed}", {"network": network.digest, **common}
            done[folder] = None
            if (folder / "card.json").is_file():
                done[folder] = _done(word, folder, seed, about)
                continue
            found = costs(network)
            card = {"name": word, "command": command, "seed": seed, **dataset.to_card(), **about,
                    "taught_by": ", ".join(teachers) or None, "device": compute.device, "params": found.params,
                    "macs": found.macs}
            jobs.append(Job(network, weights, recipe, seed, folder, about, card))
    if jobs:
        _make_folders(jobs, out)
        shared = {"images": split.images, "labels": split.labels}
        if on == TRAIN:
            shared |= {"validation.images": dataset.validation.images, "validation.labels": dataset.validation.labels}
        if teacher is not None:
            with single_thread():
                shared["logits"] = _taught(teacher, split, recipe, out / f"teacher-{on}.safetensors", common,
                                           compute.device, progress)
        name = words[0] if len(words) == 1 else f"{len(words)} networks"
        with progress.stage(name, len(jobs) * recipe.epochs) as stage, _watching(stage, jobs), \
                Pool(replace(compute, workers=min(compute.workers, len(jobs))), shared) as pool:
            for job, validation in zip(jobs, pool.map(train_one, jobs), strict=True):
                done[job.folder] = Trained(job.card["name"], job.seed, job.folder, job.network, validation)
                stage.note("" if validation is None else f"{100 * validation.accuracy:.2f} % val")
    for trained in done.values():
        assert trained is not None
        yield trained


def train_one(shared: Shared, job: Job) -> Metrics | None:
    """Train, judge and save one network; its metrics where validation was not trained on."""
    module = build(job.network, job.weights).to(shared["images"].device)
    checkpoint = Checkpoint(job.folder / "checkpoint.safetensors", about=job.about)
    history = train(module, Split(shared["images"], shared["labels"]), job.recipe, seed=job.seed, view_seed=VIEW_SEED,
                    teacher=shared.get("logits"), checkpoint=checkpoint,
                    progress=lambda done, _: write_text(job.folder / EPOCHS, f"{done}\n"))
    judged = "validation.images" in shared
    validation = evaluate(module, Split(shared["validation.images"], shared["validation.labels"])) if judged else None
    card = {**job.card, "losses": list(history.losses), "seconds": history.seconds,
            "validation": None if validation is None else validation.to_json(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()}}
    save_network(job.folder, job.network, weights_of(module.cpu()), card)
    checkpoint.remove()
    (job.folder / EPOCHS).unlink(missing_ok=True)
    return validation


@contextlib.contextmanager
def _watching(stage: Stage, jobs: Sequence[Job]) -> Iterator[None]:
    """Epochs done are read off files, since jobs may run in other processes."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_EVERY_S):
            stage.at(sum(_epochs_done(job) for job in jobs))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        stage.at(sum(_epochs_done(job) for job in jobs))


def _epochs_done(job: Job) -> int:
    if (job.folder / "card.json").exists():
        return job.recipe.epochs
    try:
        return int((job.folder / EPOCHS).read_text())
    except (OSError, ValueError):
        return 0


def _places(words: Sequence[str], out: Path) -> dict[str, Path]:
    """{network: the folder of its seeds}."""
    if len(words) == 1:
        return {words[0]: out}
    places = {word: out / Path(word.rpartition(":")[2]).name for word in words}
    if len(set(places.values())) < len(words):
        raise UserError("two of the networks have one name, by which their folders are called: train them in calls of "
                        "their own, each with another --out")
    return places


def _make_folders(jobs: Sequence[Job], out: Path) -> None:
    """Before the long work, so that a place where nothing can be written is told at once."""
    try:
        for job in jobs:
            job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, out) from error


def joined(a: Split, b: Split) -> Split:
    return Split(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]))


def _done(word: str, folder: Path, seed: int, about: dict[str, Any]) -> Trained:
    card = card_of(folder)
    differ = [name for name, value in about.items() if card.get(name) != value]
    if differ:
        raise UserError(f"{folder}: holds a training that differs in {', '.join(differ)}; choose another --out")
    network, _ = load_network(folder)
    return Trained(word, seed, folder, network, None if card["validation"] is None else Metrics(**card["validation"]))


def _taught(teacher: nn.Module, split: Split, recipe: Recipe, cache: Path, about: dict[str, Any], device: str,
            progress: Progress) -> torch.Tensor:
    """The teacher's logits, kept on disk in half precision for the seeds and the next call."""
    identity = {name: about[name] for name in ("data_sha256", "on", "teacher")}
    identity |= {"views": recipe.different_views, "augmentation": recipe.to_json()["augmentation"]}
    if cache.exists():
        tensors, card = load_tensors(cache, LOGITS)
        if card == identity:
            return tensors["logits"].float()
    with progress.stage("teacher", recipe.different_views) as stage:
        logits = teacher_logits(teacher.to(device), split.to(device), recipe, view_seed=VIEW_SEED,
                                precision=PRECISION, progress=lambda done, _: stage.at(done)).half()
    save_tensors(cache, {"logits": logits}, LOGITS, identity)
    return logits.float()
