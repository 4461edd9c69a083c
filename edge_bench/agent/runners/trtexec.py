"""trtexec, for boards where only that is there. It enqueues ahead, so its runs are marked pipelined, always."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from typing import Any

from devices.support.errors import CannotMeasure, UserError, last_line
from edge_bench.agent import interpreter
from edge_bench.agent import sidecar as sidecars
from edge_bench.agent.arguments import shapes
from edge_bench.agent.identity import software
from edge_bench.agent.runners.base import Runner, check_batch

_PLACES = "/usr/src/tensorrt/bin"
# two ways to say it: "Created input binding for x with dimensions 1x3", and "Input binding for x with dimensions 1x3 is
# created." of newer versions
_BINDING = re.compile(r"[Ii]nput binding for (.+?) with dimensions? (\d+(?:x\d+)*)")
_LOOK = ["--warmUp=0", "--duration=0", "--iterations=1"]  # as little inference as it can
WARM_UP_MS = 2000  # its clocks and power rise within a second; what is left of a window's start is then like the rest
_SPAN = re.compile(r"Timing trace has (\d+) queries over ([0-9.]+) s")


def program():
    """The path of trtexec, or None."""
    return shutil.which("trtexec") or shutil.which("trtexec", path=_PLACES)


def preferred(root="/"):
    """"tensorrt" where a Python imports it, else "trtexec" where that is there."""
    if any(interpreter.imports(path, "tensorrt") for path in interpreter.candidates()):
        return "tensorrt"
    return "trtexec" if program() else "tensorrt"


class TrtexecRunner(Runner):
    """Each stretch of inferences is one run of trtexec, which times them itself."""

    name = "trtexec"
    pipelined = True
    block_s = 5.0  # each block loads the engine anew
    path = ""
    sidecar: Any = None

    @classmethod
    def open(cls, request):
        runner = cls()
        runner.request, runner.path = request, request.get("engine") or request["model"]
        if program() is None:
            raise CannotMeasure("trtexec is not on this machine (looked on the PATH and in {})".format(_PLACES))
        runner.version = software(request.get("root", "/"))["tensorrt"]
        runner.sidecar = sidecars.read_sidecar(runner.path)
        if runner.sidecar and runner.version:  # the device is not known here, and trtexec says when it is another
            sidecars.refuse_foreign(runner.path, dict(runner.sidecar, device=None), runner.version, (0, 0))
        found = sidecars.shapes_at(runner.path, runner.sidecar, request.get("batch"))
        known = bool(found)
        found.update(shapes(request))
        runner._take(found)
        if not known:  # no side-car says what the engine runs at
            output = _run(["--loadEngine=" + runner.path] + _LOOK + runner._shape_words())[1]
            runner._check(output)
            runner._take(bindings(output))
        runner.batch = runner._batch()
        return runner

    def _take(self, found):
        self.inputs = [{"name": name, "dtype": None, "shape": shape} for name, shape in found.items()]

    def _batch(self):
        """Images of an inference, by the inputs as they are run."""
        wanted, given = self.request.get("batch"), shapes(self.request)
        if not self.inputs:
            raise CannotMeasure("{}: trtexec does not say at which shapes it runs this engine, so its images cannot be "
                                "counted: build it here from the ONNX file".format(self.path))
        first = [item["shape"][0] for item in self.inputs if item["shape"] and (not given or item["name"] in given)]
        first = first or [1]
        if wanted is not None and wanted not in first:
            item = self.inputs[0]
            raise UserError("{}: trtexec runs it at batch {}, not {}: leave --batch out, or where it may vary name the "
                            "shape with --shape {}={}".format(self.path, first[0], wanted, item["name"],
                                                              _words([wanted] + item["shape"][1:])))
        sidecar = self.sidecar or {}
        if wanted or (sidecar.get("batch") and sidecar.get("inputs") and not given):
            return wanted or sidecar["batch"]
        counted = {item["name"]: item["shape"] for item in self.inputs if not given or item["name"] in given}
        return check_batch(None, counted, {}, self.path)

    def _check(self, output):
        """CannotMeasure when trtexec ran an input at another shape than the one that is counted."""
        told = bindings(output)
        for item in self.inputs:
            if told.get(item["name"], item["shape"]) != item["shape"]:
                raise CannotMeasure("{}: trtexec ran input '{}' at {}, not {}: build it again from the ONNX "
                                    "file".format(self.path, item["name"], _words(told[item["name"]]),
                                                  _words(item["shape"])))

    def _shape_words(self):
        """--shapes for the inputs that vary: without it trtexec runs them at 1."""
        varying = set(shapes(self.request)) | set((self.sidecar or {}).get("profile") or {})
        words = ["{}:{}".format(item["name"], _words(item["shape"])) for item in self.inputs if item["name"] in varying]
        return ["--shapes=" + ",".join(words)] if words else []

    def run_for(self, seconds):
        """(start, end, seconds of each inference, device ms of each) of one trtexec run that measures so long.

        The window begins with the first inference after --warmUp and is as long as the trace that trtexec reports. No
        line is printed in between ("Warmup completed" comes at the end of the run), so its start is counted: what is
        documented is that WARM_UP_MS pass before measuring; that "Starting inference" is printed right before the zero
        of the exported times, and that an inference belongs to the warm-up when its startComputeMs is below
        WARM_UP_MS, is read from NVIDIA's source of trtexec. Streams are made between that line and the zero, so the
        window is too early by some milliseconds, which are still under the full load.
        """
        with tempfile.TemporaryDirectory() as folder:
            times = os.path.join(folder, "times.json")
            words = ["--loadEngine=" + self.path, "--warmUp={}".format(WARM_UP_MS), "--duration={:g}".format(seconds),
                     "--iterations=10", "--exportTimes=" + times]
            began, output = _run(words + self._shape_words())
            self._check(output)
            try:
                with open(times) as stream:  # older versions write the warm-up's inferences too
                    rows = [row for row in json.load(stream) if row["startComputeMs"] >= WARM_UP_MS]
                latencies = [row["latencyMs"] / 1000.0 for row in rows]
                compute = [row["computeMs"] for row in rows]
            except (OSError, ValueError, KeyError, TypeError):
                raise CannotMeasure("trtexec wrote no times that can be read; its version may be unknown here")
        span = _SPAN.search(output)
        if not latencies or not span or began is None:
            raise CannotMeasure("trtexec measured nothing: {}".format(last_line(output)))
        start = began + rows[0]["startComputeMs"] / 1000.0
        return start, start + float(span.group(2)), latencies, compute

    def describe(self):
        sidecar = self.sidecar or {}
        return {"name": self.name, "version": self.version, "precision": sidecar.get("precision"), "pipelined": True,
                "batch": self.batch, "inputs": self.inputs, "outputs": [],
                "engine_bytes": os.path.getsize(self.path), "built_in_mode": sidecar.get("mode"),
                "built_on": sidecar.get("board"), "origin_unknown": self.sidecar is None}

    def layer_times_ms(self):
        """Mean time of each layer, from trtexec's own profile."""
        with tempfile.TemporaryDirectory() as folder:
            profile = os.path.join(folder, "profile.json")
            _run(["--loadEngine=" + self.path, "--duration=1", "--dumpProfile", "--separateProfileRun",
                  "--exportProfile=" + profile] + self._shape_words())
            try:
                with open(profile) as stream:
                    rows = json.load(stream)
                return [{"name": row["name"], "ms": row["averageMs"]} for row in rows if "averageMs" in row]
            except (OSError, ValueError, KeyError, TypeError):
                return None


def bindings(output):
    """{input: shape} that trtexec said it runs."""
    return {name: [int(size) for size in sizes.split("x")] for name, sizes in _BINDING.findall(output)}


def _words(shape):
    return "x".join(str(size) for size in shape)


def _run(words):
    """(monotonic time at which inference began or None, all output) of a trtexec run that went well."""
    start, output = None, []
    process = subprocess.Popen([program()] + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    try:
        assert process.stdout  # a pipe
        for line in iter(process.stdout.readline, b""):
            text = line.decode("utf-8", "replace")
            output.append(text)
            if "Starting inference" in text and start is None:
                start = time.monotonic()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
    if code != 0:
        errors = [text for text in output if "[E]" in text] or output
        raise CannotMeasure("trtexec failed with exit code {}: {}".format(code, last_line("".join(errors))))
    return start, "".join(output)
