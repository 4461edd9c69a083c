"""What this machine is and what it can measure: the verb `probe`."""
from devices.support.errors import CannotMeasure
from edge_bench.agent import interpreter, jobs, lock, power_mode, settings
from edge_bench.agent.preflight import preflight
from edge_bench.agent.runners import trtexec


def probe(root="/"):
    """The preflight state, the board's modes, runners with the Python of each, the power source, and who is busy."""
    found = preflight(root)
    found["modes"] = [{"id": number, "name": name} for number, name in power_mode.known(root)]
    found["runners"] = {name: _python(name) for name in ("tensorrt", "onnxruntime")}
    found["runners"]["trtexec"] = trtexec.program()
    found["power_source"] = _power_source(root)
    found["user"] = lock.user()
    found["sudoers"] = settings.sudoers(found["user"], root)
    found["busy"] = lock.holder(root)
    found["jobs"] = [job for job in jobs.list_jobs() if job["state"] == "running"]
    return found


def _python(runner):
    try:
        return interpreter.choose(runner)
    except CannotMeasure:
        return None


def _power_source(root):
    """{"name", "rails", ...} of the source that would be used, or {"name": None, "why"}."""
    from edge_bench.agent.power import find_source
    try:
        source = find_source(root=root)
    except CannotMeasure as error:
        return {"name": None, "why": str(error)}
    try:
        return source.describe()
    finally:
        source.close()


def to_text(found):
    """The probe as lines for a person."""
    board, state = found["board"], found["software"]
    serial = " (serial …{})".format(str(board["serial"])[-4:]) if board.get("serial") else ""
    lines = ["{}{} · {}".format(board["board"], serial, board["model"]),
             "software   " + " · ".join("{} {}".format(name, state[name]) for name in
                                        ("l4t", "tensorrt", "cuda", "python", "kernel") if state.get(name))]
    if found["mode"]:
        names = ", ".join(mode["name"] for mode in found["modes"])
        lines.append("mode       {} of {}".format(found["mode"]["name"], names))
    locked = {True: "locked", False: "not locked", None: "cannot be read"}[found["clocks"]["locked"]]
    unseen = found["clocks"]["unseen"]
    lines.append("clocks     {}{}".format(locked, " (not shown to this user: {})".format(", ".join(unseen))
                                          if unseen and locked != "cannot be read" else ""))
    if found["temperatures_c"]:
        lines.append("hottest    {:.1f} °C".format(max(found["temperatures_c"].values())))
    lines.append("runners    " + (", ".join(sorted(name for name, path in found["runners"].items() if path)) or "none"))
    source = found["power_source"]
    lines.append("power      " + ("{} ({})".format(source["name"], ", ".join(source["rails"])) if source["name"]
                                  else source["why"]))
    if found["busy"]:
        lines.append("busy       {what} of {user}".format(**found["busy"]))
    return "\n".join(lines + ["warning    " + text for text in found["warnings"]])
