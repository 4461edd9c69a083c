"""What the agent's verbs do. Each takes the parsed options, and `lines` to write events to when a program called
(--stdin) or None when a person did; what a verb needs is imported when it is called."""
import base64
import json
import os
import sys

from devices.support.errors import UserError
from devices.support.files import json_text, whole_path
from edge_bench.agent import arguments, jobs, protocol, spawn

PROTOCOL = 1


class Console(object):
    """Shows a person what a program would get as events."""

    def event(self, event, **fields):
        if event == "progress":
            sys.stderr.write(fields["text"] + "\n")
            sys.stderr.flush()


def _request(options, lines):
    """The request of a verb that works on a model: from standard input, or of the options."""
    if lines is not None:
        return protocol.read_request(sys.stdin)
    if not options.model:
        raise UserError("name a model: edgesynth {} MODEL".format(options.verb))
    names = ["root"] + [argument.name for argument in arguments.BENCH]
    return dict({name: getattr(options, name) for name in names}, model=options.model)


def _absolute(request):
    """The request with whole paths, since the job runs in another folder."""
    made = dict(request)
    for name in ("model", "base", "board_python"):
        path = made.get(name)
        if path and isinstance(path, str) and (os.sep in path or name != "board_python"):  # a Python may be a word
            made[name] = whole_path(path)
    word, colon, path = str(made.get("power_source") or "").partition(":")
    if path:
        made["power_source"] = word + colon + whole_path(path)
    return made


def _run_job(kind, request, lines):
    """Start a job for the request, or take up the one that there is, and follow it; returns its end.

    Ctrl-C by a person cancels it; a program's lost connection leaves it running.
    """
    request = _absolute(request)
    found = jobs.find(kind, request)
    identity = found or jobs.start(kind, request)
    out = lines or Console()
    out.event("job", id=identity, resumed=bool(found))
    try:
        end = jobs.follow(identity, out)
    except KeyboardInterrupt:
        sys.stderr.write("stopping; the settings are put back\n")
        jobs.cancel(identity)
        raise
    if lines is None:
        jobs.acknowledge(identity)
        if end["event"] == "error":
            protocol.raise_error(end)
        if end["event"] == "cancelled":
            raise KeyboardInterrupt
    return end


def bench(options, lines):
    """Measure, or recompute from a record, keep the result, and show it."""
    from edge_bench.agent import evaluate, result, store
    if lines is None and options.replay:
        found = evaluate.replay(store.load_record(options.replay))
    else:
        request = _request(options, lines)
        arguments.complete(request)
        if lines is None:
            store.require_folder(options.save or store.FOLDER)
        end = _run_job("bench", request, lines)
        if lines is not None:
            return end.get("exit_code", 0)
        found = end["result"]
        path = store.save(found, store.unpack(base64.b64decode(end["record"])), options.save or store.FOLDER)
        sys.stderr.write("saved {}\n".format(path))
    _show(options, json_text(found, result.SCHEMA), result.to_text(found) + "\n")
    return 0


def compare(options, lines):
    """Measure two models in turns, keep the comparison, and show it."""
    from edge_bench.agent import comparison, pair, store
    if lines is None and not (options.base and options.model):
        raise UserError("name two models: edgesynth compare BASE HEAD")
    request = _request(options, lines)
    if lines is None:
        request["base"] = options.base
    pair.complete_pair(request)
    if lines is None:
        store.require_folder(options.save or store.FOLDER)
    end = _run_job("compare", request, lines)
    if lines is not None:
        return end.get("exit_code", 0)
    record = store.unpack(base64.b64decode(end["record"]), schema=pair.SCHEMA)
    sys.stderr.write("saved {}\n".format(comparison.save(end["result"], record, options.save or store.FOLDER)))
    _show(options, json_text(end["result"], comparison.SCHEMA), comparison.to_text(end["result"]) + "\n")
    return 0


def build(options, lines):
    """Build the engine of an ONNX file, or find it in the cache."""
    request = _request(options, lines)
    arguments.complete(request)
    end = _run_job("build", request, lines)
    if lines is None:
        _show(options, dump(end["result"]), "{engine}{0}\n".format(
            " (from the cache)" if end["result"]["cached"] else "", **end["result"]))
    return end.get("exit_code", 0)


def probe(options, lines):
    """Board, software, modes, clocks, temperatures, load, power sources, and who holds the board."""
    from edge_bench.agent import probe as probing
    root = protocol.read_request(sys.stdin).get("root", options.root) if lines is not None else options.root
    found = probing.probe(root)
    if lines is not None:
        lines.result(found)
    else:
        _show(options, dump(found), probing.to_text(found) + "\n")


def samples(options, lines):
    """Power of every rail for a while."""
    from edge_bench.agent import joules
    request = protocol.read_request(sys.stdin) if lines is not None else vars(options)
    seconds = request.get("seconds", 10.0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UserError("seconds must be a number")
    (lines or Console()).event("progress", text="sampling power for {:g} s".format(seconds))
    found = joules.record_power(request.get("power_source"), request.get("root") or "/", seconds)
    if lines is not None:
        lines.result(found)
    else:
        _show(options, dump(found), joules.summary(found) + "\n")


def jobs_verb(options, lines):
    """List the jobs; follow one; note that its result has arrived."""
    request = protocol.read_request(sys.stdin) if lines is not None else {}
    if request.get("acknowledge"):
        jobs.acknowledge(request["acknowledge"])
        lines.result({})
        return 0
    identity = request.get("follow") or getattr(options, "id", None)
    if identity:
        end = jobs.follow(identity, lines or Console(), int(request.get("after") or 0))
        if lines is None:
            _tell_end(options, jobs.describe(identity), end)
        return end.get("exit_code", 0)
    found = jobs.list_jobs()
    if lines is not None:
        lines.result(found)
    else:
        _show(options, dump(found), "".join("{id}  {kind:6} {state:10} {model}\n".format(**job) for job in found)
              or "no jobs\n")
    return 0


def _tell_end(options, job, end):
    """How a job ended, for the person who followed it: its result, or what it was that it ended with."""
    from edge_bench.agent import comparison, result
    if end["event"] == "error":
        protocol.raise_error(end)
    if end["event"] == "cancelled":
        sys.stdout.write("{id} cancelled\n".format(**job))
    elif job["kind"] == "bench":
        _show(options, json_text(end["result"], result.SCHEMA), result.to_text(end["result"]) + "\n")
    elif job["kind"] == "compare":
        _show(options, json_text(end["result"], comparison.SCHEMA), comparison.to_text(end["result"]) + "\n")
    else:
        _show(options, dump(end["result"]), "{engine}\n".format(**end["result"]))


def cancel(options, lines):
    """Stop a job; without an id the one that runs."""
    request = protocol.read_request(sys.stdin) if lines is not None else {"id": options.id}
    running = [job["id"] for job in jobs.list_jobs() if job["state"] == "running"]
    if not request.get("id") and not running:
        raise UserError("no job is running here")
    if not request.get("id") and len(running) > 1:  # one measures, the others wait for the board
        raise UserError("{} jobs are running here: name one of {}".format(len(running), ", ".join(running)))
    found = jobs.cancel(request.get("id") or running[-1])
    if lines is not None:
        lines.result(found)
    else:
        _show(options, dump(found), "{id} {state}\n".format(**found))


def put(options, lines):
    """Receive a file: of a program with a header line before it, see `uploads.receive`, of a person as it is."""
    from edge_bench.agent import uploads
    if lines is not None:
        lines.result(uploads.receive(sys.stdin.buffer))
        return
    if not options.name or sys.stdin.isatty():
        raise UserError("say what to call the file, and send it: edgesynth put NAME [--sha256 HASH] < FILE")
    found = uploads.receive_all(sys.stdin.buffer, options.name, options.sha256)
    _show(options, dump(found), "{path}\nsha256 {sha256}\n".format(**found))


def version(options, lines):
    """The protocol, the Python, and the hash of the zipapp this runs from."""
    import platform

    from devices.support.files import sha256_file
    archive = spawn.archive()
    found = {"protocol": PROTOCOL, "python": platform.python_version(), "executable": sys.executable,
             "sha256": sha256_file(archive) if archive else None}
    if lines is not None:
        lines.result(found)
    else:
        _show(options, dump(found), "edgesynth agent, protocol {protocol}, Python {python}, {0}\n".format(
            str(found["sha256"])[:12] if archive else "installed", **found))


def dump(value):
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _show(options, text, table):
    """JSON where it was asked for, and the table unless JSON took standard output."""
    if options.json == "-":
        sys.stdout.write(text)
    elif options.json:
        from devices.support.files import write_text
        write_text(options.json, text)
    if options.json != "-":
        sys.stdout.write(table)
    sys.stdout.flush()
