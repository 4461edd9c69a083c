"""Power sources, a file a source, and how one is found."""
import collections
import importlib

from devices.support.errors import CannotMeasure, UserError, unknown
from edge_bench.agent.power.source import Absent, PowerSource, ReadFailed, Sample

__all__ = ["SOURCES", "Absent", "PowerSource", "ReadFailed", "Sample", "find_source"]

# in the order of trust; a file is imported when its source is asked for
AUTOMATIC = collections.OrderedDict([
    ("ina3221", "edge_bench.agent.power.ina3221:Ina3221"),
    ("tegrastats", "edge_bench.agent.power.tegrastats:Tegrastats"),
    ("nvml", "edge_bench.agent.power.nvml:Nvml"),
    ("rapl", "edge_bench.agent.power.rapl:Rapl"),
])
NAMED = {"jtop": "edge_bench.agent.power.jtop:Jtop", "replay": "edge_bench.agent.power.replay:Replay"}
SOURCES = tuple(AUTOMATIC) + tuple(NAMED)
PART = {"nvml": "gpu", "rapl": "cpu"}  # measure this part of a machine alone, the others the whole module


def find_source(name=None, root="/", board=None, runs_on=None):
    """An open PowerSource: the one of that name, or the first that is there.

    name: a word of SOURCES, "replay:FILE", or None. board: name of the board file; found from `root` if None.
    runs_on: "cpu" or "gpu", of which the power is wanted; None for any. CannotMeasure lists every source that was
    looked for, why it is not there and what would help; UserError for a name that does not exist or that measures
    another part than the one wanted.
    """
    board = board or _board(root)
    if name is not None:
        if _is_of_another(name, runs_on):
            raise UserError("power source {}: {}; leave --power-source out".format(name, _other(name, runs_on)))
        source = _make(name, root, board)
        try:
            source.open()
        except Absent as error:
            raise CannotMeasure("power source {}: {}".format(name, error))
        return source
    missing = []
    for word in AUTOMATIC:
        if _is_of_another(word, runs_on):
            missing.append("{}: {}".format(word, _other(word, runs_on)))
            continue
        source = _make(word, root, board)
        try:
            source.open()
        except (Absent, CannotMeasure) as error:
            source.close()
            missing.append("{}: {}".format(word, error))
        else:
            return source
    raise CannotMeasure("no power source ({}); measure without --power, or on a board that has one".format(
        "; ".join(missing)))


def _is_of_another(name, runs_on):
    return runs_on is not None and PART.get(name, runs_on) != runs_on


def _other(name, runs_on):
    return "it measures the {} alone, and the model runs on the {}".format(PART[name].upper(), runs_on.upper())


def _board(root):
    from edge_bench.agent.identity import identify
    return identify(root)["board"]


def _make(name, root, board):
    word, _, rest = name.partition(":")
    place = AUTOMATIC.get(word) or NAMED.get(word)
    if place is None:
        raise unknown("power source", word, SOURCES)
    module, _, kind = place.partition(":")
    make = getattr(importlib.import_module(module), kind)
    if word == "replay":
        if not rest:
            raise UserError("replay of what? write replay:FILE with recorded samples")
        return make(rest, root, board)
    return make(root, board)
