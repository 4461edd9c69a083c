"""The process of one job: the verb `_job`. It writes events to the job's file and ends in exactly one end."""
import base64
import os
import signal
import sys
import traceback

from devices.support.errors import EdgesynthError
from devices.support.files import append_line, read_json
from edge_bench.agent import jobs


def main(words):
    """Run the job whose id is the one word. Returns an exit code."""
    path = jobs.folder(words[0])
    events = os.path.join(path, "events.jsonl")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the connection may go, the job stays
    signal.signal(signal.SIGTERM, _interrupt)
    os.chdir("/")
    document = read_json(os.path.join(path, "request.json"), jobs.SCHEMA)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # jobs.start blocked it
        work = {"bench": _bench, "build": _build, "compare": _compare}[document["kind"]]
        end = work(document["request"], lambda text: append_line(events, {"event": "progress", "text": text}))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # too late to cancel
    except EdgesynthError as error:
        end = {"event": "error", "kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    except KeyboardInterrupt:
        end = {"event": "cancelled"}
    except Exception as error:  # a bug: its traceback is kept in the log, and the follower hears of it
        traceback.print_exc(file=sys.stderr)
        end = {"event": "error", "kind": "CannotMeasure", "exit_code": 3,
               "message": "the agent failed ({}: {}); log: {}".format(type(error).__name__, error,
                                                                      os.path.join(path, "log.txt"))}
    append_line(events, end)
    return end.get("exit_code", 0)


def _interrupt(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: putting the settings back is not interrupted
    raise KeyboardInterrupt


def _bench(request, progress):
    from edge_bench.agent import measure, store
    result, record = measure.measure(dict(request, locked_board=True), progress)
    return {"event": "result", "result": result, "record": base64.b64encode(store.pack(record)).decode("ascii")}


def _compare(request, progress):
    from edge_bench.agent import comparison, pair, store
    record = pair.measure_pair(dict(request, locked_board=True), progress)
    return {"event": "result", "result": comparison.make(record),
            "record": base64.b64encode(store.pack(record)).decode("ascii")}


def _build(request, progress):
    from edge_bench.agent import measure
    return {"event": "result", "result": measure.build_engine(dict(request, locked_board=True), progress)}
