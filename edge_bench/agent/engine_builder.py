"""Builds one TensorRT engine in this process: the verb `_build`, request on standard input, result on output.

What an installed TensorRT has is asked by hasattr, as its runner does; the versions that have a name stand behind it.
"""
import json
import os
import sys
import time
from typing import Any

from devices.support.errors import CannotMeasure, EdgesynthError, UserError
from devices.support.files import write_bytes
from edge_bench.agent import onnx_words, protocol
from edge_bench.agent.arguments import shapes
from edge_bench.agent.runners.base import check_batch, resolve_shape
from edge_bench.agent.runners.cuda import open_cuda
from edge_bench.agent.runners.tensorrt import create, load_tensorrt

KEPT_WORDS = 400  # characters of the builder's own errors in a sentence; the whole of them is in its log
STEP_S = 1.0      # between two lines about the same phase of a build


def main(words=()):
    """The verb. Returns an exit code."""
    lines = protocol.claim_stdout()
    try:
        request = protocol.read_request(sys.stdin)
        if request["runner"] == "trtexec":
            from edge_bench.agent.trtexec_builder import build_engine as build
        else:
            build = build_engine
        lines.result(build(request, lines.progress))
    except EdgesynthError as error:
        lines.error(error)
        return error.exit_code
    return 0


def build_engine(request, progress=lambda text: None):
    """Write request["engine"] and return what its side-car says of the building.

    request: as `engines.build` completes it. UserError for a file, precision or batch that cannot be built,
    CannotMeasure with the builder's own errors where it fails; all that it said is in request["log"].
    """
    cuda = open_cuda()
    try:
        return dict(_build(request, progress), device="sm_{}{}".format(*cuda.compute_capability()))
    finally:
        cuda.close()  # pycuda aborts a process that ends with its context in use


def _build(request, progress):
    """Build on the open device; what the side-car says, without the device."""
    trt = load_tensorrt()
    log = make_log(trt, request.get("log"))
    trt.init_libnvinfer_plugins(log, "")
    builder = create(trt, "Builder", log, reason)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    progress("TensorRT {} reads {}".format(trt.__version__, os.path.basename(request["model"])))
    _parse(trt, log, network, request["model"])
    config = builder.create_builder_config()
    _limit_workspace(trt, config, request["workspace_bytes"])
    precision = _precision(trt, builder, config, request)
    shaped = _profile(builder, config, network, request)
    reused = _take_timings(config, request.get("timing_cache"))
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, "DETAILED", None) or trt.ProfilingVerbosity.VERBOSE
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):  # from 10 on
        config.progress_monitor = make_monitor(trt, progress)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:  # its way to fail; an exception it never raises
        raise CannotMeasure("{}: TensorRT {} cannot build it ({})".format(request["model"], trt.__version__,
                                                                          reason(log)))
    content = bytes(serialized)
    write_bytes(request["engine"], content)
    _keep_timings(config, request.get("timing_cache"))
    del serialized, network, config, builder  # a board's memory holds either the builder or the engine
    layers, why_not = _layers(trt, log, content)
    return dict(shaped, tensorrt=trt.__version__, precision=precision, workspace_bytes=request["workspace_bytes"],
                timings_reused=reused, layers=layers, layers_note=why_not, builder="tensorrt")


def make_log(trt: Any, path=None):
    """A logger that keeps what TensorRT says: all of it in the file at `path`, the errors for `reason`."""
    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = []

        def log(self, severity, message):
            word = str(getattr(severity, "name", severity)).rpartition(".")[2]
            if word == "VERBOSE":
                return
            if path:
                with open(path, "a", encoding="utf-8", errors="replace") as stream:
                    stream.write("[{}] {}\n".format(word, message))
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors = [*self.errors, " ".join(str(message).split())][:20]

    return Log()


def reason(log):
    return say_errors(log.errors)


def say_errors(errors):
    """The errors of a builder in one sentence: the first says the cause, what follows is often its echo."""
    return "; ".join(dict.fromkeys(errors))[:KEPT_WORDS] or "it gave no reason"


def make_monitor(trt: Any, progress):
    """Tells which phase a build is in, and how far."""
    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.phases, self.said = {}, 0.0

        def phase_start(self, phase_name, parent_phase, num_steps):
            self.phases[phase_name] = num_steps

        def step_complete(self, phase_name, step):
            if time.monotonic() - self.said >= STEP_S:
                self.said = time.monotonic()
                progress("{}, {} of {}".format(phase_name, step + 1, self.phases.get(phase_name, "?")))
            return True  # go on

        def phase_finish(self, phase_name):
            self.phases.pop(phase_name, None)

    return Monitor()


def _parse(trt, log, network, model):
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(model):
        errors = [" ".join(str(parser.get_error(index).desc()).split()) for index in range(parser.num_errors)]
        raise UserError("{}: TensorRT {} cannot read this ONNX file ({}): export it for this board with "
                        "`edgesynth export --target`".format(model, trt.__version__, say_errors(errors or log.errors)))


def _limit_workspace(trt, config, size):
    if hasattr(config, "set_memory_pool_limit"):  # from 8.4 on
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size


def _precision(trt, builder, config, request):
    """Set the flags of the wanted precision and return it; fp16 where the device is fast at it when none is wanted."""
    wanted = request["precision"]
    flags = {"fp16": getattr(trt.BuilderFlag, "FP16", None), "int8": getattr(trt.BuilderFlag, "INT8", None)}
    if wanted is None:
        if flags["fp16"] is None:
            return "as in the graph"
        wanted = "fp16" if getattr(builder, "platform_has_fast_fp16", True) else "fp32"
    if wanted == "fp32":
        if hasattr(trt.BuilderFlag, "TF32"):  # set from the start, and TF32 rounds to ten bits
            config.clear_flag(trt.BuilderFlag.TF32)
        return "fp32"
    if flags[wanted] is None:
        if request.get("in_graph") == wanted:
            return wanted
        raise UserError("TensorRT {} takes the precision from the graph: export the ONNX file as {} and leave "
                        "--precision out".format(trt.__version__, wanted))
    if not getattr(builder, "platform_has_fast_" + wanted, True):
        raise UserError("this device has no {}: use another --precision".format(wanted.upper()))
    if wanted == "int8":
        require_quantised(request["model"])
    config.set_flag(flags[wanted])
    if wanted == "int8" and getattr(builder, "platform_has_fast_fp16", True):  # for what is not quantised
        config.set_flag(flags["fp16"])
    return wanted


def require_quantised(model):
    """UserError for a file without scales: INT8 would be calibrated with nothing, or with random numbers."""
    if not onnx_words.is_quantised(model):
        raise UserError("{}: int8 needs a quantised ONNX file: make one of real images with `edgesynth export "
                        "--precision int8 --samples`".format(model))


def _profile(builder, config, network, request):
    """Give the builder the range of every shape that varies; {"batch", "batches", "inputs", "profile"} of it."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    declared = {item.name: [None if size < 0 else size for size in tuple(item.shape)] for item in inputs}
    shaped = shape_ranges(declared, request)
    if shaped["profile"]:
        profile = builder.create_optimization_profile()
        for name, (smallest, best, largest) in shaped["profile"].items():
            profile.set_shape(name, tuple(smallest), tuple(best), tuple(largest))
        config.add_optimization_profile(profile)
    return shaped


def shape_ranges(declared, request):
    """The shapes that an engine is made for, of its inputs {name: [size, None where it varies]} and the request.

    {"batch": to tune for, "batches": [smallest, best, largest], "inputs": {name: best shape}, "profile": {name:
    [smallest, best, largest shape]} of those that vary}. UserError where the file and the request disagree.
    """
    sizes, model = shapes(request), request["model"]
    unknown = sorted(set(sizes) - set(declared))
    if unknown:
        raise UserError("{}: no input is called '{}': its inputs are {}".format(model, unknown[0], ", ".join(declared)))
    first = [sizes.get(name, shape)[0] for name, shape in declared.items() if shape]
    if None in first and request.get("batches"):
        batches = list(request["batches"])
    else:
        batches = [check_batch(request["batch"], declared, sizes, model)] * 3
    found = [{name: resolve_shape(name, shape, batch, sizes, model) for name, shape in declared.items()}
             for batch in batches]
    return {"batch": batches[1], "batches": batches, "inputs": found[1],
            "profile": {name: [part[name] for part in found] for name, shape in declared.items() if None in shape}}


def _take_timings(config, path):
    """Give the builder the tactic timings of earlier builds on this device; whether there were any that it took."""
    old = b""
    if path and os.path.exists(path):
        with open(path, "rb") as stream:
            old = stream.read()
    cache = config.create_timing_cache(old)
    if cache is not None and config.set_timing_cache(cache, False):
        return bool(old)
    if old:  # of another device or version, or damaged: begin anew
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


def _keep_timings(config, path):
    """Keep the timings for the next build; that they cannot be kept costs time alone."""
    cache = config.get_timing_cache() if path else None
    if cache is not None:
        try:
            write_bytes(path, bytes(cache.serialize()))
        except EdgesynthError as error:
            sys.stderr.write("timing cache: {}\n".format(error))


def _layers(trt, log, engine):
    """([{"name", "type", ...}] of the engine, None), by its inspector; (None, the reason) where that cannot tell."""
    if not hasattr(trt, "EngineInspector"):  # 8.0.1
        return None, "TensorRT {} has no inspector".format(trt.__version__)
    try:
        runtime = create(trt, "Runtime", log, reason)
    except CannotMeasure as error:  # the engine is there all the same
        return None, str(error)
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        return None, "the engine could not be loaded for inspection ({})".format(reason(log))
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return read_layers(text)


def read_layers(text):
    """([{"name", "type", "format", "tactic"}], None) of what an inspector or trtexec writes; (None, why not)."""
    try:
        listed = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None, "the inspector's answer is not understood"
    found = []
    for item in listed:
        if not isinstance(item, dict):  # names alone, where the engine was built without detail
            found.append({"name": str(item)})
            continue
        output = (item.get("Outputs") or [{}])[0]
        written = " ".join(str(output[word]) for word in ("Format/Datatype", "Format", "Datatype") if word in output)
        layer = {"name": item.get("Name"), "type": item.get("ParameterType") or item.get("LayerType"),
                 "format": written or None, "tactic": item.get("TacticName")}
        found.append({name: value for name, value in layer.items() if value})
    return found, None
