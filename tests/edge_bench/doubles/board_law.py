"""What the stand-in board draws and how long it takes, by a law that is given from outside as a file.

$BOARD_LAW names a Python file with

    IDLE_MW = 2900                      # of VDD_IN without load
    def cost(layers, batch): ...        # -> (milliseconds of one inference of the batch, mean milliwatts meanwhile)

layers: one dictionary a launch, in order, for one image: {"op": "Conv", "macs", "weights", "inputs" and "outputs"
(elements read and written), "channels", "groups", "depth" (multiply-accumulates for one output)}; what follows a
convolution pointwise is fused into it. They are read from the ONNX file itself, with the standard library only, on
Python 3.6.
"""
import os
import struct

HEAVY = ("Conv", "Gemm", "MatMul")
POOLS = ("MaxPool", "AveragePool")
GLOBAL = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean")


def load_law(path=None):
    """The names of a law file, as a dictionary; None where no law is given."""
    path = path or os.environ.get("BOARD_LAW")
    if not path:
        return None
    names = {"__name__": "law", "__file__": path}
    with open(path) as stream:
        exec(compile(stream.read(), path, "exec"), names)
    return names


# --- ONNX, as far as it is needed ------------------------------------------------------------------------------------


def fields(data):
    """[(number, value)] of a protobuf message: integers, and bytes of what has a length."""
    found, at = [], 0

    def varint(at):
        value, shift = 0, 0
        while True:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    while at < len(data):
        tag, at = varint(at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(at)
        elif kind == 2:
            size, at = varint(at)
            value, at = data[at:at + size], at + size
            if len(value) != size:
                raise ValueError("the file ends too early")
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = struct.unpack("<q" if kind == 1 else "<i", data[at:at + size])[0], at + size
        else:
            raise ValueError("no protobuf message")
        found.append((tag >> 3, value))
    return found


def _all(message, number):
    return [value for field, value in message if field == number]


def _text(message, number):
    return "".join(value.decode() for value in _all(message, number)[:1])


def _packed(values):
    """Integers of a repeated field, packed or not."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
        else:
            found += [number for _, number in fields(b"".join(b"\x08" + piece for piece in _varints(value)))]
    return found


def _varints(data):
    start = 0
    for at, byte in enumerate(data):
        if byte < 128:
            yield data[start:at + 1]
            start = at + 1


def graph_of(data):
    """{"inputs": {name: shape}, "outputs": {name: shape}, "weights": {name: shape}, "nodes": [...]} of an ONNX file; a
    symbolic size is -1. ValueError when it is none."""
    graphs = _all(fields(data), 7)
    if not graphs:
        raise ValueError("no ONNX graph")
    graph = fields(graphs[0])
    weights = {}
    for tensor in map(fields, _all(graph, 5)):
        weights[_text(tensor, 8)] = _packed(_all(tensor, 1))
    nodes = []
    for node in map(fields, _all(graph, 1)):
        attributes = {}
        for attribute in map(fields, _all(node, 5)):
            integers = _packed(_all(attribute, 8))
            attributes[_text(attribute, 1)] = integers or (_all(attribute, 3) or [0])[0]
        nodes.append({"name": _text(node, 3), "op": _text(node, 4), "inputs": [name.decode() for name in _all(node, 1)],
                      "outputs": [name.decode() for name in _all(node, 2)], "attributes": attributes})
    named = {what: dict(map(_value, _all(graph, number))) for what, number in (("inputs", 11), ("outputs", 12))}
    inputs = {name: shape for name, shape in named["inputs"].items() if name not in weights}
    return {"inputs": inputs, "outputs": named["outputs"], "weights": weights, "nodes": nodes}


def _value(data):
    value = fields(data)
    tensor = fields(_all(fields(_all(value, 2)[0]), 1)[0])
    shape = []
    for dimension in map(fields, _all(fields((_all(tensor, 2) or [b""])[0]), 1)):
        sizes = _all(dimension, 1)
        shape.append(sizes[0] if sizes else -1)
    return _text(value, 1), shape


# --- layers ----------------------------------------------------------------------------------------------------------


def _elements(shape):
    total = 1
    for size in shape[1:]:
        total *= size
    return total


def layers_of(graph):
    """What `cost` of a law is given."""
    shapes = {name: [1, *shape[1:]] for name, shape in graph["inputs"].items()}
    weights, layers = graph["weights"], []
    for node in graph["nodes"]:
        read = [name for name in node["inputs"] if name in shapes]
        if not read:
            continue
        source, op, a = shapes[read[0]], node["op"], node["attributes"]
        kernel = next((weights[name] for name in node["inputs"] if len(weights.get(name, ())) >= 2), None)
        shape, depth, groups, size = source, 0, 1, 0
        if op == "Conv":
            groups = a.get("group", 1)
            shape = [1, kernel[0]] + _window(source, kernel[2:], a)
            depth, size = kernel[1] * kernel[2] * kernel[3], kernel[0] * kernel[1] * kernel[2] * kernel[3]
        elif op in ("Gemm", "MatMul") and kernel is not None:
            width = kernel[0] if a.get("transB") else kernel[1]
            shape, depth, size = [1, width], kernel[0] * kernel[1] // width, kernel[0] * kernel[1]
        elif op in POOLS:
            shape = source[:2] + _window(source, a["kernel_shape"], a)
        elif op in GLOBAL:
            shape = source[:2] + [1] * (len(source) - 2)
        elif op in ("Flatten", "Reshape", "Squeeze"):
            shape = [1, _elements(source)]
        elif op == "Concat":
            shape = [1, sum(shapes[name][1] for name in read)] + source[2:]
        elif len(read) > 1:
            shape = max((shapes[name] for name in read), key=_elements)
        for name in node["outputs"]:
            shapes[name] = shape
        if op in HEAVY or op in POOLS or op in GLOBAL:
            layers.append({"op": op, "macs": depth * _elements(shape), "weights": size, "inputs": _elements(source),
                           "outputs": _elements(shape), "channels": shape[1], "groups": groups, "depth": depth})
    return layers


def _window(source, kernel, a):
    strides, pads = a.get("strides") or [1, 1], a.get("pads") or [0, 0, 0, 0]
    return [(source[2 + i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in range(2)]
