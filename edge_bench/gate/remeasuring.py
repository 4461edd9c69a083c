"""A result's own model measured again, as it was measured: more sessions for a gate that cannot tell yet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devices.support.errors import CannotMeasure
from devices.support.files import sha256_file
from edge_bench.agent import result as results
from edge_bench.agent import store
from edge_bench.agent.arguments import BENCH
from edge_bench.agent.identity import identify
from edge_bench.bench import bench_model
from edge_bench.gate import baseline

__all__ = ["REST_S", "is_of_this_machine", "measure_again", "model_file", "model_file_of"]

REST_S = 60.0  # before a further session: the board cools, and what differs from session to session is drawn anew


def request_of(result: dict[str, Any], path: str) -> dict[str, Any]:
    """How a result was measured, from the record beside it. CannotMeasure where there is none."""
    if baseline.without_record(result, path):
        raise CannotMeasure(f"{path} has no record beside it that says how it was measured")
    return store.load_record(str(Path(path).parent / result["record"]["file"]))["request"]


def model_file(result: dict[str, Any], path: str) -> str | None:
    """The file that a result was measured of, where it is on this machine and unchanged; else None."""
    name = str(result["model"]["file"])
    try:
        measured = request_of(result, path).get("model") or name
    except CannotMeasure:
        measured = name
    for place in (Path(measured), Path(path).parent / name, Path(name)):
        if place.is_file() and sha256_file(place) == result["model"]["sha256"]:
            return os.fspath(place)
    return None


def model_file_of(path: str) -> str | None:
    """`model_file` of the result in a file."""
    return model_file(results.load(path), path)


def is_of_this_machine(result: dict[str, Any]) -> bool:
    """Whether a result was measured on the machine that this runs on."""
    here, there = identify(), result["preflight"]["board"]
    return all(here[name] == there.get(name) for name in ("board", "serial", "hostname"))


def measure_again(result: dict[str, Any], path: str, sessions: int, *, host: str | None = None,
                  save_to: str | os.PathLike[str] = store.FOLDER, rest_s: float = REST_S,
                  progress: Callable[[str], None] = lambda text: None) -> list[tuple[str, dict[str, Any]]]:
    """Measure a result's model in further sessions, here or at `host`: [(path of the result, result)].

    CannotMeasure where the model is no longer there, or where what is measured is not what the result is of.
    """
    request = request_of(result, path)
    # "quick" follows from trials and window
    options = {argument.name: request[argument.name] for argument in BENCH
               if request.get(argument.name) is not None and argument.name != "quick"}
    if request.get("root", "/") != "/":
        options["root"] = request["root"]
    model = model_file(result, path)
    if model is None and host is None:
        raise CannotMeasure(f"{result['model']['file']} as it was measured is not on this machine")
    found = []
    for number in range(sessions):
        progress(f"{result['model']['name']}: not clear yet, session {number + 1} of {sessions} more"
                 + (f" after {rest_s:g} s of rest" if rest_s else ""))
        time.sleep(rest_s)
        again = bench_model(model or f"board:{request.get('model')}", host=host, save_to=save_to, progress=progress,
                            **options)
        different = baseline.differences(baseline.identity(again), baseline.identity(result))
        if again["model"]["sha256"] != result["model"]["sha256"]:
            different.append("the model file has changed")
        marks = [mark for mark in results.NOT_COMPARABLE if mark in again["marks"] and mark not in result["marks"]]
        if different or marks:
            raise CannotMeasure("; ".join(different + [f"the new session is marked {mark}" for mark in marks]))
        found.append((again.pop("saved"), again))
    return found
