"""Muon's matrices beside torch's own Muon. (AdamW and SGD stand beside torch's in whole trainings: test_training.)"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synth.training.optimiser import BETAS, MATRIX_RATE, FlatOptimiser


class Small(nn.Module):
    """One weight of every kind that the optimisers tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 5, 3)
        self.depthwise = nn.Conv2d(5, 5, 3, groups=5)
        self.wide, self.wide_too = nn.Conv2d(5, 8, 1, bias=False), nn.Conv2d(5, 8, 1, bias=False)
        self.head = nn.Linear(8, 4)


def given(module: nn.Module, seed: int) -> list[torch.Tensor]:
    """Gradients, drawn."""
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(parameter.shape, generator=draws) for parameter in module.parameters()]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_matrices_are_stepped_as_by_torchs_muon_and_the_rest_as_by_its_adamw(layout):
    ours, theirs = Small(), Small()
    theirs.load_state_dict(ours.state_dict())
    matrices = [theirs.dense, theirs.wide, theirs.wide_too]
    copies = [nn.Parameter(conv.weight.detach().flatten(1).clone()) for conv in matrices]  # its Muon takes these alone
    rest = [p for p in theirs.parameters() if all(p is not conv.weight for conv in matrices)]
    muon = torch.optim.Muon(copies, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([{"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.1},
                               {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}])
    start = [copy.detach().clone() for copy in copies]
    optimiser = FlatOptimiser(ours, "muon", decay=0.1, momentum=0.9, average_steps=0, layout=layout)
    for step in range(1, 4):
        for mine, its, gradient in zip(ours.parameters(), theirs.parameters(), given(ours, step), strict=True):
            mine.grad.copy_(gradient)
            its.grad = gradient
        for copy, conv in zip(copies, matrices, strict=True):
            copy.grad = conv.weight.grad.flatten(1)
        optimiser.step(0.01)
        for group in adamw.param_groups:
            group["lr"] = 0.01
        for group in muon.param_groups:  # decays by the rate itself, steps by AdamW's bias-corrected one
            scale = MATRIX_RATE / 0.2 / (1 - BETAS[0] ** step)
            group["lr"], group["weight_decay"] = 0.01 * scale, 0.1 / scale
        adamw.step()
        muon.step()
    optimiser.release()
    for copy, before, conv in zip(copies, start, [ours.dense, ours.wide, ours.wide_too], strict=True):
        step_length = (copy - before).norm()  # torch iterates in bfloat16
        assert (conv.weight.detach().flatten(1) - copy).norm() < 0.03 * step_length
    for name in ("depthwise.weight", "depthwise.bias", "dense.bias", "head.weight", "head.bias"):
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name), msg=name)


def test_groups_that_read_different_inputs_are_matrices_of_their_own():
    """However different their gradients are: as many separate convolutions."""
    grouped, apart = nn.Conv2d(8, 12, 1, groups=2, bias=False), [nn.Conv2d(4, 6, 1, bias=False) for _ in range(2)]
    gradient = torch.randn(12, 4, 1, 1, generator=torch.Generator().manual_seed(3))
    gradient[:6] *= 10.0
    steps = []
    for module, parts in ((grouped, [grouped.weight]), (nn.Sequential(*apart), [conv.weight for conv in apart])):
        optimiser = FlatOptimiser(module, "muon", decay=0.0, momentum=0.9, average_steps=0)
        before = [part.detach().clone() for part in parts]
        for part, slope in zip(parts, gradient.split([len(part) for part in parts]), strict=True):
            part.grad.copy_(slope)
        optimiser.step(0.01)
        steps.append(torch.cat([part.detach() - old for part, old in zip(parts, before, strict=True)]))
    torch.testing.assert_close(steps[0], steps[1])


def test_a_network_without_matrices_is_adamws():
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    for module, kind in ((ours, "muon"), (theirs, "adamw")):
        optimiser = FlatOptimiser(module, kind, decay=0.1, momentum=0.9, average_steps=0)
        for parameter, gradient in zip(module.parameters(), given(module, 0), strict=True):
            parameter.grad.copy_(gradient)
        optimiser.step(0.1)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)


def test_a_young_average_follows_faster():
    """It has forgotten the first weights long before an average of 1000 steps could have."""
    module = Small()
    start = module.head.weight.detach().clone()
    optimiser = FlatOptimiser(module, "sgd", decay=0.0, momentum=0.0, average_steps=1000)
    for _ in range(100):
        optimiser.weights.add_(1.0)
        optimiser.step(0.0)
    assert optimiser.coefficients(100, 0.0)[3] == pytest.approx(10 / 110)
    assert optimiser.coefficients(10**6, 0.0)[3] == pytest.approx(1 / 1000)
    optimiser.release()
    behind = 100 - (module.head.weight - start).mean()
    assert 0 < behind < 12  # about a tenth of the way, where steps are alike
