"""A trained network as something to export: how the room `export`, which knows no networks, comes to one."""

from __future__ import annotations

from export.samples import Samples
from export.source import Source
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.storage.network_folder import load_network
from synth.zoo.shelf import data_of, find
from synth.zoo.training import load_fitting


def read_network(word: str, data: str | None = None, data_root: str | None = None) -> Source:
    """The network of a folder, or one that comes with edgesynth, with images to check it on.

    data: a data set or factory; None takes the one that the network's card names. Without either it comes without
    images. data_root: the folder of the user's copy. UserError for a damaged folder or data that do not fit.
    """
    folder = find(word, data)
    named = data or data_of(folder)
    if named is None:
        network, weights = load_network(folder)
        return Source(folder.name, module=build(network, weights).eval(), input_shape=network.input_shape)
    dataset = load_dataset(named, data_root)
    network, weights = load_fitting(word, folder, dataset)
    split = dataset.validation
    return Source(
        folder.name, module=build(network, weights).eval(), input_shape=network.input_shape,
        samples=Samples(split.images.numpy(), split.labels.numpy()),
        normalisation={"mean": list(dataset.mean), "std": list(dataset.std), "pixel_scale": dataset.pixel_scale},
        labels=list(dataset.classes))
