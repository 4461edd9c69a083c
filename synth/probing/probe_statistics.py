"""What a matrix of responses says: how many directions are used, how much of the label is in it, what is redundant."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12


def effective_rank(responses: Tensor) -> float:
    """exp of the spectral entropy of the responses' covariance (Roy and Vetterli 2007): 1 .. channels.

    responses: [n, channels]. 0 where nothing varies.
    """
    centred = (responses - responses.mean(dim=0)).double()
    values = torch.linalg.svdvals(centred).square()
    total = values.sum()
    if total < TINY:
        return 0.0
    share = (values / total).clamp_min(TINY)
    return float(torch.exp(-(share * share.log()).sum()))


def label_dependence(responses: Tensor, labels: Tensor) -> float:
    """Normalised HSIC (linear CKA: Kornblith et al., arXiv 1905.00414) between responses [n, channels] and the
    one-hot labels [n]: 0 (independent) .. 1."""
    x = (responses - responses.mean(dim=0)).double()
    y = torch.nn.functional.one_hot(labels).double()
    y = y - y.mean(dim=0)
    between = (x.T @ y).square().sum()
    within = (x.T @ x).square().sum().sqrt() * (y.T @ y).square().sum().sqrt()
    return float(between / within.clamp_min(TINY))


def redundancy(responses: Tensor) -> float:
    """Mean absolute correlation between different channels of responses [n, channels], those that vary: 0 .. 1."""
    centred = (responses - responses.mean(dim=0)).double()
    length = centred.norm(dim=0)
    alive = centred[:, length > TINY ** 0.5] / length[length > TINY ** 0.5]
    count = alive.shape[1]
    if count < 2:
        return 0.0
    correlation = (alive.T @ alive).abs()
    return float((correlation.sum() - correlation.diagonal().sum()) / (count * (count - 1)))
