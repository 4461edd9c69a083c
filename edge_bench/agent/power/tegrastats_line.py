"""What a line of tegrastats says about power, in every format from L4T 28 to 39.

A rail is an upper-case name, a space, and two or three integers with slashes between, each with or without `mW`. The
first integer is the present power; the second a running mean since tegrastats began, the third of R39 undocumented:
neither is used. What cannot be told apart from damage is refused with a reason: no wrong number is better than one.
"""
import collections
import re

from edge_bench.agent.power.totals import totals_of, why_no_total

# bounded by white space or an end of the line on both sides; at most 7 digits, since no board draws 10 kW
_RAIL = re.compile(
    r"(?<![^ \t])([A-Z][A-Z0-9_]{1,31})([ \t]+)([0-9]{1,7})(?:mW)?/([0-9]{1,9})(?:mW)?(?:/[0-9]{1,9}(?:mW)?)?"
    r"(?![^ \t])")
# what makes a line one of tegrastats, and not of another program
_MARK = re.compile(r"(?<![^ \t])RAM[ \t]+[0-9]+/[0-9]+MB(?![^ \t])|(?<![^ \t])(?:CPU|cpu)[ \t]+\[")
_RUN = re.compile(r"[ \t]{2,}")
_TIME = re.compile(r"^\s*([0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})[ \t]")
_MEMORY = ("RAM", "SWAP", "IRAM")  # look like rails where a line ends too early: "RAM 534/39"
_LONGEST = 16384

Line = collections.namedtuple("Line", "rails total_mw total reason time")
Line.__doc__ = """rails: {name: mW}, empty without power data; total_mw with total, the rails whose sum it is, or None
and a reason; time: the date and time that the line begins with, as written, or None."""


def is_tegrastats(text):
    """Whether a line comes from tegrastats, with power data or without."""
    return len(text) <= _LONGEST and _MARK.search(text) is not None


def parse_line(text, board=None):
    """The Line of one line of text. board: name of the board, whose data says which rail is the total."""
    text = text.rstrip("\r\n")
    if len(text) > _LONGEST:
        return _nothing("the line is longer than any of tegrastats")
    if not is_tegrastats(text):
        return _nothing("not a whole line of tegrastats")
    stamp = _TIME.match(text)
    time = stamp.group(1) if stamp else None
    if len(_MARK.findall(text)) > 2 or "\0" in text:
        return _nothing("damaged: parts of several lines", time)
    rails: dict = {}
    padded = len(_RUN.findall(text)) > 1  # some releases pad with runs of spaces
    for name, space, power, average in _RAIL.findall(text):
        if name == "NC" or name in _MEMORY:
            continue
        # a lone run of spaces may be a digit that was overwritten, and no program prints a leading zero
        if (len(space) > 1 and not padded and len(power) < len(average)) or (power[0] == "0" and len(power) > 1):
            return _nothing("damaged: {} may lack a digit".format(name), time)
        if rails.setdefault(name, int(power)) != int(power):
            return _nothing("damaged: {} occurs twice with different values".format(name), time)
    totals = totals_of(rails, board)
    if "module" not in totals:
        return Line(rails, None, None, why_no_total(rails), time)
    names = totals["module"]
    return Line(rails, sum(rails[name] for name in names), list(names), None, time)


def _nothing(reason, time=None):
    return Line({}, None, None, reason, time)
