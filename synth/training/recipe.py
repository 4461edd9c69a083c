"""How a network is trained: recipes as data, and which one for which data set and purpose."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from devices.support.errors import UserError, unknown
from synth.data.augmentation import Augmentation

PURPOSES = ("prototype", "short", "final")
OPTIMISERS = ("adamw", "sgd", "muon")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """epochs over the split in batches of about `batch` images, by AdamW, SGD with Nesterov momentum, or Muon
    (`synth.training.optimiser`).

    rate: the peak of a one-cycle schedule that rises linearly over the first `warmup` (share of all steps) and falls
    by a half cosine to zero. decay: decoupled; not on biases and norms. smoothing: of the labels.
    average_epochs: time constant of the running average of the weights, in epochs; 0: the last weights are kept.
    distil: share of the teacher's part in the loss (0..1), at `temperature`; without a teacher it is not used.
    view_epochs: views repeat after so many epochs (0: never), so that a teacher need not look at all of them.
    small_px, small_share: images are shrunk to this height and width in the first epochs, up to this share of all
    (progressive resolution); a network that reads one size only is trained at its own. precision: "bf16" multiplies in
    bfloat16 where the hardware is fast at it, which pays for dense convolutions, not for depthwise ones. inherits:
    whether a candidate starts from what it inherits of the elastic parent, or from fresh weights.
    """

    epochs: int
    batch: int = 64
    optimiser: str = "adamw"
    rate: float = 0.01
    warmup: float = 0.25
    decay: float = 0.02
    momentum: float = 0.9
    smoothing: float = 0.0
    average_epochs: float = 0.0
    distil: float = 0.0
    temperature: float = 2.0
    view_epochs: int = 0
    small_px: int = 0
    small_share: float = 0.0
    precision: str = "fp32"
    inherits: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        if self.precision not in PRECISIONS:
            raise unknown("precision of training", self.precision, PRECISIONS)
        if not isinstance(self.inherits, bool):
            raise UserError(f"a recipe with inherits = {self.inherits}: it must be true or false")
        for name in ("epochs", "batch", "view_epochs", "small_px"):
            if not isinstance(getattr(self, name), int):
                raise UserError(f"a recipe with {name} = {getattr(self, name)}: it must be a whole number")
        for name, low, high in (
            ("epochs", 1, 1e6), ("batch", 1, 1e6), ("rate", 0, 1e3), ("warmup", 0, 1), ("decay", 0, 1e3),
            ("momentum", 0, 1), ("smoothing", 0, 0.999), ("average_epochs", 0, 1e6), ("distil", 0, 1),
            ("temperature", 1e-3, 1e3), ("view_epochs", 0, 1e6), ("small_px", 0, 1e6), ("small_share", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"a recipe with {name} = {getattr(self, name)}: it must be {low:g} to {high:g}")

    @property
    def different_views(self) -> int:
        """Epochs whose views differ."""
        return min(self.view_epochs or self.epochs, self.epochs)

    def steps(self, images: int) -> int:
        """Of an epoch over so many images."""
        return math.ceil(images / self.batch)

    def is_small(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, sees shrunk images. The last never does, since norms hold the statistics
        of the size that was seen last."""
        return bool(self.small_px) and epoch < min(round(self.small_share * self.epochs), self.epochs - 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` gave; UserError for a key or value that no recipe has."""
        known = [one.name for one in fields(cls)]
        for name in value:
            if name not in known:
                raise unknown("value of a recipe", name, known)
        try:
            return cls(**{**value, "augmentation": Augmentation(**value.get("augmentation", {}))})
        except TypeError as error:
            raise UserError(f"no recipe: {error}") from error


def changes_of(words: Sequence[str], purpose: str) -> dict[str, Any]:
    """{field: value} that words such as "batch=256" or, for one purpose alone, "final.rate=0.014" set for a purpose.
    UserError for other words."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        before, dot, field_name = name.rpartition(".")
        if not (equals and text and field_name) or (dot and before not in PURPOSES):
            raise UserError(f"--set {word}: NAME=VALUE is expected, such as batch=256, or final.batch=256 for one of "
                            f"{', '.join(PURPOSES)}")
        if before in ("", purpose):
            found[field_name] = _value(text)
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


_DIGITS = Augmentation(shift_px=0.7, rotate_deg=8.0, zoom=0.08)
_CIFAR = Augmentation(crop_px=4, flip=True)

# One entry a data set. Those of digits were chosen by measurement on its validation split
# (tests/benchmarks/bench_training.py shows what they reach). Those of cifar10 see 24 x 24 images for two thirds of the
# time, which takes half as long; φ's dense convolutions are multiplied in bfloat16 where that is fast. Its candidates
# start from fresh weights: what inherits most of φ looks best after a few epochs and is not. A network that the search
# chose so had 82.4 % after 6 epochs of inherited weights, 76.7 % of fresh ones, and 83.0 % after 20; one with separable
# convolutions throughout, at nine tenths of its cost, has 79.3 % after 6 of fresh ones. They are trained by Muon, which
# is worth most where epochs are few: after 6 the anchor has 82.8 % with it, 78.8 % with AdamW and the same decay and
# 77.9 % with AdamW's own (0.02), with which three networks of 5 k, 12 k and 17 k parameters have 68.3, 81.7 and 83.1 %
# after 20 epochs; with Muon 68.9, 82.1 and 84.4 %.
RECIPES: dict[str, dict[str, Recipe]] = {
    "digits": {
        "prototype": Recipe(24, batch=128, rate=0.02, average_epochs=2, augmentation=_DIGITS),
        "short": Recipe(4, batch=128, rate=0.01, distil=0.5, augmentation=_DIGITS),
        "final": Recipe(25, batch=128, rate=0.02, average_epochs=2, distil=0.3, augmentation=_DIGITS),
    },
    "cifar10": {
        "prototype": Recipe(40, batch=128, smoothing=0.1, average_epochs=2, small_px=24, small_share=2 / 3,
                            precision="bf16", augmentation=_CIFAR),
        "short": Recipe(4, batch=128, optimiser="muon", momentum=0.95, decay=0.1, distil=0.7, small_px=24,
                        small_share=0.5, inherits=False, augmentation=_CIFAR),
        "final": Recipe(60, batch=128, optimiser="muon", momentum=0.95, decay=0.1, average_epochs=2, distil=0.5,
                        view_epochs=8, small_px=24, small_share=2 / 3, inherits=False, augmentation=_CIFAR),
    },
}
# What a user's own data is given: about so many steps in batches of 64, but at least so many epochs.
STEPS = {"prototype": 3000, "short": 100, "final": 3000}
LEAST_EPOCHS = {"prototype": 20, "short": 1, "final": 20}
MOST_EPOCHS = 200


def recipe_for(dataset: str, purpose: str, *, images: int, size: tuple[int, int], changes: Sequence[str] = ()
               ) -> Recipe:
    """The recipe of a registered data set, or one for a user's own by its number of training images and their size
    (height, width): epochs that make about the steps in STEPS, and views shifted by up to a sixteenth of the size.
    changes: words of `changes_of`; UserError for values that no recipe has, or that would enlarge the images."""
    if purpose not in PURPOSES:
        raise unknown("recipe", purpose, PURPOSES)
    if changes:
        own = recipe_for(dataset, purpose, images=images, size=size)
        changed = Recipe.from_json({**own.to_json(), **changes_of(changes, purpose)})
        if changed.small_px > min(size):
            raise UserError(f"a recipe with small_px = {changed.small_px}: it would enlarge images of {size[0]} x "
                            f"{size[1]} instead of shrinking them; it must be at most {min(size)}")
        return changed
    if dataset in RECIPES:
        return RECIPES[dataset][purpose]
    batch = 64 if images < 20_000 else 128
    epochs = min(max(round(STEPS[purpose] * 64 / max(images, batch)), LEAST_EPOCHS[purpose]), MOST_EPOCHS)
    shifted = Augmentation(shift_px=min(size) / 16)
    return replace(RECIPES["digits"][purpose], batch=batch, rate=0.01, epochs=epochs, augmentation=shifted)
