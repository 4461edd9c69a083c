"""ShuffleNet V1 (Zhang et al. 2018, arXiv 1707.01083) for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Channels dealt out so that every group of the next convolution sees all groups of the last."""
    count, channels, height, width = x.shape
    return x.view(count, groups, channels // groups, height, width).transpose(1, 2).reshape(count, channels, height,
                                                                                          width)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, added to the input; with stride 2 joined to its 3x3 mean."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, first_groups: int):
        super().__init__()
        self.stride, self.groups = stride, first_groups
        middle = outputs // 4
        grown = outputs - inputs if stride == 2 else outputs
        self.reduce = nn.Conv2d(inputs, middle, 1, groups=first_groups, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.relu1 = nn.ReLU()
        self.depthwise = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.expand = nn.Conv2d(middle, grown, 1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(grown)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = shuffled(self.relu1(self.norm1(self.reduce(x))), self.groups)
        y = self.norm3(self.expand(self.norm2(self.depthwise(y))))
        return self.relu2(torch.cat([self.pool(x), y], dim=1) if self.stride == 2 else x + y)


class ShuffleNet(nn.Module):
    """3x3 stem, stages of shuffle units (the first of each halves the map), the mean, a linear layer."""

    def __init__(self, channels: int, classes: int, stem: int, widths: Sequence[int], repeats: Sequence[int],
                 groups: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        units: list[nn.Module] = []
        inputs = stem
        for stage, (width, repeat) in enumerate(zip(widths, repeats, strict=True)):
            for unit in range(repeat):
                # the first 1x1 of all is not grouped, since the stem has few channels
                first = 1 if stage == unit == 0 else groups
                units.append(ShuffleUnit(inputs, width, 1 if unit else 2, groups, first))
                inputs = width
        self.units = nn.Sequential(*units)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.units(self.stem(x)))))


def shufflenet(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """ShuffleNet 1x with three groups; the stem keeps the map and is not pooled, as small images want it."""
    return ShuffleNet(channels, classes, 24, (240, 480, 960), (4, 8, 4), groups=3)
