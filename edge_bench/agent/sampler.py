"""The sampler: a process of its own that reads a power source at absolute deadlines, and its handle in the agent.

    agent                         child: agent _sample '{"interval_s": 0.05, ...}'
      |  starts ------------------>  opens the source, looks how it behaves
      |  <-- {"source": ...} -----   what is measured, and how the sensor was found to be
      |  <-- [t, total, mJ, ...]     a line a sample, sent four times a second
      |  closes stdin / SIGTERM -->
      |  <-- {"end": ...} --------   missed deadlines, failed readings, its own cost

All times are time.monotonic(), the same clock in all processes. A child whose agent dies sees its stdin close and ends.
"""
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from devices.support.errors import CannotMeasure, EdgesynthError
from edge_bench.agent import cores, memory, protocol
from edge_bench.agent.power import ReadFailed, find_source
from edge_bench.agent.samples import Samples
from edge_bench.agent.sensor import find_refresh, quantum_of
from edge_bench.agent.spawn import agent_command

INTERVAL_S = 0.05        # the INA3221 averages over 0.4 s: nothing is gained by less
SEND_S = 0.25
FAILED_S = 3.0           # a source of which every reading failed for so long has gone
START_S, STOP_S = 20.0, 5.0  # patience with the child
LOOK_S, LOOK_PAUSE_S = 1.0, 0.001


# the child

def main(words):
    """`_sample JSON`: {"source", "root", "board", "runs_on", "interval_s", "until_stdin_closes"}, all optional."""
    options = json.loads(words[0]) if words else {}
    lines = protocol.claim_stdout()
    place = cores.Settled()
    stop = _Stop(sys.stdin.fileno() if options.get("until_stdin_closes") else None)
    try:
        with stop:
            source = find_source(options.get("source"), options.get("root") or "/", options.get("board"),
                                 options.get("runs_on"))
            try:
                _run(source, options.get("interval_s") or INTERVAL_S, lines, stop, place)
            finally:
                source.close()
    except EdgesynthError as error:
        lines.error(error)
        return error.exit_code
    except BrokenPipeError:  # the agent is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), lines.stream.fileno())
    return 0


def _run(source, interval_s, lines, stop, place):
    """Look at the sensor, then sample until told to stop."""
    refresh_s, read_s = None, None
    if (not source.paced and source.refresh_s is None) or source.name == "ina3221":
        refresh_s, read_s = find_refresh(lambda: _try(source), limit_s=LOOK_S, pause_s=LOOK_PAUSE_S)
    if source.paced:
        interval_s = source.refresh_s
    lines.event("source", source=source.describe(), interval_s=interval_s, refresh_found_s=refresh_s, read_s=read_s,
                core=place.core)
    cpu, start = time.process_time(), time.monotonic()
    counts = sample(source, interval_s, lines.stream, stop, late=place.leave)
    wall = time.monotonic() - start
    cpu = time.process_time() - cpu
    counts.update(cpu_share=cpu / wall if wall > 0 else 0.0, seconds=wall,
                  peak_rss_bytes=memory.own_peak_bytes(), core=place.core)
    lines.event("end", **counts)


def _try(source):
    try:
        found = source.read()
        return found.total_mw if found.energy_mj is None else found.energy_mj
    except ReadFailed:
        return None


def sample(source, interval_s, stream, stop, clock=time.monotonic, late=lambda: None):
    """Read at absolute deadlines and write a JSON line a sample until `stop.wait` says so; returns the counts.

    A deadline that passes during a reading is skipped and counted, so that the others stay where they were. late:
    called when two or more passed at once. CannotMeasure when the source has gone.
    """
    names, pending, sent = source.rails, [], clock()
    counts: dict = {"missed": 0, "failed": 0, "failure": None}
    deadline = good = clock()
    while True:
        wait = 0.0
        try:
            t_s, rails, total, counted = source.read()
            row = [round(t_s, 6), total, counted]
            row += [rails.get(name) for name in names]
            pending.append(json.dumps(row) + "\n")
            good = clock()
        except ReadFailed as error:
            counts["failed"] += 1
            counts["failure"] = str(error)
            wait = interval_s  # a paced source that has ended waits for nothing
            if clock() - good > FAILED_S:
                raise CannotMeasure("the power source {} has gone ({}): measure again, or name another with "
                                    "--power-source".format(source.name, error))
        now = clock()
        if now - sent >= SEND_S and pending:
            stream.write("".join(pending))
            stream.flush()
            pending, sent = [], now
        if not source.paced:
            deadline += interval_s
            if now > deadline:
                passed = int((now - deadline) / interval_s) + 1
                counts["missed"] += passed
                if passed > 1:
                    late()
                deadline += passed * interval_s
            wait = deadline - now
        if stop.wait(wait):
            break
    stream.write("".join(pending))
    stream.flush()
    return counts


class _Stop(object):
    """Waits for SIGTERM, SIGINT or the end of standard input, for a time."""

    def __init__(self, handle=None):
        self.handle, self.asked = handle, False

    def __enter__(self):
        self._wake, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        signal.set_wakeup_fd(self._ring)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal)
        return self

    def __exit__(self, *_):
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        os.close(self._ring)

    def _signal(self, number, frame):
        self.asked = True

    def wait(self, seconds):
        """Sleep, and say whether to stop."""
        handles = [self._wake] + ([] if self.handle is None else [self.handle])
        if not self.asked:
            ready = select.select(handles, [], [], max(0.0, seconds))[0]
            if self.handle in ready and not os.read(self.handle, 4096):
                self.asked = True
        return self.asked


# its handle in the agent

class Sampler(object):
    """Power samples while something runs.

        with Sampler() as sampler:
            ...                         # windows are marked with time.monotonic()
            samples = sampler.stop()

    source: a word of power.SOURCES, or None for the first that is there and measures what `runs_on` says ("cpu",
    "gpu", None for any). CannotMeasure without one. samples: grows while the child samples; a column may be one longer
    than the next at any moment, until `stop`.
    """

    def __init__(self, source=None, root="/", board=None, interval_s=INTERVAL_S, python=None, runs_on=None):
        self.options = {"source": source, "root": root, "board": board, "interval_s": interval_s, "runs_on": runs_on,
                        "until_stdin_closes": True}
        self.python = python
        self.process: Any = None
        self.samples: Any = None  # Samples, once the source is open
        self._news = threading.Event()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the end of the measurement)
        self._error: Any = None
        self._end: Any = None

    def start(self):
        """Start the child and wait for its first sample. Raises what the child could not do."""
        self.process = subprocess.Popen(agent_command("_sample", json.dumps(self.options), python=self.python),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints)
        self._reader = threading.Thread(target=self._follow, args=(self.process.stdout,))
        self._reader.daemon = True
        self._reader.start()
        self._until(lambda: self.samples is not None and len(self.samples), START_S)
        if not self.samples:
            self._end_child()
            raise self._failure("gave nothing within {:g} s".format(START_S))
        return self

    def _follow(self, stream):
        for line in iter(stream.readline, b""):
            try:
                value = json.loads(line.decode("utf-8"))
            except ValueError:
                continue
            self._take(value)
            self._news.set()
        stream.close()
        self._news.set()

    def _take(self, value):
        if isinstance(value, list):
            self.samples.add(value[0], value[1], value[2], value[3:])
        elif value.get("event") == "source":
            samples = Samples(value["source"], value["interval_s"], {"read_s": value["read_s"]})
            samples.refresh_s = value["refresh_found_s"] or samples.refresh_s
            samples.about.update(refresh_found_s=value["refresh_found_s"], core=value["core"])
            self.samples = samples
        elif value.get("event") == "end":
            self._end = {name: value[name] for name in value if name != "event"}
        elif value.get("event") == "error":
            self._error = value

    def _until(self, reached, seconds):
        """Wait until `reached` or the child has ended, at most so long."""
        deadline = time.monotonic() + seconds
        while not reached() and self._reader.is_alive() and time.monotonic() < deadline:
            self._news.wait(min(0.5, max(0.0, deadline - time.monotonic())))
            self._news.clear()

    @property
    def quantum_mw(self):
        """The documented step of the total, 0 where none is."""
        return (self.samples.quantum_mw if self.samples else None) or 0.0

    @property
    def core(self):
        """The core that the child began on; None where it has but one."""
        return self.samples.about["core"] if self.samples else None

    def stop(self):
        """End the child and return the Samples, with what was found about sensor and sampler. Safe to call twice."""
        self._end_child()
        if self._end is None:
            raise self._failure("died before its end")
        samples, self._end = self.samples, dict(self._end)
        if "quantum_found_mw" not in samples.about:
            found = None if samples.energy_mj is not None else quantum_of(samples.total_mw)
            samples.about.update(self._end, quantum_found_mw=found)
            samples.quantum_mw = max(found or 0.0, samples.quantum_mw or 0.0) or None
        return samples

    def check(self):
        """Raise what ended the child before it was told to, so that nothing is measured in vain."""
        if self.process.poll() is not None:
            self._reader.join(STOP_S)
            raise self._failure("died before its end")

    def _end_child(self):
        process = self.process
        if process is None or process.returncode is not None:
            return
        try:
            process.stdin.close()
        except OSError:
            pass  # it has ended by itself
        for ask in (None, process.terminate, process.kill):
            if ask:
                ask()
            try:
                process.wait(timeout=STOP_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(STOP_S)

    def _failure(self, text):
        """What ended the child, as an exception to raise."""
        if self._error is not None:
            kind = protocol.KINDS.get(self._error.get("kind"), CannotMeasure)
            return kind(self._error.get("message") or "the power sampler failed")
        self._complaints.seek(0)
        said = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return CannotMeasure("the power sampler {}{}; measure again, or name another source with "
                             "--power-source".format(text, " ({})".format(said[-1]) if said else ""))

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self._end_child()
        self._complaints.close()
