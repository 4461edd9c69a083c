"""The state of the machine before anything is measured, and what in it speaks against relying on the numbers."""
import glob
import os

from edge_bench.agent import power_mode
from edge_bench.agent.clocks import read_clocks
from edge_bench.agent.identity import identify, read, read_integer, software
from edge_bench.agent.load import BUSY_GPU, other_load

_DEAD_SENSOR_C = -200.0  # tegra reports -256 for a sensor that is off
# cooling devices that hold no clock down; an Orin's hot-surface-alert warns of a case of 70 degrees and does no more
_NO_CLOCK = ("fan", "tcc offset", "iwlwifi", "lcd", "hot-surface-alert")


def temperatures(root="/"):
    """{zone: degrees Celsius} of every thermal zone that works. PMIC zones, a constant 100 on Jetsons, are left out."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))
                         or glob.glob(os.path.join(root, "sys/devices/virtual/thermal/thermal_zone*"))):
        name, millidegrees = read(folder, "type"), read_integer(folder, "temp")
        if name and millidegrees is not None and millidegrees / 1000.0 > _DEAD_SENSOR_C and "PMIC" not in name:
            found[name] = millidegrees / 1000.0
    return found


def throttling(root="/"):
    """Names of the cooling devices that hold clocks down now."""
    active = []
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/thermal/cooling_device*"))):
        name, state = read(folder, "type") or "", read_integer(folder, "cur_state")
        if state and state > 0 and not any(word in name.lower() for word in _NO_CLOCK):  # -1: switched off
            active.append(name)
    return active


def over_currents(root="/"):
    """{"oc1": count, ...} of an Orin's over-current events since it was started, of those that slow its clocks."""
    found = {}
    for path in sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*/oc*_event_cnt"))):
        name, count = os.path.basename(path).partition("_")[0], read_integer("/", path)
        if count is not None and read_integer(os.path.dirname(path), name + "_throt_en") != 0:
            found[name] = count
    return found


def fan(root="/"):
    """{"pwm": 0..255} of the fan, or None where there is none that can be read."""
    candidates = [os.path.join(root, "sys/devices/pwm-fan/target_pwm")]
    candidates += sorted(glob.glob(os.path.join(root, "sys/devices/platform/pwm-fan/hwmon/hwmon*/pwm1")))
    for path in candidates:
        pwm = read_integer("/", path)
        if pwm is not None:
            return {"pwm": pwm}
    return None


def preflight(root="/"):
    """The state as JSON: board, software, mode, clocks, fan, temperatures_c, throttling, load, and warnings."""
    state = {"board": identify(root), "software": software(root), "mode": power_mode.present(root),
             "clocks": read_clocks(root), "fan": fan(root), "temperatures_c": temperatures(root),
             "throttling": throttling(root), "load": other_load(root)}
    state["warnings"] = warnings(state)
    return state


def warnings(state):
    """Sentences about what makes the numbers of this state hard to repeat, each with its remedy."""
    found = []
    if state["throttling"]:
        found.append("clocks are held down by {}: let the board cool, or improve its cooling".format(
            ", ".join(state["throttling"])))
    busy = (state["load"] or {}).get("processes") or []
    if busy:
        found.append("other processes use the CPU ({}): end them, or the latency is theirs too".format(
            ", ".join("{name} {share:.0%}".format(**process) for process in busy)))
    gpu_share = (state["load"] or {}).get("gpu_share") or 0.0
    if gpu_share > BUSY_GPU:
        found.append("other work uses {:.0%} of the GPU's time: end it, or the latency is its too".format(gpu_share))
    if state["clocks"]["locked"] is False:
        remedy = "fix minimum and maximum of its CPU's clocks" if state["mode"] is None else "lock them with --lock"
        found.append("clocks are not locked: the result cannot become a baseline; " + remedy)
    if state["clocks"]["locked"] is None:
        found.append("this machine does not show its clocks: whether they moved while it measured is not known")
    return found
