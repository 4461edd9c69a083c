"""Stimulate a network's vertices and read off their responses what each site is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from synth.data.dataset import Split
from synth.networks.channels import Channels
from synth.networks.module import NetworkModule, responses
from synth.networks.network import Network
from synth.networks.rewriting import following_norm
from synth.probing.probe_statistics import effective_rank, label_dependence, redundancy
from synth.search.decisions import SWITCHES, Site
from synth.search.probe_table import SLOPE_SD, ProbeTable
from synth.space.parent import ElasticParent
from synth.space.space import ACTIVATION, ATTENTION, BLOCK, NONLINEARITY, OPERATOR, WIDTH, NetworkSpace, Place

# What the table says of a (site, choice), each against φ at the same vertex; all cost loss when they are large.
STATISTICS = ("damage", "rank lost", "dependence lost", "importance cut")
SIGNS = (1, 1, 1, 1)
AT_ONCE = 32  # stimuli whose responses are held at all vertices: of 224 x 224 px they are gigabytes


@dataclass(frozen=True)
class Insight:
    """What the responses of one vertex say. rank: effective rank of their covariance (the width really used).
    dependence: on the label, normalised HSIC in 0..1. redundancy: mean absolute correlation between channels."""

    rank: float
    dependence: float
    redundancy: float


def probe(module: NetworkModule, stimuli: Split, vertices: Sequence[str]) -> dict[str, Insight]:
    """Insights of the named vertices, those that the network has. Responses are averaged over the map."""
    pooled: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for images in stimuli.images.split(AT_ONCE):
            answers = responses(module.eval(), images)
            for name in vertices:
                if name in answers:
                    pooled.setdefault(name, []).append(_pooled(answers[name]).cpu())
    labels = stimuli.labels.cpu()
    found = {}
    for name, parts in pooled.items():
        whole = torch.cat(parts)
        found[name] = Insight(float(effective_rank(whole)), float(label_dependence(whole, labels)),
                              float(redundancy(whole)))
    return found


def _pooled(answer: Tensor) -> Tensor:
    """(N, channels) of a response: means over the map, where it has one."""
    if answer.ndim == 2:
        return answer
    return functional.adaptive_avg_pool2d(answer, 1).flatten(1)


def importance(module: NetworkModule, channels: Channels, stimuli: Split) -> np.ndarray:
    """First-order Taylor sensitivity of the loss (Molchanov et al., arXiv 1906.10771) of every unit: the sum over what
    convolutions and linear layers read of the mean of (response times gradient) squared. [labels]"""
    network = module.network
    read = {s for v in network.vertices if v.op in ("conv", "conv_transpose", "linear") for s in v.inputs}
    names = [v.name for v in network.vertices if v.name in read and v.op != "input"]
    module.eval()
    total = np.zeros(len(channels.keep_all()))
    for part, labels in zip(stimuli.images.split(AT_ONCE), stimuli.labels.split(AT_ONCE), strict=True):
        with torch.enable_grad():
            answers = responses(module, part.clone().requires_grad_(True))
            loss = functional.cross_entropy(answers[network.outputs[0]], labels, reduction="sum")
            gradients = torch.autograd.grad(loss, [answers[name] for name in names], allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                continue
            product = (answers[name].detach() * gradient).flatten(2).sum(2) if gradient.ndim == 4 else (
                answers[name].detach() * gradient)
            np.add.at(total, channels.labels[name], product.square().sum(0).double().numpy())
    return total / len(stimuli.labels)


def order_of_units(channels: Channels, unit_importance: np.ndarray) -> dict[str, np.ndarray]:
    """{group: its units, most important first}; ties by position."""
    order = {}
    for group in channels.groups:
        units = np.array(group.units, dtype=np.int64)
        order[group.name] = units[np.argsort(-unit_importance[units], kind="stable")]
    return order


def vertices_of(parent: ElasticParent, place: Place) -> tuple[str, ...]:
    """The vertices whose responses speak for a site: the first of them that a network has."""
    if place.kind == BLOCK:  # linear, it ends in its addition
        return next(b.bypassed[::-1] for b in parent.blocks if b.addition == place.name)
    if place.kind in (ACTIVATION, NONLINEARITY):
        return (place.name, parent.network[place.name].inputs[0])
    if place.kind in (OPERATOR, ATTENTION):
        norm = following_norm(parent.network, place.name)
        return (norm.name if norm is not None else place.name,)
    group = next(g for g in parent.channels.groups if g.name == place.name)
    spoken = [name for name in group.vertices if _speaks(parent.network, name)]
    return (spoken[-1] if spoken else place.name.rstrip("'"),)


def probed_vertices(space: NetworkSpace) -> tuple[str, ...]:
    """The vertices that speak for the sites of a space, each once."""
    return tuple(dict.fromkeys(name for place in space.places for name in vertices_of(space.parent, place)))


def _speaks(network: Network, name: str) -> bool:
    return network[name].op in ("activation", "batch_norm", "add", "conv") and len(network.shapes[name]) == 3


class Probes:
    """The probe table of a space of real networks, and how answers enter it."""

    def __init__(self, space: NetworkSpace, unit_importance: np.ndarray, insights: Mapping[str, Insight],
                 slope_sd: float = SLOPE_SD) -> None:
        self.space = space
        self.vertices = probed_vertices(space)
        self.parent_insights = insights
        self.table = ProbeTable(space.sites, STATISTICS, SIGNS, slope_sd)
        self._cut = [self._importance_cut(place, site, unit_importance)
                     for place, site in zip(space.places, space.sites, strict=True)]
        for column, (site, cut) in enumerate(zip(space.sites, self._cut, strict=True)):
            for choice in range(len(site.choices)):
                self.table.record(column, choice, [np.nan, np.nan, np.nan, cut[choice]])
            for choice in range(space.own[column], len(site.choices)):  # wider than φ, and nothing reads it yet
                self.table.record(column, choice, [0.0, 0.0, 0.0, cut[choice]])

    def _importance_cut(self, place: Place, site: Site, unit_importance: np.ndarray) -> list[float]:
        """The share of a group's importance that every width cuts off; 0 for other kinds."""
        if place.kind != WIDTH:
            return [0.0] * len(site.choices)
        ordered = unit_importance[self.space.order[place.name]]
        total = max(float(ordered.sum()), 1e-12)
        return [float(ordered[int(width):].sum()) / total for width in site.choices]

    def record(self, decisions: Sequence[int], insights: Mapping[str, Insight], damage: float | None = None) -> None:
        """Enter what one network answered at all its sites; `damage` (log loss over φ's) where it has one swap."""
        for column, (place, choice) in enumerate(zip(self.space.places, decisions, strict=True)):
            if damage is not None and choice == self.space.own[column]:
                continue  # a swap speaks for its own site only
            names = vertices_of(self.space.parent, place)
            name = next((name for name in names if name in insights), names[0])
            here, there = insights.get(name), self.parent_insights.get(name)
            lost, less = np.nan, np.nan
            if here is not None and there is not None:
                lost = float(np.log(max(there.rank, 1.0) / max(here.rank, 1.0)))
                less = there.dependence - here.dependence
            self.table.record(column, int(choice), [np.nan if damage is None else damage, lost, less, np.nan])


def single_swaps(space: NetworkSpace, most: int) -> list[tuple[int, ...]]:
    """Networks that differ from φ in one decision, spread over sites and choices; at most `most`. An activation is not
    taken out of φ or replaced, since what was trained with it says nothing of what would be trained without; nor is
    attention put in."""
    swaps = []
    for column, site in enumerate(space.sites):
        if site.kind in SWITCHES:
            continue
        others = list(range(space.own[column]))  # behind φ's own are wider ones, which answer as φ does
        if site.kind == WIDTH and len(others) > 3:  # the ends and the middle; the rest is filled smoothly
            others = sorted({others[0], others[len(others) // 2], others[-1]})
        swaps += [(*space.own[:column], choice, *space.own[column + 1:]) for choice in others]
    if len(swaps) > most:
        swaps = [swaps[i] for i in np.unique(np.linspace(0, len(swaps) - 1, most).astype(int))]
    return swaps
