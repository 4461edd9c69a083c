"""The networks of the published TX2 measurements as ONNX files, built with onnx.helper.

Weights are made by ConstantOfShape nodes, so that a file is a few kilobytes and still valid.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import onnx
from onnx import TensorProto, helper


class Net:
    """An ONNX graph that grows by one layer a call; every method takes and returns tensor names."""

    def __init__(self, *shape: int):
        self.input_shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.channels = {"image": shape[0]}

    def node(self, kind: str, inputs: list[str], channels: int, **attributes) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.channels[name] = channels
        return name

    def weight(self, *shape: int) -> str:
        name = f"shape_{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(shape)], shape))
        return self.node("ConstantOfShape", [name], 0,
                         value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.01]))

    def conv(self, x: str, out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True,
             groups: int = 1, act: str | None = "Relu", norm: bool = True) -> str:
        """Convolution, batch norm, activation; `same` pads so that stride 1 keeps the size, else nothing is padded."""
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        pads = [(high - 1) // 2, (wide - 1) // 2, high // 2, wide // 2] if same else [0, 0, 0, 0]
        weight = self.weight(out, self.channels[x] // groups, high, wide)
        y = self.node("Conv", [x, weight], out, kernel_shape=[high, wide], strides=[stride, stride], pads=pads,
                      group=groups)
        if norm:
            y = self.node("BatchNormalization", [y, *(self.weight(out) for _ in range(4))], out)
        return self.node(act, [y], out) if act else y

    def linear(self, x: str, out: int, inputs: int, act: str | None = None) -> str:
        y = self.node("Gemm", [x, self.weight(inputs, out), self.weight(out)], out)
        return self.node(act, [y], out) if act else y

    def pool(self, x: str, kernel: int, stride: int, pad: int = 0, ceil: bool = False, kind: str = "MaxPool") -> str:
        return self.node(kind, [x], self.channels[x], kernel_shape=[kernel, kernel], strides=[stride, stride],
                         pads=[pad] * 4, ceil_mode=int(ceil))

    def add(self, a: str, b: str) -> str:
        return self.node("Relu", [self.node("Add", [a, b], self.channels[a])], self.channels[a])

    def concat(self, *parts: str) -> str:
        return self.node("Concat", list(parts), sum(self.channels[p] for p in parts), axis=1)

    def flat(self, x: str) -> str:
        return self.node("Flatten", [x], self.channels[x])

    def head(self, x: str, classes: int = 1000) -> str:
        y = self.flat(self.node("GlobalAveragePool", [x], self.channels[x]))
        return self.node("Softmax", [self.linear(y, classes, self.channels[x])], classes)

    def save(self, path: pathlib.Path, output: str) -> pathlib.Path:
        graph = helper.make_graph(
            self.nodes, path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *self.input_shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        onnx.save(model, path)
        return path


def mlp(net: Net, width: int) -> str:
    """QuTiBench's MLP for MNIST: three hidden layers of 2048, pruned by width."""
    x = net.flat("image")
    for inputs in (784, width, width):
        x = net.linear(x, width, inputs, "Relu")
    return net.linear(x, 10, width)


def cnv(net: Net, width: int) -> str:
    """QuTiBench's CNV for CIFAR-10: six 3x3 convolutions without padding, three linear layers."""
    x = "image"
    for factor in (1, 2, 4):
        x = net.conv(net.conv(x, width * factor, 3, same=False), width * factor, 3, same=False)
        x = net.pool(x, 2, 2) if factor < 4 else x
    x = net.linear(net.flat(x), 8 * width, 4 * width, "Relu")
    return net.linear(net.linear(x, 8 * width, 8 * width, "Relu"), 10, 8 * width)


def googlenet(net: Net) -> str:
    """Inception v1 as in Caffe: no batch norm, local response norms, pools that round up."""
    def conv(x: str, out: int, kernel: int = 1, stride: int = 1) -> str:
        return net.conv(x, out, kernel, stride, norm=False)

    def inception(x: str, a: int, b: int, b2: int, c: int, c2: int, d: int) -> str:
        return net.concat(conv(x, a), conv(conv(x, b), b2, 3), conv(conv(x, c), c2, 5),
                          conv(net.pool(x, 3, 1, 1), d))

    x = net.pool(conv("image", 64, 7, 2), 3, 2, ceil=True)
    x = net.node("LRN", [x], 64, size=5)
    x = net.node("LRN", [conv(conv(x, 64), 192, 3)], 192, size=5)
    x = net.pool(x, 3, 2, ceil=True)
    x = inception(inception(x, 64, 96, 128, 16, 32, 32), 128, 128, 192, 32, 96, 64)
    x = net.pool(x, 3, 2, ceil=True)
    for widths in ((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
                   (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)):
        x = inception(x, *widths)
    x = net.pool(x, 3, 2, ceil=True)
    return net.head(inception(inception(x, 256, 160, 320, 32, 128, 128), 384, 192, 384, 48, 128, 128))


def resnet(net: Net, depths: tuple[int, int, int, int]) -> str:
    """ResNet v1 with bottlenecks, the stride in the first 1x1."""
    x = net.pool(net.conv("image", 64, 7, 2), 3, 2, 1)
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            y = net.conv(net.conv(x, width, 1, stride), width, 3)
            y = net.conv(y, 4 * width, act=None)
            x = net.add(y, x if block else net.conv(x, 4 * width, 1, stride, act=None))
    return net.head(x)


def mobilenet_v1(net: Net, alpha: float) -> str:
    def wide(channels: int) -> int:
        return int(channels * alpha)

    x = net.conv("image", wide(32), 3, 2, act="Relu")
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5,
                             (1024, 2), (1024, 1)):
        x = net.conv(x, net.channels[x], 3, stride, groups=net.channels[x])
        x = net.conv(x, wide(channels))
    return net.head(x)


def vgg16(net: Net) -> str:
    x = "image"
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            x = net.conv(x, width, 3, norm=False)
        x = net.pool(x, 2, 2)
    x = net.linear(net.linear(net.flat(x), 4096, 25088, "Relu"), 4096, 4096, "Relu")
    return net.node("Softmax", [net.linear(x, 1000, 4096)], 1000)


def inception_v3(net: Net) -> str:
    def conv(x: str, out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True) -> str:
        return net.conv(x, out, kernel, stride, same)

    def pooled(x: str, out: int) -> str:
        return conv(net.pool(x, 3, 1, 1, kind="AveragePool"), out)

    x = conv(conv(conv("image", 32, 3, 2, False), 32, 3, 1, False), 64, 3)
    x = conv(conv(net.pool(x, 3, 2), 80), 192, 3, 1, False)
    x = net.pool(x, 3, 2)
    for out in (32, 64, 64):
        x = net.concat(conv(x, 64), conv(conv(x, 48), 64, 5), conv(conv(conv(x, 64), 96, 3), 96, 3), pooled(x, out))
    x = net.concat(conv(x, 384, 3, 2, False), conv(conv(conv(x, 64), 96, 3), 96, 3, 2, False), net.pool(x, 3, 2))
    for width in (128, 160, 160, 192):
        double = conv(conv(conv(conv(conv(x, width), width, (7, 1)), width, (1, 7)), width, (7, 1)), 192, (1, 7))
        x = net.concat(conv(x, 192), conv(conv(conv(x, width), width, (1, 7)), 192, (7, 1)), double, pooled(x, 192))
    long = conv(conv(conv(conv(x, 192), 192, (1, 7)), 192, (7, 1)), 192, 3, 2, False)
    x = net.concat(conv(conv(x, 192), 320, 3, 2, False), long, net.pool(x, 3, 2))
    for _ in range(2):
        left, right = conv(x, 384), conv(conv(x, 448), 384, 3)
        x = net.concat(conv(x, 320), conv(left, 384, (1, 3)), conv(left, 384, (3, 1)), conv(right, 384, (1, 3)),
                       conv(right, 384, (3, 1)), pooled(x, 192))
    return net.head(x)


def inception_v4(net: Net) -> str:
    def conv(x: str, out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, same: bool = True) -> str:
        return net.conv(x, out, kernel, stride, same)

    def pooled(x: str, out: int) -> str:
        return conv(net.pool(x, 3, 1, 1, kind="AveragePool"), out)

    x = conv(conv(conv("image", 32, 3, 2, False), 32, 3, 1, False), 64, 3)
    x = net.concat(net.pool(x, 3, 2), conv(x, 96, 3, 2, False))
    tall = conv(conv(conv(conv(x, 64), 64, (1, 7)), 64, (7, 1)), 96, 3, 1, False)
    x = net.concat(conv(conv(x, 64), 96, 3, 1, False), tall)
    x = net.concat(conv(x, 192, 3, 2, False), net.pool(x, 3, 2))
    for _ in range(4):
        x = net.concat(conv(x, 96), conv(conv(x, 64), 96, 3), conv(conv(conv(x, 64), 96, 3), 96, 3), pooled(x, 96))
    x = net.concat(conv(x, 384, 3, 2, False), conv(conv(conv(x, 192), 224, 3), 256, 3, 2, False), net.pool(x, 3, 2))
    for _ in range(7):
        double = conv(conv(conv(conv(conv(x, 192), 192, (1, 7)), 224, (7, 1)), 224, (1, 7)), 256, (7, 1))
        x = net.concat(conv(x, 384), conv(conv(conv(x, 192), 224, (1, 7)), 256, (7, 1)), double, pooled(x, 128))
    long = conv(conv(conv(conv(x, 256), 256, (1, 7)), 320, (7, 1)), 320, 3, 2, False)
    x = net.concat(conv(conv(x, 192), 192, 3, 2, False), long, net.pool(x, 3, 2))
    for _ in range(3):
        left, right = conv(x, 384), conv(conv(conv(x, 384), 448, (1, 3)), 512, (3, 1))
        x = net.concat(conv(x, 256), conv(left, 256, (1, 3)), conv(left, 256, (3, 1)), conv(right, 256, (1, 3)),
                       conv(right, 256, (3, 1)), pooled(x, 256))
    return net.head(x)


def nasbench201(net: Net, conv1x1: int, conv3x3: int) -> str:
    """A NAS-Bench-201 network for 32x32 images: 15 cells of four nodes and six edges, of which the last ones are
    convolutions (ReLU, convolution, batch norm) and the others skips."""
    def rcb(x: str, out: int, kernel: int, stride: int = 1) -> str:
        return net.conv(net.node("Relu", [x], net.channels[x]), out, kernel, stride, act=None)

    def cell(x: str) -> str:
        kernels = [0] * (6 - conv1x1 - conv3x3) + [1] * conv1x1 + [3] * conv3x3
        nodes = [x]
        for first, count in ((0, 1), (1, 2), (3, 3)):
            inputs = zip(nodes, kernels[first:first + count], strict=True)
            edges = [rcb(node, net.channels[x], kernel) if kernel else node for node, kernel in inputs]
            total = edges[0]
            for edge in edges[1:]:
                total = net.node("Add", [total, edge], net.channels[x])
            nodes.append(total)
        return nodes[-1]

    x = net.conv("image", 16, 3, act=None)
    for width in (16, 32, 64):
        if width > 16:
            short = net.conv(net.pool(x, 2, 2, kind="AveragePool"), width, 1, act=None)
            x = net.node("Add", [rcb(rcb(x, width, 3, 2), width, 3), short], width)
        for _ in range(5):
            x = cell(x)
    return net.head(net.node("Relu", [x], 64), 10)


def resnet20(net: Net) -> str:
    """ResNet-20 for CIFAR-10."""
    x = net.conv("image", 16, 3)
    for width in (16, 32, 64):
        for block in range(3):
            stride = 2 if width > 16 and not block else 1
            y = net.conv(net.conv(x, width, 3, stride), width, 3, act=None)
            x = net.add(y, net.conv(x, width, 1, stride, act=None) if stride > 1 else x)
    return net.head(x, 10)


Maker = Callable[[Net], str]
# name: (input shape, how it is built, known GMACs)
NETWORKS: dict[str, tuple[tuple[int, ...], Maker, float]] = {
    "googlenet": ((3, 224, 224), googlenet, 1.58),
    "resnet50": ((3, 224, 224), lambda net: resnet(net, (3, 4, 6, 3)), 3.86),
    "resnet101": ((3, 224, 224), lambda net: resnet(net, (3, 4, 23, 3)), 7.58),
    "inception_v3": ((3, 299, 299), inception_v3, 5.71),
    "inception_v4": ((3, 299, 299), inception_v4, 12.27),
    "vgg16": ((3, 224, 224), vgg16, 15.47),
    "mobilenet_v1_1p0_224": ((3, 224, 224), lambda net: mobilenet_v1(net, 1.0), 0.569),
    "mobilenet_v1_0p5_160": ((3, 160, 160), lambda net: mobilenet_v1(net, 0.5), 0.0759),
    "mobilenet_v1_0p25_128": ((3, 128, 128), lambda net: mobilenet_v1(net, 0.25), 0.01357),
    "resnet20": ((3, 32, 32), resnet20, 0.0408),
    "nasbench201_16M": ((3, 32, 32), lambda net: nasbench201(net, 2, 0), 0.0163),
    "nasbench201_79M": ((3, 32, 32), lambda net: nasbench201(net, 0, 2), 0.0792),
    "nasbench201_115M": ((3, 32, 32), lambda net: nasbench201(net, 0, 3), 0.1149),
    **{f"cnv_{width * 100 / 128:g}": ((3, 32, 32), lambda net, width=width: cnv(net, width), gmacs)
       for width, gmacs in ((128, 0.234725), (64, 0.059422), (32, 0.015255), (16, 0.004))},
    **{f"mlp_{width * 100 / 2048:g}": ((1, 28, 28), lambda net, width=width: mlp(net, width), gmacs)
       for width, gmacs in ((2048, 0.0100147), (1024, 0.00291), (512, 0.000931), (256, 0.0003345))},
}


def build(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Write the network as folder/name.onnx and return the path."""
    shape, maker, _ = NETWORKS[name]
    net = Net(*shape)
    return net.save(folder / f"{name}.onnx", maker(net))
