"""Small ONNX models, and records and results that were never measured, for the tests of edge_bench."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_bench.agent import evaluate, pair, trial


def write_model(path: Path, *, batch: int | str = 1, features: int | str = 64, dtype: int = TensorProto.FLOAT,
                operator: str = "MatMul", external: bool = False) -> Path:
    """An ONNX file of one MatMul [batch, 64] -> [batch, 10], or of another one-input operator."""
    weight = numpy_helper.from_array(np.ones((64, 10), np.float32), "w")
    inputs = ["x", "w"] if operator == "MatMul" else ["x"]
    out = [batch, 10] if operator == "MatMul" else [batch, features]
    graph = helper.make_graph([helper.make_node(operator, inputs, ["y"])], "graph",
                              [helper.make_tensor_value_info("x", dtype, [batch, features])],
                              [helper.make_tensor_value_info("y", dtype, out)],
                              [weight] if operator == "MatMul" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    if external:
        onnx.save(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def make_record(latencies_ms=(1.0, 1.01, 0.99, 1.0, 1.02), *, name: str = "net", serial: str | None = "s1234",
                locked: bool | None = True, created: str = "2026-01-01T00:00:00Z", window: float = 10.0,
                steady: bool = True, **runner) -> dict:
    """A record as `measure` makes it, with trials of the given median latency."""
    request = {"model": f"/srv/{name}.onnx", "trials": len(latencies_ms), "window": window, "warmup_cap": 120.0,
               "seed": 0, "pipelined": False, "quick": len(latencies_ms) < 5 or window < 10.0}
    runner = {"name": "onnxruntime", "version": "1.0", "precision": "fp32", "batch": 1, "pipelined": False, **runner}
    trials = []
    for number, latency in enumerate(latencies_ms):
        count = int(1000 * window / latency)
        spread = [latency * (1 + 0.001 * (k % 11 - 5)) / 1000 for k in range(count)]
        trials.append({"runner": runner, "load_s": 0.1, "start_s": 100.0 + 20 * number,
                       "end_s": 100.0 + 20 * number + sum(spread), "inferences": count,
                       "latencies": trial.pack(spread), "compute_ms": None, "temperature_c": 40.0,
                       "peak_rss_bytes": 50_000_000, "device_bytes": None,
                       "warmup": {"seconds": 10.0, "steady": steady, "unsteady": [] if steady else ["temperature"],
                                  "latency_ms": [latency]}})
    state = {"board": {"board": "tx2", "serial": serial, "hostname": "board"}, "mode": {"id": 0, "name": "MAXN"},
             "software": {"l4t": "32.7.1", "tensorrt": "8.2.1"}, "fan": None, "temperatures_c": {},
             "clocks": {"cpu": [], "gpu": None, "emc": None, "locked": locked}, "throttling": [],
             "load": {"cpu_share": 0.1, "processes": []}, "warnings": []}
    model = {"name": name, "file": name + ".onnx", "sha256": "0" * 64, "bytes": 1000}
    return {"created": created, "request": request, "preflight": state, "model": model, "trials": trials,
            "power": None, "layers": None}


def make_pair_record(base_ms=(1.0, 1.01, 0.99, 1.0), head_ms=(1.1, 1.12, 1.09, 1.1), **options) -> dict:
    """A record as `pair.measure_pair` makes it, with trials of the given median latencies."""
    sides = {"base": make_record(base_ms, **{"name": "old", **options}),
             "head": make_record(head_ms, **{"name": "new", **options})}
    order = pair.order(len(base_ms))
    left = {side: list(record["trials"]) for side, record in sides.items()}
    trials = [left[side].pop(0) for side in order]
    sides["base"]["model"]["sha256"], sides["head"]["model"]["sha256"] = "b" * 64, "a" * 64
    return {"schema": pair.SCHEMA, "created": sides["head"]["created"], "order": order, "trials": trials,
            "requests": {side: record["request"] for side, record in sides.items()},
            "models": {side: record["model"] for side, record in sides.items()},
            "preflight": sides["head"]["preflight"], "power": None, "layers": {"base": None, "head": None}}


def make_result(*arguments, energy_mj=None, **options) -> dict:
    """The result of `make_record`; energy_mj: millijoules per image of each trial."""
    result = evaluate.evaluate(make_record(*arguments, **options))
    for row, energy in zip(result["trials"], energy_mj or [], strict=False):
        row["energy_mj"] = energy
    return copy.deepcopy(result)
