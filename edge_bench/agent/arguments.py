"""The arguments of `bench`: one table, of which argparse is made on the board and click's options on the host."""
import collections
import math
import re

from devices.support.errors import UserError

Argument = collections.namedtuple("Argument", "name flag kind metavar help")
Argument.__doc__ = """One option. kind: "integer", "number", "text", "flag" or "list" (texts, given repeatedly)."""

QUICK_TRIALS, QUICK_WINDOW_S = 3, 1.0
SOUND_TRIALS, SOUND_WINDOW_S = 5, 10.0  # fewer or shorter is marked quick
BOARD_WAIT_S = 1800.0  # some measurements of others; a CI job gives up later than that
PAIRS = 6  # trials of each model when two are compared

BENCH = (
    Argument("batch", "--batch", "integer", "N", "Images per inference. Default: the model's own, or 1."),
    Argument("shape", "--shape", "list", "NAME=1x3x32x32", "Size of an input with dynamic axes; may be repeated."),
    Argument("runner", "--runner", "text", "NAME", "onnxruntime, tensorrt or trtexec. Default: by the model's kind."),
    Argument("precision", "--precision", "text", "P", "fp32, fp16 or int8, for an engine that is built. Default: "
                                                      "what the file is made for where that is fp16 or int8, else fp16 "
                                                      "where the board has it."),
    Argument("threads", "--threads", "integer", "N", "Threads of onnxruntime. Default: its own choice."),
    Argument("trials", "--trials", "integer", "N", "Fresh processes that measure. Default: {}; in comparisons {} of "
             "each model.".format(SOUND_TRIALS, PAIRS)),
    Argument("window", "--window", "number", "SECONDS", "Measured time a trial. Default: {:g}.".format(SOUND_WINDOW_S)),
    Argument("quick", "--quick", "flag", None, "{} trials of {:g} s (longer where a power source is slow), for a first "
             "look; marked in the result.".format(QUICK_TRIALS, QUICK_WINDOW_S)),
    Argument("warmup_cap", "--warmup-cap", "number", "SECONDS", "Longest warm-up before the verdict not_steady. "
                                                                "Default: 120."),
    Argument("power", "--power", "flag", None, "Measure energy from the power rails too."),
    Argument("power_source", "--power-source", "text", "NAME", "ina3221, tegrastats, nvml (GPUs), rapl (CPUs), jtop or "
                                                               "replay:FILE. Default: the first that is there and "
                                                               "measures what the model runs on."),
    Argument("mode", "--mode", "text", "NAME", "Power mode to measure in. Default: the present one."),
    Argument("lock", "--lock", "flag", None, "Pin the clocks with jetson_clocks while measuring."),
    Argument("wait", "--wait", "number", "SECONDS", "Longest wait for a board that is busy with another measurement. "
                                                    "Default: {:g}.".format(BOARD_WAIT_S)),
    Argument("layers", "--layers", "flag", None, "Times of single layers, in a separate pass."),
    Argument("pipelined", "--pipelined", "flag", None, "Let inferences overlap; marked in the result."),
    Argument("board_python", "--board-python", "text", "PATH", "Python of the trials. Default: the first that "
                                                               "imports what the runner needs."),
    Argument("seed", "--seed", "integer", "N", "Of the random input. Default: 0."),
)
DEFAULTS = {"warmup_cap": 120.0, "wait": BOARD_WAIT_S, "seed": 0, "shape": []}
_SHAPE = re.compile(r"^(.+)=(\d+(?:x\d+)*)$")


def complete(given):
    """The request with every argument of the table, checked: {name: value}, defaults filled in.

    given: the values that the user gave; names that are no argument are kept for the caller. "window_chosen": whether
    the window is the user's own. UserError for a value that makes no sense.
    """
    request: dict = {argument.name: DEFAULTS.get(argument.name, False if argument.kind == "flag" else None)
                     for argument in BENCH}
    request.update({name: value for name, value in given.items() if value is not None})
    if request["trials"] is None:
        request["trials"] = QUICK_TRIALS if request["quick"] else SOUND_TRIALS
    request.setdefault("window_chosen", request["window"] is not None)
    if request["window"] is None:
        request["window"] = QUICK_WINDOW_S if request["quick"] else SOUND_WINDOW_S
    for name in ("batch", "threads", "trials"):
        if request[name] is not None and request[name] < 1:
            raise UserError("--{} {} makes no sense: give a whole number of at least 1".format(name, request[name]))
    for name, longest in (("window", 3600), ("warmup_cap", 7200)):
        if not (math.isfinite(request[name]) and 0 < request[name] <= longest):
            raise UserError("--{} {} makes no sense: give seconds above 0 and at most {}".format(
                name.replace("_", "-"), request[name], longest))
    if not 0 <= request["wait"] <= 86400:
        raise UserError("--wait {} makes no sense: give seconds from 0 to 86400".format(request["wait"]))
    if not 0 <= request["seed"] < 1 << 32:  # what numpy takes
        raise UserError("--seed {} makes no sense: give a whole number from 0 to {}".format(
            request["seed"], (1 << 32) - 1))
    if request["precision"] not in (None, "fp32", "fp16", "int8"):
        raise UserError("--precision {} is unknown: fp32, fp16 or int8".format(request["precision"]))
    shapes(request)
    # fewer trials or a shorter window is a first look, whether --quick was said or not
    request["quick"] = bool(request["trials"] < SOUND_TRIALS or request["window"] < SOUND_WINDOW_S)
    return request


def shapes(request):
    """{input name: [sizes]} of the --shape words. UserError for a word that is none."""
    sizes = {}
    for word in request["shape"]:
        match = _SHAPE.match(word)
        if not match:
            raise UserError("--shape {} is not understood: write NAME=1x3x32x32".format(word))
        sizes[match.group(1)] = [int(size) for size in match.group(2).split("x")]
        if not all(sizes[match.group(1)]):
            raise UserError("--shape {}: no size may be 0".format(word))
    return sizes


def add_to_parser(parser):
    """Add every argument of the table to an argparse parser."""
    kinds = {"integer": int, "number": float, "text": str, "list": str}
    for argument in BENCH:
        if argument.kind == "flag":
            parser.add_argument(argument.flag, dest=argument.name, action="store_true", help=argument.help)
        else:
            parser.add_argument(argument.flag, dest=argument.name, type=kinds[argument.kind], default=None,
                                metavar=argument.metavar, help=argument.help.replace("%", "%%"),
                                action="append" if argument.kind == "list" else "store")
