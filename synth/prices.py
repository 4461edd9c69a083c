"""What networks cost on the target, under the names that requirements use for it ("img_per_joule@8:module")."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from devices.board import Target
from devices.cost_model import CostModel, Prediction
from devices.layer_cost import fuse
from devices.support.reading import BOARD, COMPUTED, Reading
from synth.decisions import FloatArray
from synth.networks.costs import costs, operations_of
from synth.networks.network import Network
from synth.requirements import Requirement, Requirements
from synth.space_costs import CostTable

EXACT = {"params": "params", "macs": "macs", "size": "weight_bytes", "peak_memory": "peak_memory_bytes"}
BYTES = 4  # of a stored weight (fp32)


@dataclass(frozen=True)
class Prices:
    """Prices on one target and precision of what `requirements` name; without a target only exact costs have one."""

    requirements: Requirements
    target: Target | None
    precision: str = "fp16"

    @functools.cached_property
    def model(self) -> CostModel | None:
        """UserError when the target has no cost model or not this precision."""
        return None if self.target is None else CostModel.for_target(self.target, self.precision, input_ready=True)

    def of(self, table: CostTable) -> dict[str, FloatArray]:
        """The cost of every network of a table, [n], for every key that can be had from it.

        Those of `by_graph` cannot: they follow from the order of the graph.
        """
        found: dict[str, FloatArray] = {"size": BYTES * table.params}
        by_batch = {}
        for item in self.requirements.on_costs:
            if item.metric in EXACT or self.model is None:
                continue
            batch = item.batch or 1
            if batch not in by_batch:
                by_batch[batch] = self.model.costs(table.layers, batch)
            costs_of = by_batch[batch]
            energy_mj = costs_of.board_mj if item.scope == BOARD else costs_of.module_mj
            found[item.key] = _metric(item, costs_of.latency_ms, energy_mj, batch)
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
        """The exact or predicted value of a requirement's metric for one network."""
        if item.metric in EXACT:
            value = getattr(costs(network), EXACT[item.metric])
            return Reading(value, item.kind.unit, COMPUTED, "the graph")
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

    def relative_sigma(self, networks: Sequence[Network]) -> dict[str, float]:
        """{key: relative standard error} of what is predicted: the greatest among some networks of the space, since a
        prediction outside of the calibrated range is less certain."""
        found: dict[str, float] = {}
        for item in self.requirements.on_costs:
            for reading in (self.reading(item, network) for network in networks):
                if reading.low is not None and reading.high is not None:
                    sigma = math.log(reading.high / reading.low) / (2 * 1.959964)
                    found[item.key] = max(found.get(item.key, 0.0), sigma)
        return found


def _metric(item: Requirement, latency_ms: FloatArray, energy_mj: FloatArray, batch: int) -> FloatArray:
    """energy_mj: of the whole batch. The cost model predicts medians: a tail of the latency is judged by them."""
    if item.metric == "throughput":
        return 1e3 * batch / latency_ms
    if item.metric == "energy":
        return energy_mj / batch
    if item.metric == "img_per_joule":
        return 1e3 * batch / energy_mj
    if item.metric == "power":
        return energy_mj / latency_ms
    return latency_ms
