"""A file from its official page: with progress, resumed where it was cut, and kept only when its checksum is right."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from devices.support.errors import UserError
from devices.support.files import explain
from synth.progress import Progress

BLOCK = 1 << 18  # bytes read at once
TRIES = 4  # a connection that ends early is taken up again where it ended
PATIENCE_S = 30.0  # without a byte
PAUSE_S = 1.0  # before the second try; doubled before each one that follows

# What a broken connection raises, in the middle or at its begin.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)


def cache_folder(name: str) -> Path:
    """Where what is downloaded stays: $XDG_CACHE_HOME/edgesynth/NAME, or ~/.cache/edgesynth/NAME."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgesynth" / name


def download(url: str, path: Path, md5: str, size: int, instead: str) -> None:
    """The file at `url` as `path`, which is only there when it is whole.

    What has come so far stays beside it as `.part`, so that a cut, or Ctrl-C, costs nothing. md5: of the whole file.
    size: its bytes, for the progress. instead: what the user can do where the page cannot be reached. UserError when it
    cannot be reached, when nothing can be written, and for a wrong checksum (what came is then thrown away).
    """
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise explain(error, path.parent) from error
    with Progress().stage("download", size) as stage:
        stage.note(url)
        pause = PAUSE_S
        for attempt in range(TRIES):
            try:
                for done in _pieces(url, part):
                    stage.at(done, f"{done / 1e6:.0f} of {size / 1e6:.0f} MB")
                break
            except _BROKEN as error:
                if attempt == TRIES - 1 or not _passing(error):
                    raise UserError(f"{url} cannot be downloaded ({_reason(error)}): run the same command again to go "
                                    f"on where it ended, or {instead}") from error
            time.sleep(pause)
            pause *= 2
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise UserError(f"{url}: wrong checksum (MD5 {found}, expected {md5}); what came was thrown away: run the same "
                        f"command again, or {instead}")
    os.replace(part, path)


def _pieces(url: str, part: Path) -> Iterator[int]:
    """Append to `part` what it lacks of `url`, yielding the bytes that it holds after each piece."""
    had = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-", "User-Agent": "edgesynth"})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and had:
            return  # nothing is missing; the checksum tells whether that is true
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            had = 0  # a server that sends everything anew
        expected = answer.headers.get("Content-Length")
        with open(part, "ab" if had else "wb") as stream:
            done = had
            while piece := answer.read(BLOCK):
                _write(stream, piece, part)
                done += len(piece)
                yield done
        if expected is not None and done - had < int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - (done - had))


def _write(stream: BinaryIO, piece: bytes, part: Path) -> None:
    """A full disk is the user's to mend, not a broken connection."""
    try:
        stream.write(piece)
        stream.flush()
    except OSError as error:
        raise explain(error, part) from error


def _passing(error: BaseException) -> bool:
    """Whether trying again may help: not where the page itself says no."""
    return not isinstance(error, urllib.error.HTTPError) or error.code >= 500


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the page answers {error.code} {error.reason}"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
