"""A network's folder as something to export: how the room `export`, which knows no networks, comes to one."""

from __future__ import annotations

from pathlib import Path

from devices.support.errors import UserError
from devices.support.files import read_json
from export.samples import Samples
from export.source import Source
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.preparation import load_network

CARD = "edgesynth.card/1"


def read_network(folder: str, data: str | None = None) -> Source:
    """The network that network.json and weights.safetensors of a folder hold, with images to check it on.

    data: a data set or factory; None takes the one that the network's card names. Without either it comes without
    images. UserError for a damaged folder or data that do not fit.
    """
    path = Path(folder)
    network, weights = load_network(path)
    card = path / "card.json"
    named = data or (read_json(card, CARD).get("data") if card.is_file() else None)
    source = Source(path.name, module=build(network, weights).eval(), input_shape=network.input_shape)
    if named is None:
        return source
    dataset = load_dataset(named)
    if network.input_shape != dataset.shape or network.output_shape != (len(dataset.classes),):
        raise UserError(f"{folder}: does not fit the data set {dataset.name}; name its own with --data")
    split = dataset.validation
    return Source(
        path.name, module=source.module, input_shape=network.input_shape,
        samples=Samples(split.images.numpy(), split.labels.numpy()),
        normalisation={"mean": list(dataset.mean), "std": list(dataset.std), "pixel_scale": dataset.pixel_scale},
        labels=list(dataset.classes))
