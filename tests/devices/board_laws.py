"""Boards that exist as laws: what a list of layers takes and draws there. They stand in for a board that is calibrated.

`same_shape` follows the cost model's own formula with other constants. `other_shape` does not: the CPU queues launches
ahead of the GPU, work comes in whole waves of threads and whole vectors of channels, and power saturates with how busy
the GPU is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from devices.board import load_board, value_of
from devices.calibration_set import Condition
from devices.cost_formula import LayerArrays, formula, resolve
from devices.layer_cost import LayerCost
from devices.own_board import Measured

# (layers, precision, batch) -> (latency_ms, compute_ms, mean W of the module)
Law = Callable[[Sequence[LayerCost], str, int], tuple[float, float, float]]
TX2 = load_board("tx2")
IDLE_W = 2.6


def same_shape(layers: Sequence[LayerCost], precision: str, batch: int) -> tuple[float, float, float]:
    """The TX2's formula, in MAXN, with launches, rates and energies that are not those of its file."""
    constants = {name: value_of(entry) for name, entry in TX2.data["cost_model"]["parameters"].items()}
    constants |= {"launch_ms": 0.021, "host_call_ms": 0.30, "pj_per_byte": 70.0, "launch_mj": 0.05,
                  "efficiency": {"fp32": 0.78, "fp16": 0.7}, "depthwise_efficiency": 0.3, "output_macs": 60.0,
                  "pj_per_mac": {"fp32": 52.0, "fp16": 25.0}, "bandwidth_efficiency": 0.55, "carrier_w": 0.0,
                  "idle_w": {"MAXN": IDLE_W}}
    costs = formula(resolve(TX2, constants, "MAXN", precision, feeds=False), LayerArrays.of(layers), batch)
    latency = float(costs.latency_ms[0])
    return latency, float(costs.gpu_ms[0]), float(costs.board_mj[0]) / latency


def other_shape(layers: Sequence[LayerCost], precision: str, batch: int) -> tuple[float, float, float]:
    """See the module."""
    size = {"fp32": 4, "fp16": 2}[precision]
    queued, done, busy = 0.02, 0.0, 0.0
    for layer in layers:
        queued += 0.028  # when the CPU has launched this layer
        channels, vector = layer.output_shape[0], 8 if precision == "fp16" else 4
        padded = vector * math.ceil(channels / vector) / channels
        waves = math.ceil(batch * layer.output_elements * padded / 4096)
        depth = layer.macs / max(layer.output_elements, 1)
        slow = {"depthwise": 4.0, "grouped": 2.2, "oblong": 1.3}.get(layer.kind, 1.0) * size / 2
        moved = size * (batch * (layer.input_elements + layer.output_elements) + layer.weights)
        work = max(waves * (0.0035 + 9e-6 * slow * depth), moved / 32e6)
        done = max(done, queued) + 0.006 + work
        busy += work
    host = 0.12 + 4e-7 * batch * 4 * sum(layer.host_elements for layer in layers)
    latency = done + host
    return latency, done, IDLE_W + 1.1 + 7.5 * (busy / latency) ** 0.7 * (1.15 if precision == "fp32" else 1.0)


def measured(law: Law, condition: Condition, layers: Sequence[LayerCost], random: np.random.Generator,
             noise: float = 0.01, power: bool = True) -> Measured:
    """What the calibration would note of a condition on that board, with `noise` between repetitions."""
    precision = condition.precision or "fp16"
    latency, compute, watts = law(layers, precision, condition.batch)
    rolled = np.exp(noise * random.standard_normal(4))
    return Measured(condition.network, condition.batch, precision, condition.mode or "MAXN", latency * rolled[0],
                    compute * rolled[1], watts * rolled[2] if power else None, IDLE_W * rolled[3] if power else None,
                    "module" if power else None, 1300.5)
