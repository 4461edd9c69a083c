"""Tolerances: how much worse a metric may be before the gate calls it a regression."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from devices.support.errors import UserError, unknown
from edge_bench.agent.metrics import METRICS

__all__ = ["DEFAULTS", "is_tolerance", "parse_tolerances"]

DEFAULTS = {"energy": 0.05, "latency": 0.05}
_WORD = re.compile(r"^([A-Za-z_0-9]+)=([^=]*)$")
_SHARE = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)(%?)$")


def is_tolerance(word: str) -> bool:
    """Whether a command-line word is meant as a tolerance such as energy=5%, and not as a file."""
    return bool(_WORD.match(word)) and not os.path.exists(word)


def parse_tolerances(words: Iterable[str]) -> dict[str, float]:
    """{metric: share} of words such as "energy=5%" or "latency_p99=0.1". UserError for a word that is none."""
    tolerances = {}
    for word in " ".join(words).replace(",", " ").split():
        match = _WORD.match(word)
        if not match:
            raise UserError(f"--tolerance {word} is not understood: write energy=5% or latency_p99=10%")
        name, value = match.groups()
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
        share = _SHARE.match(value)
        if not share:
            raise UserError(f"--tolerance {word}: a tolerance is a share of the baseline: write {name}=5%")
        tolerances[name] = float(share.group(1)) / (100 if share.group(2) else 1)
        if tolerances[name] >= 1 and not share.group(2):
            raise UserError(f"--tolerance {word} would be {tolerances[name]:.0%}: write {name}={value}%")
    return tolerances
