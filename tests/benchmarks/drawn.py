"""Networks that a person would draw for CIFAR-10 with all that the search may decide on: rivals of its FermiNets.

    edgesynth train tests/benchmarks/drawn.py:hardswish --data cifar10 --on train+validation --seeds 0:3 \\
                    --teacher resnet20x2 --set batch=256 --set rate=0.02 --out trained/hardswish

`synth.prototypes.mobilenet.anchor` with Hardswish in ReLU's place, as it is and narrower; and, as ResNet-20 has them,
three blocks a stage and a shortcut past those that stride. And what else is a decision: attention over channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from synth.prototypes.mobilenet import InvertedResidual, InvertedResiduals


class Attention(nn.Module):
    """[N, C, H, W] weighed channel by channel by the mean of each, as by `synth.networks.rewriting.with_attention`."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * nn.functional.hardsigmoid(x.mean((2, 3), keepdim=True) * self.weight + self.bias)


class Striding(nn.Module):
    """An inverted residual that strides, and past it a 1x1 convolution that does."""

    def __init__(self, inputs: int, outputs: int, expansion: int):
        super().__init__()
        self.block = InvertedResidual(inputs, outputs, 2, expansion, nn.Hardswish)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.block(x)


class Bypassed(nn.Module):
    """3x3 stem, two stages of three inverted residuals, something going past each of them; mean, linear layer."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, int, int], expansion: int = 3):
        super().__init__()
        stem = widths[0]
        parts: list[nn.Module] = [nn.Conv2d(channels, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.Hardswish()]
        for inputs, width in pairwise(widths):
            parts += [Striding(inputs, width, expansion),
                      *(InvertedResidual(width, width, 1, expansion, nn.Hardswish) for _ in range(2))]
        self.features = nn.Sequential(*parts)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.flatten(self.pool(self.features(x))))


def _drawn(channels: int, classes: int, stem: int, width: int) -> nn.Module:
    stages = ((3, width, 1, 2), (3, width, 3, 1), (3, 2 * width, 1, 2), (3, 2 * width, 3, 1))
    return InvertedResiduals(channels, classes, stem, stages, nonlinearity=nn.Hardswish)


def hardswish(channels: int, classes: int) -> nn.Module:
    """32.5 k parameters, 4.0 M MACs at 32x32, as the anchor."""
    return _drawn(channels, classes, 10, 16)


def hardswish_narrow(channels: int, classes: int) -> nn.Module:
    """25.5 k parameters, 3.1 M MACs."""
    return _drawn(channels, classes, 8, 14)


def hardswish_narrower(channels: int, classes: int) -> nn.Module:
    """22.4 k parameters, 2.7 M MACs: together what `ferminet-d` costs."""
    return _drawn(channels, classes, 8, 13)


def attentive(channels: int, classes: int) -> nn.Module:
    """`hardswish_narrower` with attention behind the depthwise convolution of every block: 23.3 k parameters."""
    network = hardswish_narrower(channels, classes)
    for block in network.modules():
        if isinstance(block, InvertedResidual):
            place = len(block.branch) - 2  # before the 1x1 and its norm
            block.branch.insert(place, Attention(block.branch[place].in_channels))
    return network


def bypassed(channels: int, classes: int) -> nn.Module:
    """23.6 k parameters, 2.9 M MACs."""
    return Bypassed(channels, classes, (8, 16, 32))
