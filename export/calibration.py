"""The ranges of activations on real images, from which INT8 takes its scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from export.document import inputs_of, serialise, shape_of
from export.parity import OnnxRunner

if TYPE_CHECKING:
    import onnx

BINS = 2048
LEVELS = 127  # of symmetric INT8, on either side of 0


def activation_scales(model: onnx.ModelProto, tensors: Sequence[str], images: np.ndarray) -> dict[str, float]:
    """Scale of each of the named tensors: what one step of INT8 stands for, so that the squared error is least.

    images: (N, *input_shape) float32. The images are run twice: for the largest values, then for their distribution.
    """
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    given = inputs_of(watched)[0].name
    for name in tensors:
        if name not in known and name != given:
            watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    runner = OnnxRunner(serialise(watched))
    names = [value.name for value in watched.graph.output]
    size = shape_of(inputs_of(watched)[0])[0]
    step = size if isinstance(size, int) else 8

    def batches() -> Iterable[dict[str, np.ndarray]]:
        for start in range(0, len(images), step):
            batch = images[np.arange(start, start + step) % len(images)]
            yield {given: batch, **dict(zip(names, runner(batch), strict=True))}

    largest = dict.fromkeys(tensors, 0.0)
    for values in batches():
        for name in tensors:
            largest[name] = max(largest[name], float(np.abs(values[name]).max(initial=0.0)))
    counts = {name: np.zeros(BINS) for name in tensors}
    for values in batches():
        for name in tensors:
            if largest[name] > 0:
                places = np.abs(values[name]).ravel() * np.float32(BINS / largest[name])
                counts[name] += np.bincount(np.minimum(places.astype(np.int32), BINS - 1), minlength=BINS)
    return {name: _best_scale(counts[name], largest[name]) for name in tensors}


def weight_scales(weights: np.ndarray, axis: int | None) -> np.ndarray:
    """Scale of each channel along `axis`, or of all weights when it is None; 1 for a channel of zeros."""
    others = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.abs(weights).max(axis=others).astype(np.float32) / LEVELS
    return np.where(scales > 0, scales, np.float32(1))


def _best_scale(counts: np.ndarray, largest: float) -> float:
    """The clipping point, among shares of the largest value, with the least expected squared error."""
    if largest == 0:
        return 1.0
    centres = (np.arange(BINS) + 0.5) * largest / BINS
    shares = np.linspace(0.3, 1.0, 71)
    errors = []
    for share in shares:
        scale = share * largest / LEVELS
        rounded = np.minimum(np.round(centres / scale), LEVELS) * scale
        # inside one bin the values are spread: a step finer than a bin still errs by its own width
        errors.append(np.sum(counts * (centres - rounded) ** 2) + counts.sum() * min(scale, largest / BINS) ** 2 / 12)
    return float(shares[int(np.argmin(errors))] * largest / LEVELS)
