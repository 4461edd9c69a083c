"""Tensors on disk: safetensors with a schema, written atomically, read without executing anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devices.support import files
from devices.support.errors import UserError

if TYPE_CHECKING:
    import torch


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    schema: str,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors with a schema such as "edgesynth.weights/1" and a card (any JSON): what made them, from what.

    The bytes depend on the content alone. Tensors that share memory are written each on its own.
    """
    from safetensors.torch import save

    apart = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    # one entry: safetensors keeps the entries of its metadata in no fixed order
    header = files.canonical_json({"schema": schema, "card": dict(card or {})})
    files.write_bytes(path, save(apart, metadata={"edgesynth": header}))


def load_tensors(path: str | os.PathLike[str], schema: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the card that `save_tensors` wrote; UserError when damaged or of another kind or version."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        with open(path, "rb") as stream:  # its OSError says more than safetensors' own
            data = stream.read()
        loaded = load(data)  # safe_open's get_tensor would take a Ctrl-C meanwhile for a damaged file
        about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # what load has checked
        header = json.loads(about.get("__metadata__", {}).get("edgesynth", "{}"))
        tensors = {name: loaded[name].clone() for name in sorted(loaded)}
    except OSError as error:
        raise files.explain(error, path) from error
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged safetensors ({error}); restore it or make it anew") from error
    found = header.get("schema") if isinstance(header, dict) else None
    if found != schema:
        raise UserError(
            f"{path}: expected {schema}, found {found or 'no schema'}; "
            "it is another kind of file or was written by another version of edgesynth"
        )
    return tensors, header["card"]
