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
from devices.cost_formula import Costs, LayerArrays, formula, resolve, stacked
from devices.layer_cost import LAYER_KINDS, LayerCost
from devices.support.errors import UserError
from devices.support.reading import BOARD, MODULE, PREDICTED, Z95, Reading

__all__ = ["CostModel", "LayerArrays", "Prediction"]

UNSEEN_WIDENS = 0.5  # by what part of itself the error grows with each thing that the calibration has not seen
ENTRIES = ("version", "parameters", "measured_scope", "feeds_images", "relative_sigma", "kind_sigma", "calibrated")
LARGE_HOST_SHARE = 0.4  # from which a prediction says where the host's part comes from


@dataclass
class Prediction:
    """Predicted readings of one network. latency_ms is that of the batch; energy is per image.

    power_w, energy_mj and img_per_joule: by scope, as `CostModel.scopes`. layers: every layer with its share of the
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

    input_ready: the host only copies an input that lies ready in memory, under whatever TensorRT; what that changes is
    known from few published runs, and the interval says so. Otherwise the host does what it did where the model was
    calibrated: in the published runs of the TX2 it feeds images from the CPU.
    """

    def __init__(self, target: Target, precision: str, constants: dict[str, Any], input_ready: bool = False):
        if target.mode is None:
            raise UserError(f"{target.board.title} has no power modes, and the cost model needs the clocks of one")
        self.target, self.precision, self.constants = target, precision, constants
        another = constants.get("ready_input") if input_ready else None
        self.input_ready = input_ready or not value_of(constants["feeds_images"])
        self.source = f"{target.board.name} cost model {constants['version']}{', input ready' if another else ''}"
        factors = {part: another[part]["value"] if another else 1.0 for part in ("gpu", "host")}
        sigmas = {part: another[part]["sigma"] for part in factors} if another else {}
        self.resolved = self._resolve(**factors)
        # the same constants, each time with one thing wrong by a standard error
        self.wrong_by_sigma = stacked([self.resolved, self._unsure_of_kinds(), *(
            self._resolve(**{**factors, part: factors[part] * math.exp(sigma)}) for part, sigma in sigmas.items())])

    @classmethod
    def for_target(cls, target: Target, precision: str, input_ready: bool = False) -> CostModel:
        """UserError for a board without a cost model, or a precision that it does not have."""
        precision = target.board.require_precision(precision)
        constants = target.board.data.get("cost_model")
        if constants is None:
            raise UserError(f"{target.board.title} has no cost model yet: make one with `edgesynth devices calibrate` "
                            "on the board, or predict for tx2")
        missing = [name for name in ENTRIES if name not in constants]
        if missing:
            raise UserError(f"{target.board.path or target.board.name}: its cost model lacks {', '.join(missing)}: it "
                            "is of another version; calibrate the board again")
        return cls(target, precision, constants, input_ready)

    def _resolve(self, **factors: float) -> dict[str, Any]:
        assert self.target.mode is not None
        values = {name: value_of(entry) for name, entry in self.constants["parameters"].items()}
        return resolve(self.target.board, values, self.target.mode.name, self.precision,
                       feeds=not self.input_ready, **factors)

    def _unsure_of_kinds(self) -> dict[str, Any]:
        sigmas = value_of(self.constants["kind_sigma"])
        slower = np.exp([sigmas.get(kind, 0.0) for kind in LAYER_KINDS])
        return {**self.resolved, "rates": self.resolved["rates"] / slower}

    @property
    def scopes(self) -> tuple[str, ...]:
        """Those whose energy can be predicted: none where the model was calibrated without power, and only the one that
        was measured where nothing is known of a carrier."""
        if "energy" not in self.constants["relative_sigma"]:
            return ()
        carried = "low" in self.constants["parameters"]["carrier_w"]
        return (MODULE, BOARD) if carried else (value_of(self.constants["measured_scope"]),)

    def costs(self, arrays: LayerArrays, batch: int = 1) -> Costs:
        """Times and energies of every candidate for a batch. UserError for a batch that is not a positive integer."""
        return formula(self.resolved, arrays, _checked(batch))

    def evaluate(self, arrays: LayerArrays, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """latency_ms of the batch [n_candidates] and energy_mj per image in module scope [n_candidates]."""
        costs = self.costs(arrays, batch)
        return costs.latency_ms, costs.module_mj / batch

    def predict(self, layers: Sequence[LayerCost], batch: int = 1) -> Prediction:
        """Readings with 95 % intervals for one network; without energies where the model has none. UserError for
        batch < 1 or no layers."""
        if not layers:
            raise UserError("the network has no layers that cost anything: nothing to predict")
        several = formula(self.wrong_by_sigma, LayerArrays.of(layers), _checked(batch))
        latency = float(several.latency_ms[0])
        beyond = self._beyond_calibration(layers, batch, several)
        widened = 1 + UNSEEN_WIDENS * sum(beyond.values())
        # another scope ("package", "gpu") has no carrier beside it: the two energies are the same there
        energy = {scope: several.module_mj if scope == MODULE else several.board_mj for scope in self.scopes}
        carrier = self.constants["parameters"]["carrier_w"]

        def sigma(what: str, values: np.ndarray, scope: str | None = None) -> float:
            """Relative standard error: of networks that the fit has not seen, of what is unsure about this one, and of
            the carrier in the scope that was not measured."""
            parts = [widened * value_of(self.constants["relative_sigma"][what]), *np.log(values[1:] / values[0])]
            if scope not in (None, value_of(self.constants["measured_scope"])):
                parts.append((carrier["high"] - carrier["low"]) / (2 * Z95) * latency / float(energy[scope][0]))
            return math.hypot(*parts)

        def readings(what: str, unit: str, values: dict[str, np.ndarray]) -> dict[str, Reading]:
            return {scope: self._reading(float(several[0]), unit, sigma(what, several, scope), scope)
                    for scope, several in values.items()}

        return Prediction(
            target=str(self.target), precision=self.precision, batch=int(batch),
            latency_ms=self._reading(latency, "ms", sigma("latency", several.latency_ms)),
            power_w=readings("power", "W", {scope: mj / several.latency_ms for scope, mj in energy.items()}),
            energy_mj=readings("energy", "mJ", {scope: mj / batch for scope, mj in energy.items()}),
            img_per_joule=readings("energy", "img/J", {scope: 1e3 * batch / mj for scope, mj in energy.items()}),
            layers=_shares(layers, several),
            warnings=[*beyond, *_uncosted(layers), *([] if self.input_ready else _fed(several)),
                      *([] if energy else ["no energies: the model was calibrated without a power source"])],
        )

    def _reading(self, value: float, unit: str, sigma: float, scope: str | None = None) -> Reading:
        factor = math.exp(Z95 * sigma)
        return Reading(value, unit, PREDICTED, self.source, low=value / factor, high=value * factor, scope=scope)

    def _beyond_calibration(self, layers: Sequence[LayerCost], batch: int, costs: Costs) -> dict[str, float]:
        """What of this prediction the calibration has not seen, as warnings, each with how much it matters (0 to 1)."""
        known = {what: value_of(entry) for what, entry in self.constants["calibrated"].items()}
        found = {"batch": batch, "macs": sum(layer.macs for layer in layers), "layers": len(layers)}
        warnings: dict[str, float] = {}
        for what, value in found.items():
            low, high = known[what]
            if not low <= value <= high:
                # a network of few MACs pays for its launches, and those are known
                weight = self._share_of_work(layers, costs) if what == "macs" and value < low else 1.0
                warnings[f"outside the calibrated range: {what} {value:,} (calibrated: {low:,} to {high:,})"] = weight
        unseen = sorted({layer.kind for layer in layers if layer.macs} - set(known["kinds"]))
        if unseen:
            warnings[f"outside the calibrated range: no row has {', '.join(unseen)} layers"] = 1.0
        mode = self.target.mode
        if mode is not None and mode.name not in known["modes"]:
            warnings[f"power mode {mode.name} was not measured: the nearest mode's constants stand in"] = 1.0
        return warnings

    def _share_of_work(self, layers: Sequence[LayerCost], costs: Costs) -> float:
        """What part of the latency is neither launches nor the host's."""
        launches_ms = 1e3 * self.resolved["launch_s"] * len(layers)
        return float((costs.gpu_ms[0] - launches_ms) / costs.latency_ms[0])


def _checked(batch: int) -> int:
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise UserError(f"batch must be a positive whole number, not {batch!r}")
    return int(batch)


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
