"""Jobs: measurements that go on by themselves on the board; a connection only starts, follows, fetches or cancels them.

A job is a folder: request.json, events.jsonl (what it says, ending in one of ENDS), log.txt, pid, and `alive`, which
the job's process keeps locked as long as it lives, so that a dead job is never taken for a running one.
"""
import contextlib
import datetime
import fcntl
import os
import random
import shutil
import signal
import subprocess
import time

from devices.support.errors import CannotMeasure, UserError, unknown
from devices.support.files import (
    canonical_json,
    end_of_log,
    read_json,
    read_lines,
    sha256_bytes,
    write_json,
    write_text,
)
from edge_bench.agent import state
from edge_bench.agent.identity import boot_id
from edge_bench.agent.spawn import agent_command

SCHEMA = "edgesynth.job/1"
ENDS = ("result", "error", "cancelled")
LEFT_S = 86400.0  # a result that nobody fetched for longer is measured anew
KEEP = 20        # finished jobs whose folders stay
POLL_S = 0.3     # of a follower; reading the events this often costs the board nothing that shows
FULL_BYTES = 1 << 20  # less free room than the end of a job may take
CANCEL_S = 30.0  # how long a cancelled job may take to put the settings back


def folder(identity):
    """The folder of a job. UserError for an id that is none."""
    name = str(identity)
    if not name or name != os.path.basename(name) or name.startswith("."):
        raise UserError("'{}' is no job id".format(name))
    path = state.place("jobs", name)
    if not os.path.isdir(path):
        raise unknown("job", name, identities())
    return path


def identities():
    """The ids of all jobs, oldest first."""
    path = state.place("jobs")
    return sorted(name for name in (os.listdir(path) if os.path.isdir(path) else []) if not name.startswith("."))


def key_of(request):
    """What two requests for the same measurement have in common; another file at the same path is another one."""
    parts = {name: value for name, value in request.items() if name != "key"}
    return sha256_bytes(canonical_json([parts, _file(request.get("model")), _file(request.get("base"))])
                        .encode("utf-8"))


def _file(path):
    """[bytes, time of the last change] of a file, or None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, TypeError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def start(kind, request):
    """Start a detached job ("bench", "build" or "compare") and return its id."""
    begun = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")  # to the microsecond: ids are sorted by age
    identity = "{}-{:04x}".format(begun, random.SystemRandom().randrange(1 << 16))
    path = state.make_folder(state.home("jobs", identity))
    write_json(os.path.join(path, "request.json"),
               {"kind": kind, "key": key_of(request), "created": time.time(), "request": request,
                "boot_id": boot_id(request.get("root") or "/")}, SCHEMA)
    alive = os.open(os.path.join(path, "alive"), os.O_RDWR | os.O_CREAT, 0o600)
    # the job begins with SIGTERM held back, so that who cancels it at once does not kill it before it can say so
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)  # the lock goes to the job with the descriptor
        with open(os.path.join(path, "log.txt"), "ab") as log:
            process = subprocess.Popen(agent_command("_job", identity), stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True, pass_fds=(alive,))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(alive)
    write_text(os.path.join(path, "pid"), str(process.pid))
    _forget_old()
    return identity


def is_alive(identity):
    """Whether the job's process lives."""
    try:
        handle = os.open(os.path.join(folder(identity), "alive"), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def describe(identity):
    """{"id", "kind", "state", "created", "model", "fetched"}; state: running, one of ENDS, or died."""
    path = folder(identity)
    document = read_json(os.path.join(path, "request.json"), SCHEMA)
    alive = is_alive(identity)  # before the events: a job may end in between
    end = _end(path)
    return {"id": identity, "kind": document["kind"], "key": document["key"], "created": document["created"],
            "state": end["event"] if end else "running" if alive else "died",
            "model": document["request"].get("model"), "fetched": os.path.exists(os.path.join(path, "fetched"))}


def list_jobs():
    """Descriptions of all jobs, oldest first; a folder without a sound request is passed over."""
    found = []
    for identity in identities():
        try:
            found.append(describe(identity))
        except UserError:
            continue
    return found


def _end(path):
    events = [event for event in read_lines(os.path.join(path, "events.jsonl")) if isinstance(event, dict)]
    return next((event for event in reversed(events) if event.get("event") in ENDS), None)


def find(kind, request):
    """The id of a job of that kind for the request that runs, or that ended well and was never fetched; else None."""
    wanted = key_of(request)
    for job in reversed(list_jobs()):
        left = job["state"] == "result" and not job["fetched"] and time.time() - job["created"] < LEFT_S
        if job["kind"] == kind and job["key"] == wanted and (job["state"] == "running" or left):
            return job["id"]
    return None


def follow(identity, lines, after=0):
    """Write the job's events to `lines` as they come, from number `after` on, until its end; returns the last event.

    CannotMeasure when the job died without saying an end.
    """
    path = os.path.join(folder(identity), "events.jsonl")
    sent = after
    while True:
        alive = is_alive(identity)
        events = read_lines(path)
        for event in events[sent:]:
            lines.event(number=sent, job=identity, **event)
            sent += 1
            if event["event"] in ENDS:
                return event
        if not alive:
            raise CannotMeasure("job {} {}{}; the settings are put back by the next call: measure again".format(
                identity, _fate(identity), _last_words(identity)))
        time.sleep(POLL_S)


def _fate(identity):
    """What became of a job that is dead and said no end."""
    document = read_json(os.path.join(folder(identity), "request.json"), SCHEMA)
    then, now = document.get("boot_id"), boot_id(document["request"].get("root") or "/")
    return "died before its end" if then in (None, now) else "ended with the board, which was restarted in the middle"


def _last_words(identity):
    path = folder(identity)
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path).free < FULL_BYTES:  # it had no room for an end, nor for words in its log
            return ": the disk of {} is full: free some space".format(path)
    return end_of_log(os.path.join(path, "log.txt"))


def cancel(identity):
    """Ask a job to stop and wait until it has put the settings back; returns its description."""
    path = folder(identity)
    asked, deadline = False, time.monotonic() + CANCEL_S
    while is_alive(identity):
        asked = asked or _terminate(path)
        if time.monotonic() > deadline:
            raise CannotMeasure("job {} does not stop: end its process by hand, the next measurement repairs "
                                "the settings".format(identity))
        time.sleep(0.1)
    return describe(identity)


def _terminate(path):
    """Whether SIGTERM was sent to the job of this folder: not when it has ended, or was only just started."""
    try:
        with open(os.path.join(path, "pid")) as stream:
            os.kill(int(stream.read()), signal.SIGTERM)
        return True
    except (OSError, ValueError):
        return False


def acknowledge(identity):
    """Note that the result has arrived where it was wanted."""
    write_text(os.path.join(folder(identity), "fetched"), "")


def _forget_old():
    for identity in identities()[:-KEEP]:
        with contextlib.suppress(UserError):  # what is no job, or what another start has just removed
            if not is_alive(identity):
                shutil.rmtree(folder(identity), ignore_errors=True)
