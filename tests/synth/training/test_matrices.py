"""Matrices of many shapes made orthogonal together, as each would be alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.training.matrices import LEAST_SIDE, Matrices, orthogonal

SIDES = st.integers(1, 40) | st.sampled_from([LEAST_SIDE, LEAST_SIDE + 1, 2 * LEAST_SIDE + 1])


@settings(max_examples=25, deadline=None)
@given(shapes=st.lists(st.tuples(st.integers(1, 3), SIDES, SIDES), max_size=5), gap=st.integers(0, 7))
def test_together_they_become_what_each_becomes_alone(shapes, gap):
    draws = torch.Generator().manual_seed(0)
    places, start = [], gap
    for shape in shapes:
        places.append((start, shape))
        start += shape[0] * shape[1] * shape[2] + gap
    flat = torch.randn(start, generator=draws, dtype=torch.float64)
    made = Matrices(places, start, flat.device).orthogonal(flat)
    assert made.shape == flat.shape
    for begin, shape in places:
        end = begin + shape[0] * shape[1] * shape[2]
        own = flat[begin:end].view(shape)
        alone = orthogonal(own) if shape[1] <= shape[2] else orthogonal(own.mT).mT
        torch.testing.assert_close(made[begin:end].view(shape), alone * max(shape[1:]) ** 0.5)
        made[begin:end] = 0.0
    assert not made.any(), "what belongs to no matrix does not move"


@pytest.mark.parametrize("shape", [(12, 27), (40, 16), (16, 40), (7, 7)])
def test_an_orthogonal_step_keeps_the_singular_vectors(shape):
    matrix = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.mT @ orthogonal(matrix) @ right.mT
    reached = torch.diagonal(inside, dim1=1, dim2=2)
    assert (inside - torch.diag_embed(reached)).abs().max() < 1e-9
    large = values > 0.05 * values.norm(dim=1, keepdim=True)
    assert (reached[large] > 0.6).all() and (reached < 1.3).all()


def test_no_gradient_is_no_step():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))
