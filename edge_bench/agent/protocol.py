"""How the agent talks: one JSON request in, JSON Lines out: progress, then one result or one error.

The same lines travel between the agent and its trial processes, and between the board and the host over ssh.
"""
import json
import os
import sys

from devices.support import errors
from devices.support.errors import EdgesynthError, UserError

KINDS = {kind.__name__: kind for kind in (errors.UserError, errors.CheckFailed, errors.CannotMeasure)}


class Lines(object):
    """Writes events to a stream, one JSON object a line, flushed; nothing else ever goes to that stream."""

    def __init__(self, stream):
        self.stream = stream

    def event(self, event, **fields):
        fields["event"] = event
        self.stream.write(json.dumps(fields, sort_keys=True, allow_nan=False) + "\n")
        self.stream.flush()

    def progress(self, text, **fields):
        self.event("progress", text=text, **fields)

    def result(self, value):
        self.event("result", result=value)

    def error(self, error):
        kind = type(error).__name__ if type(error).__name__ in KINDS else "UserError"
        self.event("error", kind=kind, message=str(error), exit_code=error.exit_code)


def claim_stdout():
    """The real standard output as `Lines`; what libraries print afterwards goes to standard error.

    TensorRT and onnxruntime print from C++, so the file descriptor is moved, not only sys.stdout.
    """
    sys.stdout.flush()
    mine = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Lines(os.fdopen(mine, "w", encoding="utf-8"))


def parse(line):
    """An event from one line, or None for what is not one (a login banner, a library's print)."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None


def raise_error(event):
    """Raise the error that an error event carries, as it was on the other side."""
    raise KINDS.get(event.get("kind"), EdgesynthError)(event.get("message") or "the agent failed without a message")


def read_request(stream):
    """The JSON object on a stream. UserError when it is none."""
    text = stream.read()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError("the request is not JSON ({})".format(error))
    if not isinstance(value, dict):
        raise UserError("the request is not a JSON object")
    return value
