"""What every power source is: opened, read, closed; rails by name in milliwatts, one of them or a sum the total."""
import collections
import time
from typing import Optional

Sample = collections.namedtuple("Sample", "t_s rails total_mw energy_mj")
Sample.__doc__ = """One reading. t_s: time.monotonic() in the middle of reading the total; rails: {name: mW};
total_mw: of the headline scope, None where a counter has not moved yet; energy_mj: of counters, since `open`."""


class Absent(Exception):
    """A source that is not there; the message says why, and what would bring it."""


class ReadFailed(Exception):
    """One reading failed; the next may succeed. The sampler counts these."""


class PowerSource(object):
    """Base of the sources.

    name: the word that --power-source takes. scope: what the total is the power of ("module", "board", "package",
    "gpu"). rails: names, in the order read. totals: {scope: [rails whose sum it is]}, `scope` among them.
    counter: whether the sensor counts energy itself (`Sample.energy_mj`). paced: whether `read` waits for the
    sensor's own next sample. quantum_mw, refresh_s, filter_s: what is documented about the total's step, refresh
    and recursive average (time constant); None where nothing is.
    """

    name = ""
    scope = "module"
    counter = False
    paced = False
    quantum_mw: Optional[float] = None
    refresh_s: Optional[float] = None
    filter_s: Optional[float] = None
    where: Optional[str] = None

    def __init__(self, root="/", board=None, clock=time.monotonic):
        self.root, self.board, self.clock = root, board, clock
        self.rails: list = []
        self.totals: dict = {}

    def open(self):
        """Find the sensor and make it ready. Absent when it is not there; CannotMeasure when it is and cannot serve."""
        raise NotImplementedError

    def read(self):
        """One Sample. ReadFailed when this one reading failed."""
        raise NotImplementedError

    def close(self):
        """Give back what `open` took; safe to call twice, and without `open`."""

    def describe(self):
        """What a result says about the source."""
        return {"name": self.name, "scope": self.scope, "rails": list(self.rails), "where": self.where,
                "totals": {scope: list(names) for scope, names in self.totals.items()}, "counter": self.counter,
                "quantum_mw": self.quantum_mw, "refresh_s": self.refresh_s, "filter_s": self.filter_s}

    def total_mw(self, rails):
        """The total of one reading's rails in mW, in the headline scope."""
        return sum(rails[name] for name in self.totals[self.scope])

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()


class CounterSource(PowerSource):
    """Base of the sensors that count energy: rails in mW are what the counters gained since they last moved."""

    counter = True

    def __init__(self, root="/", board=None, clock=time.monotonic):
        super(CounterSource, self).__init__(root, board, clock)
        self._since: dict = {}  # rail: (time, mJ) of its last step
        self._power: dict = {}  # rail: mW over its last step

    def sample(self, t_s, energies_mj):
        """The Sample of the counters' energies since `open`, {rail: mJ}, read at t_s."""
        for name, energy in energies_mj.items():
            before = self._since.get(name)
            if before is None:
                self._since[name] = (t_s, energy)
            elif energy != before[1]:
                self._power[name] = (energy - before[1]) / (t_s - before[0])
                self._since[name] = (t_s, energy)
        names = self.totals[self.scope]
        rails = dict(self._power)
        total = self.total_mw(rails) if all(name in rails for name in names) else None
        return Sample(t_s, rails, total, sum(energies_mj[name] for name in names))
