"""Which ONNX the TensorRT of a target reads: its opset, its IR version, and where precision is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devices.board import resolve_target
from devices.support.errors import UserError

if TYPE_CHECKING:
    from devices.board import Board, Target

# Precision is a flag of the builder up to TensorRT 10; 11 takes it from the graph alone (API of 11.4's own bindings).
FIRST_STRONGLY_TYPED = (11,)

# Hosts name no JetPack. A desktop's TensorRT is taken to be today's; ONNX Runtime reads all that TensorRT 8.4 reads.
HOSTS: dict[str, tuple[tuple[tuple[int, ...], ...], int]] = {"nvidia-gpu": (((11, 4),), 20), "cpu": ((), 17)}


@dataclass(frozen=True)
class Dialect:
    """What one board reads, in any power mode, whichever of its JetPacks runs there.

    target: the board's name; jetpacks: those it stands for; tensorrt: their versions, oldest first, () where ONNX
    Runtime reads the file; opset: the highest that all of their parsers know; ir: the IR version that belongs to it.
    """

    target: str
    jetpacks: tuple[str, ...]
    tensorrt: tuple[tuple[int, ...], ...]
    opset: int
    ir: int
    board: Board = field(compare=False, repr=False)

    @property
    def precision_in_graph(self) -> bool:
        """Whether reduced precision has to be in the file; else the engine's builder is told."""
        return all(version >= FIRST_STRONGLY_TYPED for version in self.tensorrt)

    def before(self, *version: int) -> bool:
        """Whether one of the target's TensorRTs is older than that version."""
        return any(own < version for own in self.tensorrt)

    @property
    def reader(self) -> str:
        """The oldest reader, in words."""
        return f"TensorRT {'.'.join(map(str, self.tensorrt[0]))}" if self.tensorrt else "ONNX Runtime"

    def later(self, *version: int, opset: int = 0) -> str:
        """How a person gets there, to append to a remedy: the JetPack of this board whose TensorRT is of that version
        and whose parser of that opset; "" where the board has none or it is what is written for."""
        rows = [row for row in self.board.software if row.get("max_opset", -1) >= opset]
        rows = [row for row in rows if _version(row["tensorrt"]) >= version]
        if not rows or rows[0]["jetpack"] == (self.jetpacks or ("",))[0]:
            return ""
        name = rows[0]["jetpack"]
        return f", or write for JetPack {name} alone, with --jetpack {re.split(r'[,-]', name)[0]}"

    def require_precision(self, precision: str) -> str:
        """The precision in lower case; UserError, with the reason, when the board does not compute in it."""
        return self.board.require_precision(precision)


def dialect_of(target: str | Target, jetpack: str | None = None) -> Dialect:
    """The dialect of a target, `tx2` or `tx2:maxq`: what every JetPack of the board reads, or the one that is named.

    JetPacks before 4.6 are left out: their opset is not known. UserError for what is not known.
    """
    import onnx

    target = resolve_target(target) if isinstance(target, str) else target
    board = target.board
    rows = [row for row in board.software if row.get("max_opset")]
    if jetpack is not None:
        chosen = [row for row in rows if _covers(row["jetpack"], jetpack)]
        if not chosen:  # all of them: the one that looks most like it is seldom the one that is meant
            known = ", ".join(row["jetpack"] for row in rows)
            raise UserError(f"unknown JetPack of {board.name} '{jetpack}': known: {known}")
        rows = chosen
    if rows:
        tensorrt = tuple(sorted(_version(row["tensorrt"]) for row in rows))
        opset = min(row["max_opset"] for row in rows)
    elif board.kind == "jetson":
        raise UserError(f"{board.title}: its board file names no JetPack whose opset is known; add max_opset to one")
    else:
        tensorrt, opset = HOSTS.get(board.base_name, HOSTS["cpu"])
    ir = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return Dialect(board.name, tuple(row["jetpack"] for row in rows), tensorrt, opset, ir, board)


def _version(text: str) -> tuple[int, ...]:
    """(8, 2, 1) of "8.2.1"; of a range the older end."""
    return tuple(int(part) for part in text.split("-")[0].split("."))


def _covers(listed: str, asked: str) -> bool:
    """Whether a row's JetPacks, "4.6.1-4.6.6", "6.1, 6.2" or "5.1.x", hold the one that is asked for."""
    for part in re.split(r",\s*", listed):
        low, _, high = part.partition("-")
        if asked == part or (part.endswith(".x") and (asked + ".").startswith(part[:-1])):
            return True
        try:
            if high and _version(low) <= _version(asked) <= _version(high):
                return True
        except ValueError:
            continue
    return False
