"""The operators a vertex can hold: shapes, costs, weights and how channels pass through them. No torch here."""

from synth.networks.operators import pointwise, pooling, rearranging, weighted  # noqa: F401  (they register themselves)
from synth.networks.operators.base import Labels, Operator, Shape, operator, operator_names

__all__ = ["Labels", "Operator", "Shape", "operator", "operator_names"]
