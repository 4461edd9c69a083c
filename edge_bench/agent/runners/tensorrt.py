"""TensorRT through its Python interface, every version since 8.0; what a version has is asked by hasattr."""
import os
from typing import Any

from devices.support.errors import CannotMeasure, EdgesynthError, UserError
from edge_bench.agent import sidecar as sidecars
from edge_bench.agent.arguments import shapes
from edge_bench.agent.runners.base import Runner
from edge_bench.agent.runners.cuda import open_cuda
from edge_bench.agent.runners.tensors import content, dtype_of, input_shapes, tensors_of, volume

PROFILED_RUNS = 20


class TensorRtRunner(Runner):
    """Host input to host output on one stream; synchronised after each inference, or one behind when pipelined."""

    name = "tensorrt"
    has_device_clock = True
    path = ""
    pointers: dict = {}  # device memory by tensor
    hosts: dict = {}     # page-locked host memory by tensor
    count = 0            # inferences begun
    sidecar: Any = None
    trt: Any = None
    cuda: Any = None
    logger: Any = None
    runtime: Any = None
    engine: Any = None
    context: Any = None
    tensors: Any = None
    stream: Any = None
    handle: Any = None
    events: list = []    # (start, stop, copied back) of this inference and the last

    @classmethod
    def open(cls, request):
        runner = cls()
        runner.request = request
        runner.path = request.get("engine") or request["model"]
        runner.cuda = open_cuda()  # before TensorRT, which may crash where CUDA does not work
        try:
            runner._load()
        except EdgesynthError:
            runner.cuda.close()
            raise
        return runner

    def _load(self):
        self.trt = load_tensorrt()
        self.version = self.trt.__version__
        self.sidecar = sidecars.read_sidecar(self.path)
        sidecars.refuse_foreign(self.path, self.sidecar, self.version, self.cuda.compute_capability())
        self.logger = make_logger(self.trt)
        self.engine = self._deserialize()
        self.pipelined = bool(self.request.get("pipelined"))
        self._prepare()

    def _deserialize(self):
        self.trt.init_libnvinfer_plugins(self.logger, "")
        self.runtime = create(self.trt, "Runtime", self.logger, last_words)
        with open(self.path, "rb") as stream:
            engine = self.runtime.deserialize_cuda_engine(stream.read())
        if engine is None:
            raise UserError("{}: TensorRT {} cannot read this engine ({}): it is damaged, or of another device or "
                            "version; build it here from the ONNX file".format(self.path, self.version,
                                                                               last_words(self.logger)))
        return engine

    def _prepare(self):
        """Shapes, memory, stream and events; one inference, so that what fails does so here."""
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise CannotMeasure("TensorRT has no memory for this engine ({})".format(last_words(self.logger)))
        self.tensors = tensors_of(self.trt, self.engine)
        model = self.request["model"]
        self.batch, wanted = input_shapes(self.tensors, self.request, shapes(self.request), model)
        for name, shape in wanted.items():
            if -1 in self.tensors.shape(name) and self.tensors.set_shape(self.context, name, shape) is False:
                raise UserError("{}: the engine refuses shape {} for '{}'".format(model, shape, name))
        self.inputs, self.outputs, self.pointers, self.hosts = [], [], {}, {}
        for name in self.tensors.names:
            self._allocate(name, wanted, model)
        self.tensors.bind(self.context, self.pointers)
        self.stream = self.cuda.stream()
        self.handle = self.cuda.handle(self.stream)
        self.events = [(self.cuda.event(), self.cuda.event(), self.cuda.event()) for _ in range(2)]
        self.count = 0
        self.infer()
        self.cuda.synchronise(self.stream)

    def _allocate(self, name, wanted, model):
        shape = list(wanted.get(name) or self.tensors.shape_in(self.context, name))
        dtype, size = dtype_of(self.trt, self.tensors.dtype(name), name, model)
        if -1 in shape:
            raise UserError("{}: the size of output '{}' depends on the data: give the network a fixed one".format(
                model, name))
        length = max(1, volume(shape) * size)
        self.pointers[name], self.hosts[name] = self.cuda.malloc(length), self.cuda.host_buffer(length)
        if name in wanted:
            memoryview(self.hosts[name]).cast("B")[:] = content(dtype, volume(shape), self.request["seed"])
        (self.inputs if name in wanted else self.outputs).append({"name": name, "dtype": dtype, "shape": shape})

    def infer(self):
        start, stop, done = self.events[self.count % 2]
        self.count += 1
        for item in self.inputs:
            self.cuda.to_device(self.pointers[item["name"]], self.hosts[item["name"]], self.stream)
        self.cuda.record(start, self.stream)
        if self.tensors.execute(self.context, self.pointers, self.handle) is False:
            raise CannotMeasure("TensorRT refused an inference ({})".format(last_words(self.logger)))
        self.cuda.record(stop, self.stream)
        for item in self.outputs:
            self.cuda.to_host(self.hosts[item["name"]], self.pointers[item["name"]], self.stream)
        self.cuda.record(done, self.stream)

    def synchronise(self):
        if self.pipelined and self.count > 1:
            self.cuda.wait(self.events[self.count % 2][2])  # the inference before the last
        else:
            self.cuda.synchronise(self.stream)

    def compute_ms(self):
        start, stop, _ = self.events[self.count % 2 if self.pipelined and self.count > 1 else (self.count - 1) % 2]
        return self.cuda.elapsed_ms(start, stop)

    def describe(self):
        sidecar = self.sidecar or {}
        memory = getattr(self.engine, "device_memory_size_v2", None)
        if memory is None:
            memory = getattr(self.engine, "device_memory_size", None)
        buffers = sum(len(buffer) for buffer in self.hosts.values())
        return {"name": self.name, "version": self.version, "precision": sidecar.get("precision"),
                "cuda": self.cuda.name, "pipelined": self.pipelined, "batch": self.batch, "inputs": self.inputs,
                "outputs": self.outputs, "engine_bytes": os.path.getsize(self.path),
                "device_bytes": None if memory is None else memory + buffers,
                "built_in_mode": sidecar.get("mode"), "built_on": sidecar.get("board"),
                "origin_unknown": self.sidecar is None}

    def layer_times_ms(self):
        """Mean time of each layer over some profiled inferences, in the engine's order."""
        recorder = make_profiler(self.trt)
        self.context.profiler = recorder
        for _ in range(PROFILED_RUNS):
            self.infer()
            self.cuda.synchronise(self.stream)
        return [{"name": name, "ms": total / PROFILED_RUNS} for name, total in recorder.totals.items()]

    def close(self):
        self.cuda.synchronise(self.stream)
        self.context = self.engine = self.runtime = None
        for name in self.pointers:
            self.cuda.free(self.pointers[name])
            self.cuda.free_host(self.hosts[name])
        self.pointers, self.hosts = {}, {}
        self.cuda.close()


def load_tensorrt():
    """The module `tensorrt`. CannotMeasure where it cannot be imported or is of a version before 8.0."""
    try:
        import tensorrt
    except ImportError as error:
        raise CannotMeasure("tensorrt cannot be imported ({}): on a Jetson it is the system's package "
                            "python3-libnvinfer, named by --board-python /usr/bin/python3".format(error))
    if not hasattr(tensorrt.Builder, "build_serialized_network"):
        raise CannotMeasure("TensorRT {} is too old: 8.0 or newer is needed, which JetPack 4.6 brings".format(
            tensorrt.__version__))
    return tensorrt


def create(trt: Any, name, logger, reason):
    """A trt.Builder or trt.Runtime. CannotMeasure with `reason(logger)` where TensorRT cannot make one here."""
    try:
        return getattr(trt, name)(logger)
    except TypeError as error:  # the bindings' word for it; why is told to the logger alone
        if "nullptr" not in str(error):
            raise
        raise CannotMeasure("TensorRT {} cannot make its {} here ({}): check its libraries and the GPU's driver".format(
            trt.__version__, name.lower(), reason(logger)))


def make_logger(trt: Any):
    """A logger that keeps what TensorRT says, so that a failure can give its reason."""
    if not hasattr(trt, "ILogger"):
        return trt.Logger(trt.Logger.ERROR)

    class Keeper(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.words = []

        def log(self, severity, message):
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.words = self.words[-20:] + [str(message)]

    return Keeper()


def last_words(logger):
    words = getattr(logger, "words", [])
    return " ".join(words[-1].split())[:300] if words else "it gave no reason"


def make_profiler(trt: Any):
    """A profiler that adds up the time of each layer."""
    class Recorder(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.totals = {}

        def report_layer_time(self, layer_name, ms):
            self.totals[layer_name] = self.totals.get(layer_name, 0.0) + ms

    return Recorder()
