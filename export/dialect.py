"""Which ONNX the TensorRT of a target reads: its opset, its IR version, and where precision is said."""

from __future__ import annotations

from dataclasses import dataclass

from devices.support.errors import UserError, unknown

# precision is a flag of the builder up to TensorRT 10; 11 takes it from the graph alone (tensorrt-and-onnx.md 4)
FIRST_STRONGLY_TYPED = (11, 0)


@dataclass(frozen=True)
class Dialect:
    """What one target reads.

    target: its name; tensorrt: (major, minor) of the TensorRT there; opset: the highest that its parser knows;
    ir: the IR version that belongs to the opset; precisions: what the board computes in, e.g. ("fp32", "fp16").
    """

    target: str
    tensorrt: tuple[int, int]
    opset: int
    ir: int
    precisions: tuple[str, ...]

    @property
    def precision_in_graph(self) -> bool:
        return self.tensorrt >= FIRST_STRONGLY_TYPED


_UNTIL_BOARDS_LAND = {"tx2": ((8, 2), 13), "nano": ((8, 2), 13)}


def dialect_of(target: str) -> Dialect:
    """The dialect of a target: `tx2`, `tx2:maxq`. UserError for one that is not known."""
    import onnx

    board = target.partition(":")[0]
    if board not in _UNTIL_BOARDS_LAND:
        raise unknown("target", target, _UNTIL_BOARDS_LAND)
    tensorrt, opset = _UNTIL_BOARDS_LAND[board]
    ir = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return Dialect(target, tensorrt, opset, ir, ("fp32", "fp16"))


def require_precision(dialect: Dialect, precision: str) -> None:
    """UserError when the board does not compute in that precision."""
    if precision not in dialect.precisions:
        raise UserError(f"{dialect.target} has no {precision}: choose one of {', '.join(dialect.precisions)}")
