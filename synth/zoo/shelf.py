"""Trained networks by name: those that are shipped, and folders of one's own."""

from __future__ import annotations

from pathlib import Path

from devices.support.errors import UserError
from synth.storage.network_folder import card_of

SHELF = Path(__file__).parent


def shipped() -> dict[tuple[str, str], Path]:
    """{(data set, name): folder} of every network that comes with edgesynth."""
    return {(path.parent.parent.name, path.parent.name): path.parent for path in sorted(SHELF.glob("*/*/card.json"))}


def find(word: str, data: str | None = None) -> Path:
    """The folder of a trained network: a path, or the name of a shipped one such as "anchor" (of `data`, or of
    whichever data set has it). UserError when there is neither."""
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


def trained_for(prototype: str, data: str, checksum: str) -> Path | None:
    """The shipped weights of a prototype for exactly these data, None when there are none."""
    folder = shipped().get((data, prototype))
    return folder if folder is not None and card_of(folder).get("data_sha256") == checksum else None


def data_of(folder: Path) -> str | None:
    """The data set that the network of a folder was trained on, None when no card says so."""
    named = card_of(folder).get("data") if (folder / "card.json").is_file() else None
    return str(named) if named else None
