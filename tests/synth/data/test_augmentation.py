"""Augmented views: what they do to pixels, and that they are drawn as they say."""

from __future__ import annotations

import pytest
import torch

from synth.data.augmentation import Augmentation, generator_for


def picture(height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)


def drawn(**values) -> torch.Tensor:
    numbers = torch.zeros(1, 7)
    for place, value in values.items():
        numbers[0, int(place[1:])] = value
    return numbers


def test_nothing_drawn_nothing_done():
    for augmentation in (Augmentation(), Augmentation(crop_px=2), Augmentation(1, True)):
        assert torch.equal(augmentation.apply(picture(), drawn(_2=0.5)), picture())
    turned = Augmentation(shift_px=1, rotate_deg=10, zoom=0.1).apply(picture(), drawn())
    assert torch.allclose(turned, picture(), atol=1e-4)


def test_a_crop_moves_by_whole_pixels_and_mirrors_the_edge():
    moved = Augmentation(crop_px=1).apply(picture(), drawn(_0=0.9, _1=0.0))
    assert torch.equal(moved[0, 0, :-1], picture()[0, 0, 1:]) and torch.equal(moved[0, 0, -1], picture()[0, 0, -2])
    tiny = Augmentation(crop_px=2).apply(torch.ones(1, 1, 1, 3), drawn(_0=-1.0))
    assert torch.equal(tiny, torch.ones(1, 1, 1, 3))


def test_a_flip_is_left_right_for_every_second_image():
    augmentation = Augmentation(flip=True)
    assert torch.equal(augmentation.apply(picture(), drawn(_2=-0.1)), picture().flip(3))
    numbers = augmentation.draw(4000, torch.Generator().manual_seed(0))
    views = augmentation.apply(picture().expand(4000, -1, -1, -1), numbers)
    assert 0.47 < float((views[:, 0, 0, 0] != 0).float().mean()) < 0.53


def test_every_whole_shift_is_equally_frequent():
    augmentation = Augmentation(crop_px=1)
    numbers = augmentation.draw(9000, torch.Generator().manual_seed(0))
    views = augmentation.apply(picture().expand(9000, -1, -1, -1), numbers)
    _, counts = torch.unique(views[:, 0, 2, 3], return_counts=True)
    assert len(counts) == 9 and counts.min() > 850


def test_a_shift_is_in_pixels_in_both_directions():
    right = Augmentation(shift_px=2).apply(picture(), drawn(_5=0.5))
    assert torch.allclose(right[0, 0, :, :-1], picture()[0, 0, :, 1:], atol=1e-4)
    down = Augmentation(shift_px=2).apply(picture(), drawn(_6=-0.5))
    assert torch.allclose(down[0, 0, 1:], picture()[0, 0, :-1], atol=1e-4)


def test_a_rotation_keeps_shapes_on_a_wide_image():
    """By a right angle, a cross with arms of three pixels stays a cross, whatever the aspect of the image."""
    cross = torch.zeros(1, 1, 9, 15)
    cross[0, 0, 4, 4:11] = 1
    turned = Augmentation(rotate_deg=90).apply(cross, drawn(_3=1.0 - 1e-7))
    expected = torch.zeros(1, 1, 9, 15)
    expected[0, 0, 1:8, 7] = 1
    assert torch.allclose(turned, expected, atol=1e-3)


def test_streams_are_their_own():
    def numbers(*key):
        return torch.rand(4, generator=generator_for(*key)).tolist()

    keys = [(0, 0, "views"), (0, 1, "views"), (1, 0, "views"), (0, 0, "order"), (-3, 2, "order"), (2**40, 0, "views")]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)
    assert numbers(0, 1, "views") == numbers(0, 1, "views")
    with pytest.raises(KeyError):
        generator_for(0, 0, "teacher")
