"""Tables that a click sorts: every cell knows what it says and what it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_bench.report.number import words


@dataclass(frozen=True)
class Cell:
    """words: what it says. sort: a number, a text, or "" for what is missing and stays last. small: the line below it.
    badge: whether it is a verdict, shown in its colour."""

    words: str
    sort: float | str
    small: str = ""
    badge: bool = False

    @property
    def kind(self) -> str:
        """Texts stand at the left, numbers at the right."""
        return "text" if isinstance(self.sort, str) and self.sort else ""


@dataclass(frozen=True)
class Table:
    """caption: what it holds, in a sentence. titles: of the columns. rows: of as many cells each, a name first."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def heads(self) -> list[tuple[str, str]]:
        """(title, kind) of every column."""
        return [(title, next((row[i].kind for row in self.rows if row[i].sort != ""), ""))
                for i, title in enumerate(self.titles)]


MISSING = Cell("–", "")


def quantity(value: float | None, unit: str = "") -> Cell:
    return MISSING if value is None else Cell(words(value, unit), value)


def phrase(text: str, small: str = "", *, badge: bool = False) -> Cell:
    return Cell(text, text, small, badge)
