"""Writing generated files into a repository: what a person has edited is not overwritten unasked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from devices.support.errors import UserError
from devices.support.files import explain, sha256_bytes, write_text

_SEAL = re.compile(r"\n# edgesynth init-ci wrote this; unedited as long as its SHA-256 begins with ([0-9a-f]{16})\n\Z")


def sealed(text: str) -> str:
    """The text with a last line by which an edit is seen."""
    return f"{text}\n# edgesynth init-ci wrote this; unedited as long as its SHA-256 begins with {_digest(text)}\n"


def edited(text: str) -> bool:
    """Whether a file is no longer as it was written; one without our last line is somebody's own."""
    seal = _SEAL.search(text)
    return seal is None or seal[1] != _digest(text[:seal.start()])


def _digest(text: str) -> str:
    return sha256_bytes(text.encode())[:16]


def write_files(files: dict[str, str], root: Path, force: bool = False) -> dict[str, str]:
    """Write {path below root: text}, all or none; {path: "written", "replaced" or "unchanged"}.

    UserError, before anything is written, where a file that is there was edited by hand, unless forced.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; name the repository's root with --out")
    found = {}
    for path, text in files.items():
        try:
            present = (root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            found[path] = "written"
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise explain(error, root / path) if isinstance(error, OSError) else UserError(
                f"{root / path}: no text file; move it away") from None
        if present == sealed(text):
            found[path] = "unchanged"
        elif edited(present) and not force:
            raise UserError(f"{root / path} was edited by hand: write elsewhere with --out and merge, or replace it "
                            "with --force")
        else:
            found[path] = "replaced"
    for path, text in files.items():
        place = root / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, sealed(text))
            if path.endswith(".sh"):
                os.chmod(place, 0o755)
        except OSError as error:
            raise explain(error, place) from None
    return found
