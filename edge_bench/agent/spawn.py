"""How the agent starts itself anew, as a package of an installed edgesynth or as one zipapp file.

Functions that a zip's `__main__` defines cannot be spawned by multiprocessing, so helper processes are the same
agent with another verb: `python edge_bench.pyz _trial`.
"""
import contextlib
import os
import signal
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # a folder, or the zipapp

# The working folder leaves sys.path and ours goes to its end: a user's devices.py or statistics.py stays out.
_BOOT = ("import sys; sys.path[:] = [p for p in sys.path if p] + [sys.argv.pop(1)]; "
         "from edge_bench.agent.main import main; sys.exit(main())")

# what is mostly behind a signal that ends a helper on a board: numpy/numpy#18131, and the kernel's out-of-memory killer
_CAUSES = {-signal.SIGILL: "numpy 1.19.5 does that on boards of JetPack 4: install numpy 1.19.4 there",
           -signal.SIGKILL: "the kernel does that where memory runs out: end other programs or add swap"}


def agent_command(verb, *words, **options):
    """The argv list that starts this very agent with `verb` and `words`; python: another interpreter than this one."""
    python = options.get("python") or sys.executable
    if os.path.isfile(_ROOT):
        return [python, _ROOT, verb] + [str(word) for word in words]
    return [python, "-c", _BOOT, _ROOT, verb] + [str(word) for word in words]


def end_group(process):
    """Kill a process that was started in a session of its own, and all that it started, and wait for it: a trtexec that
    outlived its caller would load the GPU for minutes."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def usual_cause(code):
    """" (what mostly ends a process with this exit code, and the remedy)", "" where nothing is known of it."""
    return " ({})".format(_CAUSES[code]) if code in _CAUSES else ""


def archive():
    """Path of the zipapp this agent runs from, or None."""
    return _ROOT if os.path.isfile(_ROOT) else None
