"""What is done with one candidate network: trained, evaluated, probed. Pure functions that run in worker processes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from devices.support.files import sha256_bytes
from synth.data.dataset import Split
from synth.networks.module import Weights, build, check, weights_of
from synth.networks.network import Network
from synth.probing.probing import Insight, probe
from synth.training.checkpoint import Checkpoint
from synth.training.evaluation import Metrics, evaluate
from synth.training.recipe import Recipe
from synth.training.training import TrainingDiverged, recalibrate_batch_norm, train
from synth.training.workers import Shared

STIMULI = 256  # training images that networks are probed with


@dataclass(frozen=True)
class Task:
    """One candidate and what to do with it.

    recipe: None when only batch norms are to be recalibrated. teacher: key of the cached logits in the shared arrays
    (see `distillation.teacher_logits`), None for none. probed: vertices whose responses are wanted. checkpoints:
    folder from which a training that was cut goes on.
    """

    network: Network
    weights: Weights
    seed: int
    recipe: Recipe | None = None
    teacher: str | None = None
    view_seed: int = 0
    probed: tuple[str, ...] = ()
    keep_weights: bool = False
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a candidate answered: on the validation split, and to the stimuli. weights: where they were asked for."""

    metrics: Metrics
    insights: Mapping[str, Insight]
    weights: Weights | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {"metrics": self.metrics.to_json(), "insights": {n: asdict(i) for n, i in self.insights.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], weights: Weights | None = None) -> Outcome:
        insights = {name: Insight(**insight) for name, insight in value["insights"].items()}
        return cls(Metrics(**value["metrics"]), insights, weights)


def seed_of(run_seed: int, network: Network, purpose: str) -> int:
    """The training seed of a network: the same network in the same run always trains alike."""
    return int(sha256_bytes(f"{run_seed}/{purpose}/{network.digest}".encode())[:12], 16)


def run_task(shared: Shared, task: Task) -> Outcome:
    """Train as the task says, where the shared arrays are, then evaluate and probe. A candidate whose training diverges
    knows nothing, which is an answer too: the cross-entropy and accuracy of guessing, and no insights."""
    module = build(task.network, task.weights)
    check(module)  # after every change the network is run and its shapes are checked
    train_split = Split(shared["train.images"], shared["train.labels"])
    module.to(train_split.images.device)
    if task.recipe is None:
        recalibrate_batch_norm(module, train_split.images, STIMULI)
        module.eval()
    else:
        teacher = None if task.teacher is None else shared[task.teacher]
        try:
            train(module, train_split, task.recipe, seed=task.seed, view_seed=task.view_seed, teacher=teacher,
                  checkpoint=_checkpoint(task))
        except TrainingDiverged:
            return Outcome(guessing(task.network.output_shape[0], len(shared["validation.labels"])), {}, task.weights)
    metrics = evaluate(module, Split(shared["validation.images"], shared["validation.labels"]))
    stimuli = Split(shared["stimuli.images"], shared["stimuli.labels"])
    insights = probe(module, stimuli, task.probed) if task.probed else {}
    return Outcome(metrics, insights, weights_of(module.cpu()) if task.keep_weights else None)


def _checkpoint(task: Task) -> Checkpoint | None:
    """Named by all that decides the training, so that it is taken up by the very same one only."""
    if task.checkpoints is None:
        return None
    digest = hashlib.sha256(f"{task.network.digest} {task.recipe} {task.seed} {task.view_seed}".encode())
    for name, tensor in sorted(task.weights.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return Checkpoint(task.checkpoints / f"{digest.hexdigest()[:24]}.safetensors")


def guessing(classes: int, count: int) -> Metrics:
    """What a network that says nothing of its input has on a split of `count` images."""
    accuracy, entropy = 1 / classes, math.log(classes)
    return Metrics(entropy, math.log(entropy), 1 / math.sqrt(count), accuracy,
                   math.sqrt(accuracy * (1 - accuracy) / count), count)


def stimuli_of(split: Split, seed: int) -> Split:
    """X: training images, equally many of each class as far as there are, and each once more with noise added."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=generator)
    labels = split.labels[order]
    rank = torch.zeros_like(labels)  # how many of its class came before
    for label in labels.unique():
        mine = labels == label
        rank[mine] = torch.arange(int(mine.sum()))
    rows = order[torch.argsort(rank, stable=True)][: STIMULI // 2]
    images = split.images[rows]
    noise = 0.5 * torch.randn(images.shape, generator=generator)  # images have unit variance
    return Split(torch.cat([images, images + noise]), torch.cat([split.labels[rows]] * 2))


def shared_arrays(train_split: Split, validation: Split, stimuli: Split) -> dict[str, torch.Tensor]:
    """The arrays that every task needs, for the pool."""
    return {"train.images": train_split.images, "train.labels": train_split.labels,
            "validation.images": validation.images, "validation.labels": validation.labels,
            "stimuli.images": stimuli.images, "stimuli.labels": stimuli.labels}
