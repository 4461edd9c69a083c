"""A stand-in for the Python module tensorrt, strict about which names a version has. Python 3.6 and later.

What it has is that of $TENSORRT_DOUBLE (a column of tensorrt_api_by_version.csv); a name with 0 in its column does not
exist here, so that using it raises AttributeError as the real module does. An "ONNX file" is JSON:
{"inputs": {name: shape}, "outputs": {name: shape}, "ms": time of an inference}, or a real one, of which the names and
shapes of inputs and outputs and the nodes are read. An engine is that with a head. $BOARD_LAW may name a law (see
board_law.py beside this package), which then says how long an inference of a real file takes and what the board draws
meanwhile; the latter is left in $LOAD_FILE, for a stand-in sensor. $TENSORRT_DOUBLE_NULL names a class, Builder or
Runtime, that cannot be made here.
"""
import csv as _csv
import ctypes as _ctypes
import json as _json
import os as _os
import time as _time

import board_law as _board_law

_COLUMN = _os.environ.get("TENSORRT_DOUBLE", "8.2.1")
# four numbers, as the module of JetPack 4.6; Debian's package says three of them
__version__ = {"8.2.1": "8.2.1.8"}.get(_COLUMN, _COLUMN)
_TABLE = _os.environ.get("TENSORRT_DOUBLE_TABLE") or _os.path.join(
    _os.path.dirname(_os.path.abspath(__file__)), "..", "..", "data", "tensorrt_api_by_version.csv")
_HEAD = b"DOUBLE-ENGINE\n"


class _Value(object):
    def __init__(self, name, number=0):
        self.name, self.number = name, number

    def __int__(self):
        return self.number

    def __repr__(self):
        return self.name


def _enum(title, *names):
    return type(title, (object,), {name: _Value(title + "." + name, number) for number, name in enumerate(names)})


BuilderFlag = _enum("BuilderFlag", "FP16", "INT8")
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE", "JSON")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED", "VERBOSE", "DEFAULT")
DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "INT64", "BF16", "FP8")
TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")


class ILogger(object):
    INTERNAL_ERROR, ERROR, WARNING = _Value("INTERNAL_ERROR"), _Value("ERROR"), _Value("WARNING")
    INFO, VERBOSE = _Value("INFO"), _Value("VERBOSE")


class Logger(ILogger):
    def __init__(self, severity=None):
        self.severity = severity

    def log(self, severity, message):
        pass


class IProfiler(object):
    pass


class IProgressMonitor(object):
    pass


def init_libnvinfer_plugins(logger, namespace):
    return True


class ITensor(object):
    def __init__(self, name, shape):
        self.name, self.shape = name, tuple(shape)


class INetworkDefinition(object):
    def __init__(self):
        self._net = None

    @property
    def num_inputs(self):
        return len(self._net["inputs"])

    def get_input(self, index):
        return ITensor(*list(self._net["inputs"].items())[index])


class _Error(object):
    def __init__(self, text):
        self._text = text

    def desc(self):
        return self._text


class OnnxParser(object):
    def __init__(self, network, logger):
        self._network, self._errors = network, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def parse_from_file(self, path):
        with open(path, "rb") as stream:
            data = stream.read()
        try:
            self._network._net = _json.loads(data.decode("utf-8")) if data[:1] == b"{" else _onnx(data)
            return True
        except (ValueError, IndexError, KeyError):
            self._errors.append(_Error("Failed to parse ONNX model"))
            return False


def _onnx(data):
    """What the double keeps of a real ONNX file."""
    graph = _board_law.graph_of(data)
    return {"inputs": graph["inputs"], "outputs": graph["outputs"], "ms": 1.0,
            "layers": [node["name"] for node in graph["nodes"]], "kinds": [node["op"] for node in graph["nodes"]],
            "costs": None if _board_law.load_law() is None else _board_law.layers_of(graph)}


class IOptimizationProfile(object):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, name, smallest, best, largest):
        self._shapes[name] = [list(smallest), list(best), list(largest)]


class IBuilderConfig(object):
    def __init__(self):
        self._flags, self._profiles, self._workspace = {"BuilderFlag.TF32"}, [], None  # set from the start
        if _has("IBuilderConfig.max_workspace_size"):
            self.max_workspace_size = 0
        self.profiling_verbosity = None
        self._timings = None
        if _has("IBuilderConfig.progress_monitor"):
            self.progress_monitor = None

    def create_timing_cache(self, serialized_timing_cache):
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert isinstance(cache, ITimingCache) and isinstance(ignore_mismatch, bool)
        if cache._data and cache._data.split(b"\n")[0] != __version__.encode("ascii"):
            return False
        self._timings = cache
        return True

    def get_timing_cache(self):
        return self._timings

    def set_flag(self, flag):
        assert isinstance(flag, _Value)
        self._flags.add(flag.name)

    def clear_flag(self, flag):
        assert isinstance(flag, _Value)
        self._flags.discard(flag.name)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)

    def set_memory_pool_limit(self, pool, size):
        assert pool is MemoryPoolType.WORKSPACE and size > 0


class ITimingCache(object):
    def __init__(self, data):
        self._data = data

    def serialize(self):
        return self._data or __version__.encode("ascii") + b"\ntimings of every tactic"


def _refuse(name, logger):
    """What the bindings do when the library's factory returns nothing."""
    if _os.environ.get("TENSORRT_DOUBLE_NULL") == name:
        logger.log(ILogger.ERROR, "Unable to load library: libnvinfer_builder_resource_sm86.so.10")
        raise TypeError("pybind11::init(): factory function returned nullptr")


class Builder(object):
    def __init__(self, logger):
        _refuse("Builder", logger)
        self._logger = logger
        if _has("Builder.platform_has_fast_fp16"):
            self.platform_has_fast_fp16 = True
        if _has("Builder.platform_has_fast_int8"):
            self.platform_has_fast_int8 = "TENSORRT_DOUBLE_INT8" in _os.environ

    def create_network(self, flags):
        explicit = getattr(NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        assert explicit is None or flags == 1 << int(explicit), "an implicit-batch network"
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        net = dict(network._net, version=__version__, flags=sorted(config._flags),
                   detailed=str(config.profiling_verbosity).rpartition(".")[2] in ("DETAILED", "VERBOSE"))
        self._logger.log(ILogger.INFO, "Graph optimization time: 0.01 seconds")
        monitor = getattr(config, "progress_monitor", None)
        for step in range(2 if monitor is not None else 0):
            if not step:
                monitor.phase_start("Building engine", None, 2)
            assert monitor.step_complete("Building engine", step) is True
        _time.sleep(net.get("build_s", 0))
        if net.get("crash"):
            _os.abort()
        if net.get("unbuildable"):
            self._logger.log(ILogger.INTERNAL_ERROR, "4: no implementation for a node")
            self._logger.log(ILogger.ERROR, "2: Assertion enginePtr != nullptr failed.")
            return None
        if "QuantizeLinear" in net.get("kinds", []) and _has("BuilderFlag.INT8") and \
                "BuilderFlag.INT8" not in config._flags:
            self._logger.log(ILogger.ERROR, "4: Int8 precision has to be set when a network has Q/DQ layers")
            return None
        net["profiles"] = config._profiles[0]._shapes if config._profiles else {}
        dynamic = [name for name, shape in net["inputs"].items() if -1 in shape]
        if set(dynamic) != set(net["profiles"]):
            self._logger.log(ILogger.ERROR, "network has dynamic inputs, but no profile")
            return None
        return _HEAD + _json.dumps(net).encode("utf-8")


class Runtime(object):
    def __init__(self, logger):
        _refuse("Runtime", logger)
        self._logger = logger

    def deserialize_cuda_engine(self, data):
        try:
            assert data.startswith(_HEAD)
            net = _json.loads(data[len(_HEAD):].decode("utf-8"))
        except (AssertionError, ValueError):
            self._logger.log(ILogger.ERROR, "1: Serialization assertion magicTag failed")
            return None
        if net["version"] != __version__:
            self._logger.log(ILogger.ERROR, "6: The engine plan file is not compatible with this version")
            return None
        return ICudaEngine(net)


class ICudaEngine(object):
    def __init__(self, net):
        self._net = net
        self._names = list(net["inputs"]) + list(net["outputs"])
        if _has("ICudaEngine.device_memory_size"):
            self.device_memory_size = 1000000
        if _has("ICudaEngine.device_memory_size_v2"):
            self.device_memory_size_v2 = 1000000

    def _shape(self, name):
        return tuple(self._net["inputs"].get(name) or self._net["outputs"][name])

    def _dtype(self, name):
        return getattr(DataType, self._net.get("dtypes", {}).get(name, "FLOAT"))

    @property
    def num_bindings(self):
        return len(self._names)

    def get_binding_name(self, index):
        return self._names[index]

    def binding_is_input(self, index):
        return self._names[index] in self._net["inputs"]

    def is_shape_binding(self, index):
        return self._names[index] in self._net.get("shape_tensors", [])

    def get_binding_dtype(self, index):
        return self._dtype(self._names[index])

    def get_binding_shape(self, index):
        return self._shape(self._names[index])

    def get_profile_shape(self, profile, index):
        return [tuple(shape) for shape in self._net["profiles"][self._names[index]]]

    @property
    def num_io_tensors(self):
        return len(self._names)

    def get_tensor_name(self, index):
        return self._names[index]

    def is_shape_inference_io(self, name):
        return name in self._net.get("shape_tensors", [])

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._net["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self._dtype(name)

    def get_tensor_shape(self, name):
        return self._shape(name)

    def get_tensor_profile_shape(self, name, profile):
        return [tuple(shape) for shape in self._net["profiles"][name]]

    def create_engine_inspector(self):
        return EngineInspector(self._net)

    def create_execution_context(self):
        return None if self._net.get("too_large") else IExecutionContext(self)


class EngineInspector(object):
    def __init__(self, net):
        self._net = net

    def get_engine_information(self, layout):
        assert layout is LayerInformationFormat.JSON
        names = self._net.get("layers", ["conv1", "fc"])
        if not self._net["detailed"]:
            return _json.dumps({"Layers": names})
        output = {"Format/Datatype": "Channel major FP16 format"} if _KNOWN["BuilderFlag.FP16"] else {
            "Format": "Channel major", "Datatype": "Half"}
        kinds = self._net.get("kinds", ["Conv"] * len(names))
        return _json.dumps({"Layers": [
            {"Name": name, "LayerType": "CaskConvolution", "ParameterType": kind, "Inputs": [], "Outputs": [output],
             "TacticName": "maxwell_fp16_128x64_relu_small_nn_v1"} for name, kind in zip(names, kinds)]})


class IExecutionContext(object):
    def __init__(self, engine):
        self._engine, self._set, self._addresses, self.profiler = engine, {}, {}, None
        self._by_law, self._law = {}, _board_law.load_law()

    def _resolved(self, name):
        shape = self._set.get(name) or self._engine._shape(name)
        batch = next((given[0] for given in self._set.values()), -1)
        return tuple(batch if size == -1 and axis == 0 else size for axis, size in enumerate(shape))

    def _cost(self):
        """(ms, mW or None) of an inference at the batch that is set."""
        layers = self._engine._net.get("costs")
        if layers is None or self._law is None:
            return self._engine._net.get("ms", 1.0), None
        batch = self._resolved(self._engine._names[0])[0]
        if batch not in self._by_law:
            self._by_law[batch] = self._law["cost"](layers, batch)
            if "LOAD_FILE" in _os.environ:
                with open(_os.environ["LOAD_FILE"], "w") as stream:
                    stream.write("%d" % self._by_law[batch][1])
        return self._by_law[batch]

    def _run(self, addresses):
        begin = _time.monotonic()
        assert len(addresses) == len(self._engine._names)
        for name, address in zip(self._engine._names, addresses):
            assert isinstance(address, int) and address > 4096, address
            size = 1
            for axis in self._resolved(name):
                assert axis > 0, "the shape of {} is not set".format(name)
                size *= axis
            data = (_ctypes.c_ubyte * size).from_address(address)  # faults where the memory is not there
            data[size - 1] = data[0]
        wanted = self._cost()[0]
        if "LOAD_FILE" in _os.environ:
            _os.utime(_os.environ["LOAD_FILE"], None)  # how a stand-in sensor sees the load
        while (_time.monotonic() - begin) * 1000.0 < wanted:
            _time.sleep(wanted / 2000.0)
        if self.profiler is not None:
            self.profiler.report_layer_time("conv1", 0.75 * wanted)
            self.profiler.report_layer_time("fc", 0.25 * wanted)
        return True

    def set_binding_shape(self, index, shape):
        self._set[self._engine._names[index]] = tuple(shape)
        return True

    def get_binding_shape(self, index):
        return self._resolved(self._engine._names[index])

    def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
        return self._run(bindings)

    def set_input_shape(self, name, shape):
        self._set[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        return self._resolved(name)

    def set_tensor_address(self, name, address):
        self._addresses[name] = address

    def execute_async_v3(self, stream_handle):
        return self._run([self._addresses[name] for name in self._engine._names])


def _column():
    with open(_TABLE, newline="") as stream:
        return {row["name"]: row[_COLUMN] == "1" for row in _csv.DictReader(stream)}


_KNOWN = _column()


def _has(name):
    return _KNOWN[name]


def _restrict():
    """Take away what this version does not have, and name what it has and nobody here needs yet."""
    table = dict(_KNOWN)
    named = _KNOWN["ICudaEngine.num_io_tensors"]
    table.update({"TensorIOMode": named, "ICudaEngine.is_shape_inference_io": named,
                  "ICudaEngine.is_shape_binding": _KNOWN["ICudaEngine.num_bindings"],
                  "ICudaEngine.get_profile_shape": _KNOWN["ICudaEngine.num_bindings"]})
    for name, there in table.items():
        owner, _, attribute = name.rpartition(".")
        holder = globals().get(owner) if owner else None
        if owner and holder is None:
            continue
        if not there:
            if owner and attribute in vars(holder):
                delattr(holder, attribute)
            elif not owner:
                globals().pop(attribute, None)
        elif owner and owner[0] != "I" and not hasattr(holder, attribute) and isinstance(holder, type) \
                and attribute.isupper():
            setattr(holder, attribute, _Value(name, 99))


_restrict()
