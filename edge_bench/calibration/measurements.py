"""The measurements of a calibration: the set's networks on one board, kept as they come, so that a cut loses none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devices.board import Board, known_boards, load_board
from devices.calibration_set import Condition, conditions, write_network
from devices.own_board import Measured
from devices.support.errors import CannotMeasure, EdgesynthError, UserError
from devices.support.files import append_line, explain, read_json, read_lines, write_json
from edge_bench.bench import bench_model

__all__ = ["CalibrationRun"]

SCHEMA = "edgesynth.calibration/1"
TRIALS, WINDOW_S, WARMUP_CAP_S = 2, 3.0, 40.0  # 23 conditions in some ten minutes on a TX2, engines included
FAILURES = 2  # in a row, after which it is not the network's fault
TOLD = ("connection lost", "building the engine", "not steady")  # what is passed on of a measurement's progress


class CalibrationRun:
    """A folder with everything of one calibration: board.json (which board it is), measurements.jsonl (a line a
    condition), networks/*.onnx, results/ (each with its raw record).

    found: what `probe` says of the board. UserError where the folder belongs to another board.
    """

    def __init__(self, folder: str | os.PathLike[str], found: dict[str, Any] | None = None):
        self.folder = Path(folder)
        about = self.folder / "board.json"
        if about.exists():
            self.about = {k: v for k, v in read_json(about, SCHEMA).items() if k != "schema"}
            if found is not None and _identity(found) != self.about:
                raise UserError(f"{self.folder} holds the calibration of {_words(self.about)}, and this is "
                                f"{_words(_identity(found))}: choose another --out")
            return
        if found is None:
            raise UserError(f"{self.folder}: nothing has been measured yet; leave --fit-only out")
        self.about = _identity(found)
        try:
            (self.folder / "networks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, self.folder) from None
        write_json(about, self.about, SCHEMA)

    @property
    def base(self) -> Board:
        """What is known of boards like this one. UserError for a Jetson that no board file fits."""
        if self.about["board"] not in known_boards():
            raise UserError("no board file fits this Jetson, and a calibration starts from one: `edgesynth devices "
                            "list` shows which boards have theirs")
        return load_board(self.about["board"])

    @property
    def days(self) -> list[str]:
        """On which something was measured, in order, as 2026-01-31."""
        return sorted({line["created"][:10] for line in self._lines()})

    @property
    def source(self) -> str:
        """What was measured where and when, in words."""
        when = " to ".join(dict.fromkeys((*self.days[:1], *self.days[-1:])))
        return f"{len(self.rows)} measurements of the calibration set on {_words(self.about)}, {when}"

    @property
    def rows(self) -> list[Measured]:
        return [Measured.from_json(line["measured"]) for line in self._lines()]

    def _lines(self) -> list[dict[str, Any]]:
        """The last line of every condition, in the order in which they were measured first."""
        return list({_key(line["condition"]): line for line in read_lines(self.folder / "measurements.jsonl")}.values())

    def network(self, name: str) -> str:
        """The path of a network of the set."""
        return write_network(name, self.folder / "networks")

    def missing(self, precisions: Sequence[str | None], modes: Sequence[str | None], power: bool) -> list[Condition]:
        """The conditions that are not measured yet, in their order; with `power`, those without power count too."""
        done = {_key(line["condition"]) for line in self._lines()
                if not power or line["measured"].get("power_w") is not None}
        return [condition for condition in conditions(precisions, modes) if _key(asdict(condition)) not in done]

    def measure(self, wanted: Sequence[Condition], *, host: str | None = None, set_mode: bool = False,
                power: bool = True, progress: Callable[[str], None] = lambda text: None,
                bench: Callable[..., dict[str, Any]] = bench_model, **options: Any) -> None:
        """Measure the conditions, one line of progress each.

        set_mode: put the board into the condition's power mode; otherwise it is in it. options: of `bench_model`. A
        condition that cannot be measured is told and left out; CannotMeasure when nothing was measured before, or two
        in a row fail: what was measured is kept, and the same call goes on with the rest.
        """
        settings = {"trials": TRIALS, "window": WINDOW_S, "warmup_cap": WARMUP_CAP_S, "power": power or None, **options}
        began, failures = time.monotonic(), 0
        for number, condition in enumerate(wanted):
            place = f"[{number + 1}/{len(wanted)}] {condition}"
            try:
                result = bench(self.network(condition.network), host=host, batch=condition.batch,
                               precision=condition.precision, mode=condition.mode if set_mode else None,
                               save_to=self.folder / "results", progress=_only_told(progress, place), **settings)
            except EdgesynthError as error:
                failures += 1
                if isinstance(error, UserError) and not self.rows:
                    raise  # it would fail again
                if not self.rows or failures >= FAILURES:
                    raise CannotMeasure(f"{condition}: {error} ({self._kept()})") from None
                progress(f"{place}: left out: {error}")
                continue
            except KeyboardInterrupt:
                progress(self._kept())
                raise
            failures = 0
            row = _measured(condition, result)
            append_line(self.folder / "measurements.jsonl", {
                "condition": asdict(condition), "measured": row.to_json(), "created": result["created"],
                "result": os.path.basename(result.get("saved", ""))})
            left_s = (time.monotonic() - began) / (number + 1) * (len(wanted) - number - 1)
            progress(f"{place} · {_outcome(row)} · {_duration(left_s)}")

    def _kept(self) -> str:
        return f"{len(self.rows)} measurements are kept in {self.folder}; the same command goes on from there"


def _identity(found: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for measurements to belong together, of a probe."""
    board, software = found["board"], found["software"]
    return {"board": board["board"], "serial": board.get("serial"), "hostname": board.get("hostname"),
            **{name: software.get(name) for name in ("l4t", "tensorrt")}}


def _words(about: dict[str, Any]) -> str:
    words = [about["board"], f"(serial …{str(about['serial'])[-4:]})" if about["serial"] else f"({about['hostname']})"]
    words += [f"{title} {about[name]}" for name, title in (("l4t", "L4T"), ("tensorrt", "TensorRT")) if about[name]]
    return " ".join(words)


def _key(condition: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(condition[name] for name in ("network", "batch", "precision", "mode"))


def _measured(condition: Condition, result: dict[str, Any]) -> Measured:
    """What the fit needs of a result."""
    readings, state, power = result["readings"], result["preflight"], result.get("power")
    gpu = (state["clocks"] or {}).get("gpu") or {}

    def value(name: str) -> float | None:
        return readings[name]["value"] if name in readings else None

    watts, idle_mw = value("power_mw"), power["idle_mw"] if power else None
    return Measured(
        condition.network, result["batch"], result["runner"].get("precision") or condition.precision or "fp32",
        (state["mode"] or {}).get("name"), readings["latency_p50_ms"]["value"], value("compute_ms"),
        None if watts is None else watts / 1e3, None if idle_mw is None else idle_mw / 1e3,
        power["scope"] if power else None, gpu["max_hz"] / 1e6 if gpu.get("max_hz") else None, tuple(result["marks"]))


def _outcome(row: Measured) -> str:
    return f"{row.latency_ms:.3g} ms" + ("" if row.power_w is None else f", {row.power_w:.2f} W")


def _only_told(progress: Callable[[str], None], place: str) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if any(word in text for word in TOLD):
            progress(f"{place}: {text}")

    return tell


def _duration(seconds: float) -> str:
    return "done" if not seconds else f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
