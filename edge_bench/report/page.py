"""The page that every report stands on: one HTML file that needs nothing else, in light and in dark."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_BYTES = 2_000_000  # of a report
HERE = Path(__file__).parent


@functools.cache
def template(name: str, folder: Path = HERE) -> Any:
    """The template `name` of a folder, which may extend page.html and use parts.html of this one."""
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(HERE)]), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["duration"] = duration
    environment.globals["css"] = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    environment.globals["js"] = Markup((HERE / "page.js").read_text(encoding="utf-8"))
    return environment.get_template(name)


def fitting(make: Callable[[list[Any]], str], parts: list[Any]) -> str:
    """The page that `make` gives of as many of the parts, from the first on, as stay under 2 MB."""
    kept = list(parts)
    text = make(kept)
    while kept and len(text.encode()) > MOST_BYTES:
        kept.pop()
        text = make(kept)
    return text


def duration(seconds: float) -> str:
    """ "1:02", "1:04:10"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
