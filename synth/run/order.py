"""What a run is asked: everything that decides its result, checked before anything long begins."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from devices.board import Target, resolve_target
from devices.cost_model import CostModel
from devices.support.errors import UserError
from devices.support.reading import MODULE
from synth.objective.requirements import MARGIN, Requirements
from synth.options import GREATEST_SEED

# What is required when nothing is said; for data that are not listed, see `relative_requirements`.
DEFAULT_REQUIREMENTS = {
    "digits": ("accuracy >= 96 %", "img_per_joule >= 215 @ batch=1"),
    "cifar10": ("accuracy >= 89 %",),  # of the paper's experiment
}
ACCURACY_ALLOWANCE = 0.02
WORDS = ("requirements", "changes", "teachers")  # of an order, several each


@dataclass(frozen=True)
class Order:
    """target: "board[:mode]". prototype: a registered name or a factory; None: the data set's own default. data: a
    registered name or a factory, data_root: a user's copy. requirements: in words; empty: the defaults. cycles, batch:
    of the search. epochs, short_epochs: of the training of what is kept and of candidates; None: the recipe's own.
    changes: other values of the recipes, as words of `recipe.changes_of`. teachers: trained networks (folders, or names
    of shipped ones) to distil from; empty: φ. ferminets: how many to finish, of so many `finalists` that are trained in
    full; None: twice as many. seed: of everything. measure: networks that boards measure beside each cycle at most; 0
    where no board takes part. warm_start: folder of an earlier run, whose networks are known from the start. UserError
    for what cannot be ordered."""

    target: str
    prototype: str | None = None
    data: str = "digits"
    data_root: str | None = None
    requirements: tuple[str, ...] = ()
    precision: str = "fp16"
    seed: int = 0
    cycles: int = 16
    batch: int = 4
    ferminets: int = 4
    measure: int = 0
    epochs: int | None = None
    short_epochs: int | None = None
    finalists: int | None = None
    changes: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    warm_start: str | None = None

    def __post_init__(self) -> None:
        least = 1 if self.warm_start is None else 0  # what earlier runs evaluated can be finished as it is
        for name, low, high in (("cycles", least, 10_000), ("batch", 2, 1_000), ("ferminets", 1, 26),
                                ("measure", 0, 100)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name} {getattr(self, name)}: it must be {low} to {high}")
        for name in ("epochs", "short_epochs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: it must be 1 or more")
        if self.finalists is not None and self.finalists < self.ferminets and self.warm_start is None:
            raise UserError(f"--finalists {self.finalists}: {self.ferminets} FermiNets are to be chosen from them")
        if self.changes:
            from synth.training.recipe import PURPOSES, changes_of  # which needs torch

            for purpose in PURPOSES:
                changes_of(self.changes, purpose)
        if not 0 <= self.seed <= GREATEST_SEED:
            raise UserError(f"--seed {self.seed}: it must be 0 to {GREATEST_SEED}")
        if MODULE not in CostModel.for_target(self.resolve_target(), self.precision).scopes:
            raise UserError(f"{self.target} predicts no energy of the module, which a search weighs: calibrate it "
                            "where there is a power source")
        self.stated_requirements()

    def arguments(self) -> dict[str, Any]:
        """What a resumed run must have in common with its start."""
        asked = {**asdict(self), **{name: list(getattr(self, name)) for name in WORDS}}
        later = ("measure", "epochs", "short_epochs", "finalists", "changes", "teachers", "warm_start")
        unsaid = {name for name in later if not asked[name]}  # unknown to older runs
        return {name: value for name, value in asked.items() if name not in unsaid}

    @classmethod
    def from_arguments(cls, value: dict[str, Any]) -> Order:
        """UserError for arguments of another version."""
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise UserError(f"this run was ordered with {', '.join(unknown)}, which this version of edgesynth does not "
                            "know; use the version that made it, or start a new run")
        words = {name: tuple(value.get(name, ())) for name in WORDS}
        return cls(**{**value, **words})

    def resolve_target(self) -> Target:
        target = resolve_target(self.target)
        target.board.require_precision(self.precision)
        return target

    def stated_requirements(self) -> Requirements | None:
        """What was required in words or stands for the data set; None when it follows from the prototype."""
        words = self.requirements or DEFAULT_REQUIREMENTS.get(self.data, ())
        return Requirements.parse(words) if words else None


def relative_requirements(accuracy: float, accuracy_se: float, own: float, best: float, sigma: float) -> Requirements:
    """What is required when nothing is said: φ's validation accuracy less 2 points, and half of the way (in logarithm)
    from φ's images per joule to the best that its space can reach, both with their margin to spare.

    accuracy, accuracy_se: of φ. own, best: images per joule predicted at batch 8. sigma: relative standard error of
    predictions.
    """
    floor = max(accuracy - ACCURACY_ALLOWANCE - MARGIN * accuracy_se, 0.01)
    bound = math.sqrt(own * max(own, best)) * math.exp(-sigma)
    return Requirements.parse((f"accuracy >= {100 * floor:.2f} %",
                               f"img_per_joule >= {bound:.3g} @ batch=8"))
