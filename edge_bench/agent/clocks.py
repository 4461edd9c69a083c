"""Clocks of CPU, GPU and memory, and whether they are pinned; root is a parameter so that files can stand in."""
import glob
import os

from edge_bench.agent.identity import is_jetson, read, read_integer

_EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"  # of the TX2 and later; readable by root alone
_EMC_CAP = "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"  # in Hz, set by the power mode; 0 is none
GPU_WORDS = ("gp10b", "gv11b", "gm20b", "ga10b", "gpu")


def read_clocks(root="/"):
    """{"cpu": [...], "gpu", "emc": {...} or None, "emc_cap_hz", "boost", "unseen": [...], "locked"}.

    Each clock is {"name", "min_hz", "max_hz", "current_hz", "governor"}. emc_cap_hz: what the power mode holds the
    memory clock below, 0 for nothing. boost: whether a host's CPU may exceed its nominal clock. unseen: which of "cpu",
    "gpu" and "emc" this machine has and does not show to this user. locked is what was observed: minimum, maximum and
    current are the same for every clock that can be read, whoever set them; None where none can be read, as in most
    virtual machines. What is not known is None.
    """
    cpu, gpu, emc = _cpu(root), _gpu(root), _emc(root)
    seen = cpu + [clock for clock in (gpu, emc) if clock]
    expected = [("cpu", cpu)] + ([("gpu", gpu), ("emc", emc)] if is_jetson(root) else [])
    return {"cpu": cpu, "gpu": gpu, "emc": emc, "emc_cap_hz": read_integer(root, _EMC_CAP), "boost": _boost(root),
            "unseen": [name for name, found in expected if not found],
            "locked": all(_pinned(clock) for clock in seen) if seen else None}


def _boost(root):
    """Whether the CPU may run above its nominal clock: True, False, or None where no driver says so."""
    allowed = read_integer(root, "/sys/devices/system/cpu/cpufreq/boost")
    if allowed is None:
        forbidden = read_integer(root, "/sys/devices/system/cpu/intel_pstate/no_turbo")
        return None if forbidden is None else forbidden == 0
    return allowed == 1


def _pinned(clock):
    if "held" in clock:
        return clock["held"]
    low, high, now = clock["min_hz"], clock["max_hz"], clock["current_hz"]
    # a current clock may round to the divider next to what was asked
    return low == high and (now is None or abs(now - high) <= 0.02 * high)


def _clock(name, low, high, now, scale=1, governor=None):
    if high is None:
        return None
    return {"name": name, "min_hz": None if low is None else low * scale, "max_hz": high * scale,
            "current_hz": None if now is None else now * scale, "governor": governor}


def _cpu(root):
    folders = glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    clocks = []
    for folder in sorted(folders, key=lambda path: int(path.split(os.sep)[-2][3:])):
        name = folder.split(os.sep)[-2]
        if read_integer(root, "/sys/devices/system/cpu/{}/online".format(name)) == 0:
            continue
        low, high, now = [read_integer(folder, "scaling_{}_freq".format(word)) for word in ("min", "max", "cur")]
        clock = _clock(name, low, high, now, scale=1000, governor=read(folder, "scaling_governor"))
        if clock:
            clocks.append(clock)
    return clocks


def _gpu(root):
    patterns = ("sys/devices/*/devfreq/*", "sys/devices/platform/*/devfreq/*", "sys/devices/platform/*/*/devfreq/*",
                "sys/class/devfreq/*")
    for pattern in patterns:
        for folder in sorted(glob.glob(os.path.join(root, pattern))):
            name = os.path.basename(folder)
            if any(word in name for word in GPU_WORDS):
                low, high, now = [read_integer(folder, word + "_freq") for word in ("min", "max", "cur")]
                clock = _clock(name, low, high, now, governor=read(folder, "governor"))
                if clock:
                    return clock
    return None


def _emc(root):
    """The memory clock: it is held by a lock of its own, at what the power mode caps it to, and not by its minimum."""
    clock = _clock("emc", *[read_integer(root, _EMC + "/" + word) for word in ("min_rate", "max_rate", "rate")])
    held = read_integer(root, _EMC + "/mrq_rate_locked")
    if clock and held is not None:
        clock["held"] = held == 1
    return clock
