"""Files that the host sends: kept by content, so that the same model travels once."""
import hashlib
import io
import json
import os
import re
import shutil
import tempfile

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import explain
from edge_bench.agent import state

KEEP = 30
# names never come before a shell: they travel in JSON and reach programs as single words
_NAME = re.compile(r"[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*\Z")
_LONGEST = 255  # bytes that a file system takes
_HASH = re.compile(r"^[0-9a-f]{64}$")


def path_of(folder, name):
    """Where a file of that name lies or would lie; folder: the SHA-256 that it and what belongs to it are kept by.

    UserError for words that are neither a hash nor a plain name.
    """
    if not _HASH.match(str(folder)):
        raise UserError("'{}' is no SHA-256".format(folder))
    if not _NAME.match(str(name)) or not _fits(str(name)):
        raise UserError("{} is no plain file name: call the file something shorter, or without a leading dot "
                        "and control characters".format(ascii(name)))
    return state.home("files", folder, name)


def _fits(name):
    try:
        return len(name.encode("utf-8")) <= _LONGEST
    except UnicodeEncodeError:  # bytes that are no text
        return False


def receive(stream):
    """Read a header line {"name", "sha256", "bytes"} and then the bytes; returns {"path", "present"}.

    "folder" in the header is another SHA-256 to keep the file by, with others that belong to it. With "query" true in
    it nothing follows, and present says whether the file is there already.
    The file gets its name only when its content is whole.
    """
    try:
        header = json.loads(stream.readline(4096).decode("utf-8"))
        sha256, name, size = header["sha256"], header["name"], int(header["bytes"])
    except (ValueError, KeyError, TypeError):
        raise UserError("put needs a header line with name, sha256 and bytes")
    if not _HASH.match(str(sha256)):
        raise UserError("'{}' is no SHA-256".format(sha256))
    path = path_of(header.get("folder") or sha256, name)
    if header.get("query"):
        present = os.path.isfile(path) and os.path.getsize(path) == size
        if present:
            os.utime(os.path.dirname(path))  # who asks is about to use it
        return {"path": path, "present": present}
    folder = state.make_folder(os.path.dirname(path))
    free = shutil.disk_usage(folder).free
    if free < size + (1 << 20):
        raise CannotMeasure("the board's disk is full ({:.0f} MB free, {:.0f} MB needed): free some space".format(
            free / 1e6, size / 1e6))
    _write(stream, path, sha256, size)
    _forget_old(os.path.dirname(folder), os.path.basename(folder))
    return {"path": path, "present": True}


def receive_all(stream, name, sha256=None):
    """Keep all that a stream holds under a name, as `receive` does; returns {"path", "present", "sha256"}.

    sha256: what it must have; UserError when it has another.
    """
    data = stream.read()
    found = hashlib.sha256(data).hexdigest()
    if not data:
        raise UserError("nothing came on standard input: write put NAME < FILE")
    if sha256 is not None and sha256.lower() != found:
        raise UserError("{}: its SHA-256 is {}, not {}: it is another file, or a damaged one".format(
            name, found, sha256))
    header = {"name": name, "sha256": found, "bytes": len(data)}
    return dict(receive(io.BytesIO(json.dumps(header).encode("utf-8") + b"\n" + data)), sha256=found)


def _write(stream, path, sha256, size):
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=os.path.dirname(path))
    try:
        digest, left = hashlib.sha256(), size
        with os.fdopen(handle, "wb") as target:
            while left:
                block = stream.read(min(1 << 20, left))
                if not block:
                    raise CannotMeasure("the connection ended {} bytes too early: send the file again".format(left))
                digest.update(block)
                target.write(block)
                left -= len(block)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != sha256:
            raise CannotMeasure("the file arrived damaged (its SHA-256 differs): send it again")
        os.replace(temporary, path)
    except OSError as error:
        raise CannotMeasure(str(explain(error, path)))  # the board cannot take it: no mistake of the user
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _forget_old(folder, keep):
    """Remove the files that were sent or asked for longest ago, beyond KEEP."""
    entries = sorted((name for name in os.listdir(folder) if name != keep),
                     key=lambda name: os.path.getmtime(os.path.join(folder, name)))
    for name in entries[:-KEEP]:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
