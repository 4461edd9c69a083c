"""A user's own network as the prototype, without touching edgesynth:

    edgesynth synth --target tx2 --prototype own_prototype.py:network

Nothing in it knows edgesynth: an ordinary class with an ordinary forward. `network` is the factory; it may read a
checkpoint, in which case the prototype comes trained.
"""

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Squeeze and excitation: scales every channel by what the whole map says about it."""

    def __init__(self, channels):
        super().__init__()
        self.down = nn.Linear(channels, max(4, channels // 4))
        self.up = nn.Linear(max(4, channels // 4), channels)

    def forward(self, x):
        batch, channels, _, _ = x.shape
        scale = self.up(functional.relu(self.down(x.mean(dim=[2, 3]))))
        return x * torch.sigmoid(scale).view(batch, channels, 1, 1)


class Block(nn.Module):
    """A residual block. Where it halves the map and widens, the shortcut is pooled and padded with zero channels."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.attention = Attention(outputs)
        self.stride, self.wider = stride, outputs - inputs

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.attention(self.norm2(self.conv2(y)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
        if self.wider:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.wider))
        y += x
        return functional.relu(y)


class OwnNetwork(nn.Module):
    def __init__(self, channels, classes, width=16):
        super().__init__()
        wide = 2 * width
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList([Block(width, width, 1), Block(width, wide, 2), Block(wide, wide, 1)])
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(wide, classes)

    def forward(self, images):
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(x.flatten(2).mean(-1)))


def network(channels, classes):
    """edgesynth passes `channels`, `size` and `classes` of the data where they are asked for."""
    return OwnNetwork(channels, classes)
