"""An engine for an exported file, built where it will run: by the agent on the board, or by the agent here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from devices.support.errors import CannotMeasure
from export.report import ExportReport

Progress = Callable[[str], None]


def require_builder(host: str | None) -> None:
    """CannotMeasure, with the remedy, where no engine can be built: an export may take minutes, so this is asked
    before it. host: an ssh destination; None is this machine."""
    if host is not None:
        from edge_bench.connection import Connection

        Connection(host).ensure_agent()
        return
    from edge_bench.agent import interpreter
    from edge_bench.agent.runners import trtexec

    pythons = interpreter.candidates()
    if trtexec.program() is None and not any(interpreter.imports(path, "tensorrt") for path in pythons):
        raise CannotMeasure(
            "this machine has no TensorRT: name the board that builds the engine, with --host USER@BOARD"
        )


def build_engine(report: ExportReport, host: str | None, progress: Progress = lambda text: None) -> dict[str, Any]:
    """Build the engine of what was exported: {"engine": its path there, "cached", "sidecar"}.

    host: an ssh destination; None builds on this machine, which is then the board. The file itself says its range of
    batches and whether its graph has the precision already; the board's TensorRT decides what it has to be told.
    CannotMeasure, with the builder's own words, when it fails.
    """
    options = {"precision": report.precision}
    if host is not None:
        from edge_bench.remote import build_on_host

        return build_on_host(host, report.path, options, progress)
    from edge_bench.agent import measure

    return measure.build_engine({**options, "model": os.path.abspath(report.path)}, progress)
