"""The formula of the cost model: times and energies of layers, for one network or thousands at once.

Per layer and batch b, with the outputs o = b * output elements:

    time    = launch + max(compute, memory)
    compute = b * (macs + output_macs * outputs) / rate * (1 + (fill_outputs / o) ** fill_exponent)
    memory  = bytes / bandwidth

`output_macs` is what writing and addressing one output costs, in MACs (it makes layers of small depth slow, depthwise
ones most); the last factor is a GPU that too few outputs fill. Host: a part per call, per image and per byte of input
and output. Energy of the board: idle power over the whole time, and for every event its energy: a launch, an image and
a byte on the host, a MAC, a byte of memory traffic. Clocks scale what depends on them (see `resolve`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from devices.board import Board, value_of
from devices.layer_cost import HEAVY_KINDS, LAYER_KINDS, LayerCost

__all__ = ["Costs", "LayerArrays", "formula", "resolve", "stacked"]

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
HOST_BYTES = 4  # the host gives and takes fp32
KIND_INDEX = {kind: index for index, kind in enumerate(LAYER_KINDS)}
HEAVY = np.array([kind in (*HEAVY_KINDS, "matmul") for kind in LAYER_KINDS])


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
    def of(cls, *networks: Sequence[LayerCost]) -> LayerArrays:
        """The arrays of some networks, padded to the longest with layers that are not active."""
        longest = max((len(layers) for layers in networks), default=0)
        rows = [[(1, c.macs, c.weights, c.input_elements, c.output_elements, KIND_INDEX[c.kind]) for c in layers]
                + [(0,) * 6] * (longest - len(layers)) for layers in networks]
        table = np.array(rows, dtype=np.float64).reshape(len(networks), longest, 6)
        active, macs, weights, inputs, outputs, kind = (table[:, :, column] for column in range(6))
        host = np.array([float(sum(c.host_elements for c in layers)) for layers in networks])
        return cls(active, macs, weights, inputs, outputs, kind.astype(np.intp), host)


@dataclass
class Costs:
    """What the formula gives, for the whole batch: times in ms [n] (layer_ms [n, n_layers]), energy in mJ [n]."""

    layer_ms: np.ndarray
    gpu_ms: np.ndarray
    host_ms: np.ndarray
    latency_ms: np.ndarray
    board_mj: np.ndarray
    module_mj: np.ndarray


def resolve(board: Board, constants: Mapping[str, Any], mode: str, precision: str, gpu: float = 1.0,
            host: float = 1.0, feeds: bool = True) -> dict[str, Any]:
    """The constants of one power mode and precision as plain numbers, in SI units (s, J, W, bytes per s), and
    "rates", MACs per second by kind of layer, [len(LAYER_KINDS)].

    constants: {name: value} as under "parameters" in a board's file, without the sources. gpu, host: times on the
    device and on the host relative to the software that the constants were fitted on (another TensorRT, an input that
    lies ready). feeds: whether the host prepares every image, which it need not where the input lies ready. What a
    launch costs goes with its time, what a MAC or a byte costs does not.
    """
    clocks = board.mode(mode).data
    gpu_hz = clocks["gpu_mhz"] * 1e6
    relative = clocks["gpu_mhz"] / constants["reference_gpu_mhz"]
    per_clock = value_of(board.data["gpu"]["macs_per_clock"])
    efficiency = constants["efficiency"]
    dense = per_clock[precision] * gpu_hz * efficiency[precision] / gpu
    # what depthwise layers reach does not grow with FP16
    single = per_clock["fp32"] * gpu_hz * efficiency["fp32"] / gpu
    rates = {"oblong": dense * constants["oblong_efficiency"],
             "depthwise": single * constants["depthwise_efficiency"],
             "grouped": single * constants["grouped_efficiency"]}
    host_time, host_energy = host * constants["host_time_factor"][mode], host * constants["host_energy_factor"][mode]
    gpu_energy = relative ** constants["gpu_energy_clock_exponent"]
    return {
        "rates": np.array([rates.get(kind, dense) for kind in LAYER_KINDS]),
        "output_macs": constants["output_macs"],
        "fill_outputs": constants["fill_outputs"],
        "fill_exponent": constants["fill_exponent"],
        "bandwidth": clocks["bandwidth_gb_s"] * 1e9 * constants["bandwidth_efficiency"] / gpu,
        "launch_s": gpu * 1e-3 * constants["launch_ms"] / relative ** constants["launch_clock_exponent"],
        "element_bytes": float(ELEMENT_BYTES[precision]),
        "host_call_s": 1e-3 * constants["host_call_ms"] * host_time,
        "host_image_s": feeds * 1e-3 * constants["host_image_ms"] * host_time,
        "host_byte_s": 1e-9 * constants["host_ns_per_byte"] * host,
        "idle_w": constants["idle_w"][mode],
        "launch_j": gpu * 1e-3 * constants["launch_mj"] * constants["host_energy_factor"][mode],
        "host_image_j": feeds * 1e-3 * constants["host_image_mj"] * host_energy,
        "host_byte_j": 1e-9 * constants["host_nj_per_byte"] * host_energy,
        "mac_j": 1e-12 * constants["pj_per_mac"][precision] * gpu_energy,
        "byte_j": 1e-12 * constants["pj_per_byte"],
        "carrier_w": constants["carrier_w"],
    }


def stacked(resolved: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Several conditions as one: every constant as [n, 1], "rates" as [n, kinds]."""
    return {name: np.array([np.atleast_1d(k[name]) for k in resolved]) for name in resolved[0]}


def formula(k: Mapping[str, Any], arrays: LayerArrays, batch: Any) -> Costs:
    """Times and energies of every row of `arrays`.

    k: what `resolve` gives, or `stacked` ones where rows have different conditions (or where one network is priced
    under several). batch: a number, or [n, 1].
    """
    if np.ndim(k["rates"]) == 1:
        rate = k["rates"][arrays.kind]
    else:
        kinds = np.broadcast_to(arrays.kind, (len(k["rates"]), arrays.macs.shape[1]))
        rate = np.take_along_axis(k["rates"], kinds, axis=1)
    outputs = batch * np.maximum(arrays.outputs, 1.0)
    work = batch * (arrays.macs + k["output_macs"] * arrays.outputs) * HEAVY[arrays.kind]
    compute_s = work / rate * (1 + (k["fill_outputs"] / outputs) ** k["fill_exponent"])
    moved = k["element_bytes"] * (batch * (arrays.inputs + arrays.outputs) + arrays.weights)
    layer_s = arrays.active * (np.maximum(compute_s, moved / k["bandwidth"]) + k["launch_s"])

    def total(values: np.ndarray) -> np.ndarray:
        return (arrays.active * values).sum(axis=1, keepdims=True)

    gpu_s = layer_s.sum(axis=1, keepdims=True)
    host_bytes = HOST_BYTES * np.asarray(arrays.host_elements, dtype=np.float64).reshape(-1, 1)
    host_s = 0 * gpu_s + k["host_call_s"] + batch * (k["host_image_s"] + host_bytes * k["host_byte_s"])
    latency_s = gpu_s + host_s
    board_j = (
        k["idle_w"] * latency_s
        + k["launch_j"] * total(np.ones_like(arrays.macs))
        + batch * (k["host_image_j"] + host_bytes * k["host_byte_j"])
        + k["mac_j"] * batch * total(arrays.macs)
        + k["byte_j"] * total(moved)
    )
    module_j = board_j - k["carrier_w"] * latency_s
    totals = (gpu_s, host_s, latency_s, board_j, module_j)
    return Costs(1e3 * layer_s, *(1e3 * value[:, 0] for value in totals))
