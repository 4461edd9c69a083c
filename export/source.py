"""What MODEL on the command line stands for: an ONNX file, a factory of a module, or a network that synth keeps."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import export
from devices.support.errors import UserError
from devices.support.factories import is_factory, load_factory
from devices.support.files import explain, readable
from export.document import first_line
from export.report import Labels
from export.samples import Samples

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Source:
    """A model to export: either a module, in evaluation mode and with the shape of one image, or an ONNX file.

    samples: images that belong to it, where it knows any; normalisation and labels as for `export_network`. note: why
    it comes without images that it should have, "" otherwise.
    """

    name: str
    module: torch.nn.Module | None = None
    onnx_path: str | None = None
    input_shape: tuple[int, ...] | None = None
    samples: Samples | None = None
    normalisation: dict[str, object] | None = None
    labels: list[str] | None = None
    others: dict[str, object] = field(default_factory=dict)
    note: str = ""


def parse_shape(text: str) -> tuple[int, ...]:
    """(3, 32, 32) of "3x32x32"; UserError for anything else."""
    try:
        shape = tuple(int(word) for word in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UserError(f"'{text}' is no input shape: write channels, height and width of one image, such as 3x32x32")
    return shape


def read_words(path: str, known: Labels) -> Labels:
    """`known`, with what a JSON file says of the network's normalisation and labels, and whatever else it holds."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except OSError as error:
        raise explain(error, path) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(
            f'{path}: must hold a JSON object, such as {{"normalisation": {{"mean": [...]}}, "labels": [...]}}'
        )
    own = set(value) & {"schema", "target", "precision", "precision_by", "batch", "input_shape"}
    if own:
        raise UserError(f"{path}: {min(own)} is written by edgesynth itself; take it out")
    normalisation, labels = value.pop("normalisation", known.normalisation), value.pop("labels", known.labels)
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise UserError(f"{path}: labels must be a list of names")
    name = value.pop("name", known.name)
    if name is not None and not isinstance(name, str):
        raise UserError(f"{path}: name must be a text")
    return Labels(name, normalisation, labels, {**known.others, **value})


def load_source(text: str, input_shape: tuple[int, ...] | None = None, data: str | None = None,
                data_root: str | None = None, images_needed: bool = False) -> Source:
    """The model that a word names. data: the data set of a network of synth's, where its own is not wanted. data_root:
    the folder of the user's copy of it. images_needed: whether it may take a download to come to its images."""
    if text.endswith(".onnx"):
        name = readable(os.path.splitext(os.path.basename(text))[0])
        return Source(name, onnx_path=text, input_shape=input_shape)
    if is_factory(text):
        return _from_factory(text, input_shape)
    if os.path.isfile(text):
        raise UserError(f"{text}: no ONNX file by its name: MODEL is FILE.onnx, file.py:factory or a network's folder")
    if not os.path.isdir(text) and (os.sep in text or "." in text):  # a path, not the name of a network
        raise UserError(f"{text}: there is no such folder: MODEL is FILE.onnx, file.py:factory or a network's folder")
    if export.NETWORK_READER is None:
        raise UserError(f"{text}: a network of synth's is read by the edgesynth command; here, give a module or a file")
    place, _, name = export.NETWORK_READER.partition(":")
    return getattr(importlib.import_module(place), name)(text, data, data_root, images_needed)


def _from_factory(text: str, input_shape: tuple[int, ...] | None) -> Source:
    import torch

    if input_shape is None:
        raise UserError(f"say what {text} takes, with --input, such as --input 3x32x32")
    factory = load_factory(text)
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UserError(f"{text}: must be a function without arguments that returns a module ({error}): "
                        "write one that calls it, such as def make(): return network(3, 10)") from error
    except ValueError:
        pass  # one of C's, which shows no signature
    try:
        module = factory()
    except (Exception, SystemExit) as error:
        raise UserError(f"{text}: fails when it is called: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"{text}: returned {type(module).__name__}, not a torch.nn.Module")
    return Source(text.rpartition(":")[2], module=module, input_shape=input_shape)
