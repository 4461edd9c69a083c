"""A board's file made from measurements of the calibration set on that very board.

The formula is that of every cost model. What the set measured decides the constants; where it cannot, the priors of
`devices.calibration` do, loosened, since they were written for a TX2. Boards whose file knows no peak rate or bandwidth
get nominal ones from the best that a network of the set reached: the efficiencies refer to them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from devices.board import Board, value_of
from devices.calibration import PRIORS, Fit, Outcome, Sample, fit, leave_one_family_out, predict_samples, relative_sigma
from devices.cost_formula import ELEMENT_BYTES
from devices.layer_cost import LayerCost
from devices.model_entry import model_entry, rounded
from devices.support.errors import CannotMeasure
from devices.support.reading import BOARD, MODULE

__all__ = ["Calibration", "Measured", "calibrated_board"]

LOOSER = 2.0  # how much wider the priors are than for the TX2 that they were written for
FEWEST_NETWORKS, FEWEST_ROWS = 5, 8
MODE_PRIORS = {"host_time_factor": (1.0, 0.3), "host_energy_factor": (1.0, 0.4)}
OWN_PRIORS = {"grouped_efficiency": (0.4, 0.6)}
LEAST_SIGMA = 0.05  # what the formula misses of any network, however well it was measured
# without an interval, which says that it cannot be predicted
UNKNOWN_CARRIER: dict[str, Any] = {"value": 0.0, "source": "no carrier is known: only what was measured is predicted"}
NOMINAL_MHZ = 1000.0  # of a device whose clock is not told
BEST_SHARE = 0.85  # what share of its peak the best network of the set is taken to reach
NO_MODE = "DEFAULT"  # the name of the one mode of a machine without power modes


@dataclass(frozen=True)
class Measured:
    """What one condition gave. latency_ms: median, host to host, of the batch; compute_ms: of the device, where it can
    tell. power_w, idle_w: mean of the total rail in `scope` under load and at rest; None without a power source.
    scope: "module" or "board", or of a host "package" or "gpu". gpu_mhz: the device's clock as it was seen. marks: of
    the result ("not_steady", ...)."""

    network: str
    batch: int
    precision: str
    mode: str | None
    latency_ms: float
    compute_ms: float | None = None
    power_w: float | None = None
    idle_w: float | None = None
    scope: str | None = None
    gpu_mhz: float | None = None
    marks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "marks": list(self.marks)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        return cls(**{**value, "marks": tuple(value.get("marks", ()))})


@dataclass(frozen=True)
class Calibration:
    """A fit to a board of one's own. data: the board's file. fitted, left_out: outcomes of every row, in the fit and
    predicted without its network, both in the order of the rows; their power is in the scope that was measured."""

    data: dict[str, Any]
    fitted: list[Outcome]
    left_out: list[Outcome]

    @property
    def scope(self) -> str:
        """Of what was measured, as `Measured.scope`."""
        return value_of(self.data["cost_model"]["measured_scope"])

    @property
    def quantities(self) -> list[str]:
        """"latency", and "energy" where power was measured."""
        return [what for what in ("latency", "energy") if what in self.data["cost_model"]["relative_sigma"]]


def calibrated_board(base: Board, rows: Sequence[Measured], layers: Mapping[str, Sequence[LayerCost]], name: str,
                     version: str, source: str) -> Calibration:
    """Fit the cost model to `rows` and put it into a board's file.

    base: what is known of such boards. layers: of each network, fused. name: of the new board. version: of its
    cost model. source: what was measured where and when, in words. CannotMeasure where the rows are too few to fit.
    """
    networks = {row.network for row in rows}
    if len(networks) < FEWEST_NETWORKS or len(rows) < FEWEST_ROWS:
        raise CannotMeasure(f"{_counted(len(rows), 'measurement')} of {_counted(len(networks), 'network')}: too few to "
                            f"fit a cost model to, which needs {FEWEST_ROWS} of {FEWEST_NETWORKS}; measure more")
    data = _board_data(base, rows, layers, name, source)
    board = Board(data)
    samples = [_sample(row, layers[row.network]) for row in rows]
    # the fit is to what was measured; a carrier beside a module draws its part all the time, like more idle power
    idle_w = _idle_w(rows)
    fixed = {"reference_gpu_mhz": board.modes[0].gpu_mhz, "idle_w": idle_w, "carrier_w": 0.0}
    priors = _priors([mode.name for mode in board.modes])
    fitted: Fit = fit(samples, board, fixed, priors)
    left_out = leave_one_family_out(samples, board, fixed, priors)
    powered = all(row.power_w is not None for row in rows)
    scope = rows[0].scope or MODULE
    carrier = _carrier(base) if powered and scope in (MODULE, BOARD) else UNKNOWN_CARRIER
    beside = carrier["value"] if scope == MODULE else 0.0
    whole = replace(fitted, constants={**fitted.constants, "idle_w": {k: v + beside for k, v in idle_w.items()}})
    sigma = {what: relative_sigma(left_out, what) for what in ("latency", *(("power", "energy") if powered else ()))}
    data["cost_model"] = model_entry(
        whole, samples, sigma, version=version, source=f"fitted to {source}", carrier=carrier,
        sigma_source=f"root mean square over networks left out of the fit to {source}",
        scope=scope, sources={
            "idle_w": f"{source}; with the carrier's prior where the module alone was measured",
            "reference_gpu_mhz": "the clock of the first mode that was measured"})
    by_row = {id(outcome.sample): outcome for outcome in left_out}
    return Calibration(data, predict_samples(fitted, samples, board), [by_row[id(sample)] for sample in samples])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _priors(modes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Those of `devices.calibration`, looser, without what they say of a TX2's modes."""
    shared = {name: prior for name, prior in PRIORS.items() if "_factor." not in name}
    tables = {f"{table}.{mode}": prior for table, prior in MODE_PRIORS.items() for mode in modes[1:]}
    return {name: (mean, deviation * LOOSER) for name, (mean, deviation) in {**shared, **OWN_PRIORS, **tables}.items()}


def _sample(row: Measured, layers: Sequence[LayerCost]) -> Sample:
    return Sample(row.network, row.network, layers, row.mode or NO_MODE, row.precision, row.batch, row.latency_ms,
                  row.compute_ms, row.power_w, feeds=False, latency_sigma=LEAST_SIGMA, power_sigma=LEAST_SIGMA)


def _carrier(base: Board) -> dict[str, Any]:
    """The carrier's prior, where the board's file has one."""
    return dict(base.data.get("cost_model", {}).get("parameters", {}).get("carrier_w", UNKNOWN_CARRIER))


def _idle_w(rows: Sequence[Measured]) -> dict[str, float]:
    """Median power at rest by mode, in the scope that was measured; 0 without a power source."""
    found = {}
    for mode in dict.fromkeys(row.mode or NO_MODE for row in rows):
        values = sorted(row.idle_w for row in rows if (row.mode or NO_MODE) == mode and row.idle_w is not None)
        found[mode] = values[len(values) // 2] if values else 0.0
    return found


def _board_data(base: Board, rows: Sequence[Measured], layers: Mapping[str, Sequence[LayerCost]], name: str,
                source: str) -> dict[str, Any]:
    """The base's file with the measured modes and precisions alone, and every peak that the formula refers to."""
    data = copy.deepcopy(base.data)
    data.update(schema="edgesynth.board/1", name=name, title=f"{base.title}, calibrated",
                calibrated_from=base.base_name)
    data["sources"] = {**data.get("sources", {}), "calibration": source}
    data["modes"] = [_mode(base, mode, rows, layers) for mode in dict.fromkeys(row.mode for row in rows)]
    data["default_mode"] = {"value": data["modes"][0]["name"], "source": "calibration"}
    measured = {row.precision for row in rows}
    for precision, entry in data["precisions"].items():
        if value_of(entry) and precision not in measured:
            data["precisions"][precision] = {"value": False, "source": "calibration",
                                             "reason": "it was not among what was calibrated"}
    gpu = data.setdefault("gpu", {})
    known = value_of(gpu.get("macs_per_clock"), {})
    if any(precision not in known for precision in measured):
        per_clock = {precision: rounded(_best_macs_per_s(rows, layers, precision)
                                        / (BEST_SHARE * 1e6 * data["modes"][0]["gpu_mhz"])) for precision in measured}
        per_clock.setdefault("fp32", next(iter(per_clock.values())))
        gpu["macs_per_clock"] = {"value": per_clock, "source": "calibration",
                                 "note": f"nominal: the best that was reached is taken for {BEST_SHARE:.0%} of it"}
    return data


def _mode(base: Board, name: str | None, rows: Sequence[Measured], layers: Mapping[str, Sequence[LayerCost]],
          ) -> dict[str, Any]:
    """A measured mode with its clocks: those of the base's file, else as seen, else nominal."""
    known = next((mode.data for mode in base.modes if str(name).lower() in mode.words), {"name": name or NO_MODE})
    mode = {"source": "calibration", **known}
    if name is not None and name != mode["name"]:  # the board's own name, by which its constants are kept, goes first
        mode.update(name=name, aliases=[mode["name"], *mode.get("aliases", ())])
    mine = [row for row in rows if row.mode == name]
    if not mode.get("gpu_mhz"):
        mode["gpu_mhz"] = next((row.gpu_mhz for row in mine if row.gpu_mhz), NOMINAL_MHZ)
    if not mode.get("bandwidth_gb_s"):
        mode["bandwidth_gb_s"] = rounded(_best_bytes_per_s(mine, layers) / (BEST_SHARE * 1e9))
        mode["bandwidth_source"] = "calibration"
    return mode


def _best_macs_per_s(rows: Sequence[Measured], layers: Mapping[str, Sequence[LayerCost]], precision: str) -> float:
    return max(1e3 * row.batch * sum(c.macs for c in layers[row.network]) / (row.compute_ms or row.latency_ms)
               for row in rows if row.precision == precision)


def _best_bytes_per_s(rows: Sequence[Measured], layers: Mapping[str, Sequence[LayerCost]]) -> float:
    return max(1e3 * ELEMENT_BYTES[row.precision] * sum(
        row.batch * (c.input_elements + c.output_elements) + c.weights for c in layers[row.network])
        / (row.compute_ms or row.latency_ms) for row in rows)
