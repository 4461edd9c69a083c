"""The INA3221 power monitors of Jetson boards, over sysfs: the iio driver of L4T up to 32, hwmon from 34 on.

Rails are chosen by name, never by the number of an index, a bus or a device, since all of these differ between boards
and releases. Reading needs no root. Paths and units: the drivers' own documentation.
"""
import collections
import errno
import glob
import os
import time

from devices.support.errors import CannotMeasure
from edge_bench.agent.power.source import Absent, PowerSource, ReadFailed, Sample
from edge_bench.agent.power.totals import facts_of, totals_of, why_no_total

IIO = ("sys/bus/i2c/drivers/ina3221x/*/iio:device*", "sys/bus/i2c/drivers/ina3221x/*/iio_device",
       "sys/bus/i2c/devices/*/iio:device*", "sys/bus/i2c/devices/*/iio_device")
HWMON = ("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "sys/bus/i2c/devices/*/hwmon/hwmon*", "sys/class/hwmon/hwmon*")
TRIES, PAUSE_S = 10, 0.002  # a triggered conversion answers EAGAIN until it is ready
SHUNT_STEP_UV = 40.0        # one bit of the 13-bit converter
MODES = {"0": "triggered", "1": "continuous"}  # of the iio driver

Channel = collections.namedtuple("Channel", "name files shunt_uohm")
Channel.__doc__ = """A rail. files: [power in mW] or [voltage in mV, current in mA]; shunt_uohm: None if not told."""


class Ina3221(PowerSource):
    """Every rail of every INA3221 on the board."""

    name = "ina3221"

    def open(self):
        channels, denied = find_channels(self.root)
        if not channels:
            if denied:
                raise Absent("{} may not be read by this user: run as root, or chmod a+r it".format(denied[0]))
            raise Absent("no INA3221 monitor under {}".format(os.path.join(self.root, "sys/bus/i2c")))
        self.totals = totals_of([channel.name for channel in channels], self.board)
        if not self.totals:
            raise CannotMeasure("the INA3221 monitors are there, but {}: name the board's total rail in its board "
                                "file".format(why_no_total([channel.name for channel in channels])))
        self.scope = "module" if "module" in self.totals else next(iter(self.totals))
        first = self.totals[self.scope]
        # the total is read first and closest to the time stamp
        channels.sort(key=lambda channel: channel.name not in first)
        self.where = os.path.dirname(channels[0].files[0])
        self._channels = [(channel, [os.open(path, os.O_RDONLY) for path in channel.files]) for channel in channels]
        self._drop_silent(first)
        self.rails = [channel.name for channel, _ in self._channels]
        self._heads, self._summed = len(first), {name for names in self.totals.values() for name in names}
        facts = facts_of(first, self.board)
        self.quantum_mw = self._quantum() or facts.quantum_mw
        self.filter_s, self.refresh_s = facts.filter_s, facts.refresh_s

    def describe(self):
        """Also how the total's chip converts now: triggered readings are single and no average over `filter_s`. Unless
        the device tree forces a mode the driver changes it with cores and clocks, so `filter_s` stays."""
        mode = MODES.get(_text(os.path.join(self.where or "", "running_mode")) or "")
        return dict(super(Ina3221, self).describe(), running_mode=mode)

    def _drop_silent(self, needed):
        """Leave out channels that give nothing (disabled ones answer ENODATA); the total must answer."""
        for pair in list(self._channels):
            try:
                _power(pair[1])
            except (ReadFailed, OSError) as error:
                if pair[0].name in needed:
                    self.close()
                    raise CannotMeasure("{} gives no value ({}); without it there is no total".format(
                        pair[0].files[0], error))
                self._channels.remove(pair)
                for handle in pair[1]:
                    os.close(handle)
        self.totals = collections.OrderedDict(
            (scope, names) for scope, names in self.totals.items()
            if set(names) <= {channel.name for channel, _ in self._channels})

    def _quantum(self):
        """The total's step in mW, where the driver tells the shunts: one bit of the current times the voltage."""
        squares = []
        for channel, handles in self._channels[:self._heads]:
            if not channel.shunt_uohm or len(handles) != 2:
                return None
            step_ma = SHUNT_STEP_UV * 1000.0 / channel.shunt_uohm
            squares.append((step_ma * _integer(handles[0]) / 1000.0) ** 2)
        return sum(squares) ** 0.5

    def read(self):
        rails = {}
        start = self.clock()
        middle = start
        for index, (channel, handles) in enumerate(self._channels):
            try:
                rails[channel.name] = _power(handles)
            except (OSError, ReadFailed) as error:
                if channel.name in self._summed:  # a rail beside the totals may be off or late: they still count
                    raise ReadFailed("{}: {}".format(channel.files[0], getattr(error, "strerror", None) or error))
            if index == self._heads - 1:
                middle = (start + self.clock()) / 2
        return Sample(middle, rails, self.total_mw(rails), None)

    def close(self):
        for _, handles in self.__dict__.pop("_channels", ()):
            for handle in handles:
                os.close(handle)


def _power(handles):
    """Milliwatts of one channel from its open files."""
    if len(handles) == 1:
        return _integer(handles[0])
    return _integer(handles[0]) * _integer(handles[1]) / 1000.0


def _integer(handle):
    """The integer a sysfs file holds now. EAGAIN (the conversion is not ready) and an empty read are tried again."""
    for _ in range(TRIES):
        try:
            text = os.pread(handle, 64, 0)
            if text.strip():
                return int(text)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
        except ValueError:
            raise ReadFailed("{!r} is no number".format(text))
        time.sleep(PAUSE_S)
    raise ReadFailed("no value after {} tries".format(TRIES))


def find_channels(root="/"):
    """([Channel], [paths that may not be read]) of all INA3221 monitors, each once though many paths lead to it.

    A rail name that occurs on two chips gets the chip's address behind it, since neither can be preferred.
    """
    found: list = []
    denied: list = []
    for folder in _folders(root, IIO):
        found += _channels(folder, denied, "rail_name_{}", ("in_power{}_input",), range(3))
    for folder in _folders(root, HWMON):
        if (_text(os.path.join(folder, "name")) or "ina3221") == "ina3221":
            # in4..in6 are shunt voltages and in7 their sum
            found += _channels(folder, denied, "in{}_label", ("in{}_input", "curr{}_input"), range(1, 4))
    names = [channel.name for channel in found]
    return [channel if names.count(channel.name) == 1 else channel._replace(
        name="{}@{}".format(channel.name, _address(channel.files[0]))) for channel in found], denied


def _folders(root, patterns):
    """The folders that the patterns find, by their real paths, each once."""
    paths: dict = {}
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(root), pattern)):
            paths.setdefault(os.path.realpath(path), path)
    return [paths[real] for real in sorted(paths)]


def _channels(folder, denied, label, files, numbers):
    found = []
    for number in numbers:
        name = _text(os.path.join(folder, label.format(number)))
        if not name or name.upper() == "NC":  # not connected
            continue
        paths = [os.path.join(folder, file.format(number)) for file in files]
        if not all(os.path.exists(path) for path in paths):
            continue
        refused = [path for path in paths if not os.access(path, os.R_OK)]
        if refused:
            denied += refused
            continue
        shunt = _text(os.path.join(folder, "shunt{}_resistor".format(number)))
        found.append(Channel(name, paths, int(shunt) if (shunt or "").isdigit() and int(shunt) else None))
    return found


def _address(path):
    """"1-0041" of a path below a chip's folder."""
    parts = os.path.realpath(path).split(os.sep)
    chips = [part for part in parts if len(part.partition("-")[2]) == 4 and part.partition("-")[0].isdigit()]
    return chips[-1] if chips else "/".join(parts[-2:-1])


def _text(path):
    try:
        with open(path, "rb") as stream:
            return stream.read(256).decode("ascii", "replace").strip()
    except OSError:
        return None
