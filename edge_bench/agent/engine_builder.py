"""Builds one TensorRT engine in this process: the verb `_build`, request on standard input, result on output."""
import sys

from devices.support.errors import CannotMeasure, EdgesynthError, UserError
from devices.support.files import write_bytes
from edge_bench.agent import protocol
from edge_bench.agent.arguments import shapes
from edge_bench.agent.runners.base import check_batch, resolve_shape
from edge_bench.agent.runners.cuda import open_cuda
from edge_bench.agent.runners.tensorrt import last_words, load_tensorrt, make_logger

WORKSPACE = 1 << 28  # bytes that layers may use while running; a TX2 shares its 8 GB with everything else


def main(words=()):
    """The verb. Returns an exit code."""
    lines = protocol.claim_stdout()
    try:
        request = protocol.read_request(sys.stdin)
        if request["runner"] == "trtexec":
            from edge_bench.agent.runners.trtexec import build_engine as build
        else:
            build = build_engine
        lines.result(build(request))
    except EdgesynthError as error:
        lines.error(error)
        return error.exit_code
    return 0


def build_engine(request):
    """Write request["engine"] and return {"tensorrt", "device", "precision", "batch", "inputs"}."""
    cuda = open_cuda()
    trt = load_tensorrt()
    logger = make_logger(trt)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    _parse(trt, logger, network, request["model"])
    config = builder.create_builder_config()
    _workspace(trt, config)
    precision = _precision(trt, builder, config, request)
    batch, inputs = _profile(builder, config, network, request)
    verbosity = getattr(trt, "ProfilingVerbosity", None)
    if verbosity is not None and hasattr(config, "profiling_verbosity"):
        config.profiling_verbosity = getattr(verbosity, "DETAILED", None) or verbosity.VERBOSE
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise CannotMeasure("{}: TensorRT {} cannot build it ({})".format(request["model"], trt.__version__,
                                                                          last_words(logger)))
    write_bytes(request["engine"], bytes(serialized))
    return {"tensorrt": trt.__version__, "device": "sm_{}{}".format(*cuda.compute_capability()),
            "precision": precision, "batch": batch, "inputs": inputs}


def _parse(trt, logger, network, model):
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        reason = parser.get_error(0).desc() if parser.num_errors else last_words(logger)
        reason = " ".join(str(reason).split())[:300]
        raise UserError("{}: TensorRT {} cannot read this ONNX file ({}): export it for this board with "
                        "`edgesynth export --target`".format(model, trt.__version__, reason))


def _workspace(trt, config):
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    else:
        config.max_workspace_size = WORKSPACE


def _precision(trt, builder, config, request):
    """Set the flag of the wanted precision and return it; fp16 where the device is fast at it when none is wanted."""
    wanted = request["precision"]
    flags = {"fp16": getattr(trt.BuilderFlag, "FP16", None), "int8": getattr(trt.BuilderFlag, "INT8", None)}
    if wanted is None:
        wanted = "fp16" if flags["fp16"] is not None and getattr(builder, "platform_has_fast_fp16", True) else "fp32"
        if flags["fp16"] is None:
            return "as in the graph"
    if wanted == "fp32":
        return "fp32"
    if flags[wanted] is None:
        raise UserError("TensorRT {} takes the precision from the graph: export the ONNX file as {} and leave "
                        "--precision out".format(trt.__version__, wanted))
    if not getattr(builder, "platform_has_fast_" + wanted, True):
        raise UserError("this device has no {}: use another --precision".format(wanted.upper()))
    if wanted == "int8":
        with open(request["model"], "rb") as stream:
            if b"QuantizeLinear" not in stream.read():
                raise UserError("{}: int8 needs a quantised ONNX file (with QuantizeLinear nodes)".format(
                    request["model"]))
    config.set_flag(flags[wanted])
    return wanted


def _profile(builder, config, network, request):
    """(batch, {input: shape}): an optimisation profile of exactly these shapes where the network has dynamic ones."""
    sizes, model = shapes(request), request["model"]
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    declared = {item.name: [None if size < 0 else size for size in tuple(item.shape)] for item in inputs}
    unknown = sorted(set(sizes) - set(declared))
    if unknown:
        raise UserError("{}: no input is called '{}': its inputs are {}".format(model, unknown[0], ", ".join(declared)))
    first = [sizes.get(name, shape)[0] for name, shape in declared.items() if shape]
    batch = check_batch(request["batch"], first, model)
    resolved = {name: resolve_shape(name, shape, batch, sizes, model) for name, shape in declared.items()}
    if any(None in shape for shape in declared.values()):
        profile = builder.create_optimization_profile()
        for name, shape in declared.items():
            if None in shape:
                profile.set_shape(name, tuple(resolved[name]), tuple(resolved[name]), tuple(resolved[name]))
        config.add_optimization_profile(profile)
    return batch, resolved
