"""Which measured reading decides which requirement, and what a network looks like to the correction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from devices.cost_formula import LayerArrays
from devices.layer_cost import LAYER_KINDS
from devices.support.reading import BOARD, MODULE, Z95, Reading
from synth.objective.requirements import Requirement
from synth.search.decisions import FloatArray

LATENCY, ENERGY, BOARD_ENERGY = "latency_p50_ms", "energy_mj", "energy_board_mj"
# metric: the reading of edgesynth.result/1 that it is read from, and the sign of its logarithm in the metric's
QUANTITIES = {
    "latency": (LATENCY, 1),
    **{f"latency_{tail}": (f"latency_{tail}_ms", 1) for tail in ("p50", "p90", "p95", "p99", "max")},
    "throughput": ("throughput_img_s", 1),
    "energy": (ENERGY, 1),
    "img_per_joule": (ENERGY, -1),
    "power": ("power_mw", 1),
}
LEAST_NOISE = 0.01  # relative standard error that is believed of no measurement
UNKNOWN_NOISE = 0.05  # of a reading without an interval
STEPS = np.log([1.5, 8.0, 4.0, 8.0])  # of launches, MACs, activations and weights: what counts as one unit apart
DEPTHWISE_STEP = 0.5  # the same for the share of depthwise launches


def on_board(item: Requirement) -> bool:
    """Whether a board decides it."""
    return item.metric in QUANTITIES


def quantity_of(item: Requirement) -> tuple[str, int]:
    """The name of the reading that decides a requirement, and the sign of its logarithm in the metric's."""
    name, sign = QUANTITIES[item.metric]
    return (BOARD_ENERGY if name == ENERGY and item.scope == BOARD else name), sign


def asks_for_power(items: Iterable[Requirement]) -> bool:
    """Whether any of them needs a power rail."""
    return any(item.metric in ("energy", "img_per_joule", "power") for item in items)


def measured_reading(item: Requirement, readings: Mapping[str, Any]) -> Reading | None:
    """The reading that decides a requirement, of a result's readings (JSON); None where the board has none, for
    instance of the carrier. Images per joule are the reciprocal of the energy of an image."""
    found = _of_scope(quantity_of(item)[0], readings, item.scope)
    if found is None or item.metric != "img_per_joule":
        return found
    low, high = _positive_ends(found) or (None, None)
    return Reading(1e3 / found.value, "img/J", found.provenance, found.source, scope=found.scope,
                   low=None if high is None else 1e3 / high, high=None if low is None else 1e3 / low)


def _positive_ends(reading: Reading) -> tuple[float, float] | None:
    """The interval of a positive number, None where it has none. Few trials that differ reach down to 0: then it goes
    as far down as up, in the logarithm, since a number without an end below would count as known exactly."""
    if reading.low is None or reading.high is None:
        return None
    return (reading.low if reading.low > 0 else reading.value**2 / reading.high), reading.high


def _of_scope(name: str, readings: Mapping[str, Any], scope: str | None) -> Reading | None:
    # a board whose only rail is that of the whole board gives it as "energy_mj", and says so
    names = (BOARD_ENERGY, ENERGY) if name == BOARD_ENERGY else (name,)
    for each in names:
        if each in readings:
            found = Reading.from_json(readings[each])
            if scope is None or found.scope in (None, scope):
                return found
    return None


def logarithms(readings: Mapping[str, Any], names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """{quantity: (natural log of the value, its standard error)} of what a result has of `names`."""
    found = {}
    for name in names:
        reading = _of_scope(name, readings, _scope_of(name))
        if reading is not None and reading.value > 0:
            ends = _positive_ends(reading)
            noise = UNKNOWN_NOISE if ends is None else math.log(ends[1] / ends[0]) / (2 * Z95)
            found[name] = math.log(reading.value), max(noise, LEAST_NOISE)
    return found


def _scope_of(name: str) -> str | None:
    return {ENERGY: MODULE, BOARD_ENERGY: BOARD, "power_mw": MODULE}.get(name)


def descriptors(layers: LayerArrays) -> FloatArray:
    """[n, 5] what the correction knows a network by: logs of its launches, MACs, activation elements moved and weights,
    and the share of depthwise launches, each in units of what counts as clearly another network."""
    active = np.asarray(layers.active, dtype=np.float64)
    launches = active.sum(axis=1)
    sums = [launches, *((active * values).sum(axis=1) for values in (layers.macs, layers.inputs + layers.outputs,
                                                                     layers.weights))]
    depthwise = (active * (layers.kind == LAYER_KINDS.index("depthwise"))).sum(axis=1) / np.maximum(launches, 1)
    logs = np.log(np.maximum(np.stack(sums, axis=1), 1.0)) / STEPS
    return np.column_stack([logs, depthwise / DEPTHWISE_STEP])
