"""Where results are kept: results/0007-ferminet-a-tx2.json, and beside it the raw record it can be recomputed from."""
import contextlib
import errno
import gzip
import io
import json
import os
import re
import zlib

from devices.support.errors import UserError
from devices.support.files import canonical_json, explain, sha256_bytes, write_bytes, write_json
from edge_bench.agent import result as results

RECORD_SCHEMA = "edgesynth.record/1"
FOLDER = "results"
LONGEST_WORD = 80  # characters; a file's name takes two such, a board, and what is around it while it is written
_NUMBERED = re.compile(r"^(\d{4,})-")


def save(result, record, folder=FOLDER):
    """Keep a result and its record under the next number; returns the path of the result."""
    words = (result["model"]["name"], result["preflight"]["board"]["board"])
    return keep(result, record, words, results.SCHEMA, folder)


def keep(document, record, words, schema, folder=FOLDER):
    """Keep a document that was made of a record, and the record, under the next number; returns the document's path.

    words: what the files are called after. The document, which has no "schema" of its own, names the record's file
    with its checksum.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise explain(error, folder)
    path = _reserve(folder, "-".join(file_word(word) or "model" for word in words))
    try:
        data = pack(record)
        name = os.path.splitext(os.path.basename(path))[0] + ".record.gz"
        write_bytes(os.path.join(os.path.dirname(path), name), data)
        write_json(path, dict(document, record={"file": name, "sha256": sha256_bytes(data)}), schema)
    except BaseException:
        if os.path.getsize(path) == 0:
            os.unlink(path)  # the number that was reserved; a document that was written stays
        raise
    return path


def require_folder(folder):
    """UserError where nothing can be kept in a folder; asked before a measurement, whose result would be lost after it.

    It is made to see whether it can be, and is gone again: a command that is refused leaves nothing.
    """
    missing, place = [], os.path.abspath(folder)
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "")
    except OSError as error:
        raise explain(error, folder)
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # not made, or in use by another by now
                os.rmdir(path)


def _reserve(folder, name):
    """An empty file with the next free number, made so that two at the same time get different ones."""
    try:
        taken = [int(match.group(1)) for match in map(_NUMBERED.match, os.listdir(folder)) if match]
        number = max(taken + [0]) + 1
        while True:
            path = os.path.join(folder, "{:04d}-{}.json".format(number, name))
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise explain(error, folder)


def file_word(text):
    """A name as a part of a file's name, "" where nothing of it can be: a file system takes 255 bytes in all."""
    return re.sub(r"[^a-z0-9._]+", "-", str(text).lower())[:LONGEST_WORD].strip("-.")


def pack(record):
    """A record as compressed bytes, the same bytes for the same record."""
    document = dict({"schema": RECORD_SCHEMA}, **record)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as stream:
        stream.write(canonical_json(document).encode("utf-8"))
    return buffer.getvalue()


def load_record(path, schema=RECORD_SCHEMA):
    """The record in a file. UserError when it is damaged or something else."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise explain(error, path)
    if path.endswith(".json"):  # a result, or a comparison
        raise UserError("{}: a record is wanted, which is the .record.gz beside a result".format(path))
    return unpack(data, path, schema)


def unpack(data, path="the record", schema=RECORD_SCHEMA):
    """The record that `pack` packed. UserError when it is damaged or something else."""
    try:
        record = json.loads(gzip.decompress(data).decode("utf-8"))
    except (OSError, EOFError, ValueError, zlib.error):  # OSError: gzip's own complaint before Python 3.8
        raise UserError("{}: not a record of a measurement, or a damaged one".format(path))
    if not isinstance(record, dict) or record.get("schema") != schema:
        raise UserError("{}: expected {}, found {}".format(
            path, schema, record.get("schema") if isinstance(record, dict) else "something else"))
    return record
