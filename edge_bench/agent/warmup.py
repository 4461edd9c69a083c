"""When a board has warmed up: by steadiness of time, temperature and power, never by a count of inferences."""
import collections

from edge_bench.agent import statistics

FIRST_SPAN_S = 10.0  # over which the first trial must be steady; a board warms up once
NEXT_SPAN_S = 4.0    # of the later trials: fresh caches and, at 0.42 s each, many time constants of a TX2's sensor
LATENCY_SHARE, POWER_SHARE = 0.02, 0.005
TEMPERATURE_C = 0.3  # between halves of 5 s; a board that warms by 8 to 15 degrees is there after 15 to 90 s

Block = collections.namedtuple("Block", "start_s end_s latency_ms temperature_c power_mw")
Block.__doc__ = """A short stretch of warm-up under the full load: median latency; highest temperature and mean power,
each None where nothing measures it."""


class Steadiness(object):
    """Compares the two halves of the last `span_s` seconds: latency within 2 %, power within 0.5 % and one quantum,
    temperature within 0.3 degrees or half a step of the sensor: boards of coarse and of fine sensors wait alike."""

    def __init__(self, span_s, power_quantum_mw=0.0):
        self.span_s, self.power_quantum_mw, self.blocks = span_s, power_quantum_mw, []

    def add(self, block):
        self.blocks.append(block)

    def elapsed_s(self):
        return self.blocks[-1].end_s - self.blocks[0].start_s if self.blocks else 0.0

    def unsteady(self):
        """What is not steady yet, as words: of "time" (too short yet), "latency", "power", "temperature"."""
        if self.elapsed_s() < self.span_s:
            return ["time"]
        end = self.blocks[-1].end_s
        recent = [block for block in self.blocks if block.end_s > end - self.span_s]
        early = [block for block in recent if block.end_s <= end - self.span_s / 2]
        late = [block for block in recent if block.end_s > end - self.span_s / 2]
        if not early or not late:  # blocks longer than half the span: a slow model
            early, late = self.blocks[:-1][-1:], self.blocks[-1:]
        if not early:
            return ["time"]
        return [name for name, steady in (("latency", self._latency(early, late)), ("power", self._power(early, late)),
                                          ("temperature", self._temperature(early, late))) if not steady]

    def _latency(self, early, late):
        values = [block.latency_ms for block in early + late]
        steps = [abs(b - a) for a, b in zip(values, values[1:])]
        # what jumps from block to block without a trend does not get steadier by waiting; the trials will show it
        allowed = max(LATENCY_SHARE * statistics.median(values), statistics.median(steps))
        return abs(_middle(late, "latency_ms") - _middle(early, "latency_ms")) <= allowed

    def _power(self, early, late):
        before, after = _average(early, "power_mw"), _average(late, "power_mw")
        if before is None or after is None:
            return True
        return abs(after - before) <= POWER_SHARE * after + self.power_quantum_mw

    def _temperature(self, early, late):
        before, after = _average(early, "temperature_c"), _average(late, "temperature_c")
        if before is None or after is None:
            return True
        values = [block.temperature_c for block in early + late if block.temperature_c is not None]
        steps = [abs(b - a) for a, b in zip(values, values[1:]) if a != b]
        return abs(after - before) <= max(TEMPERATURE_C, 0.5 * min(steps) if steps else 0.0)


def _middle(blocks, name):
    return statistics.median([getattr(block, name) for block in blocks])


def _average(blocks, name):
    values = [getattr(block, name) for block in blocks if getattr(block, name) is not None]
    return statistics.mean(values) if values else None
