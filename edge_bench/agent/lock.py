"""The board lock: one measurement at a time on a board, whoever starts it. The kernel frees it when its holder dies."""
import contextlib
import errno
import fcntl
import getpass
import json
import os
import time

from devices.support.errors import CannotMeasure
from devices.support.files import explain

NAME = "edgesynth.lock"
POLL_S = 1.0  # of who waits; it disturbs no measurement that shows


def lock_path(root="/"):
    """The lock file, in a folder that every user of the board may write to."""
    for folder in ("run/lock", "tmp"):
        if os.path.isdir(os.path.join(root, folder)):
            return os.path.join(root, folder, NAME)
    return os.path.join(root, NAME)


def _open(path):
    """The lock file's descriptor: another user's file is opened and never created anew (fs.protected_regular)."""
    for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL):
        try:
            handle = os.open(path, flags, 0o666)
            if flags & os.O_CREAT:
                os.fchmod(handle, 0o666)
            return handle
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.EEXIST):
                raise explain(error, path)
    raise CannotMeasure("{}: the board lock cannot be opened: remove the file as its owner".format(path))


@contextlib.contextmanager
def board_lock(root="/", what="a measurement", wait_s=0.0, note=lambda text: None):
    """Hold the board for the block. Where it is taken, wait so long for it; `note` and, after that, a CannotMeasure
    say who holds it."""
    handle = _open(lock_path(root))
    try:
        _take(handle, root, wait_s, note)
        _write(handle, {"what": what, "user": user(), "pid": os.getpid(), "since": time.time()})
        try:
            yield
        finally:
            _write(handle, None)
    finally:
        os.close(handle)


def _take(handle, root, wait_s, note):
    deadline, told = time.monotonic() + wait_s, None
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise explain(error, lock_path(root))
        by, left_s = _read(handle) or {}, deadline - time.monotonic()
        if left_s <= 0:
            kill = " or with `kill {}` on the board".format(by["pid"]) if by.get("pid") else ""
            raise CannotMeasure("the board is busy: {}; try again later, or stop that with Ctrl-C where it was "
                                "started{}".format(_words(by), kill))
        if told != by:
            note("the board is busy: {}; waiting up to {:.0f} s for it".format(_words(by), left_s))
            told = by
        time.sleep(min(POLL_S, left_s))  # a blocking flock could not end in time


def holder(root="/"):
    """Who holds the board now: {"what", "user", "pid", "since"}, or None when it is free."""
    try:
        handle = os.open(lock_path(root), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _read(handle) or {"what": "a measurement", "user": "somebody", "pid": None, "since": None}
    finally:
        os.close(handle)


def _read(handle):
    try:
        value = json.loads(os.pread(handle, 4096, 0).decode("utf-8"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _write(handle, value):
    with contextlib.suppress(OSError):  # opened for reading alone: the lock counts, not its label
        os.ftruncate(handle, 0)
        if value is not None:
            os.pwrite(handle, json.dumps(value).encode("utf-8"), 0)


def _words(value):
    if not value:
        return "another measurement holds it"
    since = value.get("since")
    return "{} of {} holds it{}".format(value.get("what"), value.get("user"), time.strftime(
        " since %H:%M:%S", time.localtime(since)) if since else "")


def user():
    """The name of this user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
