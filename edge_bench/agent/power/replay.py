"""Recorded samples in a sensor's stead: what was recorded first is now, and the recording begins anew at its end."""
import bisect
import time

from edge_bench.agent.power.source import PowerSource, Sample
from edge_bench.agent.samples import read_samples


class Replay(PowerSource):
    """Plays what `samples.read_samples` reads. `read` gives the recorded sample whose moment has come."""

    name = "replay"

    def __init__(self, path, root="/", board=None, clock=time.monotonic):
        super(Replay, self).__init__(root, board, clock)
        self._path = path

    def open(self):
        self._samples = recorded = read_samples(self._path)
        source = recorded.source
        self.scope, self.totals, self.rails = source["scope"], source["totals"], source["rails"]
        self.counter, self.where = bool(recorded.energy_mj), "{} ({})".format(self._path, source["name"])
        self.quantum_mw, self.refresh_s = recorded.quantum_mw, recorded.refresh_s
        self.filter_s = source.get("filter_s")
        self._length_s = recorded.t_s[-1] - recorded.t_s[0] + recorded.interval_s
        self._start_s = self.clock()

    def read(self):
        now, recorded = self.clock(), self._samples
        rounds, offset = divmod(now - self._start_s, self._length_s)
        index = bisect.bisect_right(recorded.t_s, recorded.t_s[0] + offset) - 1
        rails = {name: values[index] for name, values in recorded.rails.items() if values[index] is not None}
        energy = None
        if recorded.energy_mj:
            energy = recorded.energy_mj[index] + rounds * recorded.energy_mj[-1]
        return Sample(now, rails, recorded.total_mw[index], energy)
