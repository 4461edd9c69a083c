"""What an ONNX file says of itself, read without an ONNX library: a board has none.

The file is a protobuf message; its fields are walked, and what is not asked for, weights above all, is passed over.
What is no ONNX file says nothing here: TensorRT's parser has the word on it.
"""
import json
import mmap
import os
import re

# numbers of fields, by onnx/onnx.proto
GRAPH, OPSETS, METADATA = 7, 8, 14  # of ModelProto
DOMAIN, VERSION = 1, 2        # of OperatorSetIdProto
INITIALIZER, INPUT = 5, 11    # of GraphProto
TENSOR_NAME = 8               # of TensorProto
KEY, VALUE = 1, 2             # of StringStringEntryProto
NAME, TYPE = 1, 2             # of ValueInfoProto
TENSOR, SHAPE = 1, 2          # of TypeProto and its Tensor
DIM, DIM_VALUE = 1, 1         # of TensorShapeProto and its Dimension
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's ways to write a value
_PREFIX = "edgesynth."        # of what edgesynth's export writes into the metadata
_EXTERNAL = re.compile(b"\x0a\x08location\x12(.)", re.DOTALL)  # of an external_data entry, and its length


def metadata(path):
    """{name: value} of what edgesynth's export wrote into the file; {} for a file of somebody else."""
    def look(data):
        pairs = [(_text(data, entry, KEY), _text(data, entry, VALUE)) for entry in _parts(data, METADATA)]
        return {key[len(_PREFIX):]: json.loads(value) for key, value in pairs if key.startswith(_PREFIX)}
    return _ask(path, look, {})


def opset(path):
    """The version of ONNX's own operators that the file is written in; None where none is found."""
    def look(data):
        found = [(_text(data, entry, DOMAIN), _parts(data, VERSION, entry)) for entry in _parts(data, OPSETS)]
        return max([versions[-1] for domain, versions in found if versions and domain in ("", "ai.onnx")] or [None])
    version = _ask(path, look, None)
    return version if isinstance(version, int) else None


def inputs(path):
    """{name: [size, None where it varies]} of the inputs that a caller gives, in order; {} where none is found."""
    def look(data):
        graph = _parts(data, GRAPH)[0]
        stored = {_text(data, tensor, TENSOR_NAME) for tensor in _parts(data, INITIALIZER, graph)}
        values = [(_text(data, value, NAME), value) for value in _parts(data, INPUT, graph)]
        return {name: _shape(data, value) for name, value in values if name not in stored}
    return _ask(path, look, {})


def is_quantised(path):
    """Whether the file holds QuantizeLinear or DequantizeLinear nodes."""
    return _ask(path, lambda data: data.find(b"QuantizeLinear") >= 0 or data.find(b"DequantizeLinear") >= 0, False)


def external_weights(path):
    """Paths of the files beside an ONNX file that hold its weights, found by their entries wherever they stand."""
    def look(data):
        return {data[match.end():match.end() + ord(match.group(1))] for match in _EXTERNAL.finditer(data)}
    names = sorted(_ask(path, look, set()))
    return [os.path.join(os.path.dirname(path), name.decode("utf-8", "replace")) for name in names]


def _ask(path, look, nothing):
    """look(content); `nothing` where the content turns out to be no protobuf message."""
    with open(path, "rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            return nothing
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return look(data)
            except (ValueError, IndexError, TypeError):
                return nothing


def _shape(data, value):
    """The sizes of a ValueInfoProto, None for those that vary."""
    shape = _parts(data, SHAPE, _parts(data, TENSOR, _parts(data, TYPE, value)[0])[0])[0]
    sizes = [_parts(data, DIM_VALUE, dim) for dim in _parts(data, DIM, shape)]
    return [size[0] if size and not isinstance(size[0], tuple) else None for size in sizes]


def _text(data, span, field):
    found = _parts(data, field, span)
    return data[found[0][0]:found[0][1]].decode("utf-8") if found else ""


def _parts(data, field, span=None):
    """Every value of a field of the message at `span`: (start, end) of what has a length, else a number."""
    place, end = span or (0, len(data))
    found = []
    while place < end:
        key, place = _varint(data, place)
        kind, start = key & 7, place
        if kind == _VARINT:
            value, place = _varint(data, place)
        elif kind == _BYTES:
            length, start = _varint(data, place)
            place = start + length
            value = (start, place)
        elif kind in (_FIXED32, _FIXED64):
            place += 4 if kind == _FIXED32 else 8
            value = (start, place)
        else:
            raise ValueError("no protobuf message")
        if place > end:
            raise ValueError("a field ends beyond its message")
        if key >> 3 == field:
            found.append(value)
    return found


def _varint(data, place):
    """(number, the place behind it) of seven bits a byte, the lowest first."""
    number = shift = 0
    while shift < 64:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
    raise ValueError("a number of more than 64 bits")
