"""Inputs and outputs of a TensorRT engine, by either of its two interfaces, and what fills the inputs.

Bindings exist up to 8.6, named tensors from 8.5 on; which one an engine has is asked of it, never of a version.
"""
import array
import random
import struct

from devices.support.errors import UserError
from edge_bench.agent.runners.base import check_batch, resolve_shape

# name in trt.DataType: (numpy's name, bytes). trt.nptype breaks with new numpy, so this is our own.
DTYPES = {"FLOAT": ("float32", 4), "HALF": ("float16", 2), "BF16": ("bfloat16", 2), "INT8": ("int8", 1),
          "UINT8": ("uint8", 1), "INT32": ("int32", 4), "INT64": ("int64", 8), "BOOL": ("bool", 1)}
_PATTERN = 4096  # random values, repeated: what a network is timed with need not be longer


class NamedTensors(object):
    """Engines of 8.5 and later."""

    def __init__(self, trt, engine):
        self.trt, self.engine = trt, engine
        self.names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]

    def is_input(self, name):
        return self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT

    def is_shape(self, name):
        return self.engine.is_shape_inference_io(name)

    def dtype(self, name):
        return self.engine.get_tensor_dtype(name)

    def shape(self, name):
        return tuple(self.engine.get_tensor_shape(name))

    def profile(self, name):
        """(smallest, best, largest) shape of profile 0."""
        return [tuple(shape) for shape in self.engine.get_tensor_profile_shape(name, 0)]

    def set_shape(self, context, name, shape):
        return context.set_input_shape(name, tuple(shape))

    def shape_in(self, context, name):
        return tuple(context.get_tensor_shape(name))

    def bind(self, context, pointers):
        for name in self.names:
            context.set_tensor_address(name, int(pointers[name]))

    def execute(self, context, pointers, handle):
        return context.execute_async_v3(handle)


class Bindings(object):
    """Engines up to 8.4, numbered in the engine's order."""

    def __init__(self, trt, engine):
        self.engine = engine
        self.names = [engine.get_binding_name(index) for index in range(engine.num_bindings)]
        self.list = []

    def is_input(self, name):
        return self.engine.binding_is_input(self.names.index(name))

    def is_shape(self, name):
        return self.engine.is_shape_binding(self.names.index(name))

    def dtype(self, name):
        return self.engine.get_binding_dtype(self.names.index(name))

    def shape(self, name):
        return tuple(self.engine.get_binding_shape(self.names.index(name)))

    def profile(self, name):
        return [tuple(shape) for shape in self.engine.get_profile_shape(0, self.names.index(name))]

    def set_shape(self, context, name, shape):
        return context.set_binding_shape(self.names.index(name), tuple(shape))

    def shape_in(self, context, name):
        return tuple(context.get_binding_shape(self.names.index(name)))

    def bind(self, context, pointers):
        self.list = [int(pointers[name]) for name in self.names]

    def execute(self, context, pointers, handle):
        return context.execute_async_v2(bindings=self.list, stream_handle=handle)


def tensors_of(trt, engine):
    """The interface that this engine has; named tensors where it has both."""
    return NamedTensors(trt, engine) if hasattr(engine, "num_io_tensors") else Bindings(trt, engine)


def dtype_of(trt, value, name, model):
    """("float32", 4) of a trt.DataType. UserError for a type that is not known."""
    for word, known in DTYPES.items():
        if value == getattr(trt.DataType, word, object()):
            return known
    raise UserError("{}: tensor '{}' is of type {}, which cannot be filled or read".format(model, name, value))


def input_shapes(tensors, request, sizes, model):
    """(batch, {input: shape}) for the request; every size within the engine's profile."""
    for name in filter(tensors.is_shape, tensors.names):  # TensorRT wants these on the host, and random ones are none
        raise UserError("{}: tensor '{}' is a shape that the network computes with: export it with fixed sizes, "
                        "without that tensor".format(model, name))
    names = [name for name in tensors.names if tensors.is_input(name)]
    declared = {name: [None if size < 0 else size for size in tensors.shape(name)] for name in names}
    unknown = sorted(set(sizes) - set(names))
    if unknown:
        raise UserError("{}: no input is called '{}': its inputs are {}".format(model, unknown[0], ", ".join(names)))
    batch = check_batch(request.get("batch"), declared, sizes, model)
    shapes = {}
    for name in names:
        dynamic = None in declared[name]
        if dynamic and request.get("batch") is None and name not in sizes:
            shapes[name] = list(tensors.profile(name)[1])  # what the engine was tuned for
            continue
        shapes[name] = resolve_shape(name, declared[name], batch, sizes, model)
        if dynamic:
            smallest, _, largest = tensors.profile(name)
            if any(not low <= size <= high for low, size, high in zip(smallest, shapes[name], largest)):
                raise UserError("{}: input '{}' may be {} to {}, not {}: build the engine for it".format(
                    model, name, list(smallest), list(largest), shapes[name]))
    return check_batch(request.get("batch"), declared, shapes, model), shapes


def volume(shape):
    total = 1
    for size in shape:
        total *= size
    return total


def content(dtype, count, seed):
    """`count` values of a dtype as bytes: normal floats, bytes over their range, 0 or 1 for other integers."""
    generator = random.Random(seed)
    number = min(count, _PATTERN)
    if dtype in ("float32", "float16", "bfloat16"):
        values = [generator.gauss(0.0, 1.0) for _ in range(number)]
        if dtype == "float16":
            pattern = struct.pack("<{}e".format(number), *values)
        else:
            pattern = array.array("f", values).tobytes()
            if dtype == "bfloat16":  # the upper half of a float32, little endian
                pattern = b"".join(pattern[index + 2:index + 4] for index in range(0, len(pattern), 4))
    elif dtype == "uint8":
        pattern = bytes(bytearray(generator.randrange(256) for _ in range(number)))
    else:
        code = {"int8": "b", "bool": "b", "int32": "i", "int64": "q"}[dtype]
        pattern = array.array(code, [generator.randrange(2) for _ in range(number)]).tobytes()
    size = count * len(pattern) // max(number, 1)
    return (pattern * (size // max(len(pattern), 1) + 1))[:size]
