"""The linter: what the target's TensorRT would misread or refuse in an ONNX file, mended where that is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.support.errors import UserError
from export.folding import fold
from export.graph import Graph
from export.rules import RULES
from export.rules.finding import ERROR, MENDED, WARNING, Finding

if TYPE_CHECKING:
    import onnx

    from export.dialect import Dialect

__all__ = ["ERROR", "MENDED", "WARNING", "Finding", "Lint", "lint"]


@dataclass(frozen=True)
class Lint:
    """What the rules found in one model, and the model as they left it (a copy; the given one is not touched)."""

    model: onnx.ModelProto
    findings: tuple[Finding, ...]

    def of(self, state: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == state]

    @property
    def errors(self) -> list[Finding]:
        return self.of(ERROR)

    def require(self, what: str) -> None:
        """UserError that names the first error when there is one: only a change of the network helps."""
        if self.errors:
            more = f" (and {len(self.errors) - 1} more)"
            raise UserError(f"{what} cannot be read there: {self.errors[0]}{more if len(self.errors) > 1 else ''}")

    def to_json(self) -> list[dict[str, str]]:
        return [finding.to_json() for finding in self.findings]


def lint(model: onnx.ModelProto, dialect: Dialect) -> Lint:
    """Run every rule over a copy of the model, weights included in it (document.load brings side files in)."""
    copy = type(model)()
    copy.CopyFrom(model)
    fold(copy)
    graph = Graph(copy)
    findings: list[Finding] = []
    for rule in RULES:
        findings.extend(rule(graph, dialect))
    return Lint(copy, tuple(findings))
