"""NVML, for desktop and server GPUs: the energy counter where there is one, else the power reading.

Called through ctypes, so that nothing needs to be installed. The counter (Volta and newer) gives millijoules since the
driver was loaded; its refresh is found before anything is measured with it.
"""
import collections
import ctypes
import os
import time

from devices.support.errors import CannotMeasure
from edge_bench.agent.power.source import Absent, CounterSource, ReadFailed, Sample
from edge_bench.agent.sensor import find_refresh

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED = 3
REFRESH_LIMIT_S = 2.0


class Nvml(CounterSource):
    """The GPU that CUDA programs use here: the first of CUDA_VISIBLE_DEVICES, or the first there is."""

    name = "nvml"
    scope = "gpu"

    def __init__(self, root="/", board=None, clock=time.monotonic, library=None):
        super(Nvml, self).__init__(root, board, clock)
        self._library, self._ready = library, False

    def open(self):
        if self._library is None:
            if os.path.realpath(self.root) != "/":
                raise Absent("it tells of this machine's GPUs only, not of {}".format(self.root))
            try:
                self._library = ctypes.CDLL(LIBRARY)
            except OSError:
                raise Absent("{} is not installed: it comes with NVIDIA's driver".format(LIBRARY))
        code = self._call("nvmlInit_v2")
        if code:
            raise Absent("NVML does not start ({}): is NVIDIA's driver loaded?".format(self._words(code)))
        self._ready = True
        self._device = self._find_device()
        code, self._base_mj = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        self.counter = code == 0
        power_code, power_mw = self._number("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        if not self.counter and (power_code or not power_mw):
            self.close()
            raise CannotMeasure(
                "NVML starts and knows neither energy nor power of this GPU ({}); on a Jetson the power rails are read "
                "with --power-source ina3221 or tegrastats".format(self._words(power_code or code)))
        self.rails, self.where = ["gpu"], self._gpu_name()
        self.totals = collections.OrderedDict([("gpu", ["gpu"])])
        function, kind = (("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong) if self.counter
                          else ("nvmlDeviceGetPowerUsage", ctypes.c_uint))
        self.refresh_s, _ = find_refresh(lambda: self._number(function, kind)[1], self.clock, REFRESH_LIMIT_S,
                                         reads=2000, pause_s=0.0005)
        if self.counter and self.refresh_s is None:
            self.close()
            raise CannotMeasure("the energy counter of {} did not move in {:g} s; restart the driver's persistence "
                                "daemon (nvidia-smi -pm 1), or measure without --power".format(
                                    self.where, REFRESH_LIMIT_S))

    def read(self):
        before = self.clock()
        if self.counter:
            code, energy = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        else:
            code, power = self._number("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        middle = (before + self.clock()) / 2
        if code:
            raise ReadFailed("NVML: {}".format(self._words(code)))
        if not self.counter:
            return Sample(middle, {"gpu": power}, power, None)
        if energy < self._base_mj:
            raise ReadFailed("NVML's energy counter went back: the driver was loaded anew")
        return self.sample(middle, {"gpu": energy - self._base_mj})

    def close(self):
        if self._ready:
            self._ready = False
            self._call("nvmlShutdown")

    def _find_device(self):
        """The handle of the first GPU that CUDA shows to programs."""
        handle = ctypes.c_void_p()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if first.startswith("MIG"):
            self.close()
            raise Absent("a MIG slice has no power reading of its own")
        if first.isdigit():
            code = self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(first)), ctypes.byref(handle))
        else:
            code = self._call("nvmlDeviceGetHandleByUUID", first.encode("ascii", "replace"), ctypes.byref(handle))
        if code:
            self.close()
            raise Absent("NVML knows no GPU '{}' ({})".format(first, self._words(code)))
        return handle

    def _number(self, function, kind):
        """(code, value) of a query that writes one number."""
        value = kind()
        code = self._call(function, self._device, ctypes.byref(value))
        return code, (value.value if code == 0 else None)

    def _gpu_name(self):
        text = ctypes.create_string_buffer(96)
        code = self._call("nvmlDeviceGetName", self._device, text, ctypes.c_uint(96))
        return text.value.decode("utf-8", "replace") if code == 0 else "a GPU"

    def _call(self, function, *arguments):
        """The return code of an NVML function; that of "not supported" where this library does not have it."""
        try:
            return getattr(self._library, function)(*arguments)
        except AttributeError:
            return NOT_SUPPORTED

    def _words(self, code):
        return {1: "not initialised", 2: "invalid argument", NOT_SUPPORTED: "not supported", 4: "no permission",
                6: "not found", 9: "the driver is not loaded", 12: "the library is not found",
                15: "the GPU is lost", 17: "the driver and the library differ in version; reboot"}.get(
                    code, "NVML error {}".format(code))
