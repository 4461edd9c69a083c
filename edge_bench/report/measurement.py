"""A result with all that lies beside it: its raw record, from which the report draws what the result only sums up."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.support.files import sha256_file
from devices.support.reading import Reading
from edge_bench.agent import arguments, evaluate, pair, store
from edge_bench.agent import result as results
from edge_bench.agent.samples import Samples


@dataclass(frozen=True)
class Measurement:
    """result: schema edgesynth.result/1. record: what it was computed from, None where it is not there; `missing` says
    why. place: the file that was named. kept: the record's file and SHA-256. verb: the command that measured it."""

    result: dict[str, Any]
    record: dict[str, Any] | None
    place: str
    missing: str = ""
    kept: tuple[str, str] | None = None
    verb: str = "bench"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Measurement:
        """Of a result file, with the record that it names; or of a record (.gz) alone. UserError when it is damaged."""
        if str(path).endswith(".gz"):
            record = store.load_record(os.fspath(path))
            return cls(evaluate.replay(record), record, str(path), kept=(str(path), sha256_file(path)))
        result = results.load(path)
        kept, missing = record_beside(result, path)
        return cls(result, store.load_record(kept[0]) if kept else None, str(path), missing, kept)

    @classmethod
    def load_sides(cls, comparison: dict[str, Any], path: str | os.PathLike[str]) -> list[Measurement]:
        """Base and head of a comparison (schema edgesynth.compare/1) in a file, each with its part of the record."""
        kept, missing = record_beside(comparison, path)
        records = pair.split(store.load_record(kept[0], pair.SCHEMA)) if kept else dict.fromkeys(pair.SIDES)
        return [cls(comparison[side], records[side], str(path), missing, kept, "compare") for side in pair.SIDES]

    @property
    def name(self) -> str:
        return str(self.result["model"].get("name", "model"))

    @property
    def board(self) -> dict[str, Any]:
        return self.result["preflight"]["board"]

    @property
    def where(self) -> str:
        """ "tx2 …0042"."""
        serial = self.board.get("serial")
        return f"{self.board['board']} …{str(serial)[-4:]}" if serial else str(self.board["board"])

    def reading(self, name: str) -> Reading | None:
        return results.reading(self.result, name)

    @property
    def samples(self) -> Samples | None:
        """The power samples; None where there are none. UserError when they are damaged."""
        power = (self.record or {}).get("power")
        return Samples.from_json(power["samples"]) if power else None

    @property
    def idle(self) -> tuple[float, float] | None:
        """When the board rested before the first trial, on the clock of the samples (s)."""
        idle = ((self.record or {}).get("power") or {}).get("idle")
        return None if not idle else (idle[0], idle[1])

    @property
    def replay_command(self) -> str | None:
        if self.record is None:
            return None
        assert self.kept is not None
        return shlex.join(["edgesynth", self.verb, "--replay", self.kept[0]])

    @property
    def command(self) -> str | None:
        """The command that measures this again, on the board that it was measured on."""
        if self.record is None or self.verb != "bench":
            return None
        request, found = self.record["request"], ["edgesynth", "bench", self.result["model"].get("file", "MODEL")]
        usual = {"trials": arguments.SOUND_TRIALS, "window": arguments.SOUND_WINDOW_S, **arguments.DEFAULTS}
        for option in arguments.BENCH:
            value = request.get(option.name)
            if option.name == "quick":
                continue  # it follows from trials and window
            if option.kind == "flag":
                found += [option.flag] if value else []
            elif option.kind == "list":
                found += [word for item in value or [] for word in (option.flag, str(item))]
            elif value is not None and value != usual.get(option.name):
                found += [option.flag, f"{value:g}" if isinstance(value, float) else str(value)]
        return shlex.join(found)


def record_beside(body: dict[str, Any], path: str | os.PathLike[str]) -> tuple[tuple[str, str] | None, str]:
    """((file, SHA-256) of the raw record that a result or comparison names, None where it cannot be used; and why)."""
    named = body.get("record") or {}
    if not isinstance(named, dict) or not isinstance(named.get("file"), str):
        return None, "it names no raw record; --save keeps one beside it"
    beside = Path(path).parent / Path(named["file"]).name
    if not beside.is_file():
        return None, f"its raw record {beside.name} is not beside it"
    digest = sha256_file(beside)
    if digest != named.get("sha256"):
        return None, f"its raw record {beside.name} has changed since and is not shown"
    return (str(beside), digest), ""
