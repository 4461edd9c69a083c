"""Where results are kept: results/0007-ferminet-a-tx2.json, and beside it the raw record it can be recomputed from."""
import gzip
import io
import json
import os
import re
import zlib

from devices.support.errors import UserError
from devices.support.files import canonical_json, explain, sha256_bytes, write_bytes
from edge_bench.agent import result as results

RECORD_SCHEMA = "edgesynth.record/1"
FOLDER = "results"
_NUMBERED = re.compile(r"^(\d{4,})-")


def save(result, record, folder=FOLDER):
    """Keep a result and its record under the next number; returns the path of the result."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise explain(error, folder)
    board = result["preflight"]["board"]["board"]
    path = _reserve(folder, "{}-{}".format(_word(result["model"]["name"]), _word(board)))
    try:
        save_pair(result, record, path)
    except BaseException:
        if os.path.getsize(path) == 0:
            os.unlink(path)  # the number that was reserved; a result that was written stays
        raise
    return path


def save_pair(result, record, path):
    """Write the record beside `path`, then the result at `path`, which names it with its checksum."""
    data = pack(record)
    name = os.path.splitext(os.path.basename(path))[0] + ".record.gz"
    write_bytes(os.path.join(os.path.dirname(path), name), data)
    results.save(path, dict(result, record={"file": name, "sha256": sha256_bytes(data)}))


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


def _word(text):
    return re.sub(r"[^a-z0-9._]+", "-", str(text).lower()).strip("-.") or "model"


def pack(record):
    """A record as compressed bytes, the same bytes for the same record."""
    document = dict({"schema": RECORD_SCHEMA}, **record)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as stream:
        stream.write(canonical_json(document).encode("utf-8"))
    return buffer.getvalue()


def load_record(path):
    """The record in a file. UserError when it is damaged or something else."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise explain(error, path)
    return unpack(data, path)


def unpack(data, path="the record"):
    """The record that `pack` packed. UserError when it is damaged or something else."""
    try:
        record = json.loads(gzip.decompress(data).decode("utf-8"))
    except (OSError, EOFError, ValueError, zlib.error):  # OSError: gzip's own complaint before Python 3.8
        raise UserError("{}: not a record of a measurement, or a damaged one".format(path))
    if not isinstance(record, dict) or record.get("schema") != RECORD_SCHEMA:
        raise UserError("{}: expected {}, found {}".format(
            path, RECORD_SCHEMA, record.get("schema") if isinstance(record, dict) else "something else"))
    return record
