"""Trained networks by name: those that are shipped, and folders of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from devices.support.errors import UserError
from synth.data.dataset import DATASETS, Dataset, load_dataset
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.storage.network_folder import card_of, load_network
from synth.storage.run_folder import MANIFEST

SHELF = Path(__file__).parent


def shipped() -> dict[tuple[str, str], Path]:
    """{(data set, name): folder} of every network that comes with edgesynth."""
    return {(path.parent.parent.name, path.parent.name): path.parent for path in sorted(SHELF.glob("*/*/card.json"))}


def find(word: str, data: str | None = None) -> Path:
    """The folder of a trained network: a path, or the name of a shipped one such as "anchor" (of `data`, or of
    whichever data set has it). UserError when there is neither, or a whole run."""
    if Path(word, MANIFEST).is_file():
        raise UserError(f"{word}: it is a run; name one network in it, such as {Path(word, 'ferminet-a')}")
    if Path(word).exists():
        return Path(word)
    known = {name: folder for (of, name), folder in shipped().items() if data in (None, of)}
    if word in known:
        return known[word]
    elsewhere = [of for of, name in shipped() if name == word]
    if elsewhere:
        raise UserError(f"{word} was trained on {', '.join(elsewhere)}: use --data {elsewhere[0]}")
    names = ", ".join(known) or "none"
    raise UserError(f"{word}: there is no such folder, and no network of this name comes with edgesynth ({names})")


def load_fitting(word: str, folder: Path, dataset: Dataset) -> tuple[Network, Weights]:
    """The trained network of a folder, which was named by `word`; UserError when it is not made for these data."""
    network, weights = load_network(folder)
    if network.input_shape != dataset.shape or network.output_shape != (len(dataset.classes),):
        raise UserError(f"{word}: reads {network.input_shape} and gives {network.output_shape}, but {dataset.name} has "
                        f"images of {dataset.shape} in {len(dataset.classes)} classes; name the data it was made for")
    return network, weights


def trained_for(prototype: str, data: str, checksum: str) -> Path | None:
    """The shipped weights of a prototype for exactly these data, None when there are none."""
    folder = shipped().get((data, prototype))
    return folder if folder is not None and card_of(folder).get("data_sha256") == checksum else None


def card_if_any(folder: Path) -> dict[str, Any]:
    """{} where no card lies beside a network."""
    return card_of(folder) if (folder / "card.json").is_file() else {}


def trained_on(folder: Path, dataset: Dataset, split: str) -> bool:
    """Whether the network of a folder is known to have been trained on this split of these data."""
    card = card_if_any(folder)
    return card.get("data_sha256") == dataset.checksum and split in card.get("on", "train").split("+")


def data_of(folder: Path, root: str | os.PathLike[str] | None = None, download: bool = True) -> Dataset | None:
    """The data that the network of a folder was trained on, None when no card names any. root, download: as for
    `load_dataset`. UserError when they cannot be loaded, or are no longer those that the card means."""
    card = card_if_any(folder)
    word = card.get("data")
    if not word:
        return None
    try:
        dataset = load_dataset(word, root, download)
    except UserError as error:
        if word in DATASETS:
            raise  # which says what to do
        raise UserError(f"{folder}: the data that its card names cannot be loaded ({error}); name them with --data"
                        ) from error
    if card.get("data_sha256") not in (None, dataset.checksum):
        raise UserError(f"{folder}: was trained on other data than {word} are now; name them with --data")
    return dataset
