"""The networks that can be drawn from an elastic parent, as sites and choices, with their costs for many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from devices.cost_formula import LayerArrays
from devices.support.errors import UserError
from synth.networks.channels import ChannelGroup
from synth.networks.costs import GATED
from synth.networks.costs import costs as network_costs
from synth.networks.rewriting import INVERTED, OPERATORS, POINTWISE, follows_a_stride, may_be_pointwise
from synth.search.decisions import SWITCHES, Decisions, FloatArray, IntArray, Site, own_decisions
from synth.space.parent import Design, ElasticParent
from synth.space.prices import Prices
from synth.space.space_costs import Columns, CostTable, CostTables

WIDTH_STEPS = 8  # widths to choose from, at most
WIDTH, OPERATOR, BLOCK = "width", "operator", "block"
ACTIVATION, NONLINEARITY, ATTENTION = SWITCHES
NONLINEARITIES = ("hardswish",)  # that may stand in ReLU's place
DROP, KEEP = "drop", "keep"
LINEAR = "linear"
CHANNELS, NONE = "channels", "none"  # what attention there is
LOOKING = "looking operator"  # kind of the sites of convolutions that must see more than single pixels


@dataclass(frozen=True)
class Place:
    """What a site decides on: the name of a channel group, of a convolution (its operator, or attention before it), of
    a residual block's addition, of an activation behind an addition, or of the first of the activations of one map
    size, whose kind is decided on."""

    kind: str
    name: str


@dataclass(frozen=True)
class Choices:
    """What a space lets decide. operators: in a convolution's place, in the order of OPERATORS; where "inverted" is
    among them, a 1x1 convolution may also stand behind what strides (as in inverted residuals). activations: whether
    those behind additions may be left out. nonlinearities: kinds that may stand in ReLU's place, at each map size.
    blind: whether 1x1 convolutions may stand in the place of all others at once, so that a network sees single pixels
    alone."""

    operators: tuple[str, ...] = tuple(name for name in OPERATORS if name != INVERTED)
    activations: bool = True
    nonlinearities: tuple[str, ...] = ()
    attention: bool = False
    blind: bool = False


USUAL_CHOICES = Choices()
# what the choices of a site are to the costs, by its kind
_MEANING: dict[str, Callable[[Sequence[str]], np.ndarray]] = {
    OPERATOR: lambda choices: np.array([OPERATORS.index(name) for name in choices]),
    NONLINEARITY: lambda choices: np.array([kind in GATED for kind in choices]),
}


class NetworkSpace:
    """A `synth.search.decisions.Space` of real networks. order: {channel group: its units, most important first}. own:
    φ's decisions."""

    def __init__(self, parent: ElasticParent, order: dict[str, np.ndarray], prices: Prices,
                 choices: Choices = USUAL_CHOICES) -> None:
        self.parent, self.order, self.prices, self.choices = parent, order, prices, choices
        widths = {g.name: width_choices(parent.own_widths.get(g.name, g.width), g.width) for g in parent.channels.groups
                  if not g.frozen and g.width > 1}
        self.widths = {name: found for name, found in widths.items() if len(found) > 1}
        self.places = (
            [Place(WIDTH, name) for name in self.widths]
            + [Place(OPERATOR, name) for name in parent.replaceable]
            + [Place(BLOCK, block.addition) for block in parent.blocks]
            + [Place(ACTIVATION, name) for name in parent.activations if choices.activations]
            + [Place(NONLINEARITY, name) for name in parent.nonlinearities if choices.nonlinearities]
            + [Place(ATTENTION, name) for name in parent.into_additions if choices.attention]
        )
        if not self.places:
            raise UserError("this prototype leaves nothing to decide: it has no convolution to replace, no channels to "
                            "leave out and no residual block")
        self._column = {place: i for i, place in enumerate(self.places)}
        self.sites: Sequence[Site] = self._sites()
        self._own_row = own_decisions(self.sites)
        self.own: Decisions = tuple(self._own_row.tolist())
        self._meaning = {place: _MEANING[place.kind](site.choices)
                         for place, site in zip(self.places, self.sites, strict=True) if place.kind in _MEANING}
        self._tables = CostTables(parent, order, self.widths)
        # costs and summary of the same networks are asked for one after the other
        self._table = functools.lru_cache(maxsize=4)(self._table_of)
        self._by_graph = functools.lru_cache(maxsize=100_000)(self._graph_cost_of)

    def _sites(self) -> tuple[Site, ...]:
        """Descriptor: relative depth, log width, log map size, share of the parent's parameters, share of its MACs."""
        network = self.parent.network
        whole = network_costs(network)
        depth = {v.name: i / len(network.vertices) for i, v in enumerate(network.vertices)}
        groups = {group.name: group for group in self.parent.channels.groups}
        blocks = {block.addition: block for block in self.parent.blocks}
        sites = []
        for place in self.places:
            own = -1
            if place.kind == WIDTH:
                members: Sequence[str] = groups[place.name].vertices
                choices = tuple(str(width) for width in self.widths[place.name])
                own = self.widths[place.name].index(self.parent.own_widths.get(place.name, groups[place.name].width))
            elif place.kind == OPERATOR:
                members, choices = (place.name,), self._operators_of(place.name)
            elif place.kind == ACTIVATION:
                members, choices = (place.name,), (LINEAR, network[place.name].attrs["kind"])
            elif place.kind == NONLINEARITY:
                members, choices = (place.name,), (*self.choices.nonlinearities, network[place.name].attrs["kind"])
            elif place.kind == ATTENTION:
                members, choices = (place.name,), (CHANNELS, NONE)
            else:
                members, choices = sorted(blocks[place.name].branch), (DROP, KEEP)
            shape = network.shapes[place.name.rstrip("'")]
            weights = sum(whole.params_of[name] for name in members)
            macs = sum(whole.macs_of[name] for name in members)
            descriptor = (depth[place.name.rstrip("'")], np.log2(shape[0]) / 10.0,
                          np.log2(max(float(np.prod(shape[1:])), 1.0)) / 16.0,
                          weights / max(whole.params, 1), macs / max(whole.macs, 1))
            looks = place.kind == OPERATOR and choices != self.choices.operators
            sites.append(Site(f"{place.name}/{place.kind}", LOOKING if looks else place.kind, choices,
                              place.kind in (WIDTH, BLOCK), tuple(float(d) for d in descriptor), own))
        return tuple(sites)

    def _operators_of(self, name: str) -> tuple[str, ...]:
        network, operators = self.parent.network, self.choices.operators
        if (self.choices.blind or may_be_pointwise(network, network[name])
                or (INVERTED in operators and follows_a_stride(network, network[name]))):
            return operators
        return tuple(operator for operator in operators if operator != POINTWISE)

    # --- decisions and networks ------------------------------------------------------------------------------------

    def design(self, decisions: Decisions | IntArray) -> Design:
        """What one row of decisions means."""
        row = [int(choice) for choice in decisions]
        kept: dict[str, np.ndarray] = {}
        operators: dict[str, str] = {}
        dropped: list[str] = []
        linear: list[str] = []
        nonlinearities: dict[str, str] = {}
        attention: list[str] = []
        for place, site, choice in zip(self.places, self.sites, row, strict=True):
            if place.kind == WIDTH:
                kept[place.name] = np.sort(self.order[place.name][: self.widths[place.name][choice]])
            elif place.kind == OPERATOR:
                operators[place.name] = site.choices[choice]
            elif place.kind == NONLINEARITY:
                if choice < len(site.choices) - 1:
                    nonlinearities[place.name] = site.choices[choice]
            elif place.kind == ATTENTION:
                if site.choices[choice] == CHANNELS:
                    attention.append(place.name)
            elif site.choices[choice] == DROP:
                dropped.append(place.name)
            elif site.choices[choice] == LINEAR:
                linear.append(place.name)
        return Design(kept, operators, tuple(dropped), tuple(linear), nonlinearities, tuple(attention))

    @functools.cached_property
    def _inside(self) -> list[tuple[int, list[int]]]:
        """For every block site, the sites that decide on nothing that stays without it."""
        groups: dict[str, ChannelGroup] = {g.name: g for g in self.parent.channels.groups}
        found = []
        for block in self.parent.blocks:
            inner = []
            for column, place in enumerate(self.places):
                members = groups[place.name].vertices if place.kind == WIDTH else (place.name,)
                if (place.kind != NONLINEARITY and place.name != block.addition
                        and block.branch.union(block.bypassed).issuperset(members)):
                    inner.append(column)
            found.append((self._column[Place(BLOCK, block.addition)], inner))
        return found

    @functools.cached_property
    def _without(self) -> list[tuple[int, list[list[int]]]]:
        """For every site of nonlinearities, the block sites without which each of its activations is gone; only where
        all of them may be."""
        network, found = self.parent.network, []
        for column, place in enumerate(self.places):
            if place.kind == NONLINEARITY:
                members = (name if name in network else name.removesuffix(".relu")  # inside a convolution's replacement
                           for name in self.parent.nonlinearities[place.name])
                holders = [[self._column[Place(BLOCK, block.addition)] for block in self.parent.blocks
                            if name in block.branch or name in block.bypassed] for name in members]
                if all(holders):
                    found.append((column, holders))
        return found

    def canonical(self, decisions: IntArray) -> IntArray:
        """Decisions on nothing but what is in dropped blocks set to φ's own."""
        rows = np.array(decisions, dtype=np.int64)
        for column, inner in self._inside:
            dropped = rows[:, column] == 0
            rows[np.ix_(dropped, inner)] = self._own_row[inner]
        for column, holders in self._without:
            gone = np.all([(rows[:, blocks] == 0).any(axis=1) for blocks in holders], axis=0)
            rows[gone, column] = self._own_row[column]
        return rows

    # --- costs -----------------------------------------------------------------------------------------------------

    def costs(self, decisions: IntArray) -> dict[str, FloatArray]:
        """"params" (batch norm folded), "macs", every key of the requirements and, on a target, what frugality is told
        by, each [n]."""
        rows = self._rows(decisions)
        table = self._table(rows.tobytes())
        found = {"params": table.params, "macs": table.macs} | self.prices.of(table)
        for key in self.prices.by_graph:
            found[key] = np.array([self._by_graph(key, tuple(int(c) for c in row)) for row in rows])
        return found

    def layers(self, decisions: IntArray) -> LayerArrays:
        """The launches of every network on the target."""
        return self._table(self._rows(decisions).tobytes()).layers

    def _rows(self, decisions: IntArray) -> IntArray:
        return np.ascontiguousarray(decisions, dtype=np.int64).reshape(-1, len(self.places))

    def _table_of(self, rows: bytes) -> CostTable:
        return self._tables.of(self._columns(np.frombuffer(rows, dtype=np.int64)))

    def _graph_cost_of(self, key: str, row: Decisions) -> float:
        """A cost that follows from the order of the graph: the network is drawn for it."""
        network, _ = self.parent.draw(self.design(row))
        return self.prices.graph_cost(key, network)

    def _columns(self, decisions: IntArray) -> Columns:
        rows = np.asarray(decisions, dtype=np.int64).reshape(-1, len(self.places))
        widths, operators, kept, gated, attended = {}, {}, {}, {}, {}
        for column, place in enumerate(self.places):
            if place.kind == WIDTH:
                widths[place.name] = np.asarray(self.widths[place.name])[rows[:, column]]
            elif place.kind == OPERATOR:
                operators[place.name] = self._meaning[place][rows[:, column]]
            elif place.kind == NONLINEARITY:
                gated[place.name] = self._meaning[place][rows[:, column]]
            elif place.kind == ATTENTION:
                attended[place.name] = rows[:, column] == 0
            else:
                kept[place.name] = rows[:, column] == 1
        return Columns(widths, operators, kept, gated, attended)

    def summary(self, decisions: IntArray) -> FloatArray:
        """[n, k]: log parameters, log MACs, share of blocks kept, mean and least log width ratio, mean log width ratio
        of the last third of the groups, the share of each operator and, where they may be left out or of another
        kind, of activations that are there, of map sizes with φ's own and of places without attention."""
        columns = self._columns(decisions)
        widths, operators = columns.widths, columns.operators
        costs = self._table(self._rows(decisions).tobytes())
        n = len(costs.params)
        ratios = (np.stack([np.log(w / max(self.widths[name])) for name, w in widths.items()], axis=1)
                  if widths else np.zeros((n, 1)))
        chosen = np.stack(list(operators.values()), axis=1) if operators else np.full((n, 1), len(OPERATORS) - 1)
        share = self._share_kept(decisions, BLOCK)
        late = ratios[:, -max(1, ratios.shape[1] // 3):]
        shares = [(chosen == OPERATORS.index(name)).mean(axis=1) for name in self.choices.operators]
        found = [np.log(np.maximum(costs.params, 1)), np.log(np.maximum(costs.macs, 1)),
                 np.ones(n) if share is None else share, ratios.mean(axis=1), ratios.min(axis=1), late.mean(axis=1),
                 *shares]
        found += [own for kind in SWITCHES if (own := self._share_kept(decisions, kind)) is not None]
        return np.stack(found, axis=1)

    def _share_kept(self, decisions: IntArray, kind: str) -> FloatArray | None:
        """[n] of the sites of one kind that have φ's own choice, its last; None without any."""
        places = [column for place, column in self._column.items() if place.kind == kind]
        if not places:
            return None
        own: FloatArray = (self._rows(decisions)[:, places] == self._own_row[places]).mean(axis=1)
        return own

    def smallest(self) -> IntArray:
        """[operators, sites]: the least widths and no block that can be left out, with each operator everywhere."""
        count = len(self.choices.operators)
        rows = np.zeros((count, len(self.places)), dtype=np.int64)
        for column, place in enumerate(self.places):
            if place.kind == OPERATOR:
                own = self.sites[column].choices
                rows[:, column] = [own.index(name) if name in own else 0 for name in self.choices.operators]
            elif place.kind in SWITCHES:
                rows[:, column] = self.own[column]
        return self.canonical(rows)


def width_choices(own: int, most: int) -> tuple[int, ...]:
    """Widths to choose from, ascending: eighths of φ's own, in steps of 4 from 16 channels on, of 2 from 8 (the vector
    widths that devices like), never below 2; beyond it quarters of it up to `most`, in the same steps."""
    step = 4 if own >= 16 else 2 if own >= 8 else 1
    narrower = {max(2, min(own, -(-(own * i) // (WIDTH_STEPS * step)) * step)) for i in range(1, WIDTH_STEPS + 1)}
    wider = {min(most, own + -(-(own * i) // (4 * step)) * step) for i in range(1, 4 * (most - own) // own + 1)}
    return tuple(sorted(narrower | wider | {own, most}))
