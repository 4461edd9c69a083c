"""What networks cost on the target, under the names that requirements use for it ("img_per_joule@8:module").

Two sources with one interface: the cost model, and what boards have measured; `synth.space.correction` joins them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from devices.board import Target
from devices.cost_formula import Costs
from devices.cost_model import CostModel, LayerArrays, Prediction
from devices.layer_cost import fuse
from devices.support.reading import BOARD, COMPUTED, MODULE, Z95, Reading
from synth.networks.costs import costs, operations_of
from synth.networks.network import Network
from synth.objective.performance import FRUGAL
from synth.objective.requirements import Requirement, Requirements, sigma_key
from synth.search.decisions import FloatArray
from synth.space.correction import Correction
from synth.space.quantities import BOARD_ENERGY, ENERGY, descriptors, on_board, quantity_of
from synth.space.space_costs import CostTable

EXACT = {"params": "params", "macs": "macs", "size": "weight_bytes", "peak_memory": "peak_memory_bytes"}
BYTES = 4  # of a stored weight (fp32)


@dataclass(frozen=True)
class Prices:
    """Prices on one target and precision of what `requirements` name; without a target only exact costs have one.

    correction: what boards have measured so far, None where none takes part.
    """

    requirements: Requirements
    target: Target | None
    precision: str = "fp16"
    correction: Correction | None = field(default=None, compare=False)

    @functools.cached_property
    def model(self) -> CostModel | None:
        """UserError when the target has no cost model or not this precision."""
        return None if self.target is None else CostModel.for_target(self.target, self.precision, input_ready=True)

    def of(self, table: CostTable) -> dict[str, FloatArray]:
        """The cost of every network of a table, [n], for every key that can be had from it; with boards that measure,
        corrected, and its relative standard error under `sigma_key`.

        Those of `by_graph` cannot: they follow from the order of the graph.
        """
        found: dict[str, FloatArray] = {"size": BYTES * table.params}
        by_batch: dict[int, Costs] = {}
        features = None
        for item in self.requirements.on_costs:
            if item.metric in EXACT or self.model is None:
                continue
            batch = item.batch or 1
            if batch not in by_batch:
                by_batch[batch] = self.model.costs(table.layers, batch)
            found[item.key] = _metric(item, by_batch[batch], batch)
            if self.correction is not None:
                features = descriptors(table.layers) if features is None else features
                quantity, sign = quantity_of(item)
                mean, found[sigma_key(item.key)] = self.correction.of(quantity, batch, features)
                found[item.key] = found[item.key] * np.exp(sign * mean)
        if self.model is not None:
            batch = self.batches[0]
            if batch not in by_batch:
                by_batch[batch] = self.model.costs(table.layers, batch)
            found[FRUGAL] = 1e3 * batch / by_batch[batch].module_mj
        return found

    @property
    def by_graph(self) -> list[str]:
        """The required keys that `of` cannot give."""
        return [item.key for item in self.requirements.on_costs if item.metric == "peak_memory"]

    def graph_cost(self, key: str, network: Network) -> float:
        """One of `by_graph` for one network."""
        return float(getattr(costs(network), EXACT[key]))

    def prediction(self, network: Network, batch: int = 1) -> Prediction | None:
        """Predicted readings of one network on the target."""
        return None if self.model is None else self.model.predict(fuse(operations_of(network)), batch)

    def reading(self, item: Requirement, network: Network) -> Reading:
        """The value of a requirement's metric for one network: exact, measured where it was, else predicted, corrected
        by what was measured of others."""
        if item.metric in EXACT:
            value = getattr(costs(network), EXACT[item.metric])
            return Reading(value, item.kind.unit, COMPUTED, "the graph")
        if self.correction is None:
            return self._predicted(item, network)
        measured = self.correction.measured(item, network.digest)
        if measured is not None:
            return measured
        layers = LayerArrays.of(fuse(operations_of(network)))
        return self.correction.corrected(self._predicted(item, network), *quantity_of(item), item.batch or 1,
                                         descriptors(layers))

    def _predicted(self, item: Requirement, network: Network) -> Reading:
        prediction = self.prediction(network, item.batch or 1)
        assert prediction is not None, "refused when the run was prepared"
        if item.metric == "throughput":
            latency, batch = prediction.latency_ms, item.batch or 1
            assert latency.low is not None and latency.high is not None
            return Reading(1e3 * batch / latency.value, item.kind.unit, latency.provenance, latency.source,
                           1e3 * batch / latency.high, 1e3 * batch / latency.low)
        if item.metric.startswith("latency"):
            return prediction.latency_ms
        by_scope = {"energy": prediction.energy_mj, "img_per_joule": prediction.img_per_joule,
                    "power": prediction.power_w}[item.metric]
        return by_scope[item.scope or "module"]

    def shown(self, network: Network, batch: int) -> dict[str, Reading]:
        """{key: reading} of what every table shows of a network on the target; {} without a target."""
        if self.model is None:
            return {}
        return {item.key: self.reading(item, network) for item in _shown(batch)}

    # --- what boards measure against ---------------------------------------------------------------------------------

    def baseline(self, network: Network, batch: int) -> tuple[tuple[float, ...], dict[str, float]]:
        """(descriptors, {quantity: the uncorrected prediction, in the unit of the measured reading}) of one network."""
        assert self.model is not None
        layers = LayerArrays.of(fuse(operations_of(network)))
        found = self.model.costs(layers, batch)
        latency_ms, module_mj = float(found.latency_ms[0]), float(found.module_mj[0])
        values = {ENERGY: module_mj / batch, BOARD_ENERGY: float(found.board_mj[0]) / batch,
                  "power_mw": 1e3 * module_mj / latency_ms, "throughput_img_s": 1e3 * batch / latency_ms}
        names = {quantity_of(item)[0] for item in self._measurable(batch)}
        return (tuple(float(value) for value in descriptors(layers)[0]),
                {name: values.get(name, latency_ms) for name in sorted(names)})

    def prior_sd(self, networks: Sequence[Network]) -> dict[tuple[str, int], float]:
        """{(quantity, batch): relative standard error of the cost model} of all that is required or shown: the greatest
        among some networks of the space."""
        found: dict[tuple[str, int], float] = {}
        for batch in self.batches:
            for item in self._measurable(batch):
                key = (quantity_of(item)[0], batch)
                for network in networks:
                    found[key] = max(found.get(key, 0.0), _log_sigma(self._predicted(item, network)))
        return found

    @property
    def batches(self) -> list[int]:
        """At which something is required of the target; 1 where nothing is."""
        return sorted({item.batch or 1 for item in self.requirements.on_costs if on_board(item)}) or [1]

    def _measurable(self, batch: int) -> list[Requirement]:
        required = [item for item in self.requirements.on_costs if on_board(item) and (item.batch or 1) == batch]
        return [*required, *_shown(batch)]

    def relative_sigma(self, networks: Sequence[Network]) -> dict[str, float]:
        """{key: relative standard error} of what is predicted: the greatest among some networks of the space, since a
        prediction outside of the calibrated range is less certain."""
        found: dict[str, float] = {}
        for item in self.requirements.on_costs:
            for reading in (self.reading(item, network) for network in networks):
                if reading.low is not None and reading.high is not None:
                    found[item.key] = max(found.get(item.key, 0.0), _log_sigma(reading))
        return found


def _shown(batch: int) -> tuple[Requirement, ...]:
    """What tables show on the target at a batch, as requirements that hold always."""
    return (Requirement("latency", "<=", math.inf, batch), Requirement("energy", "<=", math.inf, batch, MODULE),
            Requirement("img_per_joule", ">=", 0.0, batch, MODULE))


def _log_sigma(reading: Reading) -> float:
    """Relative standard error of an interval that is symmetric in the logarithm."""
    assert reading.low is not None and reading.high is not None
    return math.log(reading.high / reading.low) / (2 * Z95)


def _metric(item: Requirement, found: Costs, batch: int) -> FloatArray:
    """[n] in the metric's base unit. The cost model predicts medians: a tail of the latency is judged by them, until a
    board has measured some."""
    energy_mj = found.board_mj if item.scope == BOARD else found.module_mj  # of the whole batch
    if item.metric == "throughput":
        return 1e3 * batch / found.latency_ms
    if item.metric == "energy":
        return energy_mj / batch
    if item.metric == "img_per_joule":
        return 1e3 * batch / energy_mj
    if item.metric == "power":
        return energy_mj / found.latency_ms
    return found.latency_ms
