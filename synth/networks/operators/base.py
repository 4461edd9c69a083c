"""What every operator answers, and the registry of operators by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from devices.support.errors import UserError, unknown

Shape = tuple[int, ...]  # without the batch dimension: (channels, height, width) or (features,)
Attrs = Mapping[str, Any]
Labels = np.ndarray  # int64 [channels]: which channels are one and the same for pruning


class Labelling:
    """Hands out labels for channels and merges those that must live and die together."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def fresh(self, count: int) -> Labels:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def find(self, label: int) -> int:
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root

    def unite(self, a: Labels, b: Labels) -> None:
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            x, y = self.find(x), self.find(y)
            self._parent[max(x, y)] = min(x, y)

    def unite_groups(self, labels: Labels, groups: int) -> None:
        """Merge the channels that stand at the same place of each of `groups` equal parts."""
        parts = labels.reshape(groups, -1)
        for part in parts[1:]:
            self.unite(parts[0], part)

    def resolve(self, labels: Labels) -> Labels:
        return np.array([self.find(label) for label in labels.tolist()], dtype=np.int64)


class Operator:
    """One kind of operation. Subclasses override what differs; `name` is the word that a vertex holds."""

    name = ""
    arity: tuple[int, int] = (1, 1)  # fewest and most inputs
    free = False  # costs nothing at inference: it only renames memory or does nothing
    pointwise = False  # element by element, so that it can work in place and fuse

    def shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        """The output shape; UserError where the inputs do not fit."""
        low, high = self.arity
        if not low <= len(inputs) <= high:
            raise UserError(f"takes {low} to {high} inputs, not {len(inputs)}")
        return self._shape(attrs, inputs)

    def _shape(self, attrs: Attrs, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def macs(self, attrs: Attrs, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates of one image; only convolutions and linear layers have any."""
        return 0

    def weights(self, attrs: Attrs, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """The shape of every tensor that the vertex stores, learnt or running statistic, by name."""
        return {}

    def learnt(self, attrs: Attrs) -> tuple[str, ...]:
        """Which of the stored tensors are parameters."""
        return tuple(name for name in self.axes(attrs) if not name.startswith("running_"))

    def axes(self, attrs: Attrs) -> dict[str, tuple[str, ...]]:
        """What the leading axes of every stored tensor run over: "out" or "in" channels, or those of one group."""
        return {}

    def labels(self, attrs: Attrs, inputs: Sequence[Labels], shapes: Sequence[Shape], labelling: Labelling) -> Labels:
        """The labels of the output's channels; merges what this operator couples."""
        return inputs[0]

    def shrunk(self, attrs: Attrs, kept_in: Sequence[np.ndarray], kept_out: np.ndarray) -> dict[str, Any]:
        """The attributes after only the channels marked in the boolean masks are kept."""
        return dict(attrs)


_OPERATORS: dict[str, Operator] = {}


def register(cls: type[Operator]) -> type[Operator]:
    _OPERATORS[cls.name] = cls()
    return cls


def operator(name: str) -> Operator:
    if name not in _OPERATORS:
        raise unknown("operator", name, _OPERATORS)
    return _OPERATORS[name]


def operator_names() -> list[str]:
    return sorted(_OPERATORS)


def need_map(inputs: Sequence[Shape]) -> tuple[int, int, int]:
    """The first input as (channels, height, width)."""
    if len(inputs[0]) != 3:
        raise UserError(f"needs a map (channels, height, width), not {inputs[0]}")
    channels, height, width = inputs[0]
    return channels, height, width


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """An int or a pair as (vertical, horizontal)."""
    if isinstance(value, int):
        return value, value
    if len(value) == 1:
        return int(value[0]), int(value[0])
    return int(value[0]), int(value[1])


def window_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False) -> int:
    """Output size of a sliding window along one axis, as torch computes it."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if span < 0:
        raise UserError(f"a window of {kernel} is larger than its input of {size}")
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1  # a window may not start in the far padding
    return count


