"""Trials: each a fresh process that loads the model anew, so that run-to-run noise is in the spread between them."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

from devices.support.errors import CannotMeasure
from edge_bench.agent import protocol
from edge_bench.agent.spawn import agent_command, end_group, usual_cause
from edge_bench.agent.warmup import FIRST_SPAN_S, NEXT_SPAN_S, Block, Steadiness

SILENCE_S = 300.0  # a trial that says nothing for so long, its window apart, hangs
QUICK_SPAN_S = 1.0


class TrialProcess(object):
    """A trial process, its events, and its end. In a `with`: neither it nor what it started outlives the block."""

    def __init__(self, request, python=None, silence_s=SILENCE_S):
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self.silence_s, self.stage, self.hung = silence_s + request["window"], "starting", False
        self.process = subprocess.Popen(agent_command("_trial", python=python), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True)
        assert self.process.stdin and self.process.stdout  # both are pipes
        self.input, self.output = self.process.stdin, self.process.stdout
        self.tell(json.dumps(request))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end_group(self.process)
        for stream in (self.input, self.output, self.errors):
            try:
                stream.close()
            except OSError:
                pass  # what was left to flush went to a process that has ended

    def tell(self, line):
        """Write one line to the trial; one that has died says why at the next event."""
        try:
            self.input.write(line.encode("utf-8") + b"\n")
            self.input.flush()
        except OSError:
            pass

    def next_event(self):
        """The next event, an error of the trial raised here as it was there. CannotMeasure when it died or hangs."""
        watch = threading.Timer(self.silence_s, self._end_hung)
        watch.start()
        try:
            for line in iter(self.output.readline, b""):
                event = protocol.parse(line.decode("utf-8", "replace"))
                if event is None:
                    continue
                if event["event"] == "error":
                    protocol.raise_error(event)
                self.stage = event["event"]
                return event
        finally:
            watch.cancel()
        raise CannotMeasure(self._obituary())

    def _end_hung(self):
        self.hung = True
        end_group(self.process)

    def _obituary(self):
        code = self.process.wait()
        where = {"starting": "while it loaded the model", "open": "at the first inferences",
                 "block": "while it warmed up or measured"}.get(self.stage, "at its end")
        if self.hung:
            return "the trial process hung for {:.0f} s {} and was ended".format(self.silence_s, where)
        how = "ended with exit code {}".format(code)
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = "was killed by {}{}".format(names.get(-code, "signal {}".format(-code)), usual_cause(code))
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 2000))
        words = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return "the trial process {} {}{}".format(how, where, ": " + words[-1] if words else "")


def run_trial(request, number, progress, mean_power_mw=None, power_quantum_mw=0.0):
    """Run trial `number` (from 0) and return its record.

    mean_power_mw: function of (start_s, end_s), the mean power between two marks, for the steadiness of power; None
    without a power source. The record: runner, load_s, warmup {seconds, steady, unsteady}, and what the window gave.
    """
    span_s = QUICK_SPAN_S if request["quick"] else FIRST_SPAN_S if number == 0 else NEXT_SPAN_S
    name = "trial {}/{}".format(number + 1, request["trials"])
    steadiness = Steadiness(span_s, power_quantum_mw)
    with TrialProcess(request, python=request.get("python")) as trial:
        opened = trial.next_event()
        progress("{}: warming up".format(name))
        while True:
            event = trial.next_event()
            power = mean_power_mw(event["start_s"], event["end_s"]) if mean_power_mw else None
            steadiness.add(Block(event["start_s"], event["end_s"], event["latency_ms"], event["temperature_c"], power))
            unsteady = steadiness.unsteady()
            if not unsteady or steadiness.elapsed_s() >= request["warmup_cap"]:
                break
        progress("{}: measuring {:g} s{}".format(name, request["window"], ", not steady" if unsteady else ""))
        trial.tell("go")
        window = trial.next_event()
        while window["event"] == "block":  # it was in the middle of one when it was told to go
            window = trial.next_event()
    window.pop("event")
    window.update(runner=opened["runner"], load_s=opened["load_s"],
                  warmup={"seconds": steadiness.elapsed_s(), "steady": not unsteady, "unsteady": unsteady,
                          "latency_ms": [block.latency_ms for block in steadiness.blocks]})
    return window


def profile_layers(request, progress):
    """Times of single layers from a pass of its own: [{"name", "ms"}], or None where the runner cannot tell."""
    progress("layers: a separate pass")
    with TrialProcess(dict(request, layers_pass=True), python=request.get("python")) as trial:
        trial.next_event()
        return trial.next_event().get("layers")


def idle(seconds):
    """(start, end) of a stretch in which this process does nothing: what the board draws without load."""
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()
