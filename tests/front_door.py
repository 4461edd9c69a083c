"""edgesynth as a person calls it, but in this process: `call("synth", "--target", "tx2")` and what came back."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from unittest import mock

import edgesynth


@dataclass(frozen=True)
class Answer:
    """code: the exit status. out, err: what was printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of an error. AssertionError when there is none, or more is said."""
        lines = [line for line in self.err.splitlines() if line.startswith("edgesynth: ")]
        assert len(lines) == 1 and "Traceback" not in self.err, self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0].removeprefix("edgesynth: ")


def call(*words: object) -> Answer:
    """Run the command line with these words; an exception that main() lets through is a bug and is raised."""
    out, err, code, path = io.StringIO(), io.StringIO(), 0, list(sys.path)
    wide = mock.patch.dict(os.environ, {"COLUMNS": "200"})
    with wide, mock.patch.object(sys, "argv", ["edgesynth", *map(str, words)]):
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                edgesynth.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.path[:] = path
    return Answer(code, out.getvalue(), err.getvalue())
