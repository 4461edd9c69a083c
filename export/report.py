"""What an export says of itself: the file, and how it was proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from export.parity import Parity
from export.rules.finding import Finding
from export.samples import Accuracy

SCHEMA = "edgesynth.export/1"
GRAPH, BUILDER = "graph", "builder"


@dataclass(frozen=True)
class Labels:
    """What is written into the file for those who use it later.

    name: of the network; normalisation: what turns raw pixels into its input, e.g. {"mean": [...], "std": [...]};
    labels: names of its classes; others: any further JSON values.
    """

    name: str | None = None
    normalisation: Mapping[str, object] | None = None
    labels: Sequence[str] | None = None
    others: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was proved.

    size_bytes and params are of the file. precision_by: "graph" when the file itself computes in the precision,
    "builder" when the engine's builder has to be told. parity: of the file as written; precision_parity: of an FP16
    copy of it, where the builder is to round, as a forecast of what its engine will answer; accuracy: of the file, or
    of that copy. duration_s: of it all. notes: why it had to do without images.
    """

    path: str
    sha256: str
    size_bytes: int
    params: int
    target: str
    reader: str
    opset: int
    ir: int
    precision: str
    precision_by: str
    batch: str
    inputs: dict[str, list]
    outputs: dict[str, list]
    findings: tuple[Finding, ...]
    parity: Parity
    precision_parity: Parity | None
    accuracy: Accuracy | None
    duration_s: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {"schema": SCHEMA, **asdict(self)}
