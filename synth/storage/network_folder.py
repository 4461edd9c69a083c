"""A trained network on disk: network.json, weights.safetensors, and card.json, which says what made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devices.support.files import read_json, write_json
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.storage.tensors import load_tensors, save_tensors

WEIGHTS, CARD = "edgesynth.weights/1", "edgesynth.card/1"


def save_network(folder: Path, network: Network, weights: Weights, card: Mapping[str, object]) -> None:
    """The three files, in a folder that is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "network.json")
    save_tensors(folder / "weights.safetensors", weights, WEIGHTS)
    write_json(folder / "card.json", dict(card), CARD)


def load_network(folder: Path) -> tuple[Network, Weights]:
    """UserError when the folder holds no network, or one that was damaged."""
    network = Network.load(folder / "network.json")
    weights, _ = load_tensors(folder / "weights.safetensors", WEIGHTS)
    return network, weights


def card_of(folder: Path) -> dict[str, Any]:
    """What made the network of a folder, from what, and what it reaches."""
    card: dict[str, Any] = read_json(folder / "card.json", CARD)
    return card
