"""Networks of inverted residuals (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381) for small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

Nonlinearity = Callable[[], nn.Module]


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the inputs, depthwise 3x3, 1x1 without an activation; a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, nonlinearity: Nonlinearity = nn.ReLU):
        super().__init__()
        middle = inputs * expansion
        expand = [nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), nonlinearity()]
        self.branch = nn.Sequential(
            *(expand if expansion > 1 else []),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False), nn.BatchNorm2d(middle),
            nonlinearity(),
            nn.Conv2d(middle, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x) if self.shortcut else self.branch(x)


class InvertedResiduals(nn.Module):
    """3x3 stem, stages of inverted residuals (the first of a stage has its stride), an optional 1x1, the mean, a
    linear layer. stages: (expansion, width, blocks, stride) each."""

    def __init__(self, channels: int, classes: int, stem: int, stages: Sequence[tuple[int, int, int, int]],
                 last: int = 0, nonlinearity: Nonlinearity = nn.ReLU):
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nonlinearity()]
        inputs = stem
        for expansion, width, blocks, stride in stages:
            for block in range(blocks):
                parts.append(InvertedResidual(inputs, width, 1 if block else stride, expansion, nonlinearity))
                inputs = width
        if last:
            parts += [nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nonlinearity()]
            inputs = last
        self.features = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.features(x))))


def mobilenetv2(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """MobileNetV2 1.0 with the strides of small images (stem and second stage keep the map): 2.2 M parameters, 88 M
    MACs at 32x32."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    return InvertedResiduals(channels, classes, 32, stages, last=1280)


def anchor(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """Drawn by hand, the network that a generator must beat: 32.5 k parameters, 4.0 M MACs at 32x32."""
    return InvertedResiduals(channels, classes, 10, ((3, 16, 1, 2), (3, 16, 3, 1), (3, 32, 1, 2), (3, 32, 3, 1)))
