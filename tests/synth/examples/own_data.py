"""A user's own data and network, without touching edgesynth:

    edgesynth synth --target tx2 --data own_data.py:data --prototype own_data.py:network --require "accuracy >= 80 %"

Replace the drawing of shapes by reading your files.
"""

import numpy as np
from torch import nn

CLASSES = ["circle", "cross", "square"]


def data():
    """Three splits of (images, labels). Images: uint8 or float [N, C, H, W]; labels: whole numbers from 0.

    Normalisation is edgesynth's part (mean and standard deviation of the training split).
    """
    return {
        "train": shapes(900, seed=0),
        "validation": shapes(300, seed=1),  # decides which networks are taken
        "test": shapes(300, seed=2),  # read once, for networks already chosen
        "classes": CLASSES,
    }


def network(channels, classes):
    """An ordinary module; edgesynth passes `channels`, `size` and `classes` of the data where they are asked for."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )


def shapes(count, seed):
    """Coloured shapes of many sizes on noise: uint8 [count, 3, 16, 16] and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = random.integers(0, 90, (count, 3, 16, 16))
    rows, columns = np.mgrid[:16, :16]
    for image, label in zip(images, labels, strict=True):
        y, x = random.uniform(5, 11, 2)
        radius = random.uniform(3, 5)
        down, right = abs(rows - y), abs(columns - x)
        inside = [
            np.hypot(down, right) < radius,
            (np.minimum(down, right) < 1) & (np.maximum(down, right) < radius),
            np.maximum(down, right) < radius * 0.85,
        ][label]
        image[:, inside] += random.integers(60, 160, 3)[:, None]
    return images.astype(np.uint8), labels
