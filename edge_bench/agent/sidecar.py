"""The side-car of an engine: a file beside it that says of what, where and by which TensorRT it was built."""
import os
import re

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import read_json

SCHEMA = "edgesynth.engine/1"


def sidecar_path(engine):
    return engine + ".json"


def read_sidecar(engine):
    """What is known about an engine: its side-car, or None for one from elsewhere."""
    path = sidecar_path(engine)
    return read_json(path, SCHEMA) if os.path.exists(path) else None


def refuse_foreign(engine, sidecar, version, capability):
    """CannotMeasure for an engine that was built on another device or by another TensorRT, with that reason."""
    if not sidecar:
        return
    here = "sm_{}{}".format(*capability)
    if sidecar.get("tensorrt") and _release(sidecar["tensorrt"]) != _release(version):
        raise CannotMeasure("{}: built by TensorRT {}, here is {}: build it again from the ONNX file".format(
            engine, sidecar["tensorrt"], version))
    if sidecar.get("device") and sidecar["device"] != here:
        raise CannotMeasure("{}: built on a {} device, here is {}: build it again from the ONNX file".format(
            engine, sidecar["device"], here))


def _release(version):
    """The three numbers that Debian's package and the Python module agree about: 8.2.1 and 8.2.1.8 are one version."""
    return re.findall(r"\d+", version)[:3]


def shapes_at(engine, sidecar, batch):
    """{input: shape} of an engine at a batch, that which it is tuned for when None, by its side-car; {} without one.

    UserError for a batch outside of the range that the engine was built for.
    """
    known = sidecar or {}
    found, profile = dict(known.get("inputs") or {}), known.get("profile") or {}
    if batch is None:
        return found
    for name, shape in found.items():
        smallest, best, largest = profile.get(name) or [shape] * 3
        if not smallest[0] <= batch <= largest[0]:
            told = smallest[0] if smallest[0] == largest[0] else "{} to {}".format(smallest[0], largest[0])
            raise UserError("{}: built for batch {}, not {}: build it from an ONNX file that was exported for "
                            "that".format(engine, told, batch))
        found[name] = [batch] + list(best[1:])
    return found
