"""One optimiser step over all weights at once.

The weights of a small network are dozens of tensors of a few hundred numbers; stepping them one by one is mostly calls,
and torch.optim imports the compiler (a second and 80 MB in every process) on its first use. Here all weights and all
gradients are views into two flat vectors, so a step is a handful of calls, and so is the running average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from synth.training.matrices import Matrices

Scalar = float | torch.Tensor
EPSILON = 1e-8
ALIGN = 8  # places in a flat vector that every parameter begins at a multiple of, as GPU libraries want
BETAS = (0.9, 0.999)
MATRIX_RATE = 1.2  # root mean square of the updates of Muon's matrices at a rate of 1


class FlatOptimiser:
    """AdamW (Loshchilov and Hutter, 1711.05101), SGD with Nesterov momentum, or Muon, with decoupled decay.

    kind: "adamw", "sgd" or "muon": there the momentum of every convolution that mixes channels, a matrix of outputs
    times inputs for each group of channels, is orthogonalised (`synth.training.matrices`); its updates have the same
    root mean square for all shapes, MATRIX_RATE times the rate. Everything else is AdamW's. decay: on weights of two
    and more dimensions only. momentum: of SGD and of Muon's matrices. average_steps: time constant of a running average
    of the weights (0: none); a young average follows faster. layout: of convolutions, as of the images. `release` must
    be called at the end.
    """

    def __init__(self, module: nn.Module, kind: str, *, decay: float, momentum: float, average_steps: float,
                 layout: torch.memory_format = torch.channels_last):
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        groups = {part.weight: part.groups for part in module.modules() if isinstance(part, nn.modules.conv._ConvNd)}
        for parameter in trained:
            mixes = kind == "muon" and _mixes(parameter, groups.get(parameter, 1))
            (matrices if mixes else others).append(parameter)
        self.parameters = matrices + [p for p in others if p.ndim >= 2] + [p for p in others if p.ndim < 2]
        self.mixed = sum(_padded(p) for p in matrices)
        self.decayed = sum(_padded(p) for p in trained if p.ndim >= 2)
        self.kind, self.decay, self.momentum, self.average_steps = kind, decay, momentum, average_steps
        self.channels_last = layout == torch.channels_last
        self.weights = self._flat([p.detach() for p in self.parameters])
        self.gradients = torch.zeros_like(self.weights)
        self.first = torch.zeros_like(self.weights)
        self.second = torch.zeros_like(self.weights) if kind != "sgd" else None
        self.average = self.weights.clone() if average_steps else None
        self.matrices = Matrices([
            (place.start, (groups[matrix], len(matrix) // groups[matrix], matrix[0].numel()))
            for matrix, place in zip(matrices, self._places(), strict=False)], self.mixed, self.weights.device)
        self.steps = 0
        for parameter, data, gradient in zip(
            self.parameters, self.views(self.weights), self.views(self.gradients), strict=True
        ):
            parameter.data, parameter.grad = data, gradient

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights against the gradients, which are then zero again."""
        self.steps += 1
        self.move(*self.coefficients(self.steps, rate))

    def coefficients(self, step: int, rate: float) -> tuple[float, float, float, float]:
        """What `move` needs in this step, counted from 1, at this rate."""
        follow = 1 - min(1 - 1 / max(self.average_steps, 1.0), step / (10.0 + step))
        if self.second is None:
            return 1 - rate * self.decay, 1.0, rate, follow
        return 1 - rate * self.decay, (1 - BETAS[1] ** step) ** 0.5, rate / (1 - BETAS[0] ** step), follow

    @torch.no_grad()
    def move(self, shrink: Scalar, spread: Scalar, rate: Scalar, follow: Scalar) -> None:
        """One step: decayed weights times `shrink`, second moments over `spread`², the bias-corrected `rate`, and the
        running average that much closer. Tensors of no dimension instead of numbers are read when the step is run."""
        self.weights[: self.decayed].mul_(shrink)
        if self.second is not None:
            if self.mixed:
                self._move_matrices(rate)
            weights, gradients, first, second = (
                part[self.mixed:] for part in (self.weights, self.gradients, self.first, self.second))
            first.lerp_(gradients, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
            divisor = second.sqrt().div_(spread).add_(EPSILON)
            if isinstance(rate, torch.Tensor):
                weights.sub_(divisor.reciprocal_().mul_(first).mul_(rate))
            else:
                weights.addcdiv_(first, divisor, value=-rate)
        else:
            self.first.mul_(self.momentum).add_(self.gradients)
            if isinstance(rate, torch.Tensor):
                self.weights.sub_(self.gradients.add(self.first, alpha=self.momentum).mul_(rate))
            else:
                self.weights.add_(self.gradients, alpha=-rate).add_(self.first, alpha=-rate * self.momentum)
        self.gradients.zero_()
        if self.average is not None:
            self.average.lerp_(self.weights, follow)

    def _move_matrices(self, rate: Scalar) -> None:
        """Muon's part of a step. The bias correction in `rate` is that of AdamW; where it matters, rates still rise."""
        momentum = self.first[: self.mixed].lerp_(self.gradients[: self.mixed], 1 - self.momentum)
        ahead = self.gradients[: self.mixed].lerp(momentum, self.momentum)
        self.weights[: self.mixed].sub_(self.matrices.orthogonal(ahead).mul_(rate * MATRIX_RATE))

    def collect(self, slopes: Sequence[torch.Tensor]) -> None:
        """Take the gradients of `parameters`, in their order, from tensors of their own."""
        self.gradients.copy_(self._flat(slopes))

    def vectors(self) -> dict[str, torch.Tensor]:
        """All that a step moves, but the gradients."""
        held = {"weights": self.weights, "first": self.first, "second": self.second, "average": self.average}
        return {name: part for name, part in held.items() if part is not None}

    def state(self) -> dict[str, torch.Tensor]:
        """What `restore` needs to go on as if nothing had happened, whatever the layout there."""
        return {"steps": torch.tensor(self.steps), **{
            name: torch.cat([view.reshape(-1) for view in self.views(part)]) for name, part in self.vectors().items()}}

    @torch.no_grad()
    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up the `state` of an optimiser of the same kind on the same module."""
        self.steps = int(state["steps"])
        sizes = [parameter.numel() for parameter in self.parameters]
        for name, part in self.vectors().items():
            for view, values in zip(self.views(part), state[name].split(sizes), strict=True):
                view.copy_(values.view(view.shape))

    @torch.no_grad()
    def release(self) -> None:
        """Give every parameter a tensor of its own again: the averaged weights, where they were averaged."""
        source = self.weights if self.average is None else self.average
        for parameter, data in zip(self.parameters, self.views(source), strict=True):
            parameter.data, parameter.grad = data.clone(memory_format=torch.contiguous_format), None

    def views(self, flat: torch.Tensor) -> Sequence[torch.Tensor]:
        """The part of each parameter, convolutions in the layout of the images."""
        views: list[torch.Tensor] = []
        for parameter, place in zip(self.parameters, self._places(), strict=True):
            part = flat[place]
            if parameter.ndim == 4 and self.channels_last:
                outputs, inputs, height, width = parameter.shape
                views.append(part.view(outputs, height, width, inputs).permute(0, 3, 1, 2))
            else:
                views.append(part.view(parameter.shape))
        return views

    def _places(self) -> Iterator[slice]:
        """Where each parameter lies in a flat vector."""
        start = 0
        for parameter in self.parameters:
            yield slice(start, start + parameter.numel())
            start += _padded(parameter)

    def _flat(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """One after the other, each from a multiple of ALIGN on, with zeros between."""
        parts, gap = [], tensors[0].new_zeros(ALIGN)
        for tensor in tensors:
            inner = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 and self.channels_last else tensor
            parts.append(inner.reshape(-1))
            if _padded(tensor) > tensor.numel():
                parts.append(gap[: _padded(tensor) - tensor.numel()])
        return torch.cat(parts)


def _mixes(parameter: torch.Tensor, groups: int) -> bool:
    """Whether these are the weights of a convolution that mixes channels, within each group of them."""
    return parameter.ndim == 4 and parameter.shape[0] > groups and parameter.shape[1] > 1


def _padded(parameter: torch.Tensor) -> int:
    return -(-parameter.numel() // ALIGN) * ALIGN
