"""Random convolutional modules: a program of ordinary operations over a pool of maps, the same for the same seed."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Mish, nn.SELU, nn.GELU, nn.ELU,
    nn.LeakyReLU, nn.Hardtanh, nn.Softplus, nn.PReLU]


class RandomModule(nn.Module):
    """Every step reads maps of the pool by number and adds one. A step is a method of this class and its arguments."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = (3, 12, 12), steps: int = 14) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.layers = nn.ModuleDict()
        self.program: list[tuple[str, tuple]] = []
        pool = [torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))]
        names = [n for n in dir(self) if n.startswith("step_")]
        with torch.no_grad():
            self.eval()
            while len(self.program) < steps:
                name = self.random.choice(names)
                arguments = getattr(self, "plan_" + name[5:])(pool)
                if arguments is None:
                    continue
                try:
                    value = getattr(self, name)(pool, *arguments)
                except RuntimeError:  # the map is too small for it
                    continue
                if min(value.shape[1:]) < 1 or value[0].numel() > 8192 or not bool(value.isfinite().all()):
                    continue
                self.program.append((name, arguments))
                pool.append(value)
        self.ends = sorted({len(pool) - 1, *self.random.sample(range(1, len(pool)), 2)})
        self.flat = [self.random.random() < 0.5 for _ in self.ends]
        self.heads = nn.ModuleList(
            nn.Linear(pool[i].shape[1] if flat else pool[i][0].numel(), 5)
            for i, flat in zip(self.ends, self.flat, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        pool = [images]
        for name, arguments in self.program:
            pool.append(getattr(self, name)(pool, *arguments))
        return [head(pool[i].mean((2, 3)) if flat else pool[i].reshape(len(images), -1))
                for i, flat, head in zip(self.ends, self.flat, self.heads, strict=True)]

    # -- planning ----------------------------------------------------------------------------------------------------

    def any(self, pool: list[Tensor]) -> int:
        return self.random.randrange(max(0, len(pool) - 5), len(pool))

    def layer(self, module: nn.Module) -> str:
        name = f"{type(module).__name__.lower()}{len(self.layers)}"
        generator = torch.Generator().manual_seed(len(self.layers))
        with torch.no_grad():
            for tensor in module.state_dict().values():
                if tensor.is_floating_point() and tensor.dim() == 1:
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
                elif tensor.is_floating_point():
                    scale = (1.5 / tensor[0].numel()) ** 0.5
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
        self.layers[name] = module.eval()
        return name

    def divisor(self, number: int) -> int:
        return self.random.choice([d for d in range(1, number + 1) if number % d == 0])

    def plan_conv(self, pool):
        i, r = self.any(pool), self.random
        channels, height, width = pool[i].shape[1:]
        groups = r.choice([1, 1, self.divisor(channels), channels])
        kernel = r.choice([1, 2, 3, 5, (1, 3), (3, 1)])
        return i, self.layer(nn.Conv2d(
            channels, groups * r.randint(1, max(1, 12 // groups)), kernel, r.choice([1, 1, 2, (2, 1)]),
            r.choice([2, 3, (2, 1)]), r.choice([1, 1, 2]) if min(height, width) > 4 else 1, groups, r.random() < 0.5))

    def plan_deconv(self, pool):
        i, r = self.any(pool), self.random
        stride = r.choice([1, 2])
        return i, self.layer(nn.ConvTranspose2d(pool[i].shape[1], r.randint(1, 8), r.choice([2, 3]), stride,
                                                r.choice([0, 1]), r.choice([0, stride - 1]), bias=r.random() < 0.5))

    def plan_norm(self, pool):
        i = self.any(pool)
        channels = pool[i].shape[1]
        kinds = [nn.BatchNorm2d(channels), nn.BatchNorm2d(channels, affine=False),
                 nn.GroupNorm(self.divisor(channels), channels)]
        return i, self.layer(self.random.choice(kinds))

    def plan_activation(self, pool):
        i, kind = self.any(pool), self.random.choice(ACTIVATIONS)
        return i, self.layer(kind(pool[i].shape[1]) if kind is nn.PReLU else kind())

    def plan_pool(self, pool):
        i, r = self.any(pool), self.random
        if min(pool[i].shape[2:]) < 3:
            return None
        kernel = r.choice([2, 3])
        settings = {"kernel_size": kernel, "stride": r.choice([1, 2, kernel]), "padding": r.choice([0, 1]),
                    "ceil_mode": r.random() < 0.5}
        average = nn.AvgPool2d(**settings, count_include_pad=r.random() < 0.5)
        return i, self.layer(r.choice([nn.MaxPool2d(**settings), average, nn.AdaptiveAvgPool2d(r.choice([1, 2, 3])),
                                       nn.AdaptiveMaxPool2d(r.choice([1, 2]))]))

    def plan_binary(self, pool):
        i = self.any(pool)
        fitting = [j for j in range(1, len(pool)) if pool[j].shape == pool[i].shape
                   or (pool[j].shape[1] in (1, pool[i].shape[1]) and pool[j].shape[2:] == (1, 1))]
        return (i, self.random.choice(fitting), self.random.choice("+-*")) if fitting else None

    def plan_cat(self, pool):
        i = self.any(pool)
        fitting = [j for j in range(len(pool)) if pool[j].shape[2:] == pool[i].shape[2:]]
        return i, *self.random.choices(fitting, k=self.random.randint(1, 2))

    def plan_slice(self, pool):
        i, r = self.any(pool), self.random
        channels = pool[i].shape[1]
        start = r.randrange(channels)
        return i, start, r.randint(start + 1, channels), r.choice(["index", "narrow", "split"])

    def plan_shuffle(self, pool):
        i = self.any(pool)
        return i, self.divisor(pool[i].shape[1]), self.random.choice(["view", "module", "index"])

    def plan_space(self, pool):
        i = self.any(pool)
        _, channels, height, width = pool[i].shape
        if channels % 4 == 0 and self.random.random() < 0.5:
            return i, "shuffle"
        return (i, "unshuffle") if height % 2 == width % 2 == 0 else None

    def plan_crop(self, pool):
        i, r = self.any(pool), self.random
        height, width = pool[i].shape[2:]
        return i, r.randrange(height), r.randrange(width), r.choice([1, 2, 3]), r.choice([1, 2])

    def plan_pad(self, pool):
        count = self.random.choice([4, 6])
        return self.any(pool), tuple(self.random.randint(0, 2) for _ in range(count)), self.random.choice([0.0, -1.0])

    def plan_resize(self, pool):
        i, r = self.any(pool), self.random
        mode = r.choice(["nearest", "bilinear"])
        options = {"mode": mode} | ({"align_corners": r.random() < 0.5} if mode == "bilinear" else {})
        if r.random() < 0.5:
            return i, {"scale_factor": r.choice([2, 1.5, (2, 1), 0.5]), **options}
        return i, {"size": (r.randint(1, 16), r.randint(1, 16)), **options}

    def plan_arithmetic(self, pool):
        return self.any(pool), self.random.choice(["1 - x", "x / 3", "-x", "x * 2 + 1", "x * x", "2 * (x - 1)"])

    def plan_squeeze(self, pool):
        i = self.any(pool)
        channels = pool[i].shape[1]
        return i, self.layer(nn.Linear(channels, 3)), self.layer(nn.Linear(3, channels)), self.random.randrange(3)

    def plan_dropout(self, pool):
        return self.any(pool), self.layer(self.random.choice([nn.Dropout(0.3), nn.Dropout2d(0.2)]))

    def plan_round_trip(self, pool):
        return self.any(pool), self.random.randrange(4)

    def plan_in_place(self, pool):
        return self.any(pool), self.random.choice(["relu_", "mul_", "add_", "clamp_"])

    # -- running -----------------------------------------------------------------------------------------------------

    def _apply(self, pool, i, name):
        return self.layers[name](pool[i])

    step_conv = step_deconv = step_norm = step_activation = step_pool = step_dropout = _apply

    def step_binary(self, pool, i, j, sign):
        return {"+": torch.add, "-": torch.sub, "*": torch.mul}[sign](pool[i], pool[j])

    def step_cat(self, pool, *places):
        return torch.cat([pool[i] for i in places], 1)

    def step_slice(self, pool, i, start, stop, how):
        x = pool[i]
        if how == "index":
            return x[:, start:stop]
        if how == "narrow":
            return x.narrow(1, start, stop - start)
        return x.split([start, stop - start, x.shape[1] - stop], 1)[1]

    def step_shuffle(self, pool, i, groups, how):
        x = pool[i]
        b, c, h, w = x.shape
        if how == "view":
            return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        if how == "module":
            return functional.channel_shuffle(x, groups)
        return x[:, torch.arange(c).view(groups, -1).t().flatten()]

    def step_space(self, pool, i, way):
        return functional.pixel_shuffle(pool[i], 2) if way == "shuffle" else functional.pixel_unshuffle(pool[i], 2)

    def step_crop(self, pool, i, top, left, down, right):
        return pool[i][:, :, top::down, left::right]

    def step_pad(self, pool, i, widths, value):
        return functional.pad(pool[i], widths, value=value)

    def step_resize(self, pool, i, options):
        return functional.interpolate(pool[i], **options)

    def step_arithmetic(self, pool, i, formula):
        return eval(formula, {"x": pool[i]})  # one of the formulas above

    def step_squeeze(self, pool, i, down, up, how):
        x = pool[i]
        b, c = x.shape[:2]
        y = [lambda: x.mean((2, 3)), lambda: functional.adaptive_avg_pool2d(x, 1).view(b, c),
             lambda: x.flatten(2).amax(-1)][how]()
        y = torch.sigmoid(self.layers[up](functional.relu(self.layers[down](y))))
        y = y[:, :, None, None] if how == 0 else y.view(b, c, 1, 1)
        return x * (y.expand_as(x) if how == 1 else y)

    def step_round_trip(self, pool, i, how):
        x = pool[i]
        return [lambda: x.flatten(1).view(x.shape), lambda: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
                lambda: x.contiguous(memory_format=torch.channels_last), lambda: x.unsqueeze(1).squeeze(1)][how]()

    def step_in_place(self, pool, i, what):
        pool[i] = pool[i] + 0.5  # memory of its own, so that nothing else changes
        return getattr(pool[i], what)(*{"mul_": (0.5,), "add_": (1.0,), "clamp_": (-1.0, 1.0)}.get(what, ()))
