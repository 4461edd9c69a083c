"""`bench_model`: latency and energy of a model, measured here, recomputed from a record, or predicted for a target."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from devices.support.errors import UserError, unknown
from edge_bench.agent import evaluate, onnx_words, runners, store
from edge_bench.agent.arguments import BENCH, complete
from edge_bench.agent.measure import measure
from edge_bench.agent.runners.base import check_batch

__all__ = ["bench_model", "predict_model", "replay_record", "require_options"]

OPTIONS = {*(argument.name for argument in BENCH), "root", "locked_board"}  # of `measure`


def bench_model(model: str | os.PathLike[str], *, host: str | None = None,
                save_to: str | os.PathLike[str] | None = None, progress: Callable[[str], None] = lambda text: None,
                **options: Any) -> dict[str, Any]:
    """Measure a model file here, or on a board; the result, schema edgesynth.result/1 (see `edge_bench.agent.result`).

    host: an ssh destination; the model is sent there, or is "board:PATH" for a file that is there already.
    options: `edge_bench.agent.arguments.BENCH` by name, such as batch=8, trials=5, window=10.0 (seconds), power=True,
    quick=True. save_to: a folder that keeps the result and its raw record; the result's "saved" is then the path.
    progress: called with a line of text as a stage begins. result["readings"] holds measured Readings as JSON:
    latency_p50_ms ... latency_max_ms, throughput_img_s and, with power, energy_mj and img_per_joule (per image).

    UserError for a model or option that is wrong; CannotMeasure where nothing sound can be measured.
    """
    require_options(options)
    if save_to is not None:
        store.require_folder(os.fspath(save_to))
    if host is not None:
        from edge_bench.remote import bench_on_host

        complete({"model": "", **options})  # what makes no sense is refused before the board is asked
        result, record = bench_on_host(host, os.fspath(model), options, progress)
    else:
        result, record = measure({"model": os.fspath(model), **options}, progress)
    if save_to is not None:
        result["saved"] = store.save(result, record, os.fspath(save_to))
    return result


def require_options(options: Mapping[str, Any]) -> None:
    """UserError for a name that is no option: the agent keeps what it does not know, and measures without it."""
    for name in options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)


def replay_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The result recomputed from a record that an earlier measurement kept beside its result."""
    return evaluate.replay(store.load_record(os.fspath(path)))


def predict_model(model: str | os.PathLike[str], target: str, *, batch: int | None = None,
                  precision: str | None = None) -> Any:
    """The cost model's `devices.cost_model.Prediction` of an ONNX file on a target; nothing is measured.

    batch defaults to the file's own, else 1; precision to int8 of a quantised file, else to fp16 where the target has
    it, as in a measurement.
    """
    from devices.board import resolve_target
    from devices.cli import predict_onnx

    path = os.fspath(model)
    runners.require_file(path)
    if batch is not None and batch < 1:
        raise UserError(f"--batch {batch} makes no sense: give a whole number of at least 1")
    if precision is None and onnx_words.is_quantised(path):
        precision = "int8"
    elif precision is None:
        precision = "fp16" if resolve_target(target).board.has("fp16") else "fp32"
    batch = check_batch(batch, onnx_words.inputs(path), {}, path)
    return predict_onnx(path, target, precision, batch, input_ready=True)
