"""The prototypes by name, and a user's own, checked against the data before anything is trained."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from devices.support.errors import EdgesynthError, UserError, unknown
from devices.support.factories import accepted, is_factory, load_factory
from synth.data.dataset import Dataset, blame
from synth.networks.tracing import check_float32

# One line a prototype: a function of (channels, size (height, width), classes) that returns an nn.Module.
PROTOTYPES = {
    "anchor": "synth.prototypes.mobilenet:anchor",
    "mobilenetv2": "synth.prototypes.mobilenet:mobilenetv2",
    "resnet8": "synth.prototypes.resnet:resnet8",
    "resnet20": "synth.prototypes.resnet:resnet20",
    "resnet20x2": "synth.prototypes.resnet:resnet20x2",
    "shufflenet": "synth.prototypes.shufflenet:shufflenet",
}
DEFAULTS = {"digits": "resnet8", "cifar10": "resnet20"}


def default_prototype(dataset: str) -> str:
    """The prototype for a data set when none is named; resnet20 for a user's own data."""
    return DEFAULTS.get(dataset, "resnet20")


def load_prototype(name: str, dataset: Dataset, *, seed: int = 0) -> nn.Module:
    """A registered prototype, or what a factory (`file.py:name`, `package.module:name`) returns, for this data.

    A factory may take any of `channels`, `size` (height, width) and `classes`, by name, or nothing. Initial weights
    come from `seed`; the global random state is left as it was. UserError when there is no such prototype, when it is
    no nn.Module or a scripted one, is not in float32, does not accept the data's shape, gives another number of
    outputs than there are classes, or probabilities in place of logits, or holds NaN.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = is_factory(name) or name.endswith(".py")
        module = _from_factory(name, dataset) if own else _registered(name, dataset)
        check_prototype(module, dataset, name)  # inside, since a lazy module draws its weights at the first answer
    return module


def check_prototype(module: nn.Module, dataset: Dataset, name: str) -> None:
    """UserError when this module cannot be a prototype for this data. Its mode is left as it was."""
    for place, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):  # it hides its operations, and takes no hooks
            raise UserError(f"{name}: {place or 'it'} is a scripted module; return the one that was scripted")
    try:
        check_float32(module)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    outputs = _answer(module, dataset.validation.images[:2], name)
    for place, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{name}: {place} holds NaN or infinity; load sound weights")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UserError(f"{name}: has no weights that can be trained; thaw them with .requires_grad_(True)")
    if not isinstance(outputs, torch.Tensor):
        raise UserError(f"{name}: returns {type(outputs).__name__}, not one tensor of logits [N, classes]")
    images = min(2, len(dataset.validation))
    if outputs.ndim != 2 or len(outputs) != images:
        raise UserError(f"{name}: expected logits [{images}, {len(dataset.classes)}], found {list(outputs.shape)}")
    if outputs.shape[1] != len(dataset.classes):
        raise UserError(
            f"{name}: gives {outputs.shape[1]} outputs, but {dataset.name} has {len(dataset.classes)} classes"
        )
    if not torch.isfinite(outputs).all():
        raise UserError(f"{name}: answers an image of {dataset.name} with NaN or infinity; load sound weights")
    if outputs.min() >= 0 and torch.allclose(outputs.sum(dim=1), torch.ones(images), atol=1e-4):
        # taken for logits, the surest answer of ten classes would still have a cross-entropy of 1.46
        raise UserError(f"{name}: returns probabilities; return logits, that is, leave the softmax at its end out")


def _registered(name: str, dataset: Dataset) -> nn.Module:
    if name not in PROTOTYPES:
        raise unknown("prototype", name, PROTOTYPES)
    place, _, attribute = PROTOTYPES[name].partition(":")
    make: Callable[..., nn.Module] = getattr(importlib.import_module(place), attribute)
    return make(**_arguments(dataset))


def _arguments(dataset: Dataset) -> dict[str, Any]:
    channels, height, width = dataset.shape
    return {"channels": channels, "size": (height, width), "classes": len(dataset.classes)}


def _from_factory(text: str, dataset: Dataset) -> nn.Module:
    factory = load_factory(text)
    if isinstance(inspect.unwrap(factory), nn.Module):  # it can be called, too
        raise UserError(f"{text}: is a network, not a function that returns one; write def make(): return "
                        f"{text.rpartition(':')[2]}, and name make")
    try:
        module = factory(**accepted(factory, _arguments(dataset)))
    except EdgesynthError:
        raise
    except Exception as error:
        raise UserError(f"{text}: {blame(error)}; mend the factory") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"{text}: expected a torch.nn.Module, found {type(module).__name__}; return the network")
    return module.cpu()


def _answer(module: nn.Module, images: torch.Tensor, name: str) -> Any:
    """The module's outputs; when it fails, UserError with the innermost part that was reached and what it expected."""
    reached: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    places = {part: place for place, part in module.named_modules()}
    hooks = [
        part.register_forward_pre_hook(lambda part, inputs: reached.append((places[part], part, inputs)))
        for part in module.modules() if not list(part.children())
    ]
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(images)
    except Exception as error:
        why = _expectation(reached, error)
        raise UserError(f"{name}: does not accept images {list(images.shape)}: {why}") from error
    finally:
        for hook in hooks:
            hook.remove()
        module.train(training)


def _expectation(reached: list[tuple[str, nn.Module, tuple[Any, ...]]], error: Exception) -> str:
    if reached:
        place, part, inputs = reached[-1]
        found = list(inputs[0].shape) if inputs and isinstance(inputs[0], torch.Tensor) else "no tensor"
        # only where that is what is wrong: a kernel may be larger than its map, too
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and found[1:2] != [part.in_channels]:
            return f"{place} expects {part.in_channels} channels, found {found}"
        if isinstance(part, nn.Linear) and found[-1:] != [part.in_features]:
            return f"{place} expects {part.in_features} features, found {found}"
        return f"{place or 'it'} ({type(part).__name__}) found {found}: {blame(error)}"
    return blame(error)
