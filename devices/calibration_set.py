"""A set of small networks that tell the constants of a board's cost model apart, as ONNX files.

Each leans on one thing: launches, the rate of dense, pointwise, depthwise, grouped and oblong convolutions, small maps
that do not fill the device, memory traffic, weights, the input's copy. Made with the package onnx alone, for opset 11
(which every TensorRT that the boards' files know can read), with random weights, so that activations have natural
values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["NETWORKS", "Condition", "conditions", "write_network"]

OPSET, IR_VERSION = 11, 6
OTHER_PRECISION = ("dense", "residual", "separable")  # networks that tell the rates of a second precision


@dataclass(frozen=True)
class Condition:
    """One measurement of the calibration: a network of the set at a batch. precision: None is the runner's own. mode:
    of power, None is the present one."""

    network: str
    batch: int
    precision: str | None = None
    mode: str | None = None

    def __str__(self) -> str:
        words = [f"{self.network}, batch {self.batch}", self.precision, self.mode]
        return ", ".join(word for word in words if word)


def conditions(precisions: Iterable[str | None], modes: Iterable[str | None] = (None,)) -> list[Condition]:
    """What is measured, in such an order that a run that is cut early still tells something about everything: the first
    mode and precision before the others, batch 1 first."""
    found = []
    for mode in modes:
        for number, precision in enumerate(precisions):
            if number:
                found += [Condition(name, NETWORKS[name].batches[-1], precision, mode) for name in OTHER_PRECISION]
                continue
            for rest in (slice(0, 1), slice(1, None)):
                found += [Condition(name, batch, precision, mode) for name, member in NETWORKS.items()
                          for batch in member.batches[rest]]
    return found


class _Builder:
    """An ONNX graph that grows by a layer a call; methods take and return (tensor name, channels)."""

    def __init__(self, shape: tuple[int, ...]):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape
        self.random = np.random.default_rng(0)
        self.image = ("image", shape[0])

    def node(self, kind: str, inputs: list[str], channels: int, **attributes: Any) -> tuple[str, int]:
        from onnx import helper

        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name, channels

    def weight(self, *shape: int) -> str:
        """Random, scaled so that a layer keeps the size of its activations (He et al., 2015)."""
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        scale = (2 / max(int(np.prod(shape[1:])), 1)) ** 0.5
        values = (scale * self.random.standard_normal(shape)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: tuple[str, int], out: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1,
             relu: bool = True) -> tuple[str, int]:
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.weight(out, x[1] // groups, high, wide)
        y = self.node("Conv", [x[0], weight], out, kernel_shape=[high, wide], strides=[stride, stride], group=groups,
                      pads=[high // 2, wide // 2, high // 2, wide // 2])
        return self.relu(y) if relu else y

    def relu(self, x: tuple[str, int]) -> tuple[str, int]:
        return self.node("Relu", [x[0]], x[1])

    def add(self, a: tuple[str, int], b: tuple[str, int]) -> tuple[str, int]:
        return self.node("Add", [a[0], b[0]], a[1])

    def concat(self, *parts: tuple[str, int]) -> tuple[str, int]:
        return self.node("Concat", [name for name, _ in parts], sum(channels for _, channels in parts), axis=1)

    def pool(self, x: tuple[str, int], stride: int = 1) -> tuple[str, int]:
        return self.node("MaxPool", [x[0]], x[1], kernel_shape=[3, 3], strides=[stride, stride], pads=[1, 1, 1, 1])

    def linear(self, x: tuple[str, int], inputs: int, out: int, relu: bool = True) -> tuple[str, int]:
        y = self.node("Gemm", [x[0], self.weight(out, inputs)], out, transB=1)
        return self.relu(y) if relu else y

    def head(self, x: tuple[str, int]) -> tuple[str, int]:
        pooled = self.node("GlobalAveragePool", [x[0]], x[1])
        return self.linear(self.node("Flatten", [pooled[0]], x[1]), x[1], 10, relu=False)

    def model(self, output: tuple[str, int]) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *self.shape]),
                helper.make_tensor_value_info(output[0], TensorProto.FLOAT, ["batch", output[1]])]
        graph = helper.make_graph(self.nodes, "calibration", ends[:1], ends[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


Tensor = tuple[str, int]


def _chain(net: _Builder, width: int, depth: int, kernel: int = 3, groups: int = 1) -> Tensor:
    x = net.conv(net.image, width)
    for _ in range(depth):
        x = net.conv(x, width, kernel, groups=groups)
    return net.head(x)


def _residual(net: _Builder) -> Tensor:
    x = net.conv(net.image, 32)
    for width in (32, 64, 128):
        for block in range(2):
            stride = 2 if width > 32 and not block else 1
            y = net.conv(net.conv(x, width, stride=stride), width, relu=False)
            x = net.relu(net.add(y, net.conv(x, width, 1, stride, relu=False) if stride > 1 else x))
    return net.head(x)


def _separable(net: _Builder) -> Tensor:
    x = net.conv(net.image, 32, stride=2)
    for width in (64, 128, 128, 256, 256):
        x = net.conv(net.conv(x, x[1], stride=2 if width > x[1] else 1, groups=x[1]), width, 1)
    return net.head(x)


def _branches(net: _Builder) -> Tensor:
    x = net.conv(net.image, 64, stride=2)
    for _ in range(3):
        tall = net.conv(net.conv(net.conv(x, 32, 1), 32, (1, 7)), 64, (7, 1))
        x = net.concat(net.conv(x, 64, 1), net.conv(net.conv(x, 32, 1), 64), tall, net.conv(net.pool(x), 32, 1))
    return net.head(x)


def _traffic(net: _Builder) -> Tensor:
    x = net.conv(net.image, 48, 1)
    for _ in range(4):
        x = net.pool(x)
    return net.head(net.pool(x, 2))


def _linear(net: _Builder) -> Tensor:
    x = net.linear(net.node("Flatten", ["image"], 0), 256, 1024)
    for _ in range(2):
        x = net.linear(x, 1024, 1024)
    return net.linear(x, 1024, 10, relu=False)


def _stem(net: _Builder) -> Tensor:
    return net.head(net.conv(net.pool(net.conv(net.image, 32, 7, 2), 2), 64))


@dataclass(frozen=True)
class Member:
    """A network of the set: the shape of its image, how it is built, and the batches it is measured at."""

    shape: tuple[int, ...]
    build: Callable[[_Builder], Tensor]
    batches: tuple[int, ...]


NETWORKS: dict[str, Member] = {
    "short": Member((3, 8, 8), lambda net: _chain(net, 8, 2), (1,)),
    "deep": Member((3, 8, 8), lambda net: _chain(net, 16, 40), (1, 16)),
    "dense": Member((3, 32, 32), lambda net: _chain(net, 128, 5), (1, 16)),
    "large-map": Member((3, 112, 112), lambda net: _chain(net, 32, 3), (8,)),
    "pointwise": Member((3, 28, 28), lambda net: _chain(net, 256, 6, kernel=1), (1, 16)),
    "grouped": Member((3, 28, 28), lambda net: _chain(net, 128, 5, groups=4), (16,)),
    "residual": Member((3, 64, 64), _residual, (1, 16)),
    "separable": Member((3, 112, 112), _separable, (1, 16)),
    "branches": Member((3, 56, 56), _branches, (1, 8)),
    "traffic": Member((3, 112, 112), _traffic, (8,)),
    "linear": Member((1, 16, 16), _linear, (1, 64)),
    "stem": Member((3, 224, 224), _stem, (1, 8)),
}


def write_network(name: str, folder: str | os.PathLike[str]) -> str:
    """Write a network of the set into a folder, the same bytes every time; returns the path of the ONNX file."""
    from devices.support.files import write_bytes

    member = NETWORKS[name]
    net = _Builder(member.shape)
    path = os.path.join(folder, f"{name}.onnx")
    write_bytes(path, net.model(member.build(net)).SerializeToString(deterministic=True))
    return path
