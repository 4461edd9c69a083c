"""The agent's zipapp as a subprocess on a stand-in board, the way the host calls it over ssh."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from stand_in_board import StandInBoard

HERE = Path(__file__).parent


@functools.cache
def pythons() -> dict[str, str]:
    """{"3.6": path, ...} of every Python from 3.6 on that is installed here, on the PATH or in pyenv."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(6, 20)] + ["/usr/bin/python3", sys.executable]
    roots = [os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")]
    for root in filter(None, roots):
        candidates += sorted(str(path) for path in Path(root).glob("versions/3.*/bin/python3"))
    found: dict[str, str] = {}
    for path in filter(None, candidates):
        done = subprocess.run([path, "-c", "import sys, ssl; print('%d.%d' % sys.version_info[:2])"],
                              capture_output=True, text=True)
        version = done.stdout.strip()
        if done.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 6):
            found.setdefault(version, path)
    return dict(sorted(found.items(), key=lambda item: tuple(map(int, item[0].split(".")))))


def oldest_python() -> str:
    """The Python that is nearest to a TX2's 3.6."""
    return next(iter(pythons().values()))


def write_net(path: Path, ms: float = 1.0, **extra) -> Path:
    """What the TensorRT double takes for an ONNX file."""
    path.write_text(json.dumps({"inputs": {"x": [-1, 3, 8, 8]}, "outputs": {"y": [-1, 10]}, "ms": ms, **extra}))
    return path


class AgentOnBoard:
    """Calls the zipapp with --stdin. The TensorRT double is what the board's Python imports."""

    def __init__(self, pyz: Path, board: StandInBoard, python: str | None = None):
        self.pyz, self.board, self.python = pyz, board, python or oldest_python()
        self.environment = {**board.environment(), "PYTHONPATH": f"{HERE / 'doubles'}:{HERE / 'doubles_pycuda'}",
                            "TENSORRT_DOUBLE": "8.2.1"}

    def start(self, verb: str, request: dict) -> subprocess.Popen:
        process = subprocess.Popen([self.python, self.pyz, verb, "--stdin"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, text=True)
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        return process

    def call(self, verb: str, request: dict | None = None) -> list[dict]:
        """The events of a whole call."""
        process = self.start(verb, request or {})
        output = process.stdout.read()
        errors = process.stderr.read()
        process.wait()
        assert "Traceback" not in errors, errors
        return [json.loads(line) for line in output.splitlines()]

    def result(self, verb: str, request: dict | None = None):
        """The result of a call that goes well."""
        end = self.call(verb, request)[-1]
        assert end["event"] == "result", end.get("message")
        return end["result"]

    def request(self, model: Path, **given) -> dict:
        return {"model": str(model), "root": str(self.board.root), "trials": 1, "window": 0.3, "batch": 1, **given}


def wait_for(condition, seconds: float = 20.0):
    """The first true value of condition(), asked again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
