"""The gate: results held against a stored baseline, and comparisons measured in turns held against tolerances."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devices.support.errors import EdgesynthError
from edge_bench.agent import comparison, metrics, ratio
from edge_bench.agent import result as results
from edge_bench.gate import baseline, tolerances, verdict
from edge_bench.gate.verdict import ModelVerdict

__all__ = ["MORE_SESSIONS", "check_comparisons", "check_kept_comparisons", "check_results", "check_sessions",
           "update_baseline"]

# Where one session cannot tell, so many more are measured, once: with these a 10 % regression is told from a tolerance
# of 5 % in 99 of 100 cases even where all of 2 % of noise re-rolls by session (tests/benchmarks/bench_gate.py).
MORE_SESSIONS = 3
WORK = ("batch", "pipelined")  # what the two sides of a comparison have in common, whatever else a change touches

Result = dict[str, Any]
Paths = Sequence[str | os.PathLike[str]]


def check_results(paths: Paths, baseline_path: str | os.PathLike[str], allowed: dict[str, float] | None = None,
                  force: bool = False, more: Callable[[Result, str], list[tuple[str, Result]]] | None = None,
                  ) -> list[ModelVerdict]:
    """The verdicts of result files against a baseline file or folder, one for each model and board.

    Several results of one model on one board are its sessions and are judged together. allowed: {metric: share}; None
    holds median latency and, where the baseline has it, energy within 5 %. force: also compare what is marked quick,
    unlocked, not steady or throttled, and across boards and versions. more: measures further sessions of a result
    (path and result of each) and is called once for a model of which the first look told nothing.

    UserError for files that are damaged or no results.
    """
    entries = baseline.load(baseline_path)
    groups: dict[str, list[tuple[str, Result]]] = {}
    loaded = [(os.fspath(path), results.load(os.fspath(path))) for path in paths]
    baseline.require_one_model_a_name(loaded)
    for path, result in loaded:
        key = f"{sorted(baseline.identity(result).items(), key=str)} {result['model']['sha256']}"
        group = groups.setdefault(key, [])
        if result["created"] not in [other["created"] for _, other in group]:  # one session counts once
            group.append((path, result))
    verdicts = []
    for group in groups.values():
        first_path, first = group[0]
        without = [path for path, result in group if baseline.without_record(result, path)]
        found = check_sessions([result for _, result in group], entries, allowed, force,
                               (lambda: more(first, first_path)) if more else None)  # noqa: B023 (called at once)
        found.results[:0] = [path for path, _ in group]
        found.notes += [f"{path} has no raw samples beside it and cannot be recomputed" for path in without]
        verdicts.append(found)
    return verdicts


def check_sessions(sessions: list[Result], entries: list[baseline.Entry], allowed: dict[str, float] | None = None,
                   force: bool = False, more: Callable[[], list[tuple[str, Result]]] | None = None) -> ModelVerdict:
    """The verdict of the sessions of one model on one board against a baseline's entries; see `check_results`."""
    present = baseline.identity(sessions[0])
    found = ModelVerdict(present["model"], identity=present)
    entry = baseline.nearest(entries, present)
    if entry is None:
        known = ", ".join(sorted({other["identity"]["model"] for other in entries}))
        return found.settled(verdict.UNMEASURED,
                             f"the baseline holds no such model (it holds {known}): add it with --update")
    obstacles = _obstacles(sessions, present, entry)
    if obstacles and (not force or present["pipelined"] != entry["identity"]["pipelined"]):
        return found.settled(verdict.UNMEASURED, f"{'; '.join(words for words, _ in obstacles)}: {obstacles[0][1]}")
    found.notes += [f"forced: {words}" for words, _ in obstacles]
    own = {session["created"] for session in entry["sessions"]} & {session["created"] for session in sessions}
    if own and entry["model_sha256"] == sessions[0]["model"]["sha256"]:
        found.notes.append(f"the baseline holds the session of {min(own)} itself, which makes the two look alike")
    if allowed is None:
        allowed = dict(tolerances.DEFAULTS)
        if not any("energy_mj" in session["trials"] for session in entry["sessions"]):
            del allowed["energy"]
    found.method = "sessions"
    found.sessions = {"baseline": len(entry["sessions"]), "present": len(sessions), "more": 0}
    sessions = _decide(found, sessions, allowed, lambda name, measured: _row(name, measured, entry, force), more)
    found.layers = _layers(sessions, entry)
    return found.judged()


def _decide(found: ModelVerdict, measured: list[Any], allowed: dict[str, float],
            row: Callable[[str, list[Any]], dict[str, Any]], more: Callable[[], list[tuple[str, Any]]] | None,
            ) -> list[Any]:
    """Judge every metric, after one further measurement where the first look tells nothing; all that was measured."""
    def judged() -> list[dict[str, Any]]:
        return [verdict.judge(row(name, measured), share) for name, share in allowed.items()]

    found.metrics = judged()
    if more and verdict.worst(each["verdict"] for each in found.metrics) == verdict.INCONCLUSIVE:
        measured = measured + _more(found, more, measured)
        found.metrics = judged()
    return measured


def _more(found: ModelVerdict, more: Callable[[], list[tuple[str, Any]]], known: list[Any]) -> list[Any]:
    """What `more` measures, counted and noted in the verdict; [] with a note where it cannot be measured.

    What is `known` already, or comes twice, is left out: a board that did not hear that a result had arrived hands out
    the same one at the next call.
    """
    measured, seen = [], {each["created"] for each in known}
    try:
        for path, each in more():
            if each["created"] not in seen:
                seen.add(each["created"])
                measured.append((path, each))
    except EdgesynthError as error:
        found.notes.append(f"the first look told nothing, and more could not be measured: {error}")
        return []
    found.results += [path for path, _ in measured]
    count = len(measured) if found.method == "sessions" else sum(len(each["head"]["trials"]) for _, each in measured)
    found.sessions["more"] = count
    found.sessions["present"] += count
    if found.method == "interleaved":
        found.sessions["baseline"] += count
    return [each for _, each in measured]


def _obstacles(sessions: list[Result], present: dict[str, Any], entry: baseline.Entry) -> list[tuple[str, str]]:
    """Why these cannot be compared soundly, each with its remedy."""
    found = []
    different = baseline.differences(present, entry["identity"])
    if different:
        found.append((f"not comparable: {', '.join(different)}",
                      "measure as the baseline was, renew it with --update, or compare all the same with --force"))
    marks = [mark for mark in results.NOT_COMPARABLE if any(mark in session["marks"] for session in sessions)]
    if marks:
        found.append((f"the result is marked {', '.join(marks)}",
                      "measure again, or compare all the same with --force"))
    missing = baseline.SESSIONS - len(entry["sessions"])
    if missing > 0:
        found.append((f"the baseline pools {len(entry['sessions'])} of {baseline.SESSIONS} sessions",
                      f"add {missing} more with --update, or compare all the same with --force"))
    return found


def _row(name: str, sessions: list[Result], entry: baseline.Entry, force: bool) -> dict[str, Any]:
    """One metric of sessions against those of a baseline entry, as `agent.comparison.row` makes it of pairs, before it
    is judged. Of the stored ones, those count that have the metric."""
    metric = metrics.METRICS[name]
    new = [metrics.values(session, metric.field) for session in sessions]
    stored = [session for session in entry["sessions"] if metric.field in session["trials"]]
    old = [session["trials"][metric.field] for session in stored]
    for side, parts in (("the result", new), ("the baseline", old)):
        if not parts or not all(parts):
            return metrics.unmeasured(name, f"{side} has no {name}: measure it" + " with --power" * (name == "energy"))
    if len(stored) < baseline.SESSIONS and not force:
        return metrics.unmeasured(name, f"{len(stored)} of {baseline.SESSIONS} sessions of the baseline have {name}: "
                                        "add more with --update, or compare all the same with --force")
    if name == "energy":
        scopes = {(session.get("power") or {}).get("scope") for session in sessions} | {one["scope"] for one in stored}
        if metrics.scopes_differ(scopes):
            return metrics.unmeasured(name, metrics.scopes_differ(scopes))
    bounds = [max(metrics.rounding(session, metric.field) for session in sessions),
              max(session["rounding"] for session in stored)] if name == "energy" else []
    found = ratio.of_sessions(new, old, bounds)
    found = found if metric.more_is_worse else ratio.inverse(found)
    return {**metrics.unmeasured(name, "one trial shows no spread: measure at least 5"),
            "ratio": found.value, "low": found.low, "high": found.high,
            "baseline": ratio.centre(old), "present": ratio.centre(new)}


def _layers(sessions: list[Result], entry: baseline.Entry) -> list[dict[str, Any]] | None:
    new = next((session["layers"] for session in reversed(sessions) if session.get("layers")), None)
    old = [{"name": name, "ms": ms} for name, ms in (entry["layers"] or {}).items()]
    return comparison.layer_changes(old, new)


def check_comparisons(found: ModelVerdict, compared: list[dict[str, Any]], allowed: dict[str, float] | None = None,
                      more: Callable[[], list[tuple[str, dict[str, Any]]]] | None = None) -> ModelVerdict:
    """`found` with the verdict of comparisons (schema edgesynth.compare/1) of one base and one head.

    All pairs of all comparisons count. allowed, more: as for `check_results`. Where the sides do not do the same work
    an inference, nothing is compared.
    """
    head = compared[0]["head"]
    found.identity = baseline.identity(head)
    different = dict.fromkeys(words for one in compared for words in baseline.differences(
        baseline.identity(one["head"]), baseline.identity(one["base"]), WORK))
    if different:
        return found.settled(verdict.UNMEASURED,
                             f"not comparable: {', '.join(different)}: measure both at one --batch and in one way")
    found.method = "interleaved"
    if allowed is None:
        allowed = dict(tolerances.DEFAULTS)
        if not metrics.values(head, "energy_mj"):
            del allowed["energy"]
            found.notes.append("energy was not measured: add --power")
    count = sum(len(one["head"]["trials"]) for one in compared)
    found.sessions = {"baseline": count, "present": count, "more": 0}
    compared = _decide(found, compared, allowed, lambda name, measured: comparison.row(
        name, [(one["base"], one["head"]) for one in measured]), more)
    marks = [mark for mark in results.NOT_COMPARABLE if any(mark in one["marks"] for one in compared)]
    found.notes += [f"marked {', '.join(marks)}"] if marks else []
    found.notes += dict.fromkeys(text for one in compared for text in one["warnings"])
    found.layers = next((one["layers"] for one in compared if one["layers"]), None)
    return found.judged()


def check_kept_comparisons(paths: Paths, allowed: dict[str, float] | None = None) -> list[ModelVerdict]:
    """The verdicts of comparison files, one for each head; several of the same two models count together."""
    groups: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for path in [os.fspath(path) for path in paths]:
        found = comparison.load(path)
        identity = baseline.identity(found["head"])
        key = (found["base"]["model"]["sha256"], found["head"]["model"]["sha256"], *map(str, identity.values()))
        group = groups.setdefault(key, [])
        if found["created"] not in [other["created"] for _, other in group]:
            group.append((path, found))
    verdicts = []
    for group in groups.values():
        model = ModelVerdict(group[0][1]["head"]["model"]["name"], results=[path for path, _ in group])
        verdicts.append(check_comparisons(model, [found for _, found in group], allowed))
    return verdicts


def update_baseline(paths: Paths, baseline_path: str | os.PathLike[str], force: bool = False) -> list[str]:
    """Put results into a baseline file or folder (a file is made where there is none); a sentence an entry.

    All or nothing for a file: every result is read and found sound before anything is written. UserError for a result
    that is marked quick, unlocked, not steady or throttled, or has no raw samples beside it, unless forced.
    """
    folder = Path(baseline_path)
    empty = not any(folder.glob("*.json")) if folder.is_dir() else not folder.exists()  # git keeps one by a .gitkeep
    entries = [] if empty else baseline.load(baseline_path)
    loaded = [(os.fspath(path), results.load(os.fspath(path))) for path in paths]
    for path, result in loaded:
        baseline.require_sound(result, path, force)
    baseline.require_one_model_a_name(loaded)
    told = baseline.add_sessions(entries, [result for _, result in loaded])
    baseline.save(baseline_path, entries)
    return told
