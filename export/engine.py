"""An engine for an exported file, built where it will run: by the agent on the board, or by the agent here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from devices.support.errors import CannotMeasure
from export import document
from export.dialect import dialect_of
from export.report import GRAPH, ExportReport

Progress = Callable[[str], None]


def build_engine(report: ExportReport, host: str | None, progress: Progress = lambda text: None) -> dict[str, Any]:
    """Build the engine of what was exported: {"engine": its path there, "cached", "sidecar"}.

    host: an ssh destination; None builds on this machine, which is then the board. The builder is told the precision
    unless the graph says it, and tunes for the batch that the file names as usual. CannotMeasure, with the builder's
    own words, when it fails or there is no TensorRT.
    """
    options = engine_options(report)
    if host is not None:
        from edge_bench.remote import build_on_host

        return build_on_host(host, report.path, options, progress)
    from edge_bench.agent.engines import build
    from edge_bench.agent.runners import runner_for

    if runner_for(report.path, "/") == "onnxruntime":
        raise CannotMeasure(
            "this machine has no TensorRT: name the board that builds the engine, with --host USER@BOARD"
        )
    return build({**options, "model": os.path.abspath(report.path)}, progress)


def engine_options(report: ExportReport) -> dict[str, Any]:
    """What the agent's verb `build` is asked for."""
    model = document.load(report.path)
    batch = document.description(model).get("batch")
    tuned = batch["opt"] if isinstance(batch, dict) else 1
    # INT8 is in the graph, and TensorRT up to 10 wants its flag as well; 11 knows no flags
    in_graph = report.precision_by == GRAPH and (
        report.precision == "fp16" or dialect_of(report.target).precision_in_graph
    )
    return {"precision": None if in_graph else report.precision, "batch": tuned}
