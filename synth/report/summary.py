"""What a run came to, as data: what the console table and the HTML report show; summary.json in the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from devices.support import files
from devices.support.errors import UserError
from devices.support.reading import Reading
from synth.objective.requirements import NO, UNCERTAIN, YES, Verdict

SCHEMA = "edgesynth.summary/1"
FILE_NAME = "summary.json"

PROTOTYPE, FERMINET = ROLES = ("prototype", "ferminet")


@dataclass(frozen=True)
class Judgement:
    """One requirement on one network. requirement: its canonical words. reading: what it was decided on."""

    requirement: str
    verdict: Verdict
    reading: Reading | None = None


@dataclass(frozen=True)
class NetworkRow:
    """One network of the result.

    name: "ferminet-a". role: of ROLES. readings: {key: Reading}, with keys "accuracy" (test split, read once),
    "validation_accuracy", "params" (batch norm folded), "params_raw", "macs", "information_density", "netscore",
    "size", "peak_memory", "latency_here" (a quick measurement on this machine) and the keys of requirements on the
    target, such as "latency@1" and "img_per_joule@8:module". network: `Network.to_json()`, for the drawing. insights:
    {vertex: what the inquisitor saw there}. folder: where its files are, relative to the run.
    """

    name: str
    role: str
    readings: Mapping[str, Reading]
    judgements: tuple[Judgement, ...] = ()
    seed: int | None = None
    network: Mapping[str, Any] | None = None
    insights: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def holds(self) -> str | None:
        """Whether 1r holds as a whole: "no" before "uncertain" before "yes"; None when nothing was judged."""
        found = {judgement.verdict.holds for judgement in self.judgements}
        return next((holds for holds in (NO, UNCERTAIN, YES) if holds in found), None)


@dataclass(frozen=True)
class CycleRow:
    """One cycle of the search. best_netscore: what the inquisitor believes of the best candidate so far that likely
    satisfies 1r, after full training; None before there is one. feasible: share of fresh seeds that satisfy the exact
    requirements, with its interval. evaluated: candidates so far, in all."""

    cycle: int
    best_netscore: float | None
    feasible: Reading | None
    evaluated: int


@dataclass(frozen=True)
class Candidate:
    """One evaluated candidate. accuracy: on the validation split after the usual short training (fraction).

    predicted, low, high: the same as the inquisitor foresaw it before it was evaluated, with the 95 % interval of what
    one training shows on these images; None for anchors, which it never foresaw. reason: why it was evaluated
    ("improve", "uncertain", "fresh"), "" where that is not known.
    """

    cycle: int
    params: float
    macs: float
    accuracy: float
    feasible: bool
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class DataSource:
    """Where the data came from. splits: {split: images}. sha256: {file or split: checksum}."""

    name: str
    source: str = ""
    licence: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Making:
    """How a run was made. times: {part: seconds}. settings: whatever else decided the result."""

    command: str
    versions: Mapping[str, str]
    seed: int
    data: DataSource
    machine: str = ""
    started: str = ""
    finished: str = ""
    times: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary:
    """A run. target: "tx2:maxn", "" when there is none. networks: the prototype first. warnings: each a sentence with
    its remedy. next_steps: {what for: command}."""

    prototype: str
    target: str
    requirements: tuple[str, ...]
    networks: tuple[NetworkRow, ...]
    making: Making
    cycles: tuple[CycleRow, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    next_steps: Mapping[str, str] = field(default_factory=dict)

    @property
    def ferminets(self) -> tuple[NetworkRow, ...]:
        return tuple(row for row in self.networks if row.role == FERMINET)

    @property
    def phi(self) -> NetworkRow | None:
        """The prototype's row."""
        return next((row for row in self.networks if row.role == PROTOTYPE), None)

    @property
    def heading(self) -> str:
        """What was run, in one line."""
        parts = [self.making.data.name, f"{self.prototype} prototype", self.target]
        parts.append("1r: " + ", ".join(self.requirements) if self.requirements else "nothing required")
        return " · ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        return _encode(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSummary:
        """UserError when a part is missing or does not fit."""
        try:
            making = {**value["making"], "data": DataSource(**value["making"]["data"])}
            return cls(
                prototype=value["prototype"],
                target=value["target"],
                requirements=tuple(value["requirements"]),
                networks=tuple(_row(row) for row in value["networks"]),
                making=Making(**making),
                cycles=tuple(CycleRow(**{**row, "feasible": _reading(row["feasible"])}) for row in value["cycles"]),
                candidates=tuple(Candidate(**row) for row in value["candidates"]),
                warnings=tuple(value["warnings"]),
                next_steps=value["next_steps"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no run summary: {type(error).__name__}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        files.write_json(path, self.to_json(), SCHEMA)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunSummary:
        """UserError when the file is damaged, of another kind or of another version."""
        value = files.read_json(path, SCHEMA)
        try:
            return cls.from_json(value)
        except UserError as error:
            raise UserError(f"{path}: {error}; make it anew by resuming the run") from error


def _encode(value: Any) -> Any:
    if isinstance(value, Reading):
        return value.to_json()
    if is_dataclass(value):
        return {item.name: _encode(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    return value


def _reading(value: Mapping[str, Any] | None) -> Reading | None:
    return None if value is None else Reading.from_json(value)


def _row(value: Mapping[str, Any]) -> NetworkRow:
    if value["role"] not in ROLES:
        raise ValueError(f"unknown role {value['role']!r}")
    judgements = tuple(
        Judgement(item["requirement"], Verdict(**item["verdict"]), _reading(item["reading"]))
        for item in value["judgements"]
    )
    readings = {key: Reading.from_json(reading) for key, reading in value["readings"].items()}
    known = {item.name: value[item.name] for item in fields(NetworkRow)}  # other versions may have said more
    return NetworkRow(**{**known, "readings": readings, "judgements": judgements})
