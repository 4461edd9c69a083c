"""Whether a traced network answers as the module that it was traced from: vertex by vertex, and end to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from devices.support.errors import EdgesynthError, UserError
from synth.networks.module import NetworkModule, responses

TOLERANCE = 1e-4  # of the largest value of a tensor
SAMPLED = 2048  # elements of a vertex's response that are compared


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some elements of a response, chosen by its size alone, and its largest magnitude."""

    values: Tensor
    scale: float

    def error(self, other: Sample) -> float:
        """Largest difference, relative to the larger scale."""
        scale = max(self.scale, other.scale)
        return float((self.values - other.values).abs().max()) / scale if scale else 0.0


def sample_of(tensor: Tensor) -> Sample:
    flat = tensor.detach().reshape(-1)
    if flat.numel() > SAMPLED:
        chosen = torch.randint(flat.numel(), (SAMPLED,), generator=torch.Generator().manual_seed(flat.numel()))
        return Sample(flat[chosen.to(flat.device)].cpu(), float(flat.abs().max()))
    return Sample(flat.cpu().clone(), float(flat.abs().max()))


def compare_vertices(module: NetworkModule, images: Tensor, samples: Mapping[str, Sample]) -> None:
    """UserError naming the first vertex that answers `images` otherwise than the original did."""
    with torch.no_grad():
        found = responses(module, images)
    for vertex in module.network.vertices:
        expected = samples.get(vertex.name)
        if expected is None:
            continue
        error = expected.error(sample_of(found[vertex.name]))
        if not error <= TOLERANCE:
            raise UserError(f"{vertex.name} ({vertex.op}) does not answer as the module does: relative error "
                            f"{error:.1e} on random images; the module cannot be taken over")


def compare_outputs(module: NetworkModule, original: nn.Module, images: Tensor) -> None:
    """UserError where the outputs for `images` differ."""
    with torch.no_grad():
        expected, found = answers(original, images), tensors_in(module(images.cpu()))
    for a, b in zip(expected, found, strict=True):
        error = sample_of(a).error(sample_of(b)) if a.shape == b.shape else float("inf")
        if not error <= TOLERANCE:
            raise UserError(f"the traced network does not answer a batch of {len(images)} as the module does: relative "
                            f"error {error:.1e}; the module may depend on the batch size")


def answers(module: nn.Module, images: Tensor) -> list[Tensor]:
    """The tensors that a user's module gives; UserError where it cannot run."""
    try:
        return tensors_in(module(images))
    except EdgesynthError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"the module does not run on a batch of {len(images)} images of shape "
                        f"{tuple(images.shape[1:])}: {reason}") from error


def tensors_in(outputs: Any) -> list[Tensor]:
    """The tensors of a module's output: one, or a tuple, list or dict of them."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return [t for value in outputs.values() for t in tensors_in(value)]
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return [t for value in outputs for t in tensors_in(value)]
    if dataclasses.is_dataclass(outputs):
        return [t for field in dataclasses.fields(outputs) for t in tensors_in(getattr(outputs, field.name))]
    return []
