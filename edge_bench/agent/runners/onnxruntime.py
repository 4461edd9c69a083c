"""ONNX Runtime on the CPU."""
import array
import json
import os
import tempfile
import time
from typing import Any

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import onnx_words, statistics
from edge_bench.agent.arguments import shapes
from edge_bench.agent.runners.base import Runner, check_batch, resolve_shape, show_shape

# ONNX type names that can be filled with numbers: numpy's name of each
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
          "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(uint16)": "uint16",
          "tensor(int32)": "int32", "tensor(uint32)": "uint32", "tensor(int64)": "int64", "tensor(uint64)": "uint64",
          "tensor(bool)": "bool"}


class OnnxRuntimeRunner(Runner):
    """One inference is one `session.run` on the CPU, host array in, host array out; it returns when it is done."""

    name = "onnxruntime"
    session: Any = None
    names: list = []

    @classmethod
    def open(cls, request):
        if request.get("precision") not in (None, "fp32"):
            raise UserError("onnxruntime runs the precision of the file; --precision is for engines that are built")
        if request.get("pipelined"):
            raise UserError("onnxruntime on the CPU has nothing to overlap: --pipelined is for TensorRT")
        runtime, numpy = _libraries()
        runner = cls()
        runner.version, runner.request = runtime.__version__, request
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong comes back as an exception
        if request.get("threads"):
            options.intra_op_num_threads = request["threads"]
        if request.get("layers_pass"):  # never in a trial: it costs time, and writes a file
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(tempfile.gettempdir(), "edgesynth-layers")
        runner.session = _session(runtime, options, request["model"])
        runner.names = [output.name for output in runner.session.get_outputs()]
        runner.batch, runner.inputs, runner.feed = _inputs(runner.session, request, numpy)
        runner.outputs = runner._first_run(request["model"])
        return runner

    def _first_run(self, model):
        """Run once, to refuse with a sentence what would fail later; gives the outputs as they really are."""
        try:
            values = self.session.run(self.names, self.feed)
        except Exception as error:  # onnxruntime's own classes, none of which it documents
            raise UserError("{}: cannot run with batch {} ({})".format(model, self.batch, _brief(error)))
        return [{"name": name, "dtype": str(getattr(value, "dtype", type(value).__name__)),
                 "shape": list(getattr(value, "shape", []))} for name, value in zip(self.names, values)]

    def infer(self):
        self.session.run(None, self.feed)  # all outputs; how it is called in use, though naming them would save 2 us

    def run_for(self, seconds):
        """(start, end, seconds of each inference, []) of inferences for at least `seconds`.

        A loop of its own, with no frame of ours inside the time: in a network of 5 us that would be a per cent.
        """
        clock, session, feed, latencies = time.monotonic, self.session, self.feed, array.array("d")
        keep = latencies.append
        start = clock()
        stop = start + seconds
        while True:
            before = clock()
            session.run(None, feed)
            after = clock()
            keep(after - before)
            if after >= stop:
                return start, after, latencies, array.array("d")

    def describe(self):
        return {"name": self.name, "version": self.version, "provider": self.session.get_providers()[0],
                "precision": _precision(self.request["model"], self.inputs),
                "threads": self.request.get("threads"), "pipelined": False, "batch": self.batch,
                "inputs": self.inputs, "outputs": self.outputs}

    def layer_times_ms(self):
        """Times of the nodes in one inference, by the median of their calls; ends profiling."""
        path = self.session.end_profiling()
        try:
            with open(path) as stream:
                events = json.load(stream)
        finally:
            os.unlink(path)
        calls: dict = {}  # microseconds of each call, by node
        runs = 0
        for event in events:
            runs += event.get("name") == "model_run"
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                calls.setdefault(event["name"][:-len("_kernel_time")], []).append(event["dur"])
        return [{"name": name, "ms": statistics.median(times) / 1000.0 * len(times) / max(runs, 1)}
                for name, times in calls.items()]

    def close(self):
        self.session = None


def _libraries():
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        raise CannotMeasure("onnxruntime cannot be imported ({}): pip install onnxruntime".format(error))
    return onnxruntime, numpy


def _session(runtime, options, model):
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, none of which it documents
        text = str(error)
    if "xternal data" in text:
        raise UserError("{}: its weights are in a file beside it that is missing: put the .data file there "
                        "or export with the weights inside".format(model))
    if "INVALID_PROTOBUF" in text:
        raise UserError("{}: not an ONNX file, or a damaged one: copy or export it again".format(model))
    raise UserError("{}: onnxruntime refuses it: {}".format(model, _brief(text)))


def _precision(model, inputs):
    """The precision that the file's graph is in: what export wrote there, else what its nodes and inputs tell."""
    said = onnx_words.metadata(model)
    if said.get("precision_by") == "graph" and said.get("precision") in ("fp32", "fp16", "int8"):
        return said["precision"]
    if onnx_words.is_quantised(model):
        return "int8"
    floats = {item["dtype"] for item in inputs if item["dtype"].startswith("float")}
    return {"float16": "fp16", "float64": "fp64"}.get("".join(floats), "fp32")


def _brief(error):
    """The last part of an onnxruntime message, in one line."""
    text = " ".join(str(error).split()).split(" : ", 3)[-1]
    return text if len(text) <= 300 else text[:297] + "..."


def _inputs(session, request, numpy):
    """(batch, descriptions, feed) for the session's inputs: random numbers, the same for the same seed."""
    sizes, model = shapes(request), request["model"]
    declared = [(item.name, item.type, [size if isinstance(size, int) and size > 0 else None for size in item.shape])
                for item in session.get_inputs()]
    unknown = sorted(set(sizes) - {name for name, _, _ in declared})
    if unknown:
        raise UserError("{}: no input is called '{}': its inputs are {}".format(
            model, unknown[0], ", ".join("{} {}".format(name, show_shape(shape)) for name, _, shape in declared)))
    batch = check_batch(request.get("batch"), {name: shape for name, _, shape in declared}, sizes, model)
    generator = numpy.random.RandomState(request["seed"])
    feed, described = {}, []
    for name, kind, shape in declared:
        if kind not in DTYPES:
            raise UserError("{}: input '{}' is a {}, which cannot be filled with numbers".format(model, name, kind))
        shape = resolve_shape(name, shape, batch, sizes, model)
        feed[name] = random_array(numpy, generator, DTYPES[kind], shape)
        described.append({"name": name, "dtype": DTYPES[kind], "shape": shape})
    return batch, described, feed


def random_array(numpy, generator, dtype, shape):
    """Input of a dtype: normal floats, bytes over their range, and 0 or 1 for other integers, which may be indices."""
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    if dtype == "uint8":
        return generator.randint(0, 256, shape).astype(dtype)
    return generator.randint(0, 2, shape).astype(dtype)
