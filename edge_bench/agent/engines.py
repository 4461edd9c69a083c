"""Engines: built on the device from ONNX, kept by what they depend on, each with a side-car that says what it is."""
import contextlib
import errno
import fcntl
import json
import os
import select
import subprocess
import time

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import (
    canonical_json,
    end_of_log,
    explain,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)
from edge_bench.agent import identity, interpreter, onnx_words, power_mode, protocol, state
from edge_bench.agent.arguments import complete
from edge_bench.agent.onnx_words import external_weights
from edge_bench.agent.runners import is_onnx, require_file, trtexec
from edge_bench.agent.sidecar import SCHEMA, read_sidecar, same_release, sidecar_path
from edge_bench.agent.spawn import agent_command, end_group, usual_cause

__all__ = ["build", "cache_key", "external_weights"]

FLAGS = 2         # counted up when the builders tell TensorRT something else: what they built before is another engine
KEEP = 20         # engines of measurements that stay, those used last
KEPT = ".kept"    # beside an engine that a person had built: it stays
BUILD_S = 3600.0  # the longest a build may take; minutes are usual on a TX2
BEAT_S = 5.0      # between two words that it goes on
# What layers may use while running: a share of the memory, which a Jetson's GPU shares with everything else.
WORKSPACE_SHARE, LEAST_WORKSPACE, MOST_WORKSPACE = 8, 1 << 28, 1 << 32
HOST_WORKSPACE = 1 << 30


def build(given, progress=lambda text: None):
    """The engine for an ONNX file on this device, from the cache where it is there: {"engine", "cached", "sidecar"}.

    given: a request with model, precision, batch, shape, runner and root; "keep": the engine is for a person and is
    never removed to make room. What is not asked for is taken from what
    edgesynth's export wrote into the file: an engine serves the file's whole range of batches. UserError for a file,
    batch or precision that cannot be built; CannotMeasure where building fails or TensorRT is not here.
    """
    request = _completed(given)
    root = request["root"]
    request["tensorrt"] = _tensorrt_version(request, root)
    key = cache_key(request, root)
    engine = state.home("engines", key[:24] + ".engine")
    if request.get("keep"):
        write_bytes(state.home("engines", key[:24] + KEPT), b"")
    found = _from_cache(request, engine, progress)
    if found:
        return found
    with _alone(state.home("engines", key[:24] + ".lock"), progress):
        return _from_cache(request, engine, progress) or _build(request, key, engine, progress)


def _from_cache(request, engine, progress):
    """The engine that was built before; None where there is none, or what lies there is not what was built: a board
    may have lost its power over it."""
    known = None
    if os.path.exists(engine):
        with contextlib.suppress(UserError):  # a damaged side-car says nothing
            known = read_sidecar(engine)
    if known is None or not same_release(known.get("tensorrt"), request["tensorrt"]):
        return None
    progress("engine from the cache")
    os.utime(engine)
    return {"engine": engine, "cached": True, "sidecar": known}


@contextlib.contextmanager
def _alone(path, progress):
    """Hold the file at `path` for the block: machines that have no board lock may be asked twice for one engine."""
    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise explain(error, path)
            progress("the same engine is being built already: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(request, key, engine, progress):
    """As `build`, where the engine is not there yet."""
    root = request["root"]
    request.update(engine=engine + ".part", log=state.home("engines", key[:24] + ".log"),
                   timing_cache=_timing_cache(request, root), workspace_bytes=_workspace_bytes(root))
    progress("building the engine on this device (minutes, on a small board)")
    began = time.time()
    try:
        with contextlib.suppress(OSError):
            os.unlink(request["log"])  # of an earlier try
        built = _in_process(request, progress)
        os.replace(request["engine"], engine)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(request["engine"])
    machine, software = identity.identify(root), identity.software(root)
    sidecar = dict(built, onnx_sha256=sha256_file(request["model"]), onnx=os.path.basename(request["model"]), key=key,
                   board=machine["board"], l4t=software["l4t"], cuda=software["cuda"],
                   mode=(power_mode.present(root) or {}).get("name"), engine_sha256=sha256_file(engine),
                   build_s=time.time() - began)
    write_json(sidecar_path(engine), sidecar, SCHEMA)
    _forget_old(os.path.dirname(engine))
    return {"engine": engine, "cached": False, "sidecar": read_sidecar(engine)}


def _forget_old(folder):
    """Remove what was built or used longest ago, beyond KEEP and what is KEPT: engines, their side-cars and logs."""
    kept: dict = {}  # {key: {path: time of the last change}}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not name.startswith("timings-"):
            with contextlib.suppress(OSError):
                kept.setdefault(name.partition(".")[0], {})[path] = os.path.getmtime(path)
    others = [paths for key, paths in kept.items() if os.path.join(folder, key + KEPT) not in paths]
    for paths in sorted(others, key=lambda paths: max(paths.values()))[:-KEEP]:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _completed(given):
    """The request with all that a builder needs to know; UserError for what cannot be built."""
    request = complete(given)
    model, root = request["model"], request.setdefault("root", "/")
    if not is_onnx(model):
        raise UserError("{}: an engine is built from an ONNX file".format(model))
    require_file(model)
    _check_weights(model)
    request["runner"] = request["runner"] or trtexec.preferred(root)
    if request["runner"] == "onnxruntime":
        raise UserError("onnxruntime needs no engine: leave --runner out, or name tensorrt or trtexec")
    request["python"] = interpreter.choose(request["runner"], request["board_python"])
    said = onnx_words.metadata(model)
    request["batches"] = _batches(said, request)
    quantised = onnx_words.is_quantised(model)  # whoever made the file; TensorRT up to 10 wants INT8 allowed for it
    asked = "int8" if quantised else said.get("precision")
    if request["precision"] is None and asked in ("fp16", "int8"):
        request["precision"] = asked
    request["in_graph"] = asked if quantised or said.get("precision_by") == "graph" else None
    board = _board(root)
    if request["precision"] and board is not None and board.kind == "jetson":
        request["precision"] = board.require_precision(request["precision"])
    return request


def _batches(said, request):
    """[smallest, to tune for, largest] of an exported file with a range, which has to hold the batch that is asked
    for; None for another file. UserError for a batch outside."""
    batch = said.get("batch")
    sizes = [batch.get(word) for word in ("min", "opt", "max")] if isinstance(batch, dict) else []
    if len(sizes) != 3 or not all(isinstance(size, int) for size in sizes) or sizes[0] == sizes[2]:
        return None
    if request["batch"] is not None and not sizes[0] <= request["batch"] <= sizes[2]:
        raise UserError("{}: exported for batch {} to {}, not {}: export it with --batch {}:{}:{}".format(
            request["model"], sizes[0], sizes[2], request["batch"], min(sizes[0], request["batch"]), sizes[1],
            max(sizes[2], request["batch"])))
    return sizes


def cache_key(request, root="/"):
    """The SHA-256 of all that an engine depends on, of a request that is completed and has its TensorRT: ONNX with its
    weights, board and its power mode, which decides which tactics are fastest, TensorRT, precision, shapes."""
    model = request["model"]
    weights = [sha256_file(path) for path in external_weights(model) if os.path.exists(path)]
    batches = request.get("batches") or request["batch"]
    parts = dict(_device(request, root), onnx=sha256_file(model), weights=weights, precision=request["precision"],
                 batch=batches, shape=sorted(request["shape"]), runner=request["runner"], flags=FLAGS)
    return sha256_bytes(canonical_json(parts).encode("utf-8"))


def _device(request, root):
    """What timings of tactics depend on."""
    return {"board": identity.identify(root)["board"], "mode": (power_mode.present(root) or {}).get("name"),
            "tensorrt": request["tensorrt"]}


def _timing_cache(request, root):
    """Where the timings of tactics are kept from build to build; a file for each device, version and power mode."""
    key = sha256_bytes(canonical_json(_device(request, root)).encode("utf-8"))
    return state.home("engines", "timings-{}.cache".format(key[:16]))


def _workspace_bytes(root):
    """The most that the layers of an engine may use at once on this machine."""
    found = identity.read(root, "/proc/meminfo", "")
    words = next((line.split() for line in found.splitlines() if line.startswith("MemTotal:")), None)
    if not identity.is_jetson(root):
        return HOST_WORKSPACE
    if words is None or not words[1].isdigit():
        return LEAST_WORKSPACE
    return min(max((int(words[1]) << 10) // WORKSPACE_SHARE, LEAST_WORKSPACE), MOST_WORKSPACE) >> 20 << 20


def _tensorrt_version(request, root):
    """The version of the TensorRT that builds and runs: that of the interpreter that has it, which need not be the
    packages' (a virtual environment, two of them installed); it is asked once a request, since that takes seconds."""
    asked = interpreter.version_of(request["python"], "tensorrt") if request["runner"] == "tensorrt" else None
    return asked or identity.software(root)["tensorrt"]


def _check_weights(model):
    missing = [path for path in external_weights(model) if not os.path.exists(path)]
    if missing:
        raise UserError("{}: its weights are in {}, which is not beside it: put it there or export with the weights "
                        "inside".format(model, os.path.basename(missing[0])))


def _board(root):
    """The board file of this machine, or None where none fits."""
    from devices.board import known_boards, load_board
    name = identity.identify(root)["board"]
    return load_board(name) if name in known_boards() else None


def _in_process(request, progress):
    """Build in a process of its own, since TensorRT can crash; returns what the builder says of the engine.

    The process has a group of its own, so that a trtexec that it started ends with it.
    """
    with open(request["log"], "ab") as errors:
        process = subprocess.Popen(agent_command("_build", python=request["python"]), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
    try:
        assert process.stdin  # a pipe
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            stream.write(json.dumps(request).encode("utf-8"))
        end = _watch(process, progress)
        process.wait(60)
    finally:
        end_group(process)
        if process.stdout:
            process.stdout.close()
    if end is None:
        raise CannotMeasure("building the engine failed with exit code {}{}{}; all that it said is in {}".format(
            process.returncode, usual_cause(process.returncode), end_of_log(request["log"]), request["log"]))
    if end["event"] == "error":
        end["message"] = "{}; all that the builder said is in {}".format(end.get("message"), request["log"])
        protocol.raise_error(end)
    return end["result"]


def _watch(process, progress):
    """The last event of the builder, or None when it ended without one; says every few seconds that it goes on."""
    began = said = time.monotonic()
    phase, text, end = "", b"", None
    handle = process.stdout.fileno()
    while True:
        now = time.monotonic()
        if now - began > BUILD_S:
            raise CannotMeasure("building the engine took more than an hour and was ended")
        if now - said >= BEAT_S:
            said = now
            progress("building the engine, {:.0f} s{}".format(now - began, ": " + phase if phase else ""))
        if not select.select([handle], [], [], max(0.0, min(said + BEAT_S - now, 1.0)))[0]:
            continue
        block = os.read(handle, 1 << 16)
        text += block
        lines = text.split(b"\n")
        text = lines.pop()
        for event in filter(None, (protocol.parse(line.decode("utf-8", "replace")) for line in lines)):
            if event["event"] == "progress":
                phase = event.get("text", "")
            else:
                end = event
        if not block:
            return end
