"""Which rails make the total: the board's data first, else the rules that hold for all Jetson boards."""
import collections

from devices.support.errors import UserError

PARENTS = ("VDD_IN", "POM_5V_IN")  # one rail that feeds the module
# Boards without a parent rail: the sum of the top rails. VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0 and not added.
SUMS = (("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
CARRIER = "VDD_MUX"  # beside VDD_IN, where it is measured

Facts = collections.namedtuple("Facts", "quantum_mw filter_s refresh_s")

_BOARDS: dict = {}  # by name; a log is read line by line


def totals_of(rails, board=None):
    """{scope: [rails]} for the rail names of a sensor; {} when no rule says which of them is the total.

    board: name of the board ("tx2") or None; its data counts first (`devices/boards`). Source of the rules: energymon's
    JetsonPowerRails.md.
    """
    rails = set(rails)
    known = _board(board)
    totals = collections.OrderedDict()
    for scope in ("module", "board"):
        names = known.total_rails(scope) if known else []
        if names and rails.issuperset(names):
            totals[scope] = names
    if "module" in totals:
        return totals
    for names in [(parent,) for parent in PARENTS] + list(SUMS):
        if rails.issuperset(names):
            totals = collections.OrderedDict(module=list(names))
            if names == ("VDD_IN",) and CARRIER in rails:
                totals["board"] = ["VDD_IN", CARRIER]
            return totals
    return collections.OrderedDict()


def facts_of(names, board=None):
    """What is documented about the sensor behind these rails: Facts(quantum_mw, filter_s, refresh_s), None if nothing.

    The quantum of a sum is that of independent steps: the root of the sum of squares.
    """
    known = _board(board)
    if known is None:
        return Facts(None, None, None)
    steps = [rail.get("step_mw") for rail in known.rails if rail["name"] in names]
    sensor = known.data.get("sensor", {})
    values = [entry["value"] if isinstance(entry, dict) else entry
              for entry in (sensor.get("filter_s"), sensor.get("refresh_s"))]
    quantum = sum(step ** 2 for step in steps) ** 0.5 if steps and all(steps) else None
    return Facts(quantum, *values)


def _board(name):
    if name not in _BOARDS:
        from devices.board import load_board
        try:
            _BOARDS[name] = load_board(name) if name else None
        except UserError:
            _BOARDS[name] = None
    return _BOARDS[name]


def why_no_total(rails):
    """The reason that `totals_of` gave nothing."""
    if not rails:
        return "no power data"
    return "none of {} is known to be the total".format(", ".join(sorted(rails)))
