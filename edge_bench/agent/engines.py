"""Engines: built on the device from ONNX, kept by what they depend on, each with a side-car that says what it is."""
import json
import os
import re
import subprocess
import time

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import canonical_json, sha256_bytes, sha256_file, write_json
from edge_bench.agent import interpreter, power_mode, protocol, runners, state
from edge_bench.agent.arguments import complete
from edge_bench.agent.identity import identify, software
from edge_bench.agent.sidecar import SCHEMA, read_sidecar, sidecar_path
from edge_bench.agent.spawn import agent_command

BUILD_S = 3600.0  # the longest a build may take; minutes are usual on a TX2
_EXTERNAL = re.compile(b"\x0a\x08location\x12(.)", re.DOTALL)  # of an external_data entry, and its length


def build(given, progress=lambda text: None):
    """The engine for an ONNX file on this device, from the cache where it is there: {"engine", "cached", "sidecar"}.

    given: a request with model, precision, batch, shape, runner and root. UserError for a file or precision that
    cannot be built; CannotMeasure where building fails or TensorRT is not here.
    """
    request = complete(given)
    model, root = request["model"], request.get("root", "/")
    if not model.endswith(".onnx"):
        raise UserError("{}: an engine is built from an ONNX file".format(model))
    if not os.path.isfile(model):
        raise UserError("{}: there is no such file".format(model))
    _check_weights(model)
    request["runner"] = request["runner"] or runners.runner_for(model, root)
    if request["runner"] == "onnxruntime":
        raise UserError("onnxruntime needs no engine: leave --runner out, or name tensorrt or trtexec")
    request["python"] = interpreter.choose(request["runner"], request["board_python"])
    board = _board(root)
    if request["precision"] and board is not None and board.kind == "jetson":
        request["precision"] = board.require_precision(request["precision"])
    key = cache_key(request, root)
    engine = state.home("engines", key[:24] + ".engine")
    if os.path.exists(engine) and os.path.exists(sidecar_path(engine)):
        progress("engine from the cache")
        return {"engine": engine, "cached": True, "sidecar": read_sidecar(engine)}
    progress("building the engine on this device (minutes, on a small board)")
    began = time.time()
    built = _in_process(dict(request, engine=engine + ".part"))
    os.replace(engine + ".part", engine)
    sidecar = dict(built, onnx_sha256=sha256_file(model), onnx=os.path.basename(model), key=key,
                   board=identify(root)["board"], mode=(power_mode.present(root) or {}).get("name"),
                   engine_sha256=sha256_file(engine), build_s=time.time() - began)
    write_json(sidecar_path(engine), sidecar, SCHEMA)
    return {"engine": engine, "cached": False, "sidecar": read_sidecar(engine)}


def cache_key(request, root="/"):
    """The SHA-256 of all that an engine depends on: ONNX with its weights, board, TensorRT, precision, shapes."""
    model = request["model"]
    weights = [sha256_file(path) for path in external_weights(model) if os.path.exists(path)]
    parts = {"onnx": sha256_file(model), "weights": weights, "board": identify(root)["board"],
             "tensorrt": _tensorrt_version(request, root), "precision": request["precision"],
             "batch": request["batch"], "shape": sorted(request["shape"]), "runner": request["runner"]}
    return sha256_bytes(canonical_json(parts).encode("utf-8"))


def _tensorrt_version(request, root):
    """TensorRT's version by the package list, or by asking the interpreter that has it."""
    found = software(root)["tensorrt"]
    if found or request["runner"] != "tensorrt":
        return found
    done = subprocess.run([request["python"], "-c", "import tensorrt; print(tensorrt.__version__)"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
    return done.stdout.decode("utf-8", "replace").strip() or None


def external_weights(model):
    """Paths of the files beside an ONNX file that hold its weights, found without an ONNX reader by their entries."""
    with open(model, "rb") as stream:
        data = stream.read()
    names = {data[match.end():match.end() + ord(match.group(1))] for match in _EXTERNAL.finditer(data)}
    return [os.path.join(os.path.dirname(model), name.decode("utf-8", "replace")) for name in sorted(names)]


def _check_weights(model):
    missing = [path for path in external_weights(model) if not os.path.exists(path)]
    if missing:
        raise UserError("{}: its weights are in {}, which is not beside it: put it there or export with the weights "
                        "inside".format(model, os.path.basename(missing[0])))


def _board(root):
    """The board file of this machine, or None where none fits."""
    from devices.board import known_boards, load_board
    name = identify(root)["board"]
    return load_board(name) if name in known_boards() else None


def _in_process(request):
    """Build in a process of its own, since TensorRT can crash; returns what the builder says of the engine."""
    process = subprocess.Popen(agent_command("_build", python=request["python"]), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(json.dumps(request).encode("utf-8"), timeout=BUILD_S)
    except subprocess.TimeoutExpired:
        raise CannotMeasure("building the engine took more than an hour and was ended")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    for line in output.decode("utf-8", "replace").splitlines():
        event = protocol.parse(line)
        if event and event["event"] == "error":
            protocol.raise_error(event)
        if event and event["event"] == "result":
            return event["result"]
    words = errors.decode("utf-8", "replace").strip().splitlines()
    raise CannotMeasure("building the engine failed with exit code {}{}".format(
        process.returncode, ": " + words[-1] if words else ""))
