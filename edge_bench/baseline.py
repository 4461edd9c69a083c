"""A stored baseline, schema "edgesynth.baseline/1": trials of earlier sessions that a new result is held against."""

from __future__ import annotations

import os
from typing import Any

from devices.support.errors import UserError
from devices.support.files import read_json, write_json
from edge_bench.agent.result import NOT_COMPARABLE

__all__ = ["METRICS", "add_session", "conditions", "find", "key_of", "load", "refuse_unsound", "save", "trial_values"]

SCHEMA = "edgesynth.baseline/1"
KEEP_SESSIONS = 20

# short name on the command line: (field of a trial, whether more is worse)
METRICS = {
    "energy": ("energy_mj", True), "latency": ("latency_p50_ms", True), "latency_p50": ("latency_p50_ms", True),
    "latency_p90": ("latency_p90_ms", True), "latency_p95": ("latency_p95_ms", True),
    "latency_p99": ("latency_p99_ms", True), "latency_max": ("latency_max_ms", True),
    "compute": ("compute_ms", True), "throughput": ("throughput_img_s", False),
}
STORED = sorted({field for field, _ in METRICS.values()})


def key_of(result: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two results to be of the same thing."""
    runner = result["runner"]
    return {"model": result["model"]["name"], "batch": result["batch"], "runner": runner["name"],
            "precision": runner.get("precision"), "pipelined": bool(runner.get("pipelined")),
            "board": result["preflight"]["board"]["board"]}


def conditions(result: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two results of the same thing to be comparable: one board, its software and mode."""
    state = result["preflight"]
    board = state["board"]
    return {"serial": board.get("serial") or board.get("hostname"), "L4T": state["software"].get("l4t"),
            "TensorRT": state["software"].get("tensorrt"), "runner version": result["runner"].get("version"),
            "power mode": (state["mode"] or {}).get("name"), "clocks locked": state["clocks"]["locked"]}


def trial_values(result: dict[str, Any]) -> dict[str, list[float]]:
    """{field: value of each trial} of the metrics that every trial of a result has."""
    return {field: [row[field] for row in result["trials"]] for field in STORED
            if all(row.get(field) is not None for row in result["trials"])}


def refuse_unsound(result: dict[str, Any], name: str) -> None:
    """UserError for a result that may not become, or be held against, a baseline."""
    marks = [mark for mark in result["marks"] if mark in NOT_COMPARABLE]
    if marks:
        raise UserError(f"{name} is marked {', '.join(marks)}: measure again with locked clocks, at least 5 trials "
                        "of 10 s and a settled board, or use --force")


def load(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The entries of a baseline file. UserError when it is damaged or something else."""
    entries = read_json(path, SCHEMA).get("entries")
    sound = isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("key"), dict) and isinstance(entry.get("conditions"), dict)
        and isinstance(entry.get("sessions"), list) and entry["sessions"] for entry in entries)
    if not sound:
        raise UserError(f"{path}: the baseline is damaged; restore it or write it anew with --update")
    return entries


def save(path: str | os.PathLike[str], entries: list[dict[str, Any]]) -> None:
    """Write a baseline file, atomically."""
    write_json(path, {"entries": entries}, SCHEMA)


def find(entries: list[dict[str, Any]], key: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of that key, or None."""
    return next((entry for entry in entries if entry["key"] == key), None)


def add_session(entries: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, Any]:
    """Put a result's trials into the entries and return the entry.

    A session of the same model file under the same conditions joins the earlier ones; otherwise the entry begins anew.
    """
    key, present = key_of(result), conditions(result)
    session = {"created": result["created"], "model_sha256": result["model"]["sha256"], "trials": trial_values(result)}
    entry = find(entries, key)
    same = entry is not None and entry["conditions"] == present and \
        entry["sessions"][-1]["model_sha256"] == session["model_sha256"]
    if entry is None:
        entry = {"key": key, "conditions": present, "sessions": []}
        entries.append(entry)
    earlier = [old for old in entry["sessions"] if old["created"] != session["created"]] if same else []
    entry.update(conditions=present, sessions=[*earlier, session][-KEEP_SESSIONS:])
    return entry
