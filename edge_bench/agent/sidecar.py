"""The side-car of an engine: a file beside it that says of what, where and by which TensorRT it was built."""
import os
import re

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import read_json, sha256_file

SCHEMA = "edgesynth.engine/1"


def sidecar_path(engine):
    return engine + ".json"


def read_sidecar(engine):
    """What is known about an engine: its side-car; None for one from elsewhere, and where the side-car is that of
    another engine, which was built anew by other hands or is not whole."""
    path = sidecar_path(engine)
    if not os.path.exists(path):
        return None
    known = read_json(path, SCHEMA)
    return known if known.get("engine_sha256") in (None, sha256_file(engine)) else None


def refuse_foreign(engine, sidecar, version, capability):
    """CannotMeasure for an engine that was built on another device or by another TensorRT, with that reason."""
    if not sidecar:
        return
    here = "sm_{}{}".format(*capability)
    if not same_release(sidecar.get("tensorrt"), version):
        raise CannotMeasure("{}: built by TensorRT {}, here is {}: build it again from the ONNX file".format(
            engine, sidecar["tensorrt"], version))
    if sidecar.get("device") and sidecar["device"] != here:
        raise CannotMeasure("{}: built on a {} device, here is {}: build it again from the ONNX file".format(
            engine, sidecar["device"], here))


def same_release(one, other):
    """Whether two versions are one by the three numbers that Debian's package and the Python module agree about, as
    8.2.1 and 8.2.1.8 do; one that is not known may be any."""
    return not (one and other) or re.findall(r"\d+", one)[:3] == re.findall(r"\d+", other)[:3]


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
