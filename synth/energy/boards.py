"""Boards that measure candidates: one interface, and the one behind ssh."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from devices.board import Target
from devices.own_board import NO_MODE
from devices.support.errors import CannotMeasure, UserError
from edge_bench.bench import bench_model
from edge_bench.connection import Connection
from edge_bench.remote import probe_host

Say = Callable[[str], None]
NO_PERMISSION = "devices prepare"  # part of what an agent says that may not change modes or clocks
# a quick look at energy: tegrastats gives 10 samples a second, of which 20 are needed, through a filter of 0.4 s
QUICK_TRIALS, QUICK_WINDOW_S = 3, 3.0


@dataclass(frozen=True)
class Job:
    """One network to measure. network: its digest. onnx: the exported file, of a name that no other job has. full: by
    the full protocol, else quick. power: whether energy is asked for."""

    network: str
    onnx: Path
    batch: int
    full: bool
    power: bool


class Board(Protocol):
    """Something that measures exported networks. Methods are called from a thread of its own, but `cancel`."""

    @property
    def name(self) -> str: ...

    def state(self, power: bool) -> dict[str, Any]:
        """What a number depends on besides the network: board, software, power mode. Equal states give equal numbers.
        CannotMeasure when the board cannot be reached, or has no power rail where `power` is asked for; UserError when
        it is not the board that the run is for."""
        ...

    def measure(self, job: Job, keep: Path, say: Say) -> dict[str, Any]:
        """The result (schema edgesynth.result/1) of a job, kept with its raw record in the folder `keep` as well."""
        ...

    def cancel(self) -> None:
        """End what runs on the board for this process; it is left as it was."""
        ...


class SshBoard:
    """A board behind ssh. root: of its file system, another one only for stand-ins."""

    def __init__(self, host: str, target: Target, precision: str, root: str = "/"):
        self.name, self.target, self.precision, self.root = host, target, precision, root
        self.lock = True
        self._running: Job | None = None

    def state(self, power: bool) -> dict[str, Any]:
        found = probe_host(self.name, self.root)
        board = found["board"]["board"]
        if board != self.target.board.base_name:
            raise UserError(f"{self.name} is a {board or 'machine that no board file fits'}, and the networks are made "
                            f"for {self.target}: name its board with --target, or another --host")
        if power and not found["power_source"]["name"]:
            raise CannotMeasure(f"{self.name} cannot measure energy: {found['power_source']['why']}")
        software = found["software"]
        return {"board": board, "l4t": software.get("l4t"), "tensorrt": software.get("tensorrt"),
                "mode": asked_mode(self.target), "precision": self.precision}

    def measure(self, job: Job, keep: Path, say: Say) -> dict[str, Any]:
        self._running = job
        try:
            return self._measure(job, keep, say)
        except CannotMeasure as error:
            if not self.lock or NO_PERMISSION not in str(error):
                raise
            say(f"{self.name}: clocks cannot be locked there, so that numbers scatter more: see edgesynth devices "
                "prepare")
            self.lock = False
            return self._measure(job, keep, say)
        finally:
            self._running = None

    def _measure(self, job: Job, keep: Path, say: Say) -> dict[str, Any]:
        protocol: dict[str, Any] = {} if job.full else {"trials": QUICK_TRIALS, "window": QUICK_WINDOW_S}
        return bench_model(job.onnx, host=self.name, save_to=keep, batch=job.batch, precision=self.precision,
                           power=job.power, mode=asked_mode(self.target), lock=self.lock, root=self.root, **protocol)

    def cancel(self) -> None:
        job = self._running
        if job is None:
            return
        connection = Connection(self.name)
        for one in connection.call("jobs", {}):
            if one["state"] == "running" and os.path.basename(str(one.get("model"))) == job.onnx.name:
                connection.call("cancel", {"id": one["id"]})


def marks_of(result: Mapping[str, Any]) -> list[str]:
    """What speaks against relying on a result, but that it was quick, which is known."""
    return [mark for mark in result.get("marks", []) if mark != "quick"]


def asked_mode(target: Target) -> str | None:
    """The power mode that a board is asked for; None for a machine that has none."""
    return None if target.mode is None or target.mode.name == NO_MODE else target.mode.name
