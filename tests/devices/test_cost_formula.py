"""The formula of the cost model against arithmetic by hand: constants that are all different and none of them 1."""

from __future__ import annotations

import pytest

from devices.board import Board
from devices.cost_formula import LayerArrays, formula, resolve
from devices.layer_cost import LAYER_KINDS, LayerCost

BOARD = Board({
    "name": "imagined", "title": "Imagined", "kind": "jetson",
    "gpu": {"macs_per_clock": {"value": {"fp32": 200, "fp16": 300}}},
    "modes": [{"name": "MAXN", "gpu_mhz": 1600.0, "bandwidth_gb_s": 50.0},
              {"name": "MAXQ", "gpu_mhz": 100.0, "bandwidth_gb_s": 20.0}],
})
CONSTANTS = {
    "reference_gpu_mhz": 400.0, "efficiency": {"fp32": 0.6, "fp16": 0.75}, "oblong_efficiency": 0.8,
    "depthwise_efficiency": 0.36, "grouped_efficiency": 0.45, "output_macs": 22.0, "fill_outputs": 1200.0,
    "fill_exponent": 2.0, "bandwidth_efficiency": 0.7, "launch_ms": 0.05, "launch_clock_exponent": 0.5,
    "host_call_ms": 0.3, "host_image_ms": 0.11, "host_ns_per_byte": 9.0, "host_time_factor": {"MAXN": 0.9, "MAXQ": 2.5},
    "idle_w": {"MAXN": 5.0, "MAXQ": 3.0}, "launch_mj": 0.07, "host_image_mj": 0.13, "host_nj_per_byte": 12.0,
    "host_energy_factor": {"MAXN": 1.6, "MAXQ": 0.4}, "pj_per_mac": {"fp32": 40.0, "fp16": 24.0},
    "gpu_energy_clock_exponent": 1.5, "pj_per_byte": 150.0, "carrier_w": 1.9,
}
LAYERS = [
    LayerCost("first", "dense", 6_000_000, 5_000, 2_000, 1_600, (16, 10, 10), host_elements=2_000),
    LayerCost("second", "depthwise", 14_400, 90, 40_000, 800, (8, 10, 10), host_elements=800),
]
# in a batch of 3: the first layer gives 4,800 outputs, a quarter of which fill the GPU, the second 2,400, half of which
FIRST_MACS = 3 * (6_000_000 + 22 * 1_600) * (1 + 1 / 16)
SECOND_MACS = 3 * (14_400 + 22 * 800) * (1 + 1 / 4)
FIRST_BYTES = 2 * (3 * (2_000 + 1_600) + 5_000)
SECOND_BYTES = 2 * (3 * (40_000 + 800) + 90)
HOST_BYTES = 3 * 4 * (2_000 + 800)
MACS_AND_BYTES = {  # mJ; the clock is 4 times the reference in MAXN, whose power 1.5 is 8, and a quarter of it in MAXQ
    "MAXN": 24e-9 * 8 * 3 * (6_000_000 + 14_400) + 150e-9 * (FIRST_BYTES + SECOND_BYTES),
    "MAXQ": 24e-9 / 8 * 3 * (6_000_000 + 14_400) + 150e-9 * (FIRST_BYTES + SECOND_BYTES),
}


@pytest.mark.parametrize(("mode", "gpu", "host", "gpu_ms", "host_ms", "idle_w", "events_mj"), [
    ("MAXN", 1.0, 1.0,
     # the first waits for MACs, the second for memory; a launch takes half as long as at a quarter of the clock
     1e3 * FIRST_MACS / (300 * 1600e6 * 0.75) + 1e3 * SECOND_BYTES / (50e9 * 0.7) + 2 * 0.05 / 2,
     0.3 * 0.9 + 3 * 0.11 * 0.9 + HOST_BYTES * 9e-6,
     5.0, 2 * 0.07 * 1.6 + 3 * 0.13 * 1.6 + HOST_BYTES * 12e-6 * 1.6),
    ("MAXQ", 1.0, 1.0,
     # both wait for MACs, and depthwise ones in half precision are no faster than in single
     1e3 * FIRST_MACS / (300 * 100e6 * 0.75) + 1e3 * SECOND_MACS / (200 * 100e6 * 0.6 * 0.36) + 2 * 0.05 * 2,
     0.3 * 2.5 + 3 * 0.11 * 2.5 + HOST_BYTES * 9e-6,
     3.0, 2 * 0.07 * 0.4 + 3 * 0.13 * 0.4 + HOST_BYTES * 12e-6 * 0.4),
    ("MAXN", 1.25, 0.65,
     # the energy of a launch goes with its time on the device, what the host does with its own
     1.25 * (1e3 * FIRST_MACS / (300 * 1600e6 * 0.75) + 1e3 * SECOND_BYTES / (50e9 * 0.7) + 2 * 0.05 / 2),
     0.65 * (0.3 * 0.9 + 3 * 0.11 * 0.9 + HOST_BYTES * 9e-6),
     5.0, 1.25 * 2 * 0.07 * 1.6 + 0.65 * (3 * 0.13 * 1.6 + HOST_BYTES * 12e-6 * 1.6)),
    ("MAXQ", 1.25, 0.65,
     1.25 * (1e3 * FIRST_MACS / (300 * 100e6 * 0.75) + 1e3 * SECOND_MACS / (200 * 100e6 * 0.6 * 0.36) + 2 * 0.05 * 2),
     0.65 * (0.3 * 2.5 + 3 * 0.11 * 2.5 + HOST_BYTES * 9e-6),
     3.0, 1.25 * 2 * 0.07 * 0.4 + 0.65 * (3 * 0.13 * 0.4 + HOST_BYTES * 12e-6 * 0.4)),
])
def test_two_layers_by_hand(mode: str, gpu: float, host: float, gpu_ms: float, host_ms: float, idle_w: float,
                            events_mj: float) -> None:
    costs = formula(resolve(BOARD, CONSTANTS, mode, "fp16", gpu=gpu, host=host), LayerArrays.of(LAYERS), 3)
    latency_ms = gpu_ms + host_ms
    board_mj = idle_w * latency_ms + events_mj + MACS_AND_BYTES[mode]
    found = (costs.gpu_ms, costs.host_ms, costs.latency_ms, costs.board_mj, costs.module_mj)
    expected = (gpu_ms, host_ms, latency_ms, board_mj, board_mj - 1.9 * latency_ms)
    assert [value.item() for value in found] == [pytest.approx(value, rel=1e-9) for value in expected]


def test_kinds_that_the_gpu_does_worse_have_rates_of_their_own() -> None:
    rates = dict(zip(LAYER_KINDS, resolve(BOARD, CONSTANTS, "MAXQ", "fp16", gpu=1.25)["rates"], strict=True))
    assert rates["oblong"] == pytest.approx(300 * 100e6 * 0.75 * 0.8 / 1.25)
    assert rates["grouped"] == pytest.approx(200 * 100e6 * 0.6 * 0.45 / 1.25)
    assert rates["linear"] == rates["dense"] == pytest.approx(300 * 100e6 * 0.75 / 1.25)
