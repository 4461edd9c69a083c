"""`calibrate_board`: the calibration set measured on a board, and the board's file that the fit to it gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.board import SCHEMA, Board, known_boards
from devices.layer_cost import fuse
from devices.onnx_layers import operations_of_onnx
from devices.own_board import Calibration, Measured, calibrated_board
from devices.support.errors import CannotMeasure, UserError
from devices.support.files import write_json, write_text
from edge_bench.calibration.measurements import CalibrationRun
from edge_bench.calibration.page import page

__all__ = ["Calibrated", "calibrate_board"]

PRECISIONS = ("fp16", "fp32")  # what the set is measured in where the board has it, the first in full


@dataclass(frozen=True)
class Calibrated:
    """board_file: what --target takes. page: the fit as HTML. warnings: what speaks against relying on it."""

    board_file: Path
    page: Path
    calibration: Calibration
    source: str
    warnings: list[str] = field(default_factory=list)


def calibrate_board(out: str | os.PathLike[str] = "my-board.json", *, host: str | None = None,
                    modes: Sequence[str] = (), precisions: Sequence[str] = (), power: bool = True,
                    fit_only: bool = False, progress: Callable[[str], None] = lambda text: None,
                    **options: Any) -> Calibrated:
    """Measure the calibration set on a board, fit the cost model, and write the board's file `out`.

    host: an ssh destination; None: this machine. modes: power modes to measure in, each a calibration of its own;
    default: the present one. precisions: default: fp16 and fp32 where the board has them. power: measure energy too.
    fit_only: measure nothing, fit what an earlier call kept. options: of `bench_model`, such as lock=True. What is
    measured is kept in the folder OUT-calibration as it comes: the same call goes on after a cut.

    UserError for a name, mode or precision that makes no sense; CannotMeasure where the board cannot be reached or
    measured, or too little has been measured to fit.
    """
    out = Path(out)
    if out.suffix != ".json" or out.stem in known_boards():
        raise UserError(f"{out}: write a name of the board's own that ends in .json, such as my-board.json")
    folder = out.with_name(f"{out.stem}-calibration")
    run = CalibrationRun(folder) if fit_only else _measure(folder, host, modes, precisions, power, progress, options)
    rows = run.rows
    progress(f"fitting {len(rows)} measurements, leaving out one network at a time")
    layers = {name: fuse(operations_of_onnx(run.network(name))) for name in dict.fromkeys(row.network for row in rows)}
    calibration = calibrated_board(run.base, rows, layers, out.stem, (run.days or ["none"])[-1], run.source)
    write_json(out, {key: value for key, value in calibration.data.items() if key != "schema"}, SCHEMA)
    path = folder / "fit.html"
    write_text(path, page(calibration, run.source))
    return Calibrated(out, path, calibration, run.source, _warnings(rows, run.base))


def _measure(folder: Path, host: str | None, modes: Sequence[str], precisions: Sequence[str], power: bool,
             progress: Callable[[str], None], options: dict[str, Any]) -> CalibrationRun:
    found = _probe(host, options.get("root", "/"))
    if power and not found["power_source"]["name"]:
        raise CannotMeasure(f"{found['power_source']['why']}; to calibrate times alone, say --no-power")
    run = CalibrationRun(folder, found)
    present = (found["mode"] or {}).get("name")
    chosen: list[str | None] = [_mode(found, word) for word in modes] or [present]
    wanted = run.missing(_precisions(run.base, precisions), chosen, power)
    if wanted:
        progress(f"{len(wanted)} measurements, {len(run.rows)} are there already; kept in {folder}")
    run.measure(wanted, host=host, set_mode=bool(modes), power=power, progress=progress, **options)
    return run


def _probe(host: str | None, root: str) -> dict[str, Any]:
    if host is None:
        from edge_bench.agent.probe import probe

        return probe(root)
    from edge_bench.remote import probe_host

    return probe_host(host, root)


def _mode(found: dict[str, Any], word: str) -> str:
    """The board's own name of a power mode. UserError where it has none of that name."""
    from devices.board import load_board

    names = {mode["name"].lower(): mode["name"] for mode in found["modes"]}
    if word.lower() in names:
        return names[word.lower()]
    return load_board(found["board"]["board"]).mode(word).name


def _precisions(board: Board, words: Sequence[str]) -> list[str | None]:
    if board.kind != "jetson":
        if words:
            raise UserError("--precision is for Jetson boards; here the runner computes in its own")
        return [None]
    able = [precision for precision in PRECISIONS if board.has(precision)]
    if not words:
        return list(able)
    chosen = list(dict.fromkeys(board.require_precision(word) for word in words))
    for precision in chosen:
        if precision not in able:  # it would fail after all others were measured
            raise UserError(f"--precision {precision}: the networks of the calibration set are not quantised; "
                            f"calibrate in {' or '.join(able)}")
    return list(chosen)


def _warnings(rows: Sequence[Measured], board: Board) -> list[str]:
    marks = {mark for row in rows for mark in row.marks}
    if board.kind != "jetson":
        marks.discard("unlocked")  # there is no --lock
    again = "and calibrate again, with another --out"
    remedies = {
        "unlocked": f"the clocks were not locked, so predictions mix what the governor chose: say --lock {again}",
        "throttled": f"clocks were held down: cool the board {again}",
        "busy": f"other processes used the board: end them {again}",
        "not_steady": f"some measurements were not steady: cool or quieten the board {again}"}
    return [text for mark, text in remedies.items() if mark in marks]
