"""From torch's operations, as the dispatcher executes them (aten), to vertices."""

from synth.networks.translators import pointwise, pooling, rearranging, weighted  # noqa: F401  (they register themselves)
from synth.networks.translators.call import translate

__all__ = ["translate"]
