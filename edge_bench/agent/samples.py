"""Recorded power samples, and how they are read from what was recorded."""
import gzip
import io
import json
import zlib
from typing import Optional

from devices.support.errors import UserError
from devices.support.files import explain


class Samples(object):
    """Columns of equal length, with what is known about the sensor.

    source: `PowerSource.describe()`. interval_s: the time asked for between samples. t_s: time.monotonic() of each.
    total_mw: mW of the headline scope, None before a counter first moved. rails: {name: [mW or None]}. energy_mj:
    of counters, since the source was opened, else None. refresh_s, quantum_mw: of the total, None if not found.
    about: what the sampler tells of itself (missed deadlines, failed reads, its cost); see `sampler`.
    """

    def __init__(self, source, interval_s, about=None):
        self.source, self.interval_s, self.about = source, interval_s, about or {}
        self.refresh_s, self.quantum_mw = source.get("refresh_s"), source.get("quantum_mw")
        self.t_s: list = []
        self.total_mw: list = []
        self.rails: dict = {name: [] for name in source["rails"]}
        self.energy_mj: Optional[list] = [] if source["counter"] else None

    def __len__(self):
        return len(self.t_s)

    @property
    def scope(self):
        return self.source["scope"]

    @property
    def total_name(self):
        """Name of the total for people: "VDD_IN", or the sum that it is."""
        return " + ".join(self.source["totals"][self.scope])

    def add(self, t_s, total_mw, energy_mj, rails):
        """Append one sample; rails: values in the order of source["rails"], None where one was not read."""
        self.t_s.append(t_s)
        self.total_mw.append(total_mw)
        if self.energy_mj is not None:
            self.energy_mj.append(energy_mj)
        for name, value in zip(self.source["rails"], rails):
            self.rails[name].append(value)

    def power_of(self, scope=None):
        """The mW of a scope, sample by sample: the total, or the sum of that scope's rails.

        UserError for a scope that this source does not measure.
        """
        if scope is None or scope == self.scope:
            return self.total_mw
        names = self.source["totals"].get(scope)
        if names is None:
            raise UserError("{} measures {}, not {}".format(
                self.source["name"], " and ".join(self.source["totals"]), scope))
        return [None if None in values else sum(values) for values in zip(*(self.rails[name] for name in names))]

    def to_json(self):
        """Plain data, compact: times as microseconds from the first, each relative to the one before."""
        micros = [round((t - self.t_s[0]) * 1e6) for t in self.t_s]
        return {"source": self.source, "interval_s": self.interval_s, "about": self.about,
                "refresh_s": self.refresh_s, "quantum_mw": self.quantum_mw,
                "start_s": self.t_s[0] if self.t_s else None,
                "steps_us": [b - a for a, b in zip([0] + micros, micros)], "total_mw": _short(self.total_mw),
                "energy_mj": None if self.energy_mj is None else _short(self.energy_mj),
                "rails": {name: _short(values) for name, values in self.rails.items()}}

    @classmethod
    def from_json(cls, value):
        """UserError when the columns do not fit together."""
        try:
            found = cls(value["source"], value["interval_s"], value["about"])
            found.refresh_s, found.quantum_mw = value["refresh_s"], value["quantum_mw"]
            micros = 0
            for step in value["steps_us"]:
                micros += step
                found.t_s.append(value["start_s"] + micros / 1e6)
            found.total_mw, found.energy_mj = value["total_mw"], value["energy_mj"]
            found.rails = {name: value["rails"][name] for name in found.source["rails"]}
            columns = [found.total_mw] + list(found.rails.values()) + ([found.energy_mj] if found.energy_mj else [])
            if any(len(column) != len(found) for column in columns) or not len(found):
                raise ValueError("columns of different lengths")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("the power samples are damaged ({}); measure again".format(error))
        return found


def _short(values):
    """Numbers of at most two decimals, whole ones as integers: what a sensor resolves, in few characters."""
    return [None if value is None else int(value) if value == int(value) else round(value, 2) for value in values]


def read_samples(path):
    """The Samples of a measurement's record, or of what the verb `samples` writes as JSON. UserError when it is
    neither, or damaged."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise explain(error, path)
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read()
        document = json.loads(data.decode("utf-8"))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError("{}: damaged ({}); it should hold recorded power samples".format(path, error))
    if isinstance(document, dict):
        document = (document["power"] if isinstance(document.get("power"), dict) else document).get("samples")
    if not isinstance(document, dict):
        raise UserError("{}: it holds no power samples; measure with --power to record some".format(path))
    return Samples.from_json(document)
