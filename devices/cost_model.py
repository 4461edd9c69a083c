"""What a network costs on a target: latency, power and energy with their intervals.

The formula is `devices.cost_formula`; its constants, with their sources, are in the board's file, and
`devices.calibration` fits them. Here numbers become readings that say what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from devices.board import Target, value_of
from devices.cost_formula import Costs, LayerArrays, formula, resolve
from devices.layer_cost import LayerCost
from devices.support.errors import UserError
from devices.support.reading import BOARD, MODULE, PREDICTED, Reading

__all__ = ["CostModel", "LayerArrays", "Prediction"]

Z95 = 1.959964
LARGE_HOST_SHARE = 0.4  # from which a prediction says where the host's part comes from


@dataclass
class Prediction:
    """Predicted readings of one network. latency_ms is that of the batch; energy is per image.

    power_w, energy_mj and img_per_joule: by scope, "module" and "board". layers: every layer with its share of the
    latency, heaviest first. warnings: what a reader must know before relying on the numbers.
    """

    target: str
    precision: str
    batch: int
    latency_ms: Reading
    power_w: dict[str, Reading]
    energy_mj: dict[str, Reading]
    img_per_joule: dict[str, Reading]
    layers: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data of everything, layers heaviest first."""
        scoped = {name: {scope: reading.to_json() for scope, reading in getattr(self, name).items()}
                  for name in ("power_w", "energy_mj", "img_per_joule")}
        return {"target": self.target, "precision": self.precision, "batch": self.batch,
                "latency_ms": self.latency_ms.to_json(), **scoped, "layers": self.layers, "warnings": self.warnings}


class CostModel:
    """The cost model of one target and precision; `constants` is the "cost_model" of the board's file.

    input_ready: the host only copies an input that lies ready in memory. Otherwise it feeds images from the CPU, as in
    the published runs that the model is calibrated on.
    """

    def __init__(self, target: Target, precision: str, constants: dict[str, Any], input_ready: bool = False):
        if target.mode is None:
            raise UserError(f"{target.board.title} has no power modes, and the cost model needs the clocks of one")
        self.target, self.precision, self.constants = target, precision, constants
        ready = ", input ready" if input_ready else ""
        self.source = f"{target.board.name} cost model {constants['version']}{ready}"
        values = {name: value_of(entry) for name, entry in constants["parameters"].items()}
        host = value_of(constants["ready_input_factor"]) if input_ready else 1.0
        self.input_ready = input_ready
        self.resolved = resolve(target.board, values, target.mode.name, precision, host)

    @classmethod
    def for_target(cls, target: Target, precision: str, input_ready: bool = False) -> CostModel:
        """UserError for a board without a cost model, or a precision that it does not have."""
        precision = target.board.require_precision(precision)
        constants = target.board.data.get("cost_model")
        if constants is None:
            raise UserError(f"{target.board.title} has no cost model yet: predict for tx2, "
                            "or measure with `edgesynth bench` on the board")
        return cls(target, precision, constants, input_ready)

    def costs(self, arrays: LayerArrays, batch: int = 1) -> Costs:
        """Times and energies of every candidate for a batch. UserError for a batch that is not a positive integer."""
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise UserError(f"batch must be a positive whole number, not {batch!r}")
        return formula(self.resolved, arrays, int(batch))

    def evaluate(self, arrays: LayerArrays, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """latency_ms of the batch [n_candidates] and energy_mj per image in module scope [n_candidates]."""
        costs = self.costs(arrays, batch)
        return costs.latency_ms, costs.module_mj / batch

    def predict(self, layers: Sequence[LayerCost], batch: int = 1) -> Prediction:
        """Readings with 95 % intervals for one network. UserError for batch < 1 or no layers."""
        if not layers:
            raise UserError("the network has no layers that cost anything: nothing to predict")
        costs = self.costs(LayerArrays.of(layers), batch)
        latency, board, module = float(costs.latency_ms[0]), float(costs.board_mj[0]), float(costs.module_mj[0])
        beyond = self._beyond_calibration(layers, batch)
        # each thing that calibration has not seen widens the interval by half of its width
        spread = {what: (1 + 0.5 * len(beyond)) * value_of(self.constants["relative_sigma"][what])
                  for what in ("latency", "power", "energy")}
        carrier = self.constants["parameters"]["carrier_w"]
        carrier_mj = (carrier["high"] - carrier["low"]) / (2 * Z95) * latency
        energy = {MODULE: module, BOARD: board}

        def relative(what: str, scope: str) -> float:
            """Relative standard error; the module's takes in the carrier's, which is only known by its prior."""
            return spread[what] if scope == BOARD else math.hypot(spread[what], carrier_mj / module)

        return Prediction(
            target=str(self.target), precision=self.precision, batch=int(batch),
            latency_ms=self._reading(latency, "ms", spread["latency"]),
            power_w={s: self._reading(mj / latency, "W", relative("power", s), s) for s, mj in energy.items()},
            energy_mj={s: self._reading(mj / batch, "mJ", relative("energy", s), s) for s, mj in energy.items()},
            img_per_joule={s: self._reading(1e3 * batch / mj, "img/J", relative("energy", s), s)
                           for s, mj in energy.items()},
            layers=_shares(layers, costs),
            warnings=[*beyond, *_uncosted(layers), *([] if self.input_ready else _fed(costs))],
        )

    def _reading(self, value: float, unit: str, sigma: float, scope: str | None = None) -> Reading:
        factor = math.exp(Z95 * sigma)
        return Reading(value, unit, PREDICTED, self.source, low=value / factor, high=value * factor, scope=scope)

    def _beyond_calibration(self, layers: Sequence[LayerCost], batch: int) -> list[str]:
        """What of this prediction the calibration has not seen, as warnings."""
        known = {what: value_of(entry) for what, entry in self.constants["calibrated"].items()}
        found = {"batch": batch, "macs": sum(layer.macs for layer in layers), "layers": len(layers)}
        warnings = [f"outside the calibrated range: {what} {value:,} (calibrated: {known[what][0]:,} to "
                    f"{known[what][1]:,})" for what, value in found.items()
                    if not known[what][0] <= value <= known[what][1]]
        unseen = sorted({layer.kind for layer in layers if layer.macs} - set(known["kinds"]))
        if unseen:
            warnings.append(f"outside the calibrated range: no row has {', '.join(unseen)} layers")
        mode = self.target.mode
        if mode is not None and mode.name not in known["modes"]:
            warnings.append(f"power mode {mode.name} was not measured: the nearest mode's constants stand in")
        return warnings


def _shares(layers: Sequence[LayerCost], costs: Costs) -> list[dict[str, Any]]:
    """Every layer, and the host, with its share of the latency, heaviest first."""
    total, host = float(costs.latency_ms[0]), float(costs.host_ms[0])
    rows = [{"name": layer.name, "kind": layer.kind, "latency_ms": float(ms), "share": float(ms) / total,
             "macs": layer.macs, "output_shape": list(layer.output_shape)}
            for layer, ms in zip(layers, costs.layer_ms[0], strict=True)]
    rows.append({"name": "(host)", "kind": "host", "latency_ms": host, "share": host / total, "macs": 0,
                 "output_shape": []})
    return sorted(rows, key=lambda row: -row["share"])


def _uncosted(layers: Sequence[LayerCost]) -> list[str]:
    names = [layer.name for layer in layers if layer.kind == "unknown"]
    return [f"counted as bandwidth only, since there is no cost for: {', '.join(names)}"] if names else []


def _fed(costs: Costs) -> list[str]:
    share = float(costs.host_ms[0] / costs.latency_ms[0])
    if share < LARGE_HOST_SHARE:
        return []
    return [f"{100 * share:.0f} % of the latency is the host's part as in the published runs, which feed images from "
            "the CPU; a program whose input lies ready pays less (input_ready)"]
