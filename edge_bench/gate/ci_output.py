"""What a CI system shows of the gate: GitHub's annotations, and a Markdown table for any summary or comment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devices.support.files import explain
from edge_bench.agent.comparison import interval_words, percent
from edge_bench.agent.result import figure
from edge_bench.gate import verdict

__all__ = ["annotate", "append_summary", "command", "markdown", "require_summary",
           "summary_path"]

_KEPT = {verdict.REGRESSION: "**regression**", verdict.UNMEASURED: "**could not measure**"}


def annotate(document: Mapping[str, Any]) -> list[str]:
    """GitHub workflow commands, one for each model that did not simply pass.

    Format: "Workflow commands for GitHub Actions", with its escapes. Other systems print them as text.
    """
    lines = []
    for model in document["models"]:
        found = model["verdict"]
        if found == verdict.PASS and not model["notes"]:
            continue
        fails = verdict.exit_code(found, document["inconclusive"]) != 0
        quiet = found in (verdict.PASS, verdict.IMPROVEMENT, verdict.NEW) or (
            found == verdict.INCONCLUSIVE and document["inconclusive"] == verdict.QUIET)
        level = "error" if fails else "notice" if quiet else "warning"
        lines.append(command(level, model["file"], f"edgesynth: {found}", " · ".join([model["line"], *model["notes"]])))
    return lines


def command(level: str, file: str | None, title: str, text: str) -> str:
    """One workflow command. level: "error", "warning" or "notice"."""
    fields = ",".join(f"{name}={_property(value)}" for name, value in (("file", file), ("title", title)) if value)
    return f"::{level} {fields}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def markdown(document: Mapping[str, Any]) -> str:
    """The verdicts as a Markdown section: a sentence, a table, and what is to be known of it."""
    against = document["against"]
    where = {"baseline": lambda: f"the baseline `{against['path']}`",
             "revision": lambda: f"`{against['ref']}` ({against['commit'][:8]}), measured in turns",
             "comparison": lambda: "their bases, measured in turns"}[against["kind"]]()
    lines = [f"### edgesynth: {document['verdict']}", "", f"Held against {where}.", "",
             "| model | metric | base | now | change | 95 % interval | tolerance | verdict |",
             "|---|---|--:|--:|--:|:-:|--:|---|"]
    for model in document["models"]:
        lines += [_row(model, row) for row in model["metrics"]]
        if not model["metrics"]:
            lines.append(f"| {_cell(model['model'])} | | | | | | | {_KEPT.get(model['verdict'], model['verdict'])} |")
    lines.append("")
    lines += [f"- {_text(model['line'])}" for model in document["models"]
              if model["verdict"] != verdict.PASS or not model["metrics"]]
    lines += [f"- {_text(model['model'])}: {_text(note)}" for model in document["models"] for note in model["notes"]]
    return "\n".join(lines).rstrip() + "\n\n"


def _row(model: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    known = row["ratio"] is not None
    change = "?" if not known else percent(row["ratio"]) + ("" if row["more_is_worse"] else " worse")
    cells = [model["model"], row["metric"], figure(row["baseline"]), f"{figure(row['present'])} {row['unit']}",
             change, interval_words(row) or "?", f"{100 * row['tolerance']:g} %"]
    return "| " + " | ".join(map(_cell, cells)) + f" | {_KEPT.get(row['verdict'], row['verdict'])} |"


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join("\\" + letter if letter in "\\`*_<>[]" else letter for letter in text.replace("\n", " "))


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def summary_path(given: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The file that the Markdown goes to: the one that was given, or GitHub's job summary."""
    return given or environment.get("GITHUB_STEP_SUMMARY") or None


def require_summary(given: str | None, environment: Mapping[str, str] = os.environ) -> None:
    """UserError where the Markdown cannot be appended; asked before the measurements, not after them."""
    path = summary_path(given, environment)
    if path and not Path(path).is_fifo():  # its reader would see the end
        _append(path, "")


def append_summary(path: str, document: Mapping[str, Any]) -> None:
    """Append the Markdown to a file. UserError where that fails."""
    _append(path, markdown(document))


def _append(path: str, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise explain(error, path) from None
