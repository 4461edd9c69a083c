"""Rearrangements recognised by what they do: where every output element comes from, not how it was written.

`x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)`, einops or an indexing with a permuted range are the
same channel shuffle, since all of them put the same element at the same place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synth.networks.operators import Shape

Step = tuple[str, dict[str, Any]]  # an operator and its attributes


def recognise(index: np.ndarray, shape: Shape) -> list[Step] | None:
    """The operators that turn a value of `shape` into one whose element i is the source's element `index[i]`.

    index: int64, of the output's shape; it counts the source's elements in row-major order (both without the batch).
    [] where nothing changes, None where no few operators do it.
    """
    size = int(np.prod(shape))
    if index.size == size and np.array_equal(index.reshape(-1), np.arange(size)):
        if index.shape == shape:
            return []
        if index.ndim == 1:
            return [("flatten", {})]
        return [("to_map", {})] if index.shape == (*shape, 1, 1) else None
    if len(shape) == 1:
        return _of_vector(index, shape)
    if len(shape) != 3:
        return None
    if index.ndim == 1:  # x[:, :, 0, 0]
        steps = _of_map(index[:, None, None], shape)
        return None if steps is None else [*steps, ("flatten", {})]
    return _of_map(index, shape) if index.ndim == 3 else None


def _of_vector(index: np.ndarray, shape: Shape) -> list[Step] | None:
    if index.ndim == 3 and index.shape[1:] == (1, 1):
        steps = recognise(index[:, 0, 0], shape)
        return None if steps is None else [*steps, ("to_map", {})]
    return _channels(index, shape[0]) if index.ndim == 1 else None


def _of_map(index: np.ndarray, shape: Shape) -> list[Step] | None:
    channels, height, width = shape
    c = index[:, 0, 0] // (height * width)
    y = index[0, :, 0] % (height * width) // width
    x = index[0, 0, :] % width
    if not np.array_equal(index, (c[:, None, None] * height + y[:, None]) * width + x):
        return _between_channels_and_space(index, shape)
    rows, columns, chosen = _window(y, height), _window(x, width), _channels(c, channels)
    if rows is None or columns is None or chosen is None:
        return None
    steps = chosen
    if any((*rows[0], *columns[0])):
        steps = [*steps, ("pad", {"channels": [0, 0], "rows": rows[0], "columns": columns[0], "value": 0.0})]
    if rows[1] > 1 or columns[1] > 1:
        steps = [*steps, ("subsample", {"stride": [rows[1], columns[1]]})]
    return steps


def _channels(chosen: np.ndarray, count: int) -> list[Step] | None:
    """Nothing, a slice or a shuffle of `count` channels."""
    start, stop = int(chosen[0]), int(chosen[0]) + len(chosen)
    if np.array_equal(chosen, np.arange(start, stop)):
        return [] if len(chosen) == count else [("slice", {"start": start, "stop": stop})]
    if len(chosen) == count and chosen[1] and count % chosen[1] == 0:
        groups = count // int(chosen[1])
        if np.array_equal(chosen, np.arange(count).reshape(groups, -1).T.reshape(-1)):
            return [("channel_shuffle", {"groups": groups})]
    return None


def _window(places: np.ndarray, size: int) -> tuple[list[int], int] | None:
    """The (negative) padding and the stride that leave the rows or columns `places` of `size`."""
    stride = int(places[1] - places[0]) if len(places) > 1 else 1
    if stride < 1 or not np.array_equal(places, places[0] + stride * np.arange(len(places))):
        return None
    if places[0] == 0 and -(-size // stride) == len(places):
        return [0, 0], stride
    return [-int(places[0]), int(places[-1]) + 1 - size], stride


def _between_channels_and_space(index: np.ndarray, shape: Shape) -> list[Step] | None:
    source = np.arange(int(np.prod(shape))).reshape(shape)
    channels, height, width = shape
    if index.size != source.size:
        return None
    if index.shape[1] > height and index.shape[1] % height == 0:
        r = index.shape[1] // height
        shuffled = source.reshape(-1, r, r, height, width).transpose(0, 3, 1, 4, 2) if channels % (r * r) == 0 else None
        step: Step = ("pixel_shuffle", {"factor": r})
    elif index.shape[1] < height and height % index.shape[1] == 0:
        r = height // index.shape[1]
        folded = source.reshape(channels, height // r, r, -1, r) if width % r == 0 else None
        shuffled = None if folded is None else folded.transpose(0, 2, 4, 1, 3)
        step = ("pixel_unshuffle", {"factor": r})
    else:
        return None
    same = shuffled is not None and shuffled.size == index.size and np.array_equal(shuffled.ravel(), index.ravel())
    return [step] if same else None
