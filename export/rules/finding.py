"""What a rule found: the node, what is wrong with it there, and what to do or what was done."""

from __future__ import annotations

from dataclasses import asdict, dataclass

ERROR, WARNING, MENDED = "error", "warning", "mended"


@dataclass(frozen=True)
class Finding:
    """One thing that the target's TensorRT misreads or refuses.

    rule: the rule's name; node: the node's name, or what else it is about; state: "error" (the file is misread or
    refused there), "warning" (it works, but not as one may think) or "mended" (the file was changed, and still computes
    the same). remedy: what the user can do, or what was done.
    """

    rule: str
    node: str
    state: str
    problem: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.node}: {self.problem}; {self.remedy}"
