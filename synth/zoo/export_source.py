"""A trained network as something to export: how the room `export`, which knows no networks, comes to one."""

from __future__ import annotations

from devices.support.errors import UserError
from export.samples import Samples
from export.source import Source
from synth.data.dataset import load_dataset
from synth.networks.module import build
from synth.storage.network_folder import load_network
from synth.zoo.shelf import card_if_any, data_of, find, load_fitting


def read_network(word: str, data: str | None = None, data_root: str | None = None, images_needed: bool = False
                 ) -> Source:
    """The network of a folder, or one that comes with edgesynth, with images to check it on.

    data: a data set or factory; None takes the one that the network's card names. data_root: the folder of the user's
    copy. Where the images are neither named nor needed, nothing is downloaded for them: a network whose data are not
    here comes without, with what its card says of normalisation and labels, and a note. UserError for a damaged folder
    or data that do not fit.
    """
    folder = find(word, data)
    note = ""
    try:
        named = load_dataset(data, data_root) if data else data_of(folder, data_root, download=images_needed)
    except UserError as error:
        if images_needed or data or data_root:
            raise
        named, note = None, str(error)
    if named is None:
        network, weights = load_network(folder)
        card = card_if_any(folder)
        return Source(folder.name, module=build(network, weights).eval(), input_shape=network.input_shape,
                      normalisation=card.get("normalisation"), labels=card.get("labels"), note=note)
    network, weights = load_fitting(word, folder, named)
    split = named.validation
    return Source(
        folder.name, module=build(network, weights).eval(), input_shape=network.input_shape,
        samples=Samples(split.images.numpy(), split.labels.numpy()),
        normalisation=named.normalisation, labels=list(named.classes))
