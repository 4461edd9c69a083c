"""Epochs as a GPU replays them, here run on a CPU, beside epochs step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from synth.data.augmentation import Augmentation
from synth.data.dataset import Split
from synth.training.epochs import Lesson, RecordedEpochs, plain_epoch
from synth.training.lanes import Lanes
from synth.training.optimiser import FlatOptimiser
from synth.training.precision import layout
from synth.training.recipe import OPTIMISERS, RECIPES, Recipe
from synth.training.training import train

SHAPE = (3, 16, 16)
IMAGES = 52  # four batches of 13
CIFAR = replace(RECIPES["cifar10"]["final"], epochs=3, batch=16, view_epochs=2, small_px=12, average_epochs=1)
BENT = Recipe(3, batch=16, smoothing=0.1, augmentation=Augmentation(shift_px=1, rotate_deg=8, zoom=0.1))


def lesson(recipe: Recipe, teacher=None, average_steps: float = 4.0, lies=torch.channels_last) -> Lesson:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                           nn.Conv2d(6, 6, 3, groups=6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    split = Split(torch.randn(IMAGES, *SHAPE), torch.arange(IMAGES) % 10)
    optimiser = FlatOptimiser(module, recipe.optimiser, decay=recipe.decay, momentum=recipe.momentum,
                              average_steps=average_steps, layout=lies)
    return Lesson(module.train(), split, recipe, teacher, optimiser, seed=1, view_seed=2)


def logits(recipe: Recipe) -> torch.Tensor:
    return torch.randn(recipe.different_views, IMAGES, 10, generator=torch.Generator().manual_seed(0))


def test_the_loss_by_hand():
    """(1 - distil) of the cross-entropy on smoothed labels, distil T² of the divergence from the teacher at T."""
    random = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(5, 10, generator=random) for _ in range(2))
    labels = torch.arange(5)
    plain, wanted, found = student.log_softmax(1), (teacher / 3).log_softmax(1), (student / 3).log_softmax(1)
    hard = -(0.9 * plain[labels, labels] + 0.1 * plain.mean(1)).mean()
    soft = (wanted.exp() * (wanted - found)).sum(1).mean()
    loss = lesson(Recipe(1, smoothing=0.1, distil=0.3, temperature=3.0)).loss
    torch.testing.assert_close(loss(student, labels, teacher), 0.7 * hard + 0.3 * 9 * soft)
    torch.testing.assert_close(loss(student, labels, None), hard)


@pytest.mark.parametrize("recipe", [*(replace(CIFAR, optimiser=one) for one in OPTIMISERS), BENT],
                         ids=[*OPTIMISERS, "bent"])
@pytest.mark.parametrize("taught", [False, True])
def test_recorded_epochs_do_what_plain_ones_do(recipe, taught):
    plain, recorded = [lesson(recipe, logits(recipe) if taught else None) for _ in range(2)]
    one = RecordedEpochs(recorded)
    for epoch in range(recipe.epochs):
        expected = plain_epoch(plain, epoch, recipe.is_small(epoch))
        assert one(epoch, recipe.is_small(epoch)) == pytest.approx(expected, rel=1e-5)
    assert recorded.optimiser.steps == plain.optimiser.steps == 12
    for (name, mine), theirs in zip(recorded.optimiser.state().items(), plain.optimiser.state().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)
    for mine, theirs in zip(recorded.module.buffers(), plain.module.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_layout_of_weights_changes_nothing_but_rounding():
    last, first = [lesson(CIFAR, logits(CIFAR), lies=lies) for lies in (torch.channels_last, torch.contiguous_format)]
    for one in (last, first):
        RecordedEpochs(one)(0, False)
        one.optimiser.release()
    for mine, theirs in zip(last.module.parameters(), first.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_training_goes_on_in_another_layout():
    last, first = [lesson(CIFAR, lies=lies) for lies in (torch.channels_last, torch.contiguous_format)]
    RecordedEpochs(last)(0, False)
    first.optimiser.restore(last.optimiser.state())
    for buffer, there in zip(first.module.buffers(), last.module.buffers(), strict=True):
        buffer.copy_(there)
    assert RecordedEpochs(first)(1, False) == pytest.approx(RecordedEpochs(last)(1, False), rel=1e-5)


def test_a_network_teaches_recorded_epochs_as_well():
    plain, recorded = [lesson(CIFAR, nn.Sequential(nn.Flatten(), nn.Linear(768, 10))) for _ in range(2)]
    recorded.teacher.load_state_dict(plain.teacher.state_dict())
    assert RecordedEpochs(recorded)(0, False) == pytest.approx(plain_epoch(plain, 0, False), rel=1e-5)


def test_batches_that_do_not_come_out_even_end_with_the_first_images_again():
    uneven = lesson(CIFAR)
    uneven = replace(uneven, split=Split(uneven.split.images[:-3], uneven.split.labels[:-3]))
    one, seen = RecordedEpochs(uneven), []
    uneven.module[0].register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))
    one(0, False)
    assert [len(images) for images in seen] == [13] * 4
    assert torch.equal(seen[3][-3:], seen[0][:3])


def test_recorded_epochs_go_on_in_the_middle_of_a_training():
    whole, cut = lesson(CIFAR), lesson(CIFAR)
    one = RecordedEpochs(whole)
    for epoch in range(3):
        one(epoch, False)
    first = RecordedEpochs(cut)
    for epoch in range(2):
        first(epoch, False)
    RecordedEpochs(cut)(2, False)
    torch.testing.assert_close(cut.optimiser.average, whole.optimiser.average, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("widths", [(6, 10), (4, 12), (20, 28)])
def test_on_a_gpu_recordings_do_what_single_steps_do(widths, precision, optimiser):
    """Also with widths that begin nowhere near a multiple of 16 bytes."""
    first, second = widths

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(), nn.Conv2d(first, second, 1),
            nn.Conv2d(second, second, 3, 2, 1, groups=second), nn.BatchNorm2d(second), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(second, 10)).cuda()

    torch.manual_seed(0)
    split = Split(torch.randn(512, *SHAPE), torch.arange(512) % 10).to("cuda")
    recipe = replace(CIFAR, precision=precision, optimiser=optimiser, distil=0.0, batch=64)

    def losses(_: int) -> list[float]:
        return list(train(make(), split, recipe, seed=0).losses)

    lanes = list(Lanes(3, "cuda").map(losses, range(3)))
    module = make().train()
    stepper = FlatOptimiser(module, optimiser, decay=recipe.decay, momentum=recipe.momentum, average_steps=8,
                            layout=layout(precision, "cuda"))
    alone = Lesson(module, split, recipe, None, stepper, 0, 0)
    plain = [plain_epoch(alone, epoch, recipe.is_small(epoch)) for epoch in range(recipe.epochs)]
    for one in lanes:
        assert one == pytest.approx(plain, rel=2e-2)
