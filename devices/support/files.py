"""Files that a crash cannot spoil: atomic writes, append-only logs, JSON with a schema and a version."""
import contextlib
import errno
import hashlib
import json
import os
import tempfile

from devices.support.errors import UserError, last_line


def explain(error, path):
    """UserError that says what an OSError means for the user, with the remedy."""
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "permission is denied; choose another folder or change its permissions",
        errno.EPERM: "the operation is not permitted; choose another folder or change its permissions",
        errno.ENOENT: "there is no such file or folder",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EISDIR: "it is a folder; name a file",
        errno.EEXIST: "there is a file of that name already; choose another",
    }
    return UserError("{}: {}".format(path, remedies.get(error.errno, error.strerror or str(error))))


def readable(text):
    """Text as UTF-8 can hold it: a file's name may be any bytes, those that are no UTF-8 are shown as U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def whole_path(path):
    """The absolute path of a file. UserError where its bytes are no UTF-8: no JSON of ours could name it."""
    found = os.path.abspath(path)
    if readable(found) != found:
        raise UserError("{}: only files whose whole path is UTF-8 can be used: rename it".format(readable(found)))
    return found


def require_writable(path):
    """UserError when `write_bytes` could not write there; asked before the long work, not after it."""
    path = os.fspath(path)
    if os.path.isdir(path):
        raise explain(OSError(errno.EISDIR, ""), path)
    place = path if _is_special(path) else os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(place) and place != path:
        raise UserError("{}: there is no such folder; name a file in one that exists".format(path))
    if not os.access(place, os.W_OK if place == path else os.W_OK | os.X_OK):
        raise explain(OSError(errno.EACCES, ""), place)


def _is_special(path):
    """Whether a path leads to what is there and is no regular file: a pipe or a device is written, never replaced."""
    return os.path.exists(path) and not os.path.isfile(path)


def write_bytes(path, data):
    """Write `data` to `path` so that a reader sees the old content or the new, never a part (temp + fsync + rename).

    A link stays, and the file that it leads to is written. What is no regular file, such as a pipe, just gets the data.
    """
    path = os.fspath(path)
    temporary = None
    try:
        if _is_special(path):
            with open(path, "wb") as stream:
                stream.write(data)
            return
        place = os.path.realpath(path)
        folder = os.path.dirname(place)
        handle, temporary = tempfile.mkstemp(prefix="." + os.path.basename(place) + ".", suffix=".tmp", dir=folder)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, place)
        temporary = None
        _sync_folder(folder)
    except OSError as error:
        raise explain(error, path)
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_folder(folder):
    """Make a rename durable; folders cannot be opened on some systems, which is no error."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path, text):
    write_bytes(path, text.encode("utf-8"))


def canonical_json(value):
    """The one JSON text of a value: sorted keys, no spaces, no NaN; what hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def json_text(value, schema):
    """The lines of a JSON object with its schema, e.g. "edgesynth.network/1", for people and programs."""
    document = {"schema": schema}
    document.update(value)
    return json.dumps(document, indent=1, sort_keys=False, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path, value, schema):
    """Write the `json_text` of a JSON object, atomically."""
    write_text(path, json_text(value, schema))


def read_json(path, schema):
    """Read a JSON object that `write_json` wrote; UserError when it is damaged or of another kind or version."""
    try:
        with open(os.fspath(path), "rb") as stream:
            text = stream.read()
    except OSError as error:
        raise explain(error, path)
    try:
        value = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise UserError("{}: damaged JSON ({}); restore it or make it anew".format(path, error))
    found = value.get("schema") if isinstance(value, dict) else None
    if found != schema:
        raise UserError("{}: expected {}, found {}; {}".format(
            path, schema, found or "no schema",
            "it was written by another version of edgesynth" if str(found).split("/")[0] == schema.split("/")[0]
            else "it is another kind of file"))
    return value


def append_line(path, value):
    """Append one JSON value as a line, durably. A line torn by a crash is closed off by the next append."""
    try:
        with open(os.fspath(path), "ab+") as stream:
            stream.seek(0, os.SEEK_END)
            torn = False
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                torn = stream.read(1) != b"\n"
            stream.write((b"\n" if torn else b"") + canonical_json(value).encode("utf-8") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise explain(error, path)


def read_lines(path):
    """The values that `append_line` wrote; torn lines are passed over. [] when there is no file."""
    values = []
    try:
        with open(os.fspath(path), "rb") as stream:
            for line in stream:
                try:
                    values.append(json.loads(line.decode("utf-8")))
                except ValueError:
                    continue
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise explain(error, path)
    return values


def end_of_log(path):
    """": " and the last line of a program's log, to put behind a sentence; "" where it says nothing or is not there."""
    words = ""
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) - 2000))
        words = stream.read().decode("utf-8", "replace").strip()
    return ": " + last_line(words) if words else ""


def sha256_bytes(data):
    return hashlib.sha256(data).hexdigest()


def sha256_file(path):
    digest = hashlib.sha256()
    try:
        with open(os.fspath(path), "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise explain(error, path)
    return digest.hexdigest()
