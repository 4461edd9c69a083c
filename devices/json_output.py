"""What a command gives as JSON beside what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from devices.support.errors import UserError
from devices.support.files import readable, require_writable, write_text

__all__ = ["give_json", "json_option"]

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(words: str = "Also write the result as JSON; - prints it.") -> Callable[[Command], Command]:
    """The --json of a command, with its help. A place that cannot be written is refused before the work."""
    return click.option("--json", "json_path", metavar="PATH|-", callback=_require_writable, help=words)


def _require_writable(context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    if path not in (None, "-"):
        try:
            require_writable(path)
        except UserError as error:
            raise UserError(f"--json {error}") from None
    return path


def give_json(value: Any, place: str | None) -> None:
    """Plain data as JSON to a file, or to standard output for "-"; to nowhere where no place is named."""
    if place is None:
        return
    text = readable(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))
    if place == "-":
        click.echo(text)
    else:
        write_text(place, text + "\n")
