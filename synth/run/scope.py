"""What a run's order means: its recipes, what is decided on, the space of its networks and the margins in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from synth.data.dataset import Dataset
from synth.networks.network import Network
from synth.networks.rewriting import OPERATORS
from synth.objective.requirements import Requirements
from synth.probing.probing import order_of_units
from synth.run.order import Order
from synth.run.problem import Recipes
from synth.search.probe_table import FIRM_SLOPE_SD, SLOPE_SD
from synth.space.parent import ElasticParent
from synth.space.prices import Prices
from synth.space.space import NONLINEARITIES, USUAL_CHOICES, Choices, NetworkSpace
from synth.training.recipe import PURPOSES, Recipe, recipe_for


@dataclass(frozen=True)
class Scope:
    """What candidates may be. choices: what is decided on. expansion: how many times φ's width the channels inside
    residual blocks may have. slope_sd: how firmly what probing says keeps its sign."""

    choices: Choices
    expansion: int
    slope_sd: float


# What φ learnt says nothing of another nonlinearity, of attention or of channels that it does not have, so that where
# candidates inherit it, a short training does not either.
INHERITING = Scope(USUAL_CHOICES, 1, SLOPE_SD)
FRESH = Scope(Choices(OPERATORS, nonlinearities=NONLINEARITIES, attention=True), 2, FIRM_SLOPE_SD)


def recipe_of(order: Order, dataset: Dataset, purpose: str) -> Recipe:
    return recipe_for(order.data, purpose, images=len(dataset.train), size=dataset.shape[1:], changes=order.changes)


def recipes_of(order: Order, dataset: Dataset) -> Recipes:
    """How candidates are trained; UserError for a change that one of a run's recipes, φ's among them, cannot take."""
    _, short, final = (recipe_of(order, dataset, purpose) for purpose in PURPOSES)
    return Recipes(replace(short, epochs=order.short_epochs or short.epochs),
                   replace(final, epochs=order.epochs or final.epochs), view_seed=order.seed)


def scope_of(short: Recipe) -> Scope:
    """What candidates may be that are trained so."""
    return INHERITING if short.inherits else FRESH


def space_of(parent: ElasticParent, unit_importance: np.ndarray | None, prices: Prices,
             choices: Choices = USUAL_CHOICES) -> NetworkSpace:
    """unit_importance: None where costs alone are asked for, which do not depend on which units are kept."""
    if unit_importance is None:
        unit_importance = np.zeros(len(parent.channels.keep_all()))
    return NetworkSpace(parent, order_of_units(parent.channels, unit_importance), prices, choices)


def with_margins(stated: Requirements, parent: ElasticParent, order: Order, dataset: Dataset) -> Requirements:
    """The requirements with margins for the size of the validation split and the errors of predictions for this space:
    φ's and those of its smallest networks."""
    prices = Prices(stated, order.resolve_target(), order.precision)
    return stated.with_margins(len(dataset.validation), prices.relative_sigma(ends_of(parent, prices)))


def ends_of(parent: ElasticParent, prices: Prices) -> list[Network]:
    """φ and the smallest networks: where predictions for a space are least certain."""
    space = space_of(parent, None, prices)
    return [parent.draw(space.design(row))[0] for row in (space.own, *space.smallest())]
