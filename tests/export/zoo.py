"""The structures that the export is proved on, small and with random weights.

Each factory gives a module that takes (N, 3, 16, 16) and whose batch norms have seen other than standard statistics.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SHAPE = (3, 16, 16)


def conv(inputs, outputs, kernel=3, stride=1, groups=1, act=True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride=stride), conv(outputs, outputs, act=False))
        self.short = conv(inputs, outputs, 1, stride, act=False) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


def resnet():
    return nn.Sequential(
        conv(3, 8), Residual(8, 8, 1), Residual(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


def vgg():
    features = [conv(3, 8), nn.MaxPool2d(2), conv(8, 16), nn.MaxPool2d(2), conv(16, 16), nn.MaxPool2d(2)]
    return nn.Sequential(
        *features, nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10), nn.LogSoftmax(1)
    )


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expand=4):
        super().__init__()
        wide = inputs * expand
        self.joins = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x) if self.joins else self.layers(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv(3, 8, stride=2), Inverted(8, 8, 1), Inverted(8, 16, 2), conv(16, 32, 1))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Shuffle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv(half, half, 1), conv(half, half, 3, groups=half, act=False), conv(half, half, 1)
        )

    def forward(self, x):
        kept, used = x.chunk(2, dim=1)
        x = torch.cat([kept, self.branch(used)], 1)
        batch, channels, height, width = x.size()
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def shufflenet():
    return nn.Sequential(
        conv(3, 8, stride=2), Shuffle(8), Shuffle(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


class Dense(nn.Module):
    def __init__(self, inputs, grow):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, grow, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


def densenet():
    return nn.Sequential(
        conv(3, 8), Dense(8, 4), Dense(12, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.AvgPool2d(2),
        Dense(8, 4), nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


class Excited(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.down, self.up = conv(channels, channels), nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        x = self.conv(x)
        gate = F.hardsigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return x * gate


def squeeze_excite():
    return nn.Sequential(
        conv(3, 8, stride=2), Excited(8), Excited(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


class RefineNet(nn.Module):
    """Two resolutions fused by bilinear up-sampling, then chained residual pooling (Lin et al., 2017)."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = conv(3, 8, stride=2), conv(8, 16, stride=2)
        self.adapt_fine, self.adapt_coarse = conv(8, 8), conv(16, 8)
        self.pools = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        size = x.shape[2:]
        fine = self.fine(x)
        coarse = self.adapt_coarse(self.coarse(fine))
        fused = torch.relu(
            self.adapt_fine(fine) + F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        )
        path = fused
        for pool in self.pools:
            path = pool(F.max_pool2d(path, 5, 1, 2))
            fused = fused + path
        return F.interpolate(self.head(fused), size=size, mode="bilinear", align_corners=True)


class Inception(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.one, self.three = conv(inputs, 4, 1), nn.Sequential(conv(inputs, 4, 1), conv(4, 8, 3))
        self.five = nn.Sequential(conv(inputs, 2, 1), conv(2, 4, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, 4, 1))

    def forward(self, x):
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class DetectNet(nn.Module):
    """A GoogLeNet trunk with a coverage and a box head on a coarse grid; two outputs."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            conv(3, 8, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5), Inception(8), Inception(20)
        )
        self.coverage, self.boxes = nn.Conv2d(20, 1, 1), nn.Conv2d(20, 4, 1)

    def forward(self, x):
        x = self.trunk(x)
        return {"coverage": torch.sigmoid(self.coverage(x)), "boxes": self.boxes(x)}


class InvertedUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.down1, self.down2 = conv(3, 8), Inverted(8, 16, 2), Inverted(16, 24, 2)
        self.up1, self.up2 = nn.ConvTranspose2d(24, 16, 2, 2), nn.Upsample(scale_factor=2, mode="nearest")
        self.merge1, self.merge2, self.head = Inverted(32, 8, 1), Inverted(16, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.stem(x)
        b = self.down1(a)
        x = self.merge1(torch.cat([self.up1(self.down2(b)), b], 1))
        return self.head(self.merge2(torch.cat([self.up2(x), a], 1))).softmax(1)


STRUCTURES = {
    "resnet": resnet, "vgg": vgg, "mobilenetv2": MobileNetV2, "shufflenetv2": shufflenet, "densenet": densenet,
    "squeeze-excite": squeeze_excite, "refinenet": RefineNet, "detectnet": DetectNet, "inverted-unet": InvertedUNet,
}  # fmt: skip


def build(name):
    """A structure with random weights and batch norms that do something."""
    torch.manual_seed(0)
    network = STRUCTURES[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def images(count=16):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1)).numpy()
