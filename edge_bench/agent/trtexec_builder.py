"""Builds an engine with trtexec, for boards where no Python has TensorRT. Its options differ by version: it is asked
for its help, and what that does not name is left out."""
import os
import re
import subprocess

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import onnx_words
from edge_bench.agent.engine_builder import read_layers, require_quantised, say_errors, shape_ranges
from edge_bench.agent.identity import software
from edge_bench.agent.runners.trtexec import bindings, program
from edge_bench.agent.spawn import usual_cause

HELP_S = 60.0
_TOLD = re.compile(r"\[(?:\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[)?([A-Z])\] (.*)")


def build_engine(request, progress=lambda text: None):
    """Write request["engine"]; as `engine_builder.build_engine`, of which it is the other way."""
    if program() is None:
        raise CannotMeasure("neither the module tensorrt nor trtexec is on this machine")
    known = _options()
    precision = _precision(known, request)
    declared = onnx_words.inputs(request["model"])
    shaped = shape_ranges(declared, request) if declared else None
    timings, layers = request.get("timing_cache"), request["engine"] + ".layers.json"
    reused = bool(timings and "timingCacheFile" in known and os.path.exists(timings))
    words = ["--onnx=" + request["model"], "--saveEngine=" + request["engine"]]
    told = {"fp32": ["noTF32"], "int8": ["int8", "fp16"]}.get(precision, [precision])  # as `engine_builder._precision`
    words += ["--" + word for word in told if word in known]
    words += _profile_words(shaped["profile"]) if shaped else []
    words += _workspace_words(known, request["workspace_bytes"])
    words += ["--timingCacheFile=" + timings] if timings and "timingCacheFile" in known else []
    words += ["--profilingVerbosity=detailed"] if "profilingVerbosity" in known else (
        ["--nvtxMode=verbose"] if "nvtxMode" in known else [])
    words += ["--exportLayerInfo=" + layers] if "exportLayerInfo" in known else []
    words += _only_build(known)
    try:
        output = _run(words, request, progress)
        found, why_not = _layers(layers, known)
    finally:
        if os.path.exists(layers):
            os.unlink(layers)
    if not os.path.exists(request["engine"]):
        raise CannotMeasure("{}: trtexec wrote no engine ({})".format(request["model"], _reason(output)))
    return dict(shaped or _seen(output, request), tensorrt=software(request.get("root", "/"))["tensorrt"], device=None,
                precision=precision, workspace_bytes=request["workspace_bytes"], timings_reused=reused, layers=found,
                layers_note=why_not, builder="trtexec")


def _options():
    """The names of the options that this trtexec's help lists."""
    try:
        done = subprocess.run([program(), "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=HELP_S)
    except subprocess.TimeoutExpired:
        raise CannotMeasure("{} --help said nothing for {:.0f} s: is the GPU in use, or its driver stuck?".format(
            program(), HELP_S))
    return set(re.findall(r"--([A-Za-z0-9]+)", done.stdout.decode("utf-8", "replace")))


def _precision(known, request):
    """The wanted precision, fp16 when none is; from TensorRT 11 on there is no option for it and the graph decides."""
    wanted = request["precision"] or ("fp16" if "fp16" in known else "as in the graph")
    if wanted == "int8":
        require_quantised(request["model"])
    if wanted in ("fp16", "int8") and wanted not in known and request.get("in_graph") != wanted:
        raise UserError("this trtexec takes the precision from the graph: export the ONNX file as {} and leave "
                        "--precision out".format(wanted))
    return wanted


def _profile_words(profile):
    """--minShapes, --optShapes and --maxShapes of the inputs that vary."""
    found = []
    for place, word in enumerate(("min", "opt", "max")) if profile else ():
        texts = ["{}:{}".format(name, "x".join(str(size) for size in ranges[place]))
                 for name, ranges in sorted(profile.items())]
        found.append("--{}Shapes={}".format(word, ",".join(texts)))
    return found


def _workspace_words(known, size):
    mebibytes = size >> 20
    if "memPoolSize" in known:  # from 8.4 on
        return ["--memPoolSize=workspace:{}".format(mebibytes)]
    return ["--workspace={}".format(mebibytes)] if "workspace" in known else []


def _only_build(known):
    """No inference after the build, or as little as this version can."""
    for word in ("skipInference", "buildOnly"):  # its names from 8.6 on, and before
        if word in known:
            return ["--" + word]
    return ["--duration=0", "--iterations=1", "--warmUp=0"]


def _run(words, request, progress):
    """All that trtexec said, of a run that went well; it is kept in request["log"]."""
    progress("trtexec reads {}".format(os.path.basename(request["model"])))
    done = subprocess.run([program()] + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    output = done.stdout.decode("utf-8", "replace")
    if request.get("log"):
        with open(request["log"], "a", encoding="utf-8") as stream:
            stream.write(output)
    if done.returncode != 0:
        raise CannotMeasure("{}: trtexec cannot build it, exit code {}{} ({})".format(
            request["model"], done.returncode, usual_cause(done.returncode), _reason(output)))
    return output


def _reason(output):
    """What trtexec gave as errors, or the last that it said."""
    told = [match.groups() for match in map(_TOLD.match, output.splitlines()) if match]
    errors = [text for severity, text in told if severity in "EF"]
    return say_errors(errors or output.strip().splitlines()[-1:])


def _layers(path, known):
    if "exportLayerInfo" not in known:
        return None, "this trtexec tells no layers"
    if not os.path.exists(path):
        return None, "trtexec wrote no layers"
    with open(path, encoding="utf-8", errors="replace") as stream:
        return read_layers(stream.read())


def _seen(output, request):
    """The shapes that trtexec said it uses, for a file whose inputs could not be read."""
    found = bindings(output)
    batch = next((shape[0] for shape in found.values() if shape), request["batch"] or 1)
    return {"batch": batch, "batches": [batch] * 3, "inputs": found, "profile": {}}
