"""Networks that a person would draw for CIFAR-10 with all that the search may decide on: rivals of its FermiNets.

    edgesynth train tests/benchmarks/drawn.py:hardswish --data cifar10 --on train+validation --seeds 0:3 \\
                    --teacher resnet20 --set batch=256 --set rate=0.02 --out trained/hardswish

`synth.prototypes.mobilenet.anchor` with Hardswish in ReLU's place, as it is and narrower.
"""

from __future__ import annotations

from torch import nn

from synth.prototypes.mobilenet import InvertedResiduals


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
    """19.6 k parameters, 2.4 M MACs."""
    return _drawn(channels, classes, 8, 12)
