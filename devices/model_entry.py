"""A fitted cost model as a board's file holds it: its constants with their sources, its errors, its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from devices.calibration import KIND_SIGMAS, Fit, Sample

__all__ = ["model_entry", "rounded"]

GIVEN = ("reference_gpu_mhz", "idle_w")  # measured or chosen, not fitted: as they are


def model_entry(fitted: Fit, samples: Sequence[Sample], sigma: Mapping[str, float], *, version: str, source: str,
                sigma_source: str, carrier: Mapping[str, Any], scope: str = "board", feeds_images: bool = False,
                sources: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The "cost_model" of a board's file.

    sigma: relative standard errors of "latency", and where power was measured "power" and "energy". source: of what was
    fitted; sources: of single constants instead. carrier: {"value", "low", "high", "source"} in W; without an interval
    nothing is known of one, and only the measured scope can be predicted. scope: of the power that was measured; of
    "module" and "board" the carrier's interval goes to the other one. feeds_images: whether the host's part of the rows
    prepares images, so that a program whose input lies ready spends less.
    """
    parameters: dict[str, Any] = {
        name: {"value": value if name in GIVEN else rounded(value), "source": (sources or {}).get(name, source)}
        for name, value in fitted.constants.items()}
    parameters["carrier_w"] = dict(carrier)
    kinds = {layer.kind for sample in samples for layer in sample.layers}
    ranges = {"batch": [s.batch for s in samples], "macs": [sum(c.macs for c in s.layers) for s in samples],
              "layers": [len(s.layers) for s in samples]}
    entry: dict[str, Any] = {
        "version": version,
        "measured_scope": {"value": scope, "source": source},
        "feeds_images": {"value": feeds_images, "source": source},
        "parameters": parameters,
        "relative_sigma": {what: {"value": round(value, 3), "source": sigma_source} for what, value in sigma.items()},
        "kind_sigma": {"value": {kind: known if kind in kinds else unknown
                                 for kind, (known, unknown) in KIND_SIGMAS.items()},
                       "source": "prior: of the logarithm of the rate, smaller for kinds that were measured"},
        "calibrated": {
            **{what: {"value": [min(v), max(v)], "source": "the rows fitted on"} for what, v in ranges.items()},
            "modes": {"value": sorted({s.mode for s in samples}), "source": "the rows fitted on"},
            "kinds": {"value": sorted(kinds), "source": "the rows fitted on"},
        },
    }
    if feeds_images:
        entry["stack_factors"] = {
            "value": rounded(fitted.stacks),
            "source": "times with other software and a host that only copies, relative to the rows without; fitted"}
        entry["ready_input"] = {part: {"value": rounded(value), "sigma": rounded(sigma),
                                       "source": "as a draw from the stacks that were measured (stack_factors)"}
                                for part, (value, sigma) in fitted.another_stack.items()}
    return entry


def rounded(value: Any) -> Any:
    """Numbers to four significant digits, in tables too."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}")
