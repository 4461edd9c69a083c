"""Stored baselines, schema "edgesynth.baseline/2": trials of earlier sessions that new results are held against.

A file holds entries, one for each thing that is measured on one board; a folder holds one such file an entry. Both are
meant to live in a repository: small, one session a few lines, in an order that does not change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devices.support.errors import UserError
from devices.support.files import canonical_json, explain, read_json, sha256_bytes, sha256_file, write_text
from edge_bench.agent import metrics
from edge_bench.agent.result import NOT_COMPARABLE
from edge_bench.agent.store import file_word

__all__ = ["SESSIONS", "Entry", "add_sessions", "differences", "identity", "load", "nearest",
           "require_one_model_a_name", "require_sound", "save", "without_record"]

SCHEMA = "edgesynth.baseline/2"
SESSIONS = 3  # of one board: below, the spread between sessions is not known
KEEP_SESSIONS = 20

# What is measured, where, and under what software. What is under test is not in it: the file's content (its hash).
SUBJECT = ("model", "batch", "inputs", "precision", "runner", "threads", "pipelined")
PLACE = ("module", "serial", "power_mode")
SOFTWARE = ("L4T", "TensorRT", "runner_version", "clocks_locked")
IDENTITY = SUBJECT + PLACE + SOFTWARE

Entry = dict[str, Any]    # {"identity", "model_sha256", "sessions", "layers" ({name: ms} or None)}
Session = dict[str, Any]  # {"created", "scope" (of energy, or None), "rounding" (see `metrics.rounding`), "trials"}


def identity(result: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two results to be held against each other: {name: value}, in the order of IDENTITY.

    The hash of the model file is not in it: a changed file of the same name is what a gate is for. A board without a
    readable serial number goes by its host name. UserError for a result that does not say what it is of.
    """
    state, runner = result["preflight"], result["runner"]
    try:
        board, software = state["board"], state["software"]
        shapes = ["x".join(map(str, item["shape"])) for item in runner.get("inputs") or []]
        found = {"model": result["model"]["name"], "batch": result["batch"], "inputs": " ".join(shapes) or None,
                 "precision": runner.get("precision"), "runner": runner["name"], "threads": runner.get("threads"),
                 "pipelined": bool(runner.get("pipelined")), "module": board["board"],
                 "serial": board.get("serial") or board.get("hostname"),
                 "power_mode": (state["mode"] or {}).get("name"), "L4T": software.get("l4t"),
                 "TensorRT": software.get("tensorrt"), "runner_version": runner.get("version"),
                 "clocks_locked": state["clocks"]["locked"]}
        if not isinstance(found["model"], str) or not isinstance(result["model"]["sha256"], str):
            raise TypeError("the model has no name or hash")
        canonical_json(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the result of {result['created']} does not say what it is of ({error}): measure again"
                        ) from None
    return {name: found[name] for name in IDENTITY}


def differences(present: dict[str, Any], stored: dict[str, Any], names: Sequence[str] = IDENTITY) -> list[str]:
    """["TensorRT is 8.2.1, was 8.0.1", ...] of two identities, as far as `names` go."""
    return [f"{name.replace('_', ' ')} is {_word(present[name])}, was {_word(stored[name])}"
            for name in names if present[name] != stored[name]]


def _word(value: Any) -> str:
    return str({True: "yes", False: "no"}[value] if isinstance(value, bool) else "unknown" if value is None else value)


def session_of(result: dict[str, Any]) -> Session:
    """A result as a session: when, and the values of its trials, as exact as is worth keeping."""
    trials = {field: [float(f"{value:.6g}") for value in metrics.values(result, field)] for field in metrics.FIELDS}
    return {"created": result["created"], "scope": (result.get("power") or {}).get("scope"),
            "rounding": float(f"{metrics.rounding(result, 'energy_mj'):.2g}"),
            "trials": {field: values for field, values in trials.items() if values}}


def layers_of(result: dict[str, Any]) -> dict[str, float] | None:
    """{layer: ms} of a result that was measured with --layers."""
    layers = result.get("layers")
    return {layer["name"]: float(f"{layer['ms']:.4g}") for layer in layers} if layers else None


def require_sound(result: dict[str, Any], path: str, force: bool = False) -> None:
    """UserError for a result that may not become a baseline: marked, without the samples it was made of, or empty.

    path: where the result was read, to look for its raw record beside it. A result of which no metric can be held
    against anything is refused even when forced.
    """
    if not session_of(result)["trials"]:
        raise UserError(f"{path}: no trial in it holds a positive latency or energy: measure again")
    marks = [mark for mark in result["marks"] if mark in NOT_COMPARABLE]
    if marks and not force:
        raise UserError(f"{path} is marked {', '.join(marks)}: measure again with locked clocks, at least 5 trials "
                        "of 10 s and a settled board, or use --force")
    if without_record(result, path) and not force:
        raise UserError(f"{path} has no raw samples beside it: name the file that bench kept in its --save folder, or "
                        "use --force")


def require_one_model_a_name(loaded: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """UserError where results (with their paths) go into one entry and are of different model files: a/net.onnx and
    b/net.onnx would take turns in it, each held against the other."""
    seen: dict[str, tuple[str, str]] = {}
    for path, result in loaded:
        found, sha256 = identity(result), result["model"]["sha256"]
        first, other = seen.setdefault(canonical_json([found[name] for name in SUBJECT + PLACE]), (path, sha256))
        if other != sha256:
            raise UserError(f"{first} and {path} are of two different files that are both called {found['model']}: "
                            "give the models different names, or name the results of one alone")


def without_record(result: dict[str, Any], path: str) -> bool:
    """Whether the raw record of a result file is missing. UserError where what lies beside it is another record."""
    named = result.get("record")
    record = Path(path).parent / str(named.get("file")) if isinstance(named, dict) else None
    if record is None or not record.is_file():
        return True
    assert isinstance(named, dict)
    if sha256_file(record) != named.get("sha256"):
        raise UserError(f"{path}: {record.name} beside it is not the record it was made of: measure again")
    return False


def load(path: str | os.PathLike[str]) -> list[Entry]:
    """The entries of a baseline file, or of all files of a folder. UserError when one is damaged or something else."""
    folder = Path(path)
    if folder.is_dir():
        files = sorted(folder.glob("*.json"))
        if not files:
            raise UserError(f"{path}: the folder holds no baseline; make one with --update")
        return [_own_entry(file) for file in files]
    entries = read_json(path, SCHEMA).get("entries")
    if not isinstance(entries, list) or not all(_is_sound(entry) for entry in entries):
        raise UserError(f"{path}: the baseline is damaged; restore it or write it anew with --update")
    return entries


def _own_entry(file: Path) -> Entry:
    """The entry of a file in a folder, where each has one of its own, by whose name `save` finds it again."""
    entries = load(file)
    if len(entries) != 1 or file.name != file_name(entries[0]):
        words = f"rename it to {file_name(entries[0])}" if len(entries) == 1 else "give each a file of its own"
        raise UserError(f"{file}: in a folder of baselines a file holds one entry and is called by it: {words}, or "
                        "name the file itself with --baseline")
    return entries[0]


def _is_sound(entry: Any) -> bool:
    return (isinstance(entry, dict) and isinstance(entry.get("identity"), dict)
            and set(entry["identity"]) == set(IDENTITY) and isinstance(entry.get("model_sha256"), str)
            and isinstance(entry.get("sessions"), list) and bool(entry["sessions"])
            and all(map(_is_session, entry["sessions"])) and _are_layers(entry.get("layers")))


def _is_session(found: Any) -> bool:
    return (isinstance(found, dict) and isinstance(found.get("created"), str) and _is_number(found.get("rounding"))
            and isinstance(found.get("scope"), (str, type(None))) and isinstance(found.get("trials"), dict)
            and all(isinstance(values, list) and values and all(_is_number(value) and value > 0 for value in values)
                    for values in found["trials"].values()))


def _are_layers(found: Any) -> bool:
    return found is None or (isinstance(found, dict) and all(map(_is_number, found.values())))


def _is_number(value: Any) -> bool:
    """Whether this is a finite number, 0 or above."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def nearest(entries: list[Entry], present: dict[str, Any]) -> Entry | None:
    """The entry of that identity; else the one of that model with the fewest differences; None where there is none."""
    same = [entry for entry in entries if entry["identity"]["model"] == present["model"]]
    return min(same, key=lambda entry: len(differences(present, entry["identity"])), default=None)


def add_sessions(entries: list[Entry], results: list[dict[str, Any]]) -> list[str]:
    """Put results into the entries, in place; a sentence about each entry that changed.

    Sessions of the same file under the same software join the earlier ones, the latest 20 are kept. Where the model
    file or the software of the board is another one, the entry begins anew: what it held is no longer the present.
    """
    changed: dict[str, tuple[Entry, str]] = {}
    for result in results:
        entry, anew = _entry_for(entries, result)
        session = session_of(result)
        kept = [old for old in entry["sessions"] if old["created"] != session["created"]]
        entry["sessions"] = sorted([*kept, session], key=lambda one: one["created"])[-KEEP_SESSIONS:]
        entry["layers"] = layers_of(result) or entry["layers"]
        name = file_name(entry)
        changed[name] = (entry, anew or changed.get(name, (entry, ""))[1])
    entries.sort(key=lambda entry: [str(entry["identity"][name]) for name in IDENTITY])
    return [_told(entry, anew) for entry, anew in changed.values()]


def _entry_for(entries: list[Entry], result: dict[str, Any]) -> tuple[Entry, str]:
    """The entry that a result goes into, and why it had to begin anew, or ""."""
    present, sha256 = identity(result), result["model"]["sha256"]
    entry = next((entry for entry in entries
                  if all(entry["identity"][name] == present[name] for name in SUBJECT + PLACE)), None)
    if entry is None:
        entries.append({"identity": present, "model_sha256": sha256, "sessions": [], "layers": None})
        return entries[-1], ""
    anew = differences(present, entry["identity"])
    anew += ["the model file has changed"] * (entry["model_sha256"] != sha256)
    if anew:
        entry.update(identity=present, model_sha256=sha256, sessions=[], layers=None)
    return entry, "; ".join(anew)


def _told(entry: Entry, anew: str) -> str:
    count, found = len(entry["sessions"]), entry["identity"]
    words = f"{found['model']} on {found['module']}: {count} session{'s' * (count != 1)}"
    if anew:
        words += f", begun anew ({anew})"
    return words + (f"; at least {SESSIONS} are needed, measure {SESSIONS - count} more" if count < SESSIONS else "")


def save(path: str | os.PathLike[str], entries: list[Entry]) -> None:
    """Write a baseline file atomically; into a folder, the files of the entries, each atomically, changed ones only.

    A path that ends in a slash is a folder, made where there is none.
    """
    if os.fspath(path).endswith(os.sep):
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise explain(error, path) from None
    if not Path(path).is_dir():
        write_text(path, to_text(entries))
        return
    for entry in entries:
        target, text = Path(path) / file_name(entry), to_text([entry])
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_text(target, text)


def file_name(entry: Entry) -> str:
    """The name of an entry's file in a folder: words for a person, and a hash for what they leave out."""
    found = entry["identity"]
    fixed = {name: found[name] for name in SUBJECT + PLACE}
    words = [found["model"], found["precision"], f"b{found['batch']}", found["runner"], found["module"],
             found["power_mode"], sha256_bytes(canonical_json(fixed).encode())[:8]]
    return "-".join(file_word(word) for word in words if word) + ".json"


def to_text(entries: list[Entry]) -> str:
    """The file's text: JSON with every list of numbers on one line, so that a session is a few lines of a diff."""
    return _text({"schema": SCHEMA, "entries": entries}, "\n") + "\n"


def _text(value: Any, margin: str) -> str:
    inner = margin + " "
    if isinstance(value, dict) and value:
        rows = [f"{json.dumps(name, ensure_ascii=False)}: {_text(each, inner)}" for name, each in value.items()]
        return "{" + inner + ("," + inner).join(rows) + margin + "}"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "[" + inner + ("," + inner).join(_text(each, inner) for each in value) + margin + "]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
