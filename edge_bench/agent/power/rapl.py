"""RAPL, the energy counters of x86 processors: all packages, wrap-around, permission.

The kernel shows them under /sys/class/powercap (AMD's too, by the same name). Since Linux 5.10 root alone may read
them. Microjoules; a counter begins anew at max_energy_range_uj.
"""
import collections
import glob
import os
import re

from edge_bench.agent.power.source import Absent, CounterSource, ReadFailed

ZONES = "sys/class/powercap/intel-rapl:*"


class Rapl(CounterSource):
    """The sum of all packages; memory is told beside it where the processor counts it."""

    name = "rapl"
    scope = "package"

    def open(self):
        zones = _zones(self.root)
        packages = [name for name in zones if name.startswith("package")]
        folder = os.path.join(self.root, "sys/class/powercap")
        if not packages:
            raise Absent("no processor package under {}: virtual machines and containers seldom show it".format(folder))
        refused = [zones[name] for name in packages if not os.access(zones[name] + "/energy_uj", os.R_OK)]
        if refused:
            raise Absent("{}/energy_uj may be read by root alone: sudo chmod a+r {}/intel-rapl:*/energy_uj".format(
                refused[0], folder))
        self._zones = collections.OrderedDict(
            (name, path) for name, path in zones.items() if os.access(path + "/energy_uj", os.R_OK))
        self._range_uj, self._last_uj, self._sum_uj = {}, {}, {}
        for name, path in self._zones.items():
            try:
                self._range_uj[name] = _integer(path + "/max_energy_range_uj")
                self._last_uj[name] = _integer(path + "/energy_uj")
            except ReadFailed as error:
                raise Absent(str(error))
            self._sum_uj[name] = 0
        self.rails, self.where = list(self._zones), folder
        self.totals = collections.OrderedDict([("package", packages)])

    def read(self):
        before = self.clock()
        for name, path in self._zones.items():
            value = _integer(path + "/energy_uj")
            step = value - self._last_uj[name]
            if step < 0:  # wrapped; the sampler reads far more often than the minutes that a round takes
                step += self._range_uj[name]
            self._last_uj[name] = value
            self._sum_uj[name] += step
        middle = (before + self.clock()) / 2
        return self.sample(middle, {name: energy / 1000.0 for name, energy in self._sum_uj.items()})


def _zones(root):
    """{name: path} of the packages and their memory; cores and graphics are parts of a package and left out."""
    found = collections.OrderedDict()
    for path in sorted(glob.glob(os.path.join(glob.escape(root), ZONES))):
        match = re.match(r"^intel-rapl:(\d+)(:\d+)?$", os.path.basename(path))
        try:
            with open(os.path.join(path, "name")) as stream:
                name = stream.read().strip()
        except OSError:
            continue
        if match and not match.group(2) and name.startswith("package"):
            found[name] = path
        elif match and match.group(2) and name == "dram":
            found["dram-" + match.group(1)] = path
    return found


def _integer(path):
    try:
        with open(path) as stream:
            return int(stream.read())
    except (OSError, ValueError) as error:
        raise ReadFailed("{}: {}".format(path, error))
