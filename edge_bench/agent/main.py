"""The agent's entry: `python3 edge_bench.pyz VERB`, for a person, or with --stdin for a program.

With --stdin a verb reads one JSON request from standard input and writes JSON Lines: progress, then one result or one
error; the words of the command line are then constants, which is how the host calls it over ssh.
"""
import argparse
import codecs
import importlib
import io
import os
import signal
import sys

from devices.support.errors import EdgesynthError
from edge_bench.agent import arguments, protocol, spawn

# verb: (module:function, one line of help); what begins with _ is for the agent itself
VERBS = {
    "bench": ("edge_bench.agent.verbs:bench", "latency and energy of a model on this machine"),
    "compare": ("edge_bench.agent.verbs:compare", "two models in turns on this machine"),
    "build": ("edge_bench.agent.verbs:build", "build the TensorRT engine of an ONNX file, and keep it"),
    "probe": ("edge_bench.agent.verbs:probe", "what this machine is and what it can measure"),
    "samples": ("edge_bench.agent.verbs:samples", "power alone, for a while"),
    "jobs": ("edge_bench.agent.verbs:jobs_verb", "list the jobs on this machine, or follow one"),
    "cancel": ("edge_bench.agent.verbs:cancel", "stop a job and put the settings back"),
    "put": ("edge_bench.agent.verbs:put", "keep a file that comes on standard input, by its SHA-256"),
    "version": ("edge_bench.agent.verbs:version", "which agent this is"),
    "_trial": ("edge_bench.agent.trial:main", None),
    "_job": ("edge_bench.agent.job:main", None),
    "_build": ("edge_bench.agent.engine_builder:main", None),
    "_sample": ("edge_bench.agent.sampler:main", None),
}


def main(argv=None):
    """Run one verb; returns an exit code. A user's mistake ends in one sentence."""
    if argv is None:
        argv = sys.argv[1:]
        _read_utf8(argv)
    argv = list(argv)
    if argv and argv[0].startswith("_") and argv[0] in VERBS:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the first GPU is NVML's first, not the fastest
        return _quietly(lambda: _function(argv[0])(argv[1:]))
    options = parser().parse_args(argv)
    verb = _function(options.verb)
    if not options.stdin:
        _speak_utf8()
        _repair(lambda text: sys.stderr.write(text + "\n"))
        return _quietly(lambda: verb(options, None))
    lines = protocol.claim_stdout()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        _repair(lines.progress)
        return verb(options, lines) or 0
    except EdgesynthError as error:
        lines.error(error)
        return error.exit_code
    except BrokenPipeError:
        return 0  # the host has gone; a job goes on without us


def _read_utf8(argv):
    """Begin anew where names of files can be ASCII alone: under cron, a service, ssh without LANG (Python 3.6)."""
    narrow = codecs.lookup(sys.getfilesystemencoding()).name == "ascii"
    if argv and narrow and os.environ.get("LC_ALL") != "C.UTF-8":
        os.execve(sys.executable, spawn.agent_command(*argv), dict(os.environ, LC_ALL="C.UTF-8"))


def _speak_utf8():
    """A person's words are UTF-8 also where no locale says so: under cron, a service, ssh without LANG (Python 3.6)."""
    if hasattr(sys.stdout, "buffer") and (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)


def _repair(note):
    """Put back what a killed measurement left; what stands in the way of that stops no verb."""
    from edge_bench.agent import settings
    try:
        settings.repair_left(note)
    except EdgesynthError as error:
        note("settings that an interrupted measurement left: {}".format(error))


def _quietly(work):
    """Run `work`; errors end in one sentence on standard error."""
    try:
        return work() or 0
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
        sub.add_argument("--stdin", action="store_true", help="read a JSON request on standard input, write JSON Lines")
        sub.add_argument("--root", default="/", help=argparse.SUPPRESS)
        if verb == "compare":
            sub.add_argument("base", nargs="?", metavar="BASE", help="the model to hold the other against")
        if verb in ("bench", "build", "compare"):
            sub.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX file or a TensorRT engine")
            arguments.add_to_parser(sub)
        if verb == "bench":
            sub.add_argument("--replay", metavar="RECORD", help="recompute a result from its record instead")
        if verb in ("bench", "compare"):
            sub.add_argument("--save", metavar="FOLDER", help="keep the result there (default: results)")
        if verb in ("jobs", "cancel"):
            sub.add_argument("id", nargs="?", metavar="JOB", help="the job's id{}".format(
                "" if verb == "jobs" else "; default: the one that runs"))
        if verb == "put":
            sub.add_argument("name", nargs="?", metavar="NAME", help="what to call the file on standard input")
            sub.add_argument("--sha256", metavar="HASH", help="refuse the file unless it has this SHA-256")
        if verb == "samples":
            sub.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for how long (default: 10)")
            sub.add_argument("--power-source", dest="power_source", metavar="NAME",
                             help="default: the first that is there")
    return top


if __name__ == "__main__":
    sys.exit(main())
