"""What a run's order means: its recipes, what is decided on, the space of its networks and the margins in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from synth.data.dataset import Dataset
from synth.networks.module import Weights
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

EXPANSION = 2  # of the channels inside residual blocks, over φ's own


def recipe_of(order: Order, dataset: Dataset, purpose: str) -> Recipe:
    return recipe_for(order.data, purpose, images=len(dataset.train), size=dataset.shape[1:], changes=order.changes)


def recipes_of(order: Order, dataset: Dataset) -> Recipes:
    """How candidates are trained; UserError for a change that one of a run's recipes, φ's among them, cannot take."""
    _, short, final = (recipe_of(order, dataset, purpose) for purpose in PURPOSES)
    return Recipes(replace(short, epochs=order.short_epochs or short.epochs),
                   replace(final, epochs=order.epochs or final.epochs), view_seed=order.seed)


def slope_sd_for(short: Recipe) -> float:
    """How firmly what probing says keeps its sign, where candidates are trained so."""
    return SLOPE_SD if short.inherits else FIRM_SLOPE_SD


def choices_of(order: Order, dataset: Dataset) -> Choices:
    """What is decided on. Where candidates inherit what φ learnt with its own nonlinearity, a short training says
    nothing of another."""
    if recipe_of(order, dataset, "short").inherits:
        return Choices()
    return Choices(OPERATORS, nonlinearities=NONLINEARITIES)


def expansion_of(order: Order, dataset: Dataset) -> int:
    """How many times φ's width the channels inside residual blocks may have. What φ learnt says nothing of those that
    it does not have."""
    return 1 if recipe_of(order, dataset, "short").inherits else EXPANSION


def unfitted_parent(network: Network, weights: Weights, order: Order, dataset: Dataset) -> ElasticParent:
    """The parent without a bank for other operators, which costs do not depend on."""
    return ElasticParent(network, weights).widened(expansion_of(order, dataset))


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
