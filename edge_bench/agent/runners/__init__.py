"""What runs a model: one file a runner, one line in the registry."""
import importlib
import os

from devices.support.errors import UserError, unknown

# name: (module, class)
RUNNERS = {
    "onnxruntime": ("edge_bench.agent.runners.onnxruntime", "OnnxRuntimeRunner"),
}
ENGINES = (".engine", ".plan", ".trt")


def runner_class(name):
    """The class of a runner by its name; UserError for an unknown one."""
    if name not in RUNNERS:
        raise unknown("runner", name, RUNNERS)
    module, attribute = RUNNERS[name]
    return getattr(importlib.import_module(module), attribute)


def runner_for(model):
    """The name of the runner for a model file, by what the file is called."""
    ending = os.path.splitext(model)[1].lower()
    if ending == ".onnx":
        return "onnxruntime"
    if ending in ENGINES:
        return "tensorrt"
    raise UserError("{}: neither an ONNX file (.onnx) nor a TensorRT engine ({})".format(model, ", ".join(ENGINES)))


def open_runner(request):
    """An open runner for the request (see `arguments.complete`; `model` is the path)."""
    model = request["model"]
    if not os.path.exists(model):
        raise UserError("{}: there is no such file".format(model))
    if os.path.isdir(model):
        raise UserError("{} is a folder: name a model file".format(model))
    if os.path.getsize(model) == 0:
        raise UserError("{}: the file is empty".format(model))
    return runner_class(request["runner"] or runner_for(model)).open(request)
