"""Plain residual networks for small images (He et al. 2016, arXiv 1512.03385, section 4.2, with projections)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 projection where shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks (each stage but the first halves the map), the mean, a linear layer."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: int):
        super().__init__()
        stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(widths[0]), nn.ReLU())
        stages: list[nn.Module] = []
        inputs = widths[0]
        for number, width in enumerate(widths):
            stage = []
            for block in range(blocks):
                stage.append(ResidualBlock(inputs, width, 2 if number and not block else 1))
                inputs = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(inputs, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.stages(self.stem(x)))))


def resnet8(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """One block a stage, widths 16-32-64: 78 k parameters, 0.76 M MACs at 8x8."""
    return ResNet(channels, classes, widths=(16, 32, 64), blocks=1)


def resnet20(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """Three blocks a stage, widths 16-32-64: 0.27 M parameters, 41 M MACs at 32x32."""
    return ResNet(channels, classes, widths=(16, 32, 64), blocks=3)


def resnet20x2(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """resnet20 of twice the width, a teacher: 1.1 M parameters, 162 M MACs at 32x32."""
    return ResNet(channels, classes, widths=(32, 64, 128), blocks=3)
