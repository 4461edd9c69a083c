"""Before the first cycle: φ traced and trained, the elastic parent, the space on the target, what probing says of φ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from devices.support.errors import UserError
from devices.support.files import read_json, write_json
from synth.data.dataset import Dataset, Split
from synth.energy.crew import Crew
from synth.energy.feedback import Feedback
from synth.energy.loop import BoardLoop
from synth.networks.module import Weights, build, fresh_weights, weights_of
from synth.networks.network import Network
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.probing.probing import Probes, importance, probe, probed_vertices, single_swaps
from synth.progress import Progress
from synth.prototypes.registry import default_prototype, load_prototype
from synth.run.candidates import Outcome, Task, run_task, shared_arrays, stimuli_of
from synth.run.order import Order, relative_requirements
from synth.run.problem import FINAL_LOGITS, SHORT_LOGITS, Recipes
from synth.run.scope import Scope, ends_of, recipe_of, recipes_of, scope_of, space_of, with_margins
from synth.run.warm_start import WarmStart, warm_start
from synth.search.decisions import DECIDED_OTHERWISE, from_words, to_words
from synth.space.bank import elastic_parent
from synth.space.correction import Correction
from synth.space.feasibility import best_for, beyond_accuracy, refuse_impossible, refuse_unshowable_accuracy
from synth.space.parent import ElasticParent
from synth.space.prices import Prices
from synth.space.space import NetworkSpace
from synth.storage.network_folder import card_of, load_network, save_network
from synth.storage.run_folder import RunFolder
from synth.storage.tensors import load_tensors, save_tensors
from synth.training.checkpoint import Checkpoint
from synth.training.device import Compute
from synth.training.distillation import LOGITS, teacher_logits
from synth.training.evaluation import Metrics, evaluate
from synth.training.recipe import Recipe
from synth.training.training import train
from synth.training.workers import Pool, single_thread
from synth.zoo.shelf import trained_for
from synth.zoo.teachers import PRECISION, teachers_named

PARENT, PROBED, TEACHERS = "edgesynth.parent/1", "edgesynth.probed/2", "edgesynth.teachers/1"
TRAINED_ABOVE = 3.0  # standard errors: a user's prototype that is so much better than guessing comes trained
MOST_SWAPS = 64
VALIDATION = "validation"  # the split that everything is judged by, and that a teacher must not have seen


@dataclass(frozen=True)
class Prototype:
    """φ: its graph, trained weights and validation metrics. trained_here: or did it come trained."""

    name: str
    network: Network
    weights: Weights
    metrics: Metrics
    trained_here: bool


@dataclass(frozen=True)
class Laboratory:
    """All that cycles, finishing and generating work with. loop: None where no board takes part. known: from earlier
    runs."""

    order: Order
    dataset: Dataset
    prototype: Prototype
    space: NetworkSpace
    requirements: Requirements
    probes: Probes
    parent_outcome: Outcome
    recipes: Recipes
    pool: Pool
    loop: BoardLoop | None = None
    known: WarmStart = field(default_factory=WarmStart)


class Traced(NamedTuple):
    """A prototype as a network, before any training here; what may be made of it; and its parent without a bank for
    other operators, which costs do not depend on."""

    name: str
    network: Network
    weights: Weights
    scope: Scope
    parent: ElasticParent


def traced_prototype(order: Order, dataset: Dataset) -> Traced:
    """UserError for an unknown prototype, one that does not fit the data or cannot be traced, and, at once, for stated
    requirements that no network of its space meets."""
    name = order.prototype or default_prototype(order.data)
    network, weights = trace(load_prototype(name, dataset, seed=order.seed), dataset.shape, name.rpartition(":")[2])
    scope = scope_of(recipe_of(order, dataset, "short"))
    parent = ElasticParent(network, weights).widened(scope.expansion)
    stated = order.stated_requirements()
    if stated is not None:
        prices = Prices(with_margins(stated, parent, order, dataset), order.resolve_target(), order.precision)
        refuse_impossible(space_of(parent, None, prices, scope.choices), hopeful=order.measure > 0)
    return Traced(name, network, weights, scope, parent)


def _derived_requirements(order: Order, traced: Traced, metrics: Metrics, dataset: Dataset) -> Requirements:
    """What is required when nothing is said and nothing stands for the data set."""
    asked = with_margins(Requirements.parse(("img_per_joule >= 1 @ batch=8",)), traced.parent, order, dataset)
    (item,), prices = asked.on_costs, Prices(asked, order.resolve_target(), order.precision)
    space = space_of(traced.parent, None, prices, traced.scope.choices)
    best = prices.reading(item, best_for(space, item)).value
    own = prices.reading(item, traced.network).value
    return relative_requirements(metrics.accuracy, metrics.accuracy_se, own, best, asked.relative_sigma[item.key])


@contextmanager
def laboratory(order: Order, dataset: Dataset, traced: Traced, folder: RunFolder, compute: Compute, progress: Progress,
               crew: Crew | None = None, export: Callable[[Network, Weights, Path], object] | None = None,
               ) -> Iterator[Laboratory]:
    """Every step is in the run folder; what is done already is read from there. crew: boards that measure what `export`
    writes at a path. UserError when a requirement turns out to be out of reach."""
    target, stated = order.resolve_target(), order.stated_requirements()
    recipes, known = recipes_of(order, dataset), warm_start(order, folder)
    prototype = _train_prototype(order, traced, dataset, folder, compute.device, progress)
    if stated is None:
        stated = _derived_requirements(order, traced, prototype.metrics, dataset)
        progress.say(f"no --require: taken from the prototype: {', '.join(map(str, stated))}")
    requirements = with_margins(stated, traced.parent, order, dataset)
    _refuse_unreachable_accuracy(requirements, prototype.metrics, recipes.final.inherits, order, dataset, folder,
                                 compute.device, progress)

    stimuli = stimuli_of(dataset.train, order.seed)
    module = build(prototype.network, prototype.weights).eval()
    with single_thread():
        parent, unit_importance = folder.step(
            "parent", lambda: _make_parent(prototype, stimuli, traced.scope), _save_parent,
            lambda path: _load_parent(path, traced.parent))
        prices = Prices(requirements, target, order.precision)
        if order.measure:
            prices = replace(prices, correction=Correction(prices.prior_sd(ends_of(parent, prices))))
        space = space_of(parent, unit_importance, prices, traced.scope.choices)
        refuse_impossible(space, hopeful=order.measure > 0)
        shared = shared_arrays(dataset.train, dataset.validation, stimuli) | _teaching(
            module, recipes, order, dataset, folder, compute.device, progress)
        insights = probe(module.cpu(), stimuli, probed_vertices(space))
    parent_outcome = Outcome(prototype.metrics, insights)
    with ExitStack() as held:
        pool = held.enter_context(Pool(compute, shared))
        blank = Probes(space, unit_importance, insights, traced.scope.slope_sd)
        probes = _probed(blank, parent_outcome, pool, order, folder, progress)
        loop = None
        if order.measure:
            assert export is not None
            write = functools.partial(_export_for_board, export)
            feedback = held.enter_context(Feedback(folder, space.prices, crew, write))
            loop = BoardLoop(feedback, space, order.measure, order.cycles, order.seed)
        yield Laboratory(order, dataset, prototype, space, requirements, probes, parent_outcome, recipes, pool, loop,
                         known)


def _refuse_unreachable_accuracy(requirements: Requirements, prototype: Metrics, inherits: bool, order: Order,
                                 dataset: Dataset, folder: RunFolder, device: str, progress: Progress) -> None:
    """UserError for an accuracy that networks which inherit from φ will not have; those that start from fresh weights
    may be better than φ and its teachers, so that of them it is only said."""
    refuse_unshowable_accuracy(requirements, prototype.count)
    if beyond_accuracy(requirements, prototype) is None:
        return  # what the teachers reach need not be known
    teachers = None
    if order.teachers:
        teachers = folder.step("teachers.json", lambda: _metrics_of_teachers(order, dataset, device),
                               lambda path, found: write_json(path, {"metrics": found.to_json()}, TEACHERS),
                               lambda path: Metrics(**read_json(path, TEACHERS)["metrics"]))
    doubt = beyond_accuracy(requirements, prototype, teachers)
    if doubt is None:
        return
    if inherits:
        raise UserError(f"{doubt}; relax it, or give a better prototype or a better --teacher")
    progress.say(f"warning: {doubt}; should no FermiNet reach it, relax it, or give a better --teacher")


def _metrics_of_teachers(order: Order, dataset: Dataset, device: str) -> Metrics:
    module = teachers_named(order.teachers, dataset, VALIDATION).module()
    assert module is not None
    return evaluate(module.to(device), dataset.validation)


def _teaching(module: nn.Module, recipes: Recipes, order: Order, dataset: Dataset, folder: RunFolder, device: str,
              progress: Progress) -> dict[str, torch.Tensor]:
    """The logits of φ (or of the teachers that were ordered) on the views that candidates see; the short training's are
    the first of the full one's. They are few bytes for what they cost, and a run that goes on, or generates more, reads
    them."""
    most = max(recipes.short, recipes.final, key=lambda recipe: recipe.different_views)
    alike = recipes.short.augmentation == recipes.final.augmentation

    def looked_at(recipe: Recipe, teacher: nn.Module, precision: str) -> torch.Tensor:
        with progress.stage("teacher", recipe.different_views) as stage:
            return teacher_logits(teacher, dataset.train.to(device), recipe, view_seed=recipes.view_seed,
                                  precision=precision, progress=lambda done, _: stage.at(done))

    def compute() -> dict[str, torch.Tensor]:
        ordered = teachers_named(order.teachers, dataset, VALIDATION).module()
        precision = recipe_of(order, dataset, "prototype").precision if ordered is None else PRECISION
        teacher = (module if ordered is None else ordered).to(device)
        if not alike:
            return {SHORT_LOGITS: looked_at(recipes.short, teacher, precision),
                    FINAL_LOGITS: looked_at(recipes.final, teacher, precision)}
        found = looked_at(most, teacher, precision)
        return {SHORT_LOGITS: found[: recipes.short.different_views],
                FINAL_LOGITS: found[: recipes.final.different_views]}

    def save(path: Path, found: dict[str, torch.Tensor]) -> None:
        save_tensors(path, found, LOGITS)

    return folder.step("teacher.safetensors", compute, save, lambda path: load_tensors(path, LOGITS)[0])


def _export_for_board(export: Callable[[Network, Weights, Path], object], network: Network, weights: Weights | None,
                      path: Path) -> None:
    """The same file for the same network, trained or not, so that a board finds the engine that it has built."""
    with single_thread():
        export(network, fresh_weights(network, 0) if weights is None else weights, path)


# --- φ ---------------------------------------------------------------------------------------------------------------


def _train_prototype(order: Order, traced: Traced, dataset: Dataset, folder: RunFolder, device: str,
                     progress: Progress) -> Prototype:
    """Trained here, unless it comes trained: shipped for just these data, or a user's own that is clearly better
    on the validation split than always the commonest class."""
    name, network, weights, *_ = traced

    def compute() -> tuple[Weights, Metrics, bool]:
        shipped = trained_for(name, dataset.name, dataset.checksum)
        if shipped is not None:
            progress.say(f"prototype   {name}, trained on {dataset.name}, comes with edgesynth")
            own, found = load_network(shipped)
            if own.digest == network.digest:
                return found, evaluate(build(network, found).eval().to(device), dataset.validation), False
        module = build(network, weights).eval()
        before = evaluate(module, dataset.validation)
        if ":" in name and comes_trained(before, dataset.validation.labels):
            return weights, before, False
        recipe = recipe_of(order, dataset, "prototype")
        with single_thread(), progress.stage("prototype", recipe.epochs) as stage:
            train(module.to(device), dataset.train.to(device), recipe, seed=order.seed,
                  progress=lambda done, total: stage.at(done),
                  checkpoint=Checkpoint(folder.checkpoints / "prototype.safetensors"))
            metrics = evaluate(module, dataset.validation)
            stage.note(f"{100 * metrics.accuracy:.1f} % val")
        return weights_of(module.cpu()), metrics, True

    def save(path: Path, value: tuple[Weights, Metrics, bool]) -> None:
        save_network(path, network, value[0], {"metrics": value[1].to_json(), "trained_here": value[2], "name": name})

    def load(path: Path) -> tuple[Weights, Metrics, bool]:
        stored, found = load_network(path)
        if stored.digest != network.digest:
            raise UserError(f"{path}: the prototype {name} has changed since this run began; choose another --out")
        card = card_of(path)
        return found, Metrics(**card["metrics"]), card["trained_here"]

    trained, metrics, trained_here = folder.step("prototype", compute, save, load)
    return Prototype(name, network, trained, metrics, trained_here)


def comes_trained(metrics: Metrics, labels: torch.Tensor) -> bool:
    """Whether a network is clearly better on images with these labels [N] than to say always the commonest."""
    guessing = int(torch.bincount(labels).max()) / len(labels)
    return metrics.accuracy - TRAINED_ABOVE * metrics.accuracy_se > guessing


# --- the elastic parent --------------------------------------------------------------------------------------------


def _make_parent(prototype: Prototype, stimuli: Split, scope: Scope) -> tuple[ElasticParent, np.ndarray]:
    parent = elastic_parent(prototype.network, prototype.weights, stimuli.images, scope.choices.operators).widened(
        scope.expansion)
    module = build(parent.network, parent.weights())
    return parent, importance(module, parent.channels, stimuli)


def _save_parent(path: Path, value: tuple[ElasticParent, np.ndarray]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    parent, unit_importance = value
    save_tensors(path / "bank.safetensors", parent.bank, "edgesynth.bank/1")
    save_tensors(path / "importance.safetensors", {"importance": torch.from_numpy(unit_importance)}, PARENT)


def _load_parent(path: Path, unfitted: ElasticParent) -> tuple[ElasticParent, np.ndarray]:
    bank, _ = load_tensors(path / "bank.safetensors", "edgesynth.bank/1")
    tensors, _ = load_tensors(path / "importance.safetensors", PARENT)
    if len(tensors["importance"]) != len(unfitted.channels.keep_all()):
        raise UserError(f"{path}: {DECIDED_OTHERWISE}")
    return ElasticParent(unfitted.network, bank, unfitted.own_widths), tensors["importance"].numpy()


def _probed(probes: Probes, parent: Outcome, pool: Pool, order: Order, folder: RunFolder, progress: Progress) -> Probes:
    """The probe table with what single swaps in φ do, untrained but for their norms."""
    space = probes.space
    swaps = single_swaps(space, MOST_SWAPS)

    def compute() -> list[dict]:
        tasks = []
        for decisions in swaps:
            network, origins = space.parent.draw(space.design(decisions))
            tasks.append(Task(network, space.parent.inherit(origins), order.seed, probed=probes.vertices))
        outcomes = []
        with progress.stage("probing", len(tasks)) as stage:
            for outcome in pool.map(run_task, tasks):
                outcomes.append(outcome.to_json())
                stage.at(len(outcomes))
        return outcomes

    def save(path: Path, rows: list[dict]) -> None:
        words = [to_words(space.sites, swap) for swap in swaps]
        write_json(path, {"swaps": [{"network": w, "outcome": r} for w, r in zip(words, rows, strict=True)]}, PROBED)

    rows = folder.step("probing.json", compute, save, lambda path: read_json(path, PROBED)["swaps"])
    for row in rows:
        outcome = Outcome.from_json(row["outcome"])
        damage = outcome.metrics.log_loss - parent.metrics.log_loss
        probes.record(from_words(space.sites, row["network"]), outcome.insights, damage)
    return probes

