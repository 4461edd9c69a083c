"""What a network costs on a board: latency and energy from its layers, by one formula for one network or many.

Per layer and batch: time = launch + max(compute, memory), with
compute = macs / (peak * efficiency(kind, precision) * fill) and fill = w / (w + w_half), w the outputs computed at
once (a GPU is filled only by many outputs); memory = bytes / (bandwidth of the mode * efficiency).
Host: a fixed part, a part per image and a part per byte. Energy of the board: (idle + cpu) * time + gpu * busy time
+ per MAC + per byte, where what switches scales with the mode's clocks; the module's is that without the carrier's.
Constants, with their sources, are in the board's file; `devices.calibration` fits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from devices.board import Target, value_of
from devices.layer_cost import LAYER_KINDS, LayerCost
from devices.support.errors import UserError
from devices.support.reading import BOARD, MODULE, PREDICTED, Reading

__all__ = ["CostModel", "LayerArrays", "Prediction"]

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
HOST_BYTES = 4  # the host gives and takes fp32


@dataclass
class LayerArrays:
    """Layers of many candidates side by side: arrays of shape [n_candidates, n_layers], for one image.

    active: 1 where the candidate has the layer, else 0. kind: index into LAYER_KINDS, [n_layers] (or
    [n_candidates, n_layers] where candidates differ). host_elements: elements copied from and to the host,
    [n_candidates] or a number.
    """

    active: np.ndarray
    macs: np.ndarray
    weights: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    kind: np.ndarray
    host_elements: np.ndarray | float

    @classmethod
    def of(cls, layers: Sequence[LayerCost]) -> LayerArrays:
        """The arrays of one network, n_candidates = 1."""
        def row(values: list[int]) -> np.ndarray:
            return np.array([values], dtype=np.float64).reshape(1, len(layers))

        return cls(
            active=np.ones((1, len(layers))),
            macs=row([c.macs for c in layers]),
            weights=row([c.weights for c in layers]),
            inputs=row([c.input_elements for c in layers]),
            outputs=row([c.output_elements for c in layers]),
            kind=np.array([LAYER_KINDS.index(c.kind) for c in layers], dtype=np.intp),
            host_elements=float(sum(c.host_elements for c in layers)),
        )


@dataclass
class Costs:
    """What the formula gives, for the whole batch: times in ms [n] (layer_ms [n, n_layers]), energy in mJ [n]."""

    layer_ms: np.ndarray
    host_ms: np.ndarray
    latency_ms: np.ndarray
    board_mj: np.ndarray
    module_mj: np.ndarray


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
    """The cost model of one target and precision."""

    def __init__(self, target: Target, precision: str, constants: dict[str, Any]):
        self.target, self.precision = target, precision
        self.constants = constants
        self.source = f"{target.board.name} cost model {constants['version']}"
        self._kinds = np.arange(len(LAYER_KINDS))
        values = {key: value_of(entry) for key, entry in constants["parameters"].items()}
        mode = target.mode.data if target.mode is not None else {}
        self.gpu_hz = mode["gpu_mhz"] * 1e6
        gpu = target.board.data["gpu"]
        self.peak_macs = value_of(gpu["macs_per_clock"])[precision] * self.gpu_hz
        self.bandwidth = mode["bandwidth_gb_s"] * 1e9 * values["bandwidth_efficiency"]
        self.element_bytes = ELEMENT_BYTES[precision]
        self.values = values
        efficiency = values["efficiency"][precision]
        self.efficiency = np.array([efficiency.get(kind, efficiency["dense"]) for kind in LAYER_KINDS])
        self.reference_hz = values["reference_gpu_mhz"] * 1e6

    @classmethod
    def for_target(cls, target: Target, precision: str) -> CostModel:
        """UserError for a board without a cost model, or a precision that it does not have."""
        precision = target.board.require_precision(precision)
        constants = target.board.data.get("cost_model")
        if constants is None:
            raise UserError(f"{target.board.title} has no cost model yet: predict for tx2, "
                            "or measure with `edgesynth bench` on the board")
        return cls(target, precision, constants)

    # -- the formula -----------------------------------------------------------------------------------------------

    def costs(self, arrays: LayerArrays, batch: int) -> Costs:
        """Times and energies of every candidate for a batch. UserError for a batch that is not a positive integer."""
        _check_batch(batch)
        v = self.values
        work = batch * arrays.outputs
        fill = work / (work + v["half_fill_outputs"])
        compute_s = batch * arrays.macs / (self.peak_macs * self.efficiency[arrays.kind] * np.maximum(fill, 1e-9))
        moved = self.element_bytes * (batch * (arrays.inputs + arrays.outputs) + arrays.weights)
        launch_s = v["launch_ms"] * 1e-3 * (self.reference_hz / self.gpu_hz) ** v["launch_clock_exponent"]
        layer_s = arrays.active * (np.maximum(compute_s, moved / self.bandwidth) + launch_s)
        host_bytes = HOST_BYTES * np.asarray(arrays.host_elements, dtype=np.float64)
        host_s = 1e-3 * (v["host_fixed_ms"] + batch * v["host_image_ms"]) + batch * host_bytes / v["host_bytes_per_s"]
        gpu_s = layer_s.sum(axis=1)
        host_s = np.broadcast_to(host_s, gpu_s.shape)
        latency_s = gpu_s + host_s
        scale = (self.gpu_hz / self.reference_hz) ** v["dynamic_exponent"]
        mode = self.target.mode.name if self.target.mode is not None else ""
        board_j = (
            (v["idle_w"][mode] + v["cpu_w"]) * latency_s
            + scale * v["gpu_w"] * gpu_s
            + scale * v["pj_per_mac"][self.precision] * 1e-12 * batch * (arrays.active * arrays.macs).sum(axis=1)
            + v["pj_per_byte"] * 1e-12 * (arrays.active * moved).sum(axis=1)
        )
        module_j = board_j - value_of(self.constants["carrier_w"]) * latency_s
        return Costs(1e3 * layer_s, 1e3 * host_s, 1e3 * latency_s, 1e3 * board_j, 1e3 * module_j)

    def evaluate(self, arrays: LayerArrays, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """latency_ms of the batch [n_candidates] and energy_mj per image in module scope [n_candidates]."""
        costs = self.costs(arrays, batch)
        return costs.latency_ms, costs.module_mj / batch

    # -- one network -----------------------------------------------------------------------------------------------

    def predict(self, layers: Sequence[LayerCost], batch: int = 1) -> Prediction:
        """Readings with 95 % intervals for one network. UserError for batch < 1 or no layers."""
        if not layers:
            raise UserError("the network has no layers that cost anything: nothing to predict")
        arrays = LayerArrays.of(layers)
        costs = self.costs(arrays, batch)
        latency, board, module = float(costs.latency_ms[0]), float(costs.board_mj[0]), float(costs.module_mj[0])
        spread = {key: value_of(self.constants["relative_sigma"][key]) for key in ("latency", "energy")}
        carrier = self.constants["carrier_w"]
        carrier_sigma_mj = (carrier["high"] - carrier["low"]) / 3.92 * latency
        module_spread = float(np.hypot(spread["energy"] * board, carrier_sigma_mj)) / module
        relative = {BOARD: spread["energy"], MODULE: module_spread}
        energy = {MODULE: module, BOARD: board}
        return Prediction(
            target=str(self.target), precision=self.precision, batch=batch,
            latency_ms=self._reading(latency, "ms", spread["latency"]),
            power_w={s: self._reading(mj / latency, "W", relative[s], s) for s, mj in energy.items()},
            energy_mj={s: self._reading(mj / batch, "mJ", relative[s], s) for s, mj in energy.items()},
            img_per_joule={s: self._reading(1e3 * batch / mj, "img/J", relative[s], s) for s, mj in energy.items()},
            layers=self._shares(layers, costs),
            warnings=self._warnings(layers, batch),
        )

    def _reading(self, value: float, unit: str, sigma: float, scope: str | None = None) -> Reading:
        spread = float(np.exp(1.96 * sigma))
        return Reading(value, unit, PREDICTED, self.source, low=value / spread, high=value * spread, scope=scope)

    def _shares(self, layers: Sequence[LayerCost], costs: Costs) -> list[dict[str, Any]]:
        total = float(costs.latency_ms[0])
        rows = [{"name": layer.name, "kind": layer.kind, "latency_ms": float(ms), "share": float(ms) / total,
                 "macs": layer.macs, "output_shape": list(layer.output_shape)}
                for layer, ms in zip(layers, costs.layer_ms[0], strict=True)]
        host = float(costs.host_ms[0])
        rows.append({"name": "(host)", "kind": "host", "latency_ms": host, "share": host / total, "macs": 0,
                     "output_shape": []})
        return sorted(rows, key=lambda row: -row["share"])

    def _warnings(self, layers: Sequence[LayerCost], batch: int) -> list[str]:
        warnings = []
        unknown = [layer.name for layer in layers if layer.kind == "unknown"]
        if unknown:
            warnings.append(f"counted as bandwidth only, since their operators have no cost: {', '.join(unknown)}")
        known = self.constants["calibrated"]
        ranges = {"batch": batch, "macs": sum(layer.macs for layer in layers), "layers": len(layers)}
        for what, value in ranges.items():
            low, high = value_of(known[what])
            if not low <= value <= high:
                warnings.append(f"outside the calibrated range: {what} {value:,} (calibrated: {low:,} to {high:,})")
        return warnings


def _check_batch(batch: int) -> None:
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise UserError(f"batch must be a positive whole number, not {batch!r}")
