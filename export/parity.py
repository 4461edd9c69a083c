"""Whether an exported file computes what the network computed: ONNX Runtime beside torch on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from devices.support.errors import CheckFailed, UserError
from export.batch import Batch
from export.document import first_line

if TYPE_CHECKING:
    import torch

Arrays = list[np.ndarray]
Predict = Callable[[np.ndarray], Arrays]

# Largest error allowed, as a share of the largest absolute answer; and the share of images whose best class must
# stay. FP32 leaves room for another order of summation, FP16 for 11 bits through some hundred layers, INT8 for 8.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 2.5e-1}
LEAST_AGREEMENT = {"fp32": 0.99, "fp16": 0.95, "int8": 0.9}
# Scores are judged apart from what else an output holds where that is so many times larger; less than this is no score.
GAP, LEAST_SCORE = 30.0, 0.01


@dataclass(frozen=True)
class Parity:
    """How far the file's answers are from torch's over all images and outputs.

    max_error: largest absolute difference. relative_error: the same as a share of the largest absolute answer of
    that output, or of that part of it (`parts`). rms_error: root of the mean squared difference, as a share of the
    answers' own. top1_agreement: share of images with the same best class, where a class within the tolerance of the
    best counts as best, and the share of equal values of outputs that are whole numbers or truths; the least of all
    outputs, None when there is no such. images: how many were compared; origin: "given" or "random"; tolerance: on
    relative_error. where: the part that relative_error is of, empty for a whole output.
    """

    max_error: float
    relative_error: float
    rms_error: float
    top1_agreement: float | None
    images: int
    origin: str
    tolerance: float
    where: str = ""

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        agreement = "" if self.top1_agreement is None else f", top-1 agreement {self.top1_agreement:.1%}"
        where = f" in {self.where}" if self.where else ""
        return (
            f"largest error {self.max_error:.2g} ({self.relative_error:.2g} relative{where}, "
            f"{self.tolerance:g} allowed){agreement} on {self.images} {self.origin} images"
        )


class OnnxRunner:
    """A model that ONNX Runtime runs on the CPU. Weights and activations stay in memory, nothing is written."""

    def __init__(self, model: bytes, threads: int = 0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its remarks are no help to a user: what fails raises
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others use these cores too
        try:
            self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise CheckFailed(
                f"ONNX Runtime refuses the exported file: {first_line(error)}; nothing was kept"
            ) from error
        inputs = self.session.get_inputs()
        if not inputs:
            raise UserError("the network's answer does not depend on its input: there is nothing to export")
        self.input = inputs[0].name

    def __call__(self, images: np.ndarray) -> Arrays:
        """Outputs for images (N, ...), each (N, ...)."""
        try:
            return list(self.session.run(None, {self.input: images}))
        except Exception as error:
            what = f"the exported file does not run on a batch of {len(images)}"
            raise CheckFailed(f"{what}: {first_line(error)}; nothing was kept") from error


def torch_predict(module: torch.nn.Module) -> Predict:
    """The module's answers as arrays; the module is in evaluation mode already."""
    import torch

    from export.torch_onnx import flatten

    def predict(images: np.ndarray) -> Arrays:
        with torch.no_grad():
            answers = flatten(module(torch.from_numpy(images)))
            return [(tensor.float() if tensor.is_floating_point() else tensor).numpy() for tensor in answers]

    return predict


def sample_images(
    samples: object, input_shape: Sequence[int], batch: Batch, *, at_least: int = 16
) -> tuple[np.ndarray, str]:
    """Images (N, *input_shape) float32 to compare on, enough for every batch size once, and their origin.

    samples: an array or tensor (N, *input_shape), normalised as the network takes it, or None for reproducible noise.
    """
    needed = max(sum(batch.sizes), -(-at_least // batch.max) * batch.max)
    if samples is None:
        noise = np.random.default_rng(0).standard_normal((needed, *input_shape))
        return noise.astype(np.float32), "random"
    images = np.ascontiguousarray(np.asarray(samples), dtype=np.float32)
    if images.ndim != len(input_shape) + 1 or images.shape[1:] != tuple(input_shape) or not len(images):
        found = "x".join(map(str, images.shape[1:])) or "nothing"
        raise UserError(f"the sample images are {found}, but the network takes {'x'.join(map(str, input_shape))}")
    if not np.isfinite(images).all():
        raise UserError("the sample images hold NaN or infinity: give finite ones")
    return images[np.arange(needed) % len(images)], "given"


def in_batches(predict: Predict, images: np.ndarray, sizes: Sequence[int]) -> Arrays:
    """Answers for all images, run in batches of the given sizes in turn; the last is filled up by repeating."""
    answers: list[Arrays] = []
    start, turn = 0, 0
    while start < len(images):
        size = sizes[turn % len(sizes)]
        indices = np.arange(start, start + size) % len(images)
        keep = min(size, len(images) - start)
        answers.append([output[:keep] for output in predict(images[indices])])
        start, turn = start + size, turn + 1
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def parts(answers: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """(axis, channels of each part): all of the answers [N, ...], or a detector's boxes in pixels and, apart from them,
    its scores, where one output holds both: an error of 1 in a score is little beside answers of 640.

    The axis is the second or the last; scores are channels that stay in 0..1.
    """
    for axis in {1, answers.ndim - 1} if answers.ndim > 1 else ():
        others = tuple(i for i in range(answers.ndim) if i != axis)
        least, most = answers.min(others), answers.max(others)
        is_score = (least >= 0) & (most <= 1)
        score = most.max(initial=0, where=is_score)
        if score > LEAST_SCORE and max(most.max(), -least.min()) > GAP * score:
            return axis, [np.flatnonzero(~is_score), np.flatnonzero(is_score)]
    return 0, [np.arange(len(answers))]


def compare(wanted: Arrays, found: Arrays, precision: str, origin: str) -> Parity:
    """Parity of two sets of outputs, in order. UserError when the network itself answers NaN or infinity."""
    if [w.shape for w in wanted] != [f.shape for f in found]:
        raise CheckFailed(
            f"the exported file answers with shapes {[f.shape for f in found]}, "
            f"the network with {[w.shape for w in wanted]}; nothing was kept"
        )
    if not all(np.isfinite(w).all() for w in wanted):
        raise UserError("the network answers NaN or infinity on the sample images: mend its weights or the images")
    tolerance = TOLERANCE[precision]
    largest, relative, noise, agreement, where = 0.0, 0.0, 0.0, None, ""
    for number, (want, got) in enumerate(zip(wanted, found, strict=True)):
        if want.dtype.kind in "biu":  # classes or truths: a rounding flips some of them, and by how much says nothing
            same = float(np.mean(want == got))
            agreement = same if agreement is None else min(agreement, same)
            continue
        want, got = want.astype(np.float64), got.astype(np.float64)
        difference = np.abs(want - got)
        difference[~np.isfinite(difference)] = np.inf
        largest = max(largest, difference.max())
        axis, channels = parts(want)
        for part in channels:
            answers, errors = want.take(part, axis), difference.take(part, axis)
            reach = np.abs(answers).max()
            share = errors.max() / max(reach, 1e-12)
            if share > relative:
                relative = share
                where = "" if len(channels) == 1 else (
                    f"channels {part[0]} to {part[-1]} of output {number}, which reach {reach:.2g}")
            noise = max(noise, float(np.sqrt(np.mean(errors**2) / max(np.mean(answers**2), 1e-24))))
        if want.ndim == 2 and want.shape[1] > 1 and np.isfinite(got).all():
            chosen = np.take_along_axis(want, got.argmax(1)[:, None], 1)[:, 0]
            same = float(np.mean(want.max(1) - chosen <= tolerance * max(np.abs(want).max(), 1e-12)))
            agreement = same if agreement is None else min(agreement, same)
    return Parity(float(largest), float(relative), noise, agreement, len(wanted[0]), origin, tolerance, where)


def require(parity: Parity, precision: str) -> None:
    """CheckFailed when the answers are further apart than the precision explains."""
    missed = parity.relative_error > parity.tolerance
    if parity.top1_agreement is not None and parity.top1_agreement < LEAST_AGREEMENT[precision]:
        missed = True
    if missed:
        raise CheckFailed(f"the exported file does not compute what the network does: {parity}; nothing was kept")
