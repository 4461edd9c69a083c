"""Training: the same seed gives the same bits, distillation sees the same views, and nothing outside is disturbed."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from devices.support.errors import UserError
from synth.data.augmentation import Augmentation
from synth.data.dataset import Split, load_dataset
from synth.prototypes.resnet import ResNet
from synth.training.checkpoint import Checkpoint
from synth.training.distillation import teacher_logits
from synth.training.epochs import batches, one_cycle
from synth.training.evaluation import evaluate
from synth.training.precision import answers
from synth.training.recipe import OPTIMISERS, RECIPES, Recipe
from synth.training.training import TrainingDiverged, recalibrate_batch_norm, train
from synth.training.workers import single_thread

IMAGES = 96  # six batches of 16
VIEWS = Augmentation(shift_px=0.7, rotate_deg=8, zoom=0.1)
RECIPE = Recipe(2, batch=16, average_epochs=1, smoothing=0.1, distil=0.5, augmentation=VIEWS)


@pytest.fixture(autouse=True)
def one_thread():
    with single_thread():
        yield


@pytest.fixture(scope="module")
def split() -> Split:
    whole = load_dataset("digits").train
    return Split(whole.images[:IMAGES], whole.labels[:IMAGES])


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return ResNet(1, 10, widths=(4, 8), blocks=1)


def dropping(seed: int = 0) -> nn.Module:
    whole = network(seed)
    return nn.Sequential(*list(whole.children())[:-1], nn.Dropout(0.3), whole.head)


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


def trained(split: Split, **more) -> nn.Module:
    module = network()
    train(module, split, more.pop("recipe", RECIPE), **{"seed": 1, **more})
    return module


def test_one_seed_one_result_whatever_the_global_state(split):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = dropping()
    torch.set_rng_state(before)
    train(one, split, RECIPE, seed=1)
    assert torch.equal(torch.get_rng_state(), before)

    again = dropping()
    torch.manual_seed(99)
    train(again, split, RECIPE, seed=1)
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(trained(split, seed=1)), weights(trained(split, seed=2)))
    assert not torch.equal(weights(trained(split)), weights(trained(split, view_seed=7)))


def test_it_learns(split):
    module = network()
    before = evaluate(module, split)
    history = train(module, split, Recipe(25, batch=16, rate=0.02), seed=0)
    after = evaluate(module, split)
    assert after.accuracy > 0.95 > before.accuracy and history.losses[-1] < 0.3 < history.losses[0]
    assert history.images == 25 * len(split) and len(history.to_json()["losses"]) == 25


def test_what_is_left_behind(split):
    compiler = "torch._dynamo" in sys.modules
    module = network()
    seen = []
    train(module, split, RECIPE, seed=1, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)] and not module.training
    storages = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    assert len(storages) == len(list(module.parameters()))
    assert all(parameter.is_contiguous() and parameter.grad is None for parameter in module.parameters())
    # a second and 80 MB in every worker; other tests of this process may have imported it
    assert compiler or "torch._dynamo" not in sys.modules


def test_tied_and_frozen_weights_stay_so(split):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 6, 3)
            self.one = nn.Conv2d(6, 6, 1)
            self.two = nn.Conv2d(6, 6, 1)
            self.two.weight = self.one.weight
            self.head = nn.Linear(6, 10)
            self.stem.requires_grad_(False)

        def forward(self, x):
            return self.head(self.two(self.one(self.stem(x)).relu()).relu().mean((2, 3)))

    module = Tied()
    stem, tied = module.stem.weight.clone(), module.one.weight.clone()
    train(module, split, RECIPE, seed=0)
    assert module.one.weight is module.two.weight and not torch.equal(module.one.weight, tied)
    assert torch.equal(module.stem.weight, stem)


def test_a_teachers_cached_answers_are_its_live_answers(split):
    teacher = network(3).eval()
    cached = teacher_logits(teacher, split, RECIPE, view_seed=4)
    assert cached.shape == (2, len(split), 10)
    live = weights(trained(split, view_seed=4, teacher=teacher))
    stored = weights(trained(split, view_seed=4, teacher=cached))
    assert torch.allclose(live, stored, atol=1e-4)
    assert not torch.allclose(stored, weights(trained(split, view_seed=4)), atol=1e-2)


def test_cached_answers_are_of_the_views_that_are_shown(split):
    class Copy(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return x.flatten(1) * self.one

    answers = teacher_logits(Copy(), split, RECIPE, view_seed=4)
    for epoch in range(2):
        for rows, images, labels in batches(split, RECIPE, 1, 4, epoch):
            assert torch.equal(answers[epoch][rows], images.flatten(1)) and torch.equal(labels, split.labels[rows])
    assert not torch.equal(answers[0], answers[1])


def test_distillation_pulls_to_the_teacher(split):
    teacher = network()
    train(teacher, split, Recipe(4, batch=16), seed=0)

    def distance(distil: float) -> float:
        student = network(8)
        train(student, split, Recipe(4, batch=16, distil=distil), seed=1, teacher=teacher)
        with torch.no_grad():
            return float((student(split.images).log_softmax(1) - teacher(split.images).log_softmax(1)).abs().mean())

    assert distance(1.0) < distance(0.0)


def test_teacher_logits_of_another_shape_are_refused(split):
    with pytest.raises(ValueError, match=r"\[2, 96, classes\] expected"):
        trained(split, teacher=torch.zeros(1, IMAGES, 10))


def test_every_image_is_seen_once_an_epoch_and_no_batch_is_tiny(split):
    for size in (7, 64, 95, 400):
        rows = [r for r, _, _ in batches(split, Recipe(1, batch=size), 0, 0, 0)]
        assert sorted(torch.cat(rows).tolist()) == list(range(IMAGES))
        counts = [len(part) for part in rows]
        assert max(counts) <= size and max(counts) - min(counts) <= 1


def test_a_loss_that_is_not_finite_is_said(split):
    with pytest.raises(TrainingDiverged, match="diverged in epoch 1 of 2"):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 10))
        train(module, split, Recipe(2, optimiser="sgd", rate=1e3, batch=4), seed=0)


@pytest.mark.parametrize("recipe", [Recipe(2, batch=16, rate=0.02, decay=0.1), Recipe(2, 16, "sgd", 0.05, decay=0.0)])
def test_the_flat_optimiser_is_torchs(split, recipe):
    """The reference is torch.optim itself, stepping the same network over the same batches."""
    ours, theirs = network().double(), network().double()
    double = Split(split.images.double(), split.labels)
    train(ours, double, recipe, seed=0)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "adamw":
        optimiser = torch.optim.AdamW(groups, lr=1.0)
    else:
        optimiser = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    theirs.train()
    step = 0
    for epoch in range(recipe.epochs):
        for _, images, labels in batches(double, recipe, 0, 0, epoch):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * one_cycle(step, recipe.epochs * 6, recipe.warmup)
            optimiser.zero_grad()
            nn.functional.cross_entropy(theirs(images), labels).backward()
            optimiser.step()
            step += 1
    assert step == recipe.epochs * 6
    assert torch.allclose(weights(ours), weights(theirs), atol=1e-9)


def test_the_running_average_is_a_mean_of_the_way(split):
    """After a long average, weights lie between start and end."""
    start, last = network(), trained(split, recipe=Recipe(4, batch=16))
    mean = trained(split, recipe=Recipe(4, batch=16, average_epochs=50))
    gone = (start.head.weight - last.head.weight).norm()
    assert (start.head.weight - mean.head.weight).norm() < gone and (last.head.weight - mean.head.weight).norm() < gone


def test_batch_norms_are_recalibrated(split):
    module = network()
    modes = [part.training for part in module.modules()]
    recalibrate_batch_norm(module, split.images, IMAGES, batch=IMAGES)
    assert [part.training for part in module.modules()] == modes
    with torch.no_grad():
        stem = module.stem[0](split.images)
    assert torch.allclose(module.stem[1].running_mean, stem.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(module.stem[1].running_var, stem.var((0, 2, 3)), rtol=1e-4)
    recalibrate_batch_norm(nn.Sequential(nn.Conv2d(1, 1, 1)), split.images, IMAGES)


def test_averaged_weights_have_norms_of_their_own(split):
    """Those of the last steps belong to other weights; without an average they are kept."""
    for epochs, kept in ((1, False), (0, True)):
        module = trained(split, recipe=replace(RECIPE, average_epochs=epochs))
        norm = module.stem[1]
        before = norm.running_mean.clone()
        recalibrate_batch_norm(module, split.images, len(split))
        assert torch.equal(before, norm.running_mean) != kept


@pytest.mark.parametrize("order", ["by class", "in turns"])
def test_batch_norms_see_all_classes_however_the_images_lie(order):
    """Own data are often read folder by folder; classes in turns make every third image one of the same class."""
    labels = torch.arange(3).repeat(200)
    images = labels[:, None, None, None] + torch.randn(600, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    rows = labels.argsort(stable=True) if order == "by class" else torch.arange(600)
    module = nn.Sequential(nn.BatchNorm2d(1))
    recalibrate_batch_norm(module, images[rows], 200, batch=50)
    assert module[0].running_var.item() == pytest.approx(images.var().item(), rel=0.1)
    assert module[0].running_mean.item() == pytest.approx(1.0, abs=0.1)


def test_one_cycle_rises_falls_and_stays_in_range():
    rates = [one_cycle(step, 100, 0.25) for step in range(100)]
    assert rates.index(max(rates)) in (24, 25) and rates[0] < 0.05 and rates[-1] < 0.001
    assert all(0 < rate <= 1 for rate in rates)
    assert one_cycle(0, 1, 0.0) > 0 and one_cycle(0, 1, 1.0) > 0


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"rate": -1.0}, {"batch": 0}, {"distil": 1.5}, {"optimiser": "adam"}])
def test_a_recipe_that_makes_no_sense(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Recipe(**{"epochs": 1, **wrong})


def test_a_batch_of_one_is_enough_but_for_a_norm_of_one_value(split):
    few = Split(split.images[:4], split.labels[:4])
    train(network(), few, Recipe(1, batch=1), seed=1)
    single = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))  # 8 x 8 px to 1 x 1
    with pytest.raises(UserError, match=r"4 images in batches of 1: .* use a larger batch"):
        train(single, few, Recipe(1, batch=1), seed=1)
    with pytest.raises(UserError, match="give more images for training"):
        train(single, Split(split.images[:1], split.labels[:1]), Recipe(1), seed=1)
    train(single, few, Recipe(1, batch=2), seed=1)


def test_recipes_go_through_json():
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    with pytest.raises(UserError, match=r"unknown value of a recipe 'speed'"):
        Recipe.from_json({**RECIPE.to_json(), "speed": 2})


class Cut(Exception):
    """The process ends here."""


def cut_after(epochs: int):
    def progress(done: int, _: int) -> None:
        if done == epochs:
            raise Cut
    return progress


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_training_that_was_cut_goes_on_to_the_same_bits(split, tmp_path, optimiser):
    recipe = replace(RECIPE, epochs=4, optimiser=optimiser, small_px=6, small_share=0.5)
    whole, module, place = dropping(), dropping(), tmp_path / "new" / "c.safetensors"
    train(whole, split, recipe, seed=1)
    about = {"recipe": recipe.to_json(), "teacher": None}
    with pytest.raises(Cut):
        train(module, split, recipe, seed=1, checkpoint=Checkpoint(place, 0, about), progress=cut_after(3))
    shown = []
    again = dropping(5)  # whatever the weights were
    history = train(again, split, recipe, seed=1, checkpoint=Checkpoint(place, 0, about),
                    progress=lambda done, _: shown.append(done))
    assert shown == [4] and len(history.losses) == 4
    assert torch.equal(weights(again), weights(whole))


def test_a_checkpoint_of_another_training_is_refused(split, tmp_path):
    place = tmp_path / "c.safetensors"
    train(network(), split, RECIPE, seed=1, checkpoint=Checkpoint(place, every_s=0))
    with pytest.raises(UserError, match="belongs to a training with other settings"):
        train(network(), split, RECIPE, seed=2, checkpoint=Checkpoint(place, every_s=0))
    with pytest.raises(UserError, match="belongs to a training with other settings"):
        train(network(), split, RECIPE, seed=1, checkpoint=Checkpoint(place, every_s=0, about={"teacher": "another"}))


def test_a_short_training_leaves_no_checkpoint(split, tmp_path):
    train(network(), split, RECIPE, seed=1, checkpoint=Checkpoint(tmp_path / "c.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_shrunk_images_are_shown_first_and_where_the_network_reads_them(split):
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 10)

        def forward(self, x):
            if self.training:
                seen.append(x.shape[-1])
            return self.head(x.mean((2, 3)))

    recipe = Recipe(4, batch=96, small_px=6, small_share=0.5)
    train(Watching(), split, recipe, seed=0)
    assert seen == [6, 6, 8, 8]
    rigid = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    train(rigid, split, recipe, seed=0)  # reads 8 x 8 alone, and is trained at it


def test_views_repeat_after_view_epochs(split):
    recipe = replace(RECIPE, epochs=5, view_epochs=2)
    shown = [torch.cat([images for _, images, _ in batches(split, recipe, 1, 4, epoch)])
             for epoch in range(3)]
    rows = [torch.cat([rows for rows, _, _ in batches(split, recipe, 1, 4, epoch)])
            for epoch in range(3)]
    by_row = [images[torch.argsort(row)] for images, row in zip(shown, rows, strict=True)]
    assert torch.equal(by_row[0], by_row[2]) and not torch.equal(by_row[0], by_row[1])
    assert not torch.equal(rows[0], rows[2])  # the order is new all the same
    answers = teacher_logits(network(), split, recipe, view_seed=4)
    assert answers.shape == (2, len(split), 10)
    train(network(), split, recipe, seed=1, view_seed=4, teacher=answers)


def test_bfloat16_is_near_and_used_only_where_it_is_fast(split, monkeypatch):
    module = network().eval()
    plain = answers(module, split.images, "fp32")
    monkeypatch.setattr("synth.training.precision.is_fast_in_bf16", lambda device: False)
    assert torch.equal(answers(module, split.images, "bf16"), plain)
    monkeypatch.setattr("synth.training.precision.is_fast_in_bf16", lambda device: True)
    half = answers(module, split.images, "bf16")
    assert half.dtype == torch.float32 and not torch.equal(half, plain)
    assert float((half - plain).detach().abs().max()) < 0.05 * float(plain.detach().abs().max())


def test_the_last_epoch_sees_whole_images():
    assert [Recipe(4, small_px=6, small_share=1).is_small(epoch) for epoch in range(4)] == [True, True, True, False]
    assert not Recipe(1, small_px=6, small_share=1).is_small(0)
    assert not any(recipe.is_small(recipe.epochs - 1) for recipes in RECIPES.values() for recipe in recipes.values())
