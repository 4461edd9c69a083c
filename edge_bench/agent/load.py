"""How busy this machine is with other things than ours, from /proc."""
import os
import time

BUSY_SHARE = 0.1  # of one core: what disturbs a latency


def other_load(root="/", seconds=0.5):
    """{"cpu_share", "processes": [{"pid", "name", "share"}, ...]} over `seconds`; shares are of one core.

    cpu_share is all that ran; processes are those that used more than a tenth of a core, this one apart.
    None where /proc does not say.
    """
    first = _snapshot(root)
    if first is None:
        return None
    time.sleep(seconds)
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
            "processes": [{"pid": pid, "name": name, "share": round(share, 3)} for pid, name, share in busy[:5]]}


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
