"""Small modules of different structure, with random weights and statistics, that tests of networks run through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, int, int]


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic random, and of a size that keeps activations alive. Returns the module."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif name.endswith("running_mean"):
                tensor.copy_(0.2 * noise)
            elif tensor.dim() <= 1:  # norms, biases, slopes
                tensor.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                tensor.copy_(noise * (2.0 / tensor[0].numel()) ** 0.5)
    return module.eval()


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1,
            activation: Callable[[], nn.Module] | None = nn.ReLU) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class Vgg(nn.Module):
    """Convolutions with bias, max pooling, flatten into linear layers, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(12, 16, 3, padding="same"), nn.ReLU(),
            nn.MaxPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(16 * 4 * 4, 24), nn.ReLU(True), nn.Dropout(0.3),
                                        nn.Linear(24, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut, self.padding = shortcut, (outputs - inputs) // 2
        if shortcut == "projection":
            self.project = conv_bn(inputs, outputs, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.shortcut == "projection":
            x = self.project(x)
        elif self.shortcut == "padding":  # option A of the ResNet paper
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    """Identity, projection and padding shortcuts, additions in place, one ReLU module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1, "identity"), BasicBlock(8, 8, 1, "identity"))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2, "projection"), BasicBlock(16, 16, 1, "identity"))
        self.layer3 = nn.Sequential(BasicBlock(16, 24, 2, "padding"))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(x, 1))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(functional.relu(self.norm2(x)))


class DenseNet(nn.Module):
    """Concatenations of all layers before, average pooling between, a flatten of a map with several pixels."""

    def __init__(self, growth: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block1 = nn.ModuleList(DenseLayer(8 + i * growth, growth) for i in range(layers))
        width = 8 + layers * growth
        self.transition = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False),
                                        nn.AvgPool2d(2))
        self.block2 = nn.ModuleList(DenseLayer(width // 2 + i * growth, growth) for i in range(layers))
        width = width // 2 + layers * growth
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width * 4, 10)

    @staticmethod
    def _dense(layers: nn.ModuleList, x: Tensor) -> Tensor:
        features = [x]
        for layer in layers:
            features.append(layer(features))
        return torch.cat(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self._dense(self.block2, self.transition(self._dense(self.block1, self.stem(x))))
        x = functional.adaptive_avg_pool2d(functional.relu(self.norm(x), inplace=True), (2, 2))
        return self.classifier(x.view(x.size(0), -1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.use_shortcut = stride == 1 and inputs == outputs
        expand = [conv_bn(inputs, hidden, 1, activation=nn.ReLU6)] if expansion > 1 else []
        self.conv = nn.Sequential(*expand, conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6),
                                  conv_bn(hidden, outputs, 1, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Inverted residuals with depthwise convolutions and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 8, 3, 2, activation=nn.ReLU6), InvertedResidual(8, 8, 1, 1),
                                      InvertedResidual(8, 12, 2, 3), InvertedResidual(12, 12, 1, 3),
                                      conv_bn(12, 32, 1, activation=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, outputs // 2
        if stride > 1:
            self.branch1 = nn.Sequential(conv_bn(inputs, inputs, 3, stride, inputs, None), conv_bn(inputs, half, 1))
        inner = inputs if stride > 1 else half
        self.branch2 = nn.Sequential(conv_bn(inner, half, 1), conv_bn(half, half, 3, stride, half, None),
                                     conv_bn(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            return channel_shuffle(torch.cat((x1, self.branch2(x2)), dim=1), 2)
        return channel_shuffle(torch.cat((self.branch1(x), self.branch2(x)), dim=1), 2)


class ShuffleNetV2(nn.Module):
    """Channels split in half, one half passed by, concatenated and shuffled; a grouped convolution at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, 1)
        self.stage2 = nn.Sequential(ShuffleUnit(8, 16, 2), ShuffleUnit(16, 16, 1), ShuffleUnit(16, 16, 1))
        self.stage3 = nn.Sequential(ShuffleUnit(16, 24, 2), ShuffleUnit(24, 24, 1))
        self.conv5 = conv_bn(24, 32, 1, groups=4)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv5(self.stage3(self.stage2(self.stem(x))))
        return self.fc(x.mean(3).mean(2) if x.shape[2] == 1 else x.mean((2, 3)))


class LinearSqueeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, channels // 4), nn.ReLU(True), nn.Linear(channels // 4, channels),
                                nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = functional.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * self.fc(y).view(b, c, 1, 1).expand_as(x)


class ConvSqueeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean((2, 3), keepdim=True)
        return x * functional.hardsigmoid(self.expand(functional.silu(self.reduce(scale))))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation by linear layers and by 1x1 convolutions, hard-swish, a softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, 2, activation=nn.Hardswish)
        self.squeeze1 = LinearSqueeze(8)
        self.conv = conv_bn(8, 16, 3, activation=nn.SiLU)
        self.squeeze2 = ConvSqueeze(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze2(self.conv(self.squeeze1(self.stem(x))))
        return functional.log_softmax(self.head(x.mean((2, 3))), dim=1)


class EncoderDecoder(nn.Module):
    """Segmentation: down and up again by interpolation and transposed convolution, skips concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2, self.enc3 = conv_bn(3, 8), conv_bn(8, 12), conv_bn(12, 16)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.dec2, self.dec1 = conv_bn(24, 12), conv_bn(20, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        e3 = self.enc3(self.pool(e2))
        d2 = self.dec2(torch.cat([self.up2(e3), e2], dim=1))
        up = functional.interpolate(d2, size=e1.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(self.dec1(torch.cat([up, e1], dim=1)))


class PreActivationBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        return self.conv2(functional.relu(self.bn2(out))) + shortcut


class PreActivationResNet(nn.Module):
    """Batch norms before convolutions, where they cannot be folded; PReLU and a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block1, self.block2 = PreActivationBlock(8, 8, 1), PreActivationBlock(8, 16, 2)
        self.norm, self.act = nn.GroupNorm(4, 16), nn.PReLU(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.block2(self.block1(self.stem(x)))))
        return self.fc(functional.avg_pool2d(x, x.shape[2:]).squeeze(3).squeeze(2))


class ConvNextBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(functional.gelu(self.widen(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Channels last: layer norms over channels, linear layers at every pixel, a learnt scale of each branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.block1, self.down, self.block2 = ConvNextBlock(8), nn.Conv2d(8, 12, 2, stride=2), ConvNextBlock(12)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.down(self.block1(self.stem(x))))
        return self.head(self.norm(x.mean([-2, -1])))


class Functional(nn.Module):
    """No submodules at all: parameters and functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.empty(8, 3, 3, 3)), nn.Parameter(torch.empty(8))
        self.gamma, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.empty(8))
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_var", torch.ones(8))
        self.w2 = nn.Parameter(torch.empty(8, 1, 5, 5))
        self.w3, self.b3 = nn.Parameter(torch.empty(10, 8 * 16)), nn.Parameter(torch.empty(10))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d((x - 0.5) / 0.25, self.w1, self.b1, stride=2, padding=1)
        x = functional.batch_norm(x, self.running_mean, self.running_var, self.gamma, self.beta, self.training)
        x = functional.leaky_relu_(x, 0.1)
        x = x + functional.conv2d(functional.pad(x, (2, 2, 2, 2)), self.w2, groups=8).tanh()
        x = torch.clamp(functional.max_pool2d(x, 3, 2, 1), -1.5, 1.5)
        return functional.linear(torch.flatten(x, start_dim=1), self.w3, self.b3)


class ShapeControlled(nn.Module):
    """Python that steers by shapes: loops until the map is small, asserts, lists, optional layers, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([conv_bn(3, 8), conv_bn(8, 8), conv_bn(8, 8), conv_bn(8, 8), conv_bn(8, 8)])
        self.auxiliary = nn.Linear(8, 10)
        self.fc = nn.Linear(8, 10)
        self.heads = {"main": 1.0}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        assert x.shape[1] == 3, "an image has three channels"
        early = None
        for block in self.blocks:
            before, x = x, block(x)
            if before.shape == x.shape:
                x = x + before
            if x.size(-1) > 4:
                x = functional.max_pool2d(x, 2)
            elif early is None:
                early = self.auxiliary(x.flatten(2).mean(-1))
        assert early is not None
        return {"main": self.fc(x.view(x.shape[0], x.shape[1], -1).mean(dim=2)), "early": early}


class Triple(nn.Module):
    """Residual blocks of three 3x3 convolutions, with group norms, PReLU and SiLU, one behind the addition; a 3x3
    convolution behind the last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.blocks = nn.ModuleList(nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.GroupNorm(2, 8), nn.PReLU(8),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)) for _ in range(2))
        self.last = conv_bn(8, 12, stride=2, activation=nn.SiLU)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = functional.silu(x + block(x))
        return self.head(self.last(x).mean((2, 3)))


ZOO: dict[str, Callable[[], nn.Module]] = {
    "vgg": Vgg, "resnet": ResNet, "densenet": DenseNet, "mobilenet_v2": MobileNetV2, "shufflenet_v2": ShuffleNetV2,
    "squeeze_excite": SqueezeExcite, "encoder_decoder": EncoderDecoder, "preactivation": PreActivationResNet,
    "convnext": ConvNext, "functional": Functional, "shape_controlled": ShapeControlled,
    "triple": Triple,
}
INPUT_SHAPE: Shape = (3, 16, 16)  # of all of them


def make(name: str, seed: int = 0) -> nn.Module:
    """A module of the zoo, in evaluation mode, with random weights and statistics."""
    return randomise(ZOO[name](), seed)
