"""A number with its unit, interval, provenance and, for energy, scope."""

MEASURED, PREDICTED, COMPUTED = "measured", "predicted", "computed"
CORRECTED = "corrected"  # predicted by a model that measurements of other networks corrected
MODULE, BOARD = "module", "board"
CONFIDENCE = 0.95  # of every interval
Z95 = 1.959964  # standard errors to its ends, of a normal one


class Reading(object):
    """One number as a person may rely on it.

    value: the number, in `unit`. low, high: the 95 % interval (both None for what is computed exactly).
    provenance: "measured", "predicted", "corrected" or "computed". source: where and when it was measured, which model
    predicted it, or what computed it. scope: of power and energy, "module" or "board" ("package" or
    "gpu" of a host), else None.
    """

    __slots__ = ("value", "unit", "low", "high", "provenance", "source", "scope")

    def __init__(self, value, unit, provenance, source, low=None, high=None, scope=None):
        if provenance not in (MEASURED, PREDICTED, CORRECTED, COMPUTED):
            raise ValueError("unknown provenance {!r}".format(provenance))
        if (low is None) != (high is None) or (low is not None and not low <= value <= high):
            raise ValueError("the interval [{}, {}] does not hold {}".format(low, high, value))
        self.value, self.unit, self.low, self.high = value, unit, low, high
        self.provenance, self.source, self.scope = provenance, source, scope

    @property
    def sigma(self):
        """Standard error, from the 95 % interval (normal); 0 for exact numbers."""
        return 0.0 if self.low is None else (self.high - self.low) / (2 * Z95)

    def to_json(self):
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value):
        return cls(**{name: value.get(name) for name in cls.__slots__})

    def __eq__(self, other):
        return isinstance(other, Reading) and self.to_json() == other.to_json()

    def __hash__(self):
        return hash((self.value, self.unit, self.provenance, self.source))

    def __repr__(self):
        return "Reading({})".format(", ".join("{}={!r}".format(k, v) for k, v in self.to_json().items()))
