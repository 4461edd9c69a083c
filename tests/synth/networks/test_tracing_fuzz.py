"""Random modules through tracing, JSON, building and counting."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_modules import RandomModule
from torch.utils.flop_counter import FlopCounterMode

from synth.networks.costs import costs
from synth.networks.module import build
from synth.networks.network import Network
from synth.networks.tracing import trace

SHAPE = (3, 12, 12)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_modules(seed):
    module = RandomModule(seed, SHAPE)
    network, weights = trace(module, SHAPE)  # which compares every vertex and the outputs
    network = Network.from_json(network.to_json())
    built = build(network, weights).eval()
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = built(images)
    with torch.no_grad():
        expected = module(images)
    found = found if isinstance(found, tuple) else (found,)
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max()
    assert 3 * 2 * costs(network).macs == counter.get_total_flops()
