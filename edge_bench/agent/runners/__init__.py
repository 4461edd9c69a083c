"""What runs a model: one file a runner, one line in the registry."""
import importlib
import os

from devices.support.errors import UserError, unknown
from edge_bench.agent import cores
from edge_bench.agent.identity import is_jetson

# name: (module, class)
RUNNERS = {
    "onnxruntime": ("edge_bench.agent.runners.onnxruntime", "OnnxRuntimeRunner"),
    "tensorrt": ("edge_bench.agent.runners.tensorrt", "TensorRtRunner"),
    "trtexec": ("edge_bench.agent.runners.trtexec", "TrtexecRunner"),
}
NEED_ENGINE = ("tensorrt", "trtexec")  # an ONNX file is built into an engine for these
ENGINES = (".engine", ".plan", ".trt")
_EXPORT = "; edgesynth export makes one of a network"


def runner_class(name):
    """The class of a runner by its name; UserError for an unknown one."""
    if name not in RUNNERS:
        raise unknown("runner", name, RUNNERS)
    module, attribute = RUNNERS[name]
    return getattr(importlib.import_module(module), attribute)


def is_onnx(model):
    """Whether a file is an ONNX file, by what it is called."""
    return model.lower().endswith(".onnx")


def is_engine(model):
    """Whether a file is a TensorRT engine, by what it is called."""
    return model.lower().endswith(ENGINES)


def require_file(model):
    """UserError, with the remedy, unless a model file is there."""
    if os.path.isdir(model):
        raise UserError("{}: it is a folder; name a model file{}".format(model, _EXPORT))
    if not os.path.exists(model):
        raise UserError("{}: there is no such file{}".format(model, "" if os.path.splitext(model)[1] else _EXPORT))


def runner_for(model, root="/"):
    """The name of the runner for a model file, by what the file is called; a Jetson runs ONNX files on TensorRT."""
    if is_engine(model) or (is_onnx(model) and is_jetson(root)):
        from edge_bench.agent.runners import trtexec
        return trtexec.preferred(root)
    if is_onnx(model):
        return "onnxruntime"
    raise UserError("{}: neither an ONNX file (.onnx) nor a TensorRT engine ({}){}".format(
        model, ", ".join(ENGINES), _EXPORT))


def runs_on(name):
    """"gpu" or "cpu": the part of the machine that a runner's inferences run on."""
    return "gpu" if name in NEED_ENGINE else "cpu"


def spares_a_core(request):
    """Whether inference can leave one core to the power sampler: always on a GPU, on the CPU with few threads."""
    return request["runner"] in NEED_ENGINE or (request.get("threads") or len(cores.allowed())) < len(cores.allowed())


def open_runner(request):
    """An open runner for the request (see `arguments.complete`; `model` is the path, `engine` what was built of it)."""
    model = request.get("engine") or request["model"]
    require_file(model)
    if os.path.getsize(model) == 0:
        raise UserError("{}: the file is empty".format(model))
    return runner_class(request["runner"] or runner_for(model)).open(request)
