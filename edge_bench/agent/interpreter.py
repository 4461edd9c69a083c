"""Which Python runs the trials: the agent's own, or the first on the board that imports what the runner needs."""
import os
import shutil
import subprocess
import sys

from devices.support.errors import CannotMeasure, UserError

NEEDS = {"onnxruntime": "onnxruntime", "tensorrt": "tensorrt"}


def candidates():
    """Paths of Pythons, best first. /usr/bin/python3 is among them since a virtual environment hides its tensorrt."""
    found = [sys.executable, shutil.which("python3"), "/usr/bin/python3"]
    return [path for number, path in enumerate(found) if path and path not in found[:number] and os.path.exists(path)]


def imports(python, module):
    """Whether this Python finds the module; it is not loaded, since a failing CUDA can crash a process."""
    program = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    try:
        return subprocess.run([python, "-c", program, module], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def version_of(python, module):
    """The version that a module gives itself when this Python imports it, or None."""
    program = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__version__)"
    try:
        done = subprocess.run([python, "-c", program, module], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.decode("utf-8", "replace").split() if done.returncode == 0 else []
    return words[-1] if words else None


def choose(runner, wanted=None):
    """The path of the Python for a runner's trials. UserError for a `wanted` one that is not there; CannotMeasure
    where none imports what the runner needs."""
    module = NEEDS.get(runner)
    if wanted:
        path = shutil.which(wanted) or wanted
        if not os.path.exists(path):
            raise UserError("--board-python {}: there is no such program".format(wanted))
        if module and not imports(path, module):
            raise CannotMeasure("{} does not find the module {}: name another with --board-python".format(path, module))
        return path
    if module is None:
        return sys.executable
    for path in candidates():
        if imports(path, module):
            return path
    raise CannotMeasure("no Python here finds the module {} (tried {}): install it, or name one with "
                        "--board-python".format(module, ", ".join(candidates())))
