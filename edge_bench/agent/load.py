"""How busy this machine is with other things than ours: its processor from /proc, a Jetson's GPU from its load file."""
import glob
import os
import time

from edge_bench.agent.clocks import GPU_WORDS
from edge_bench.agent.identity import read_integer

BUSY_SHARE = 0.1  # of one core: what disturbs a latency
BUSY_GPU = 0.05   # of the GPU's time
GPU_READS = 5     # its file tells of the last moments alone


def other_load(root="/", seconds=0.5):
    """{"cpu_share", "processes": [{"pid", "name", "share"}, ...], "gpu_share"} over `seconds`; shares are of one core.

    cpu_share is all that ran; processes are those that used more than a tenth of a core, this one apart. gpu_share: of
    the GPU's time, None where no file tells it. None where /proc does not say.
    """
    first = _snapshot(root)
    if first is None:
        return None
    gpu_share = _rest(root, seconds)
    second = _snapshot(root)
    if second is None:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    wall = second["time"] - first["time"]
    used = {pid: (name, (spent - first["processes"].get(pid, (name, spent))[1]) / float(ticks) / wall)
            for pid, (name, spent) in second["processes"].items() if pid != os.getpid()}
    busy = sorted(((pid, name, share) for pid, (name, share) in used.items() if share > BUSY_SHARE),
                  key=lambda row: -row[2])
    return {"cpu_share": max(0.0, (second["busy"] - first["busy"]) / float(ticks) / wall),
            "processes": [{"pid": pid, "name": name, "share": round(share, 3)} for pid, name, share in busy[:5]],
            "gpu_share": gpu_share}


def is_busy(load):
    """Whether what `other_load` found disturbs a measurement; older records tell nothing of the GPU."""
    return bool(load and (load.get("processes") or (load.get("gpu_share") or 0.0) > BUSY_GPU))


def _rest(root, seconds):
    """Let the time pass; the mean share of the GPU's time that was used meanwhile, or None."""
    paths = [path for pattern in ("sys/devices/*/load", "sys/devices/platform/*/load", "sys/devices/platform/*/*/load")
             for path in sorted(glob.glob(os.path.join(root, pattern)))
             if any(word in os.path.basename(os.path.dirname(path)) for word in GPU_WORDS)]
    found = []
    for _ in range(GPU_READS):
        time.sleep(seconds / GPU_READS)
        found += [value for value in [read_integer("/", path) for path in paths[:1]] if value is not None]
    return round(sum(found) / 1000.0 / len(found), 3) if found else None  # the file counts in thousandths


def _snapshot(root):
    """Busy ticks of the whole machine and of every process, at one time."""
    try:
        with open(os.path.join(root, "proc/stat")) as stream:
            fields = [int(word) for word in stream.readline().split()[1:]]
        entries = [name for name in os.listdir(os.path.join(root, "proc")) if name.isdigit()]
    except (OSError, ValueError):
        return None
    if len(fields) < 5:
        return None
    processes = {}
    for entry in entries:
        try:
            with open(os.path.join(root, "proc", entry, "stat"), encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            # the name is in brackets and may hold spaces and brackets itself
            name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
            processes[int(entry)] = (name, int(rest[11]) + int(rest[12]))
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile
    return {"time": time.monotonic(), "busy": sum(fields[:8]) - fields[3] - fields[4], "processes": processes}
