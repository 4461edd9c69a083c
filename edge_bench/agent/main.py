"""The agent's entry: `python3 edge_bench.pyz VERB`, or the same verbs inside an installed edgesynth."""
import argparse
import importlib
import json
import sys

from devices.support.errors import EdgesynthError, UserError
from edge_bench.agent import arguments

PROTOCOL = 1

# verb: (module:function, one line of help); what begins with _ is for the agent itself
VERBS = {
    "bench": ("edge_bench.agent.verbs:bench", "latency and energy of a model on this machine"),
    "probe": ("edge_bench.agent.verbs:probe", "what this machine is and what it can measure"),
    "version": ("edge_bench.agent.verbs:version", "which agent this is"),
    "_trial": ("edge_bench.agent.verbs:trial", None),
    "_sample": ("edge_bench.agent.verbs:sample", None),
}


def main(argv=None):
    """Run one verb; returns an exit code. A user's mistake ends in one sentence."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv and argv[0].startswith("_") and argv[0] in VERBS:
            return _function(argv[0])(argv[1:]) or 0
        options = parser().parse_args(argv)
        return _function(options.verb)(options) or 0
    except EdgesynthError as error:
        sys.stderr.write("edgesynth: {}\n".format(error))
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("edgesynth: stopped.\n")
        return 130


def _function(verb):
    module, name = VERBS[verb][0].split(":")
    return getattr(importlib.import_module(module), name)


def parser():
    """The command line for a person at the board."""
    top = argparse.ArgumentParser(prog="edgesynth", description="Latency and energy on this machine, measured soundly.")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    verbs.required = True
    for verb, (_, text) in VERBS.items():
        if text is None:
            continue
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("--json", metavar="PATH", help="write the result as JSON to a file, or - for standard output")
        sub.add_argument("--root", default="/", help=argparse.SUPPRESS)
        if verb == "bench":
            sub.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX file or a TensorRT engine")
            sub.add_argument("--replay", metavar="RECORD", help="recompute a result from its record instead")
            sub.add_argument("--save", metavar="FOLDER", default=None, help="keep the result there (default: results)")
            arguments.add_to_parser(sub)
    return top


def request_of(options):
    """The request of bench's options. UserError without a model."""
    if not options.model:
        raise UserError("name a model: edgesynth bench MODEL")
    names = ["model", "root"] + [argument.name for argument in arguments.BENCH]
    return {name: getattr(options, name) for name in names}


def write_json_output(path, text):
    """Write text to a path, or to standard output for "-"."""
    if path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        from devices.support.files import write_text
        write_text(path, text)


def dump(value):
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
