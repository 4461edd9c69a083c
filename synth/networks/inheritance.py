"""How a smaller network comes by its weights, slices of a larger one's tensors, and a wider one by its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synth.networks.channels import Channels
from synth.networks.network import Vertex
from synth.networks.operators import operator


def axis_masks(channels: Channels, vertex: Vertex, kept: np.ndarray) -> dict[str, list[Tensor]]:
    """For every tensor of a vertex, the indices kept along each of its leading channel axes."""
    out = kept[channels.labels[vertex.name]]
    inside = kept[channels.labels[vertex.inputs[0]]] if vertex.inputs else out
    groups = vertex.attrs.get("groups", 1)
    masks = {"out": out, "in": inside, "in_group": inside[:len(inside) // max(groups, 1)]}
    indices = {name: torch.from_numpy(np.flatnonzero(mask)) for name, mask in masks.items()}
    return {tensor: [indices[axis] for axis in axes] for tensor, axes in operator(vertex.op).axes(vertex.attrs).items()}


def sliced(tensor: Tensor, indices: list[Tensor]) -> Tensor:
    for axis, index in enumerate(indices):
        if len(index) != tensor.shape[axis]:
            tensor = tensor.index_select(axis, index)
    return tensor


def grown(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """The tensor with so many entries along its leading axes: new channels answer as those before them do, in turn
    (axis 0), and what reads new ones has zeros for them (axis 1)."""
    if sizes:
        tensor = tensor[torch.arange(sizes[0]) % len(tensor)]
    if len(sizes) > 1:
        tensor = torch.cat([tensor, tensor.new_zeros(len(tensor), sizes[1] - tensor.shape[1], *tensor.shape[2:])], 1)
    return tensor
