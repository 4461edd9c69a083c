"""The batch sizes that an exported file accepts: one, or a range with the size to tune for."""

from __future__ import annotations

from dataclasses import dataclass

from devices.support.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Smallest, tuned-for and largest number of images at once; all equal for a fixed batch."""

    min: int
    opt: int
    max: int

    @classmethod
    def parse(cls, text: str | int | Batch) -> Batch:
        """`8`, "8" or "1:8:32" (min:opt:max). UserError for anything else."""
        if isinstance(text, Batch):
            return text
        try:
            sizes = [int(word) for word in str(text).split(":")]
        except ValueError:
            sizes = []
        if len(sizes) == 1:
            sizes *= 3
        if len(sizes) != 3:
            raise UserError(f"batch '{text}' is not a size: write one number (8) or min:opt:max (1:8:32)")
        if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise UserError(f"batch '{text}' is out of order: it must be at least 1, and min <= opt <= max")
        return cls(*sizes)

    @property
    def is_dynamic(self) -> bool:
        return self.min != self.max

    @property
    def sizes(self) -> list[int]:
        """The different sizes, smallest first."""
        return sorted({self.min, self.opt, self.max})

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}" if self.is_dynamic else str(self.max)
