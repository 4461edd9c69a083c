"""What a command gives as JSON beside what it shows."""

from __future__ import annotations

import json
from typing import Any

import click

from devices.support.files import write_text

__all__ = ["give_json"]


def give_json(value: Any, place: str | None) -> None:
    """Plain data as JSON to a file, or to standard output for "-"; to nowhere where no place is named."""
    if place is None:
        return
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    if place == "-":
        click.echo(text)
    else:
        write_text(place, text + "\n")
