"""A measurement on a board over ssh: started, followed, taken up again after a lost connection, cancelled."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import sha256_bytes, sha256_file
from edge_bench.agent import engines, pair, runners, store
from edge_bench.agent.sidecar import sidecar_path
from edge_bench.connection import Connection, ConnectionLost

__all__ = ["bench_on_host", "build_on_host", "compare_on_host", "probe_host"]

BOARD_PREFIX = "board:"
PAUSES_S = (1, 2, 5, 10, 20, 30, 30)  # between attempts to take a lost job up again: a board restarts within them


def probe_host(host: str, root: str = "/") -> dict[str, Any]:
    """What a board is and what it can measure; see `edge_bench.agent.probe.probe`."""
    connection = Connection(host)
    connection.ensure_agent()
    return connection.call("probe", {"root": root})


def bench_on_host(host: str, model: str, options: dict[str, Any], progress: Callable[[str], None] = lambda text: None,
                  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure on a board and return (result, record), as `edge_bench.agent.measure.measure` does here.

    model: a local file, or "board:PATH" for one that is there. The same call again, after a lost connection, follows
    the job that still runs or fetches its result. KeyboardInterrupt cancels the job and waits until the board is as
    it was. CannotMeasure with the remedy where the board cannot be reached or measure.
    """
    end = _run(host, "bench", {"model": model}, options, progress)
    return end["result"], store.unpack(base64.b64decode(end["record"]))


def build_on_host(host: str, model: str, options: dict[str, Any], progress: Callable[[str], None] = lambda text: None,
                  ) -> dict[str, Any]:
    """Build an engine on a board from a local ONNX file: {"engine": its path there, "cached", "sidecar"}."""
    return _run(host, "build", {"model": model}, options, progress)["result"]


def compare_on_host(host: str, base: str, head: str, options: dict[str, Any],
                    progress: Callable[[str], None] = lambda text: None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure two models in turns on a board and return (comparison, record); otherwise as `bench_on_host`."""
    end = _run(host, "compare", {"base": base, "model": head}, options, progress)
    return end["result"], store.unpack(base64.b64decode(end["record"]), schema=pair.SCHEMA)


def _run(host: str, verb: str, files: dict[str, str], options: dict[str, Any], progress: Callable[[str], None],
         ) -> dict[str, Any]:
    """Run one job on the board and return its end event. files: what is sent there, by its name in the request."""
    connection = Connection(host)
    connection.ensure_agent()
    request = {**options, **{name: upload(connection, path, progress) for name, path in files.items()}}
    job = _Follower(progress)
    try:
        with _held_until_named(job):
            _follow(connection, verb, request, job)
    except KeyboardInterrupt:
        if job.identity:
            with contextlib.suppress(OSError):  # who read it may have been stopped too
                progress("stopping; the board is put back as it was")
            connection.call("cancel", {"id": job.identity})
        raise
    assert job.end is not None
    if job.end["event"] == "cancelled":
        raise CannotMeasure(f"{host}: job {job.identity} was cancelled there: run the same command again")
    with contextlib.suppress(CannotMeasure):  # the result is here; at worst the same call finds it once more
        connection.call("jobs", {"acknowledge": job.identity})
    return job.end


class _Follower:
    """Takes the events of a job: its id, progress, how many have come, its end."""

    def __init__(self, progress: Callable[[str], None]):
        self.progress = progress
        self.identity: str | None = None
        self.interrupted = False
        self.seen = 0
        self.end: dict[str, Any] | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "job":
            self.identity = event["id"]
            self.progress(f"job {event['id']}" + (", which an earlier call started" if event["resumed"] else ""))
            if self.interrupted:
                raise KeyboardInterrupt
        elif event["event"] == "progress":
            self.progress(event["text"])
        else:
            self.end = event
        if "number" in event:
            self.seen = event["number"] + 1


@contextlib.contextmanager
def _held_until_named(job: _Follower) -> Iterator[None]:
    """Inside, Ctrl-C waits until the job's id is here, since without it a job that was just started cannot be cancelled
    and would keep the board; a second Ctrl-C does not wait."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C goes to the main thread alone
        yield
        return

    def hold(number: int, frame: Any) -> None:
        if job.identity is not None or job.interrupted:
            raise KeyboardInterrupt
        job.interrupted = True
        job.progress("stopping as soon as the board says which job it is; press Ctrl-C again not to wait")

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    except CannotMeasure:
        if job.interrupted:  # there is no job to cancel
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(connection: Connection, verb: str, request: dict[str, Any], job: _Follower) -> None:
    """Start or find the job and follow it to its end; a lost connection is taken up again a few times."""
    for pause in (*PAUSES_S, None):
        try:
            if job.identity is None:
                connection.call(verb, request, job)
            else:
                connection.call("jobs", {"follow": job.identity, "after": job.seen}, job)
            return
        except ConnectionLost as error:
            if job.end is not None:
                return
            if job.interrupted:
                raise
            if pause is None:
                raise CannotMeasure(f"{error}; what runs on the board goes on: the same command again follows it "
                                    "or fetches its result") from None
            job.progress(f"connection lost, trying again in {pause} s")
            time.sleep(pause)


def upload(connection: Connection, model: str, progress: Callable[[str], None]) -> str:
    """The path on the board of a model: "board:PATH" as it is, a local file with all that belongs to it sent there."""
    if model.startswith(BOARD_PREFIX):
        return model[len(BOARD_PREFIX):]
    path = Path(model)
    runners.require_file(model)
    if path.stat().st_size == 0:
        raise UserError(f"{model}: the file is empty")
    beside = []
    if runners.is_onnx(model):
        beside = [Path(name) for name in engines.external_weights(os.fspath(path))]
        if any(file.parent != path.parent for file in beside):
            raise UserError(f"{model}: its weights are in another folder: export with the weights inside")
        missing = [file for file in beside if not file.is_file()]
        if missing:
            raise UserError(f"{model}: its weights are in {missing[0].name}, which is not beside it: put it there "
                            "or export with the weights inside")
    elif os.path.exists(sidecar_path(model)):
        beside = [Path(sidecar_path(model))]
    files = [path, *beside]
    hashes = [sha256_file(file) for file in files]
    folder = hashes[0] if len(hashes) == 1 else sha256_bytes("".join(hashes).encode())
    progress(f"sending {path.name} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)")
    places = [connection.put(file, sha256, folder) for file, sha256 in zip(files, hashes, strict=True)]
    return places[0]
