"""The space of real networks: costs for thousands at once are those of each network by itself."""

import functools

import module_zoo
import numpy as np
import pytest
import torch

from devices.board import resolve_target
from devices.support.errors import UserError
from synth.networks.costs import costs
from synth.networks.module import build, check
from synth.networks.rewriting import OPERATORS
from synth.networks.tracing import trace
from synth.objective.requirements import Requirement, Requirements
from synth.objective.share import share_error
from synth.probing.probing import order_of_units
from synth.search.decisions import from_words, to_words
from synth.search.scaled import scaled_networks
from synth.space.feasibility import (
    _missed_percent,
    best_for,
    beyond_accuracy,
    refuse_impossible,
    refuse_unshowable_accuracy,
)
from synth.space.parent import ElasticParent
from synth.space.prices import Prices
from synth.space.space import (
    ACTIVATION,
    ATTENTION,
    BLOCK,
    LINEAR,
    LOOKING,
    NONLINEARITY,
    USUAL_CHOICES,
    WIDTH,
    Choices,
    NetworkSpace,
    width_choices,
)
from synth.training.evaluation import Metrics

WORDS = ("img_per_joule >= 1 @ batch=8", "latency <= 1000 ms", "energy <= 5 J @ board", "throughput >= 1 @ batch=4",
         "power <= 100 W", "size <= 1 GB", "peak_memory <= 1 GB")


SWISH = Choices(OPERATORS, nonlinearities=("hardswish",))
ATTENTIVE = Choices(OPERATORS, nonlinearities=("hardswish",), attention=True)
with_all_choices = pytest.mark.parametrize(
    "choices, expansion", [(USUAL_CHOICES, 1), (SWISH, 3), (ATTENTIVE, 1), (ATTENTIVE, 3)],
    ids=["usual", "swish", "attentive", "wide"])


@functools.cache
def space_of(name, words=WORDS, choices=USUAL_CHOICES, expansion=1):
    network, weights = trace(module_zoo.make(name), module_zoo.INPUT_SHAPE, name)
    parent = ElasticParent(network, weights).widened(expansion)
    random = np.random.default_rng(0)
    order = order_of_units(parent.channels, random.random(len(parent.channels.keep_all())))
    return NetworkSpace(parent, order, Prices(Requirements.parse(words), resolve_target("tx2")), choices)


def some_rows(space, count, seed=0):
    random = np.random.default_rng(seed)
    rows = np.stack([random.integers(len(site.choices), size=count) for site in space.sites], axis=1)
    rows[0] = [len(site.choices) - 1 for site in space.sites]
    return space.canonical(rows)


@with_all_choices
@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_parameters_macs_and_bytes_are_exact_for_every_structure(name, choices, expansion):
    space = space_of(name, choices=choices, expansion=expansion)
    rows = some_rows(space, 12)
    found = space.costs(rows)
    for i, row in enumerate(rows):
        network, _ = space.parent.draw(space.design(row))
        exact = costs(network)
        assert found["params"][i] == exact.params
        assert found["macs"][i] == exact.macs
        assert found["size"][i] == exact.weight_bytes
        assert found["peak_memory"][i] == exact.peak_memory_bytes


def test_a_prototype_without_anything_to_decide_is_refused():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    parent = ElasticParent(*trace(module, module_zoo.INPUT_SHAPE, "flat"))
    with pytest.raises(UserError, match="leaves nothing to decide"):
        NetworkSpace(parent, {}, Prices(Requirements.parse(()), resolve_target("tx2")))


def test_choices_on_disk_are_words():
    space = space_of("resnet")
    row = tuple(int(choice) for choice in some_rows(space, 3)[2])
    words = to_words(space.sites, row)
    assert from_words(space.sites, words) == row and set(words) & {"dense", "separable", "project", "pointwise"}
    for spoilt in (words[1:], [*words[:-1], "no such choice"]):
        with pytest.raises(UserError, match="decided on other things"):
            from_words(space.sites, spoilt)


@with_all_choices
@pytest.mark.parametrize("name", ["vgg", "resnet", "mobilenet_v2", "squeeze_excite", "encoder_decoder", "triple"])
def test_predictions_for_many_are_those_for_one(name, choices, expansion):
    compare_predictions(space_of(name, choices=choices, expansion=expansion), count=60, seed=0, tolerance=1e-9)


@pytest.mark.parametrize("name", ["densenet", "shufflenet_v2", "preactivation", "functional", "shape_controlled"])
@with_all_choices
def test_where_fusion_depends_on_the_choice_predictions_for_many_are_near(name, choices, expansion):
    """Merged siblings and norms that lose their partner are seen only in the drawn graph, which 1r is decided on."""
    compare_predictions(space_of(name, choices=choices, expansion=expansion), count=8, seed=2, tolerance=0.15)


def compare_predictions(space, count, seed, tolerance):
    rows = some_rows(space, count, seed)
    found = space.costs(rows)
    for i, row in enumerate(rows):
        network, _ = space.parent.draw(space.design(row))
        for item in space.prices.requirements.on_costs:
            wanted = space.prices.reading(item, network).value
            assert found[item.key][i] == pytest.approx(wanted, rel=tolerance), item


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2"])
def test_canonical_rows_that_differ_are_networks_that_differ(name):
    space = space_of(name)
    rows = np.unique(some_rows(space, 60, seed=3), axis=0)
    digests = {space.parent.draw(space.design(row))[0].digest for row in rows}
    assert len(digests) == len(rows)


def test_decisions_inside_a_dropped_block_make_no_difference():
    space = space_of("resnet")
    block = next(i for i, place in enumerate(space.places) if place.kind == BLOCK)
    rows = some_rows(space, 20, seed=4)
    rows[:, block] = 0
    free = [column for at, inner in space._inside if at == block for column in inner]
    assert free
    other = rows.copy()
    other[:, free] = 0
    assert np.array_equal(space.canonical(rows), space.canonical(other))
    assert np.array_equal(space.costs(rows)["macs"], space.costs(other)["macs"])


@with_all_choices
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2", "preactivation", "triple"])
def test_the_canonical_decisions_make_the_same_network(name, choices, expansion):
    space = space_of(name, choices=choices, expansion=expansion)
    random = np.random.default_rng(5)
    rows = np.stack([random.integers(len(site.choices), size=40) for site in space.sites], axis=1)
    for row, same in zip(rows, space.canonical(rows), strict=True):
        assert space.parent.draw(space.design(row))[0] == space.parent.draw(space.design(same))[0]


def test_a_nonlinearity_is_decided_on_until_all_of_its_activations_are_gone():
    """Two blocks whose activations, before the convolutions, are the only ones of their size."""
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv = torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 8, 3, padding=1, bias=False)

        def forward(self, x):
            return x + self.conv(torch.relu(self.norm(x)))

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), Block(), Block(), torch.nn.AdaptiveAvgPool2d(1),
                                 torch.nn.Flatten(), torch.nn.Linear(8, 10))
    parent = ElasticParent(*trace(module, module_zoo.INPUT_SHAPE, "linear"))
    order = order_of_units(parent.channels, np.zeros(len(parent.channels.keep_all())))
    space = NetworkSpace(parent, order, Prices(Requirements(), resolve_target("tx2")), SWISH)
    kinds = [place.kind for place in space.places]
    first, second = (column for column, kind in enumerate(kinds) if kind == BLOCK)
    swish = np.array(space.own)
    swish[kinds.index(NONLINEARITY)] = 0
    for dropped, own in (((), False), ((first,), False), ((second,), False), ((first, second), True)):
        row = swish.copy()
        row[list(dropped)] = 0
        assert (space.canonical(row[None])[0] == space.own)[kinds.index(NONLINEARITY)] == own


def test_an_activation_behind_an_addition_is_left_out_at_no_cost():
    space = space_of("resnet")
    row = some_rows(space, 1)[0]
    active = [column for column, place in enumerate(space.places) if place.kind == ACTIVATION]
    assert active and all(space.sites[column].choices == (LINEAR, "relu") for column in active)
    linear = row.copy()
    linear[active] = space.sites[active[0]].choices.index(LINEAR)
    networks = [space.parent.draw(space.design(decisions))[0] for decisions in (row, linear)]
    gone = {v.name for v in networks[0].vertices} - {v.name for v in networks[1].vertices}
    assert gone == {space.places[column].name for column in active}
    found = space.costs(np.stack([row, linear]))
    assert all(values[0] == pytest.approx(values[1]) for values in found.values())
    assert (space.summary(np.stack([row, linear]))[:, -1] == [1.0, 0.0]).all()


def test_another_nonlinearity_costs_a_launch_each_and_nothing_else():
    space = space_of("resnet", choices=SWISH)
    places = {place.name: column for column, place in enumerate(space.places) if place.kind == NONLINEARITY}
    sizes = {space.parent.network.shapes[name][1:] for name in places}
    assert len(places) == len(sizes) > 1  # one a map size
    own = np.array([len(site.choices) - 1 for site in space.sites])
    for name, column in places.items():
        assert space.sites[column].choices == ("hardswish", "relu")
        row = own.copy()
        row[column] = 0
        network, _ = space.parent.draw(space.design(row))
        changed = [v.name for v in network.vertices if v.attrs.get("kind") == "hardswish"]
        assert set(changed) == {v.name for v in network.vertices if v.op == "activation"
                                and network.shapes[v.name][1:] == network.shapes[name][1:]}
        costs = space.costs(np.stack([own, row]))
        assert costs["params"][0] == costs["params"][1] and costs["macs"][0] == costs["macs"][1]
        launches = [active.sum() for active in space.layers(np.stack([own, row])).active]
        assert launches[1] - launches[0] == len(changed)
        check(build(network))


def test_attention_costs_two_launches_and_two_parameters_a_channel():
    space = space_of("resnet", choices=ATTENTIVE)
    own = np.array(space.own)
    columns = [column for column, place in enumerate(space.places) if place.kind == ATTENTION]
    assert [space.places[column].name for column in columns] == list(space.parent.into_additions)
    for column in columns:
        row = own.copy()
        row[column] = 0
        network, _ = space.parent.draw(space.design(row))
        name = space.places[column].name
        both = np.stack([own, row])
        costs = space.costs(both)
        assert costs["params"][1] - costs["params"][0] == 2 * network.shapes[f"{name}.excite"][0] > 0
        assert costs["macs"][0] == costs["macs"][1] and costs["latency@1"][1] > costs["latency@1"][0]
        launches = [active.sum() for active in space.layers(both).active]
        assert launches[1] - launches[0] == 2
    everywhere = own.copy()
    everywhere[columns] = 0
    assert (space.summary(np.stack([own, everywhere]))[:, -1] == [1.0, 0.0]).all()
    assert not (space.smallest()[:, columns] == 0).any()


def test_the_activation_of_a_dropped_block_makes_no_difference():
    space = space_of("resnet")
    column, addition = next((i, p.name) for i, p in enumerate(space.places) if p.kind == BLOCK)
    activation = next(b.exit for b in space.parent.blocks if b.addition == addition)
    row = some_rows(space, 1)[0]
    row[column] = 0
    other = row.copy()
    other[[place.name for place in space.places].index(activation)] = 0
    assert np.array_equal(space.canonical(row[None]), space.canonical(other[None]))


def test_a_space_may_have_fewer_choices():
    fewer = Choices(("pointwise", "separable", "project", "dense"), activations=False, blind=True)
    space, whole = space_of("resnet", choices=fewer), space_of("resnet")
    assert {site.choices for site in space.sites if site.kind == "operator"} == {fewer.operators}
    assert [site.name for site in whole.sites if site.kind != ACTIVATION] == [site.name for site in space.sites]
    row = some_rows(space, 1)[0]
    operators = [column for column, site in enumerate(space.sites) if site.kind == "operator"]
    for choice, name in enumerate(fewer.operators):
        row[operators] = choice
        network, _ = space.parent.draw(space.design(row))
        assert set(space.design(row).operators.values()) == {name}
        assert space.costs(row[None])["macs"][0] == costs(network).macs


def test_every_site_describes_itself_alike_and_the_last_choice_is_the_parents_own():
    space = space_of("densenet")
    assert len({len(site.descriptor) for site in space.sites}) == 1
    whole = tuple(len(site.choices) - 1 for site in space.sites)
    network, _ = space.parent.draw(space.design(whole))
    assert network.digest == space.parent.network.digest
    looking = {site.choices for site in space.sites if site.kind == LOOKING}
    assert looking == {tuple(name for name in USUAL_CHOICES.operators if name != "pointwise")}


def test_only_a_blind_space_makes_all_convolutions_pointwise():
    space, blind = space_of("resnet"), space_of("resnet", choices=Choices(blind=True))
    where = {site.name: site.choices for site in space.sites if site.choices[-1] == "dense"}
    narrow = {name for name, choices in where.items() if "pointwise" in choices}
    assert narrow == {"layer1.0.conv1/operator", "layer1.1.conv1/operator", "layer2.1.conv1/operator"}
    assert [site.name for site in blind.sites] == [site.name for site in space.sites]
    usual = USUAL_CHOICES.operators
    assert {blind.sites[i].choices for i, site in enumerate(space.sites) if site.name in where} == {usual}
    row = [len(site.choices) - 1 if site.kind == BLOCK else 0 for site in space.sites]
    operators = space.design(row).operators  # the cheapest that each site has
    assert {name for name, choice in operators.items() if choice == "pointwise"} == {
        name.removesuffix("/operator") for name in narrow}
    assert {*operators.values()} == {"pointwise", "separable"}


@pytest.mark.parametrize("expansion", [1, 2, 3])
def test_a_space_knows_the_prototype(expansion):
    """However much wider its networks may be."""
    network, _ = trace(module_zoo.make("resnet"), module_zoo.INPUT_SHAPE, "resnet")
    space = space_of("resnet", expansion=expansion)
    assert space.parent.draw(space.design(space.own))[0].digest == network.digest
    drawn = {tuple(row) for row in scaled_networks(space).tolist()}
    last = tuple(len(site.choices) - 1 for site in space.sites)
    assert {space.own, last} <= drawn and (expansion == 1) == (last == space.own)
    widest = max(int(site.choices[-1]) for site in space.sites if site.kind == WIDTH)
    assert widest == expansion * 24 and (expansion > 1) == any(
        choice < len(site.choices) - 1 for site, choice in zip(space.sites, space.own, strict=True))


def test_behind_what_strides_a_network_may_stop_looking_where_it_can_be_inverted():
    usual, whole = space_of("resnet"), space_of("resnet", choices=SWISH)
    more = {site.name for site, before in zip(whole.sites, usual.sites, strict=False)
            if "pointwise" in site.choices and "pointwise" not in before.choices}
    assert more == {"layer2.0.conv2/operator", "layer3.0.conv2/operator"}
    for site, before in zip(whole.sites, usual.sites, strict=False):
        assert {*site.choices} - {*before.choices} <= {"inverted", "pointwise"}


def test_summary_has_one_row_a_network_on_comparable_scales():
    space = space_of("mobilenet_v2")
    summary = space.summary(some_rows(space, 30, seed=5))
    assert summary.shape == (30, 6 + len(USUAL_CHOICES.operators)) and np.isfinite(summary).all()


@pytest.mark.parametrize("width, choices", [
    (64, (8, 16, 24, 32, 40, 48, 56, 64)), (16, (4, 8, 12, 16)), (10, (2, 4, 6, 8, 10)), (3, (2, 3)), (2, (2,))])
def test_width_choices(width, choices):
    assert width_choices(width, width) == choices


def test_the_prototypes_own_width_is_among_wider_ones():
    assert width_choices(10, 20) == (2, 4, 6, 8, 10, 14, 16, 18, 20)
    assert width_choices(64, 128)[-5:] == (64, 80, 96, 112, 128)


@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_a_wider_space_has_all_that_the_narrow_one_has(name):
    """And what a block that comes back is like does not depend on how wide it might be."""
    narrow, wide = space_of(name), space_of(name, expansion=2)
    chosen = {site.name: site.choices for site in narrow.sites}
    for site in wide.sites:
        own = chosen[site.name]
        assert site.choices[:len(own)] == own if site.kind == WIDTH else site.choices == own
    rows = some_rows(narrow, 6)
    words = [to_words(narrow.sites, row) for row in rows]
    same = np.array([from_words(wide.sites, row) for row in words])
    assert np.array_equal(wide.canonical(same), same)
    assert np.array_equal(wide.costs(same)["params"], narrow.costs(rows)["params"])
    smallest = [[to_words(space.sites, row) for row in space.smallest().tolist()] for space in (narrow, wide)]
    assert smallest[0] == smallest[1]


def test_the_best_in_a_metric_is_no_worse_than_any_of_many():
    space = space_of("resnet")
    rows = some_rows(space, 300, seed=6)
    for item in space.prices.requirements.on_costs[:3]:
        best = space.prices.reading(item, best_for(space, item)).value
        values = space.costs(rows)[item.key]
        assert best >= values.max() if item.lower else best <= values.min()


@pytest.mark.parametrize("words, named", [
    (("params <= 5",), "params <= 5"), (("img_per_joule >= 1000000",), "img_per_joule"),
    (("macs <= 10M", "latency <= 1 us"), "latency")])
def test_what_no_network_meets_is_refused_by_name_with_the_best_in_reach(words, named):
    with pytest.raises(UserError, match=named) as caught:
        refuse_impossible(space_of("resnet", words))
    assert "best that this space can reach" in str(caught.value)


def test_of_two_bounds_of_one_metric_each_has_its_own_best():
    """The best parameter count is the least for one and the greatest for the other."""
    space = space_of("resnet")
    whole = costs(space.parent.network).params
    words = f"params <= {whole // 2}", f"params >= {whole // 4}"
    refuse_impossible(space_of("resnet", words))
    refuse_impossible(space_of("resnet", words[::-1]))


def test_an_accuracy_that_no_split_of_this_size_can_show_is_refused():
    refuse_unshowable_accuracy(Requirements.parse(("accuracy >= 95 %",)), 100)
    with pytest.raises(UserError, match="cannot be shown on 100 validation images"):
        refuse_unshowable_accuracy(Requirements.parse(("accuracy >= 99 %",)), 100)


def test_an_accuracy_is_beyond_reach_only_of_the_better_of_prototype_and_teachers():
    better, worse = (Metrics(0.3, -1.2, 0.1, share, share_error(share, 5000), 5000) for share in (0.937, 0.907))
    asked = Requirements.parse(("accuracy >= 91.2 %",)).with_margins(5000)
    assert beyond_accuracy(asked, better) is None and beyond_accuracy(Requirements(), worse) is None
    assert "the prototype itself reaches 90.7 %" in beyond_accuracy(asked, worse)
    assert beyond_accuracy(asked, worse, better) is None
    assert "reaches 90.7 %, its teachers 90.7 %" in beyond_accuracy(asked, worse, worse)


def test_a_group_with_one_width_is_no_site():
    """What has one choice is no decision."""
    space = space_of("shufflenet_v2")
    assert any(group.width == 2 and not group.frozen for group in space.parent.channels.groups)
    assert all(len(site.choices) > 1 for site in space.sites)


def test_requirements_that_cannot_hold_together_are_refused():
    """Each is within reach alone: the least parameters, and as many MACs as the prototype has."""
    space = space_of("resnet")
    table = space.costs(np.concatenate([space.smallest(), some_rows(space, 1)]))
    words = (f"params <= {int(table['params'].min())}", f"macs >= {int(table['macs'][-1])}")
    for alone in words:
        refuse_impossible(space_of("resnet", (alone,)))
    with pytest.raises(UserError, match="all requirements at once"):
        refuse_impossible(space_of("resnet", words))


@pytest.mark.parametrize("words, value, percent", [
    ("latency <= 10 ms", 30.0, 200.0), ("latency <= 10 ms", 11.0, 10.0), ("img_per_joule >= 60", 45.0, 25.0)])
def test_what_is_missed_is_said_as_a_share_of_the_bound(words, value, percent):
    item = Requirement.parse(words)
    assert _missed_percent(item, float(item.slack(value))) == pytest.approx(percent)


def test_width_sites_name_real_groups():
    space = space_of("shufflenet_v2")
    groups = {group.name for group in space.parent.channels.groups}
    assert {place.name for place in space.places if place.kind == WIDTH} <= groups
    check(build(space.parent.draw(space.design(some_rows(space, 2)[1]))[0]))
