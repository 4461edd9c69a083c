"""Augmented views of images, drawn from a seed so that a teacher and every student can see the very same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional

STREAMS = {"views": 1, "order": 2}


@dataclass(frozen=True)
class Augmentation:
    """crop_px: shift by whole pixels, up to this many, edges mirrored. flip: left-right, every second image.
    shift_px, rotate_deg, zoom (0.1: 0.9 to 1.1): bilinear, uniform up to this much, edges repeated."""

    crop_px: int = 0
    flip: bool = False
    shift_px: float = 0.0
    rotate_deg: float = 0.0
    zoom: float = 0.0

    @property
    def bends(self) -> bool:
        """Whether pixels are interpolated, and not only moved."""
        return bool(self.shift_px or self.rotate_deg or self.zoom)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """float32 [count, 7], uniform in [-1, 1): what is done to each image."""
        return torch.rand(count, 7, generator=generator) * 2 - 1

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Views [N, C, H, W] of images [N, C, H, W] by the drawn numbers [N, 7]."""
        if self.crop_px or self.flip:
            images = self._move(images, drawn)
        return self._bend(images, drawn) if self.bends else images

    def _move(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = images.shape
        device = images.device
        # floor of a uniform number in [0, 2 crop + 1): every whole shift equally often
        shift = ((drawn[:, :2] + 1) / 2 * (2 * self.crop_px + 1)).floor().long() - self.crop_px
        rows = _mirrored(torch.arange(height, device=device)[None, :] + shift[:, :1], height)
        columns = _mirrored(torch.arange(width, device=device)[None, :] + shift[:, 1:2], width)
        if self.flip:
            columns = torch.where(drawn[:, 2:3] < 0, columns.flip(1), columns)
        batch = torch.arange(count, device=device)[:, None, None, None]
        channel = torch.arange(channels, device=device)[None, :, None, None]
        return images[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def _bend(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        angle = drawn[:, 3] * math.radians(self.rotate_deg)
        zoom = 1 + drawn[:, 4] * self.zoom
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        # grid coordinates run from -1 to 1 over the image, whatever its aspect
        right = drawn[:, 5] * (2 * self.shift_px / width)
        down = drawn[:, 6] * (2 * self.shift_px / height)
        aspect = height / width
        matrix = torch.stack([cos, -sin * aspect, right, sin / aspect, cos, down], dim=1).reshape(-1, 2, 3)
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def generator_for(seed: int, epoch: int, stream: str) -> torch.Generator:
    """A generator of its own for each (seed, epoch, stream), stream being "views" or "order"."""
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + STREAMS[stream] * 0x94D049BB133111EB) % (1 << 64)
    mixed ^= mixed >> 31
    return torch.Generator().manual_seed(mixed % (1 << 63))


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
    """Whole-pixel positions, mirrored at the edges."""
    if size == 1:
        return torch.zeros_like(index)
    return size - 1 - (size - 1 - index.abs()).abs()
