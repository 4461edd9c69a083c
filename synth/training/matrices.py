"""Muon's part of an optimiser step: matrices that lie in one flat vector, made orthogonal in a few batches.

A searched network has two dozen matrices of almost as many shapes, and shape by shape they take hundreds of calls:
three quarters of all that a GPU is told in a step. Zeros around a matrix stay zeros and change nothing else, so here
small matrices stand among zeros, in batches of one shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional

Shape = tuple[int, int, int]  # groups of channels, outputs and inputs of each
LEAST_SIDE = 64  # matrices of no more rows and columns are one batch; sides of up to twice as many make others
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of Jordan et al. 2024, kellerjordan.github.io/posts/muon


class Matrices:
    """Where matrices lie. places: (first place in the flat vector, shape) of each; length: of the vector."""

    def __init__(self, places: Sequence[tuple[int, Shape]], length: int, device: torch.device) -> None:
        batches: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for start, shape in places:
            for matrix in (start + torch.arange(shape[0] * shape[1] * shape[2])).view(shape):
                wide = matrix.mT if shape[1] > shape[2] else matrix
                sides = tuple(max(LEAST_SIDE, 1 << (side - 1).bit_length()) for side in wide.shape)
                batches.setdefault(sides, []).append(wide)
        self._batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        back, taken = torch.full((length,), -1), 0
        for matrices in batches.values():
            rows, columns = (max(matrix.shape[side] for matrix in matrices) for side in (0, 1))
            index = torch.stack([functional.pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0]),
                                                value=length) for matrix in matrices])
            held = index.flatten() < length
            back[index.flatten()[held]] = taken + held.nonzero().flatten()
            taken += index.numel()
            longest = torch.tensor([float(matrix.shape[1]) for matrix in matrices])
            self._batches.append((index.to(device), longest.sqrt()[:, None, None].to(device)))
        self._back = torch.where(back < 0, taken, back).to(device)  # what belongs to no matrix reads a zero

    def orthogonal(self, flat: torch.Tensor) -> torch.Tensor:
        """What a flat vector holds, every matrix `orthogonal` and times the root of its longer side, which makes the
        root mean square the same for all shapes (Liu et al., 2502.16982, section 2.2)."""
        padded = functional.pad(flat, (0, 1))
        made = [(orthogonal(padded[index]) * scale).flatten() for index, scale in self._batches]
        return torch.cat([*made, padded[-1:]])[self._back]


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """[n, rows, columns] with all singular values near 1 (0.7 to 1.2) and the singular vectors kept: five quintic
    Newton-Schulz iterations. Least work where there are no more rows than columns."""
    first, third, fifth = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        squares = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squares, squares, squares, beta=third, alpha=fifth), x, beta=first)
    return x
