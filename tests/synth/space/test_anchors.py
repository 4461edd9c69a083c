"""The networks that a search begins with: between φ and the smallest, of three kinds."""

import module_zoo
import numpy as np
import pytest

from devices.board import resolve_target
from synth.networks.costs import costs
from synth.networks.module import build, check
from synth.networks.rewriting import OPERATORS
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.probing.probing import order_of_units
from synth.prototypes.resnet import ResNet
from synth.space.anchors import anchors
from synth.space.parent import ElasticParent
from synth.space.prices import Prices
from synth.space.space import BLOCK, DROP, OPERATOR, USUAL_CHOICES, Choices, NetworkSpace


def space_of(module, shape, choices=USUAL_CHOICES, expansion=1):
    parent = ElasticParent(*trace(module, shape, "net")).widened(expansion)
    order = order_of_units(parent.channels, np.zeros(len(parent.channels.keep_all())))
    return NetworkSpace(parent, order, Prices(Requirements.parse(()), resolve_target("tx2")), choices)


@pytest.fixture(scope="module")
def space():
    return space_of(ResNet(3, 10, widths=(8, 16), blocks=4), (3, 8, 8))


def test_anchors_lie_between_and_have_few_blocks(space):
    kept = []
    for row in anchors(space):
        network, _ = space.parent.draw(space.design(row))
        assert costs(network).params < costs(space.parent.network).params / 4
        blocks = [site.choices[c] for site, c in zip(space.sites, row, strict=True) if site.kind == BLOCK]
        kept.append([choice != DROP for choice in blocks])
    assert kept == [[True, False] * 3 + [True], [True] + [False] * 6, [True, False] * 3 + [True]]


def test_the_third_has_inverted_residuals(space):
    row = anchors(space)[2]
    network, _ = space.parent.draw(space.design(row))
    made = {place.name: site.choices[c] for place, site, c in zip(space.places, space.sites, row, strict=True)
            if place.kind == OPERATOR}
    assert made["stem.0"] == "dense"
    assert made["stages.0.0.conv1"] == "pointwise" and made["stages.0.0.conv2"] == "separable relu"
    assert made["stages.1.0.conv1"] == "separable"  # its stride would pass over three of four inputs
    assert network.shapes["stages.0.0.conv1"][0] == 8 > network.shapes["stages.0.0.conv2"][0]
    assert all(network[reader].op != "activation" for v in network.vertices if v.op == "add"
               for reader in network.readers[v.name])
    check(build(network))


def test_inverted_residuals_have_another_nonlinearity_and_attention_where_they_may():
    own = Choices(nonlinearities=("hardswish",), attention=True)
    space = space_of(ResNet(3, 10, widths=(8, 16), blocks=4), (3, 8, 8), own)
    networks = [space.parent.draw(space.design(row))[0] for row in anchors(space)]
    kinds = [{v.attrs["kind"] for v in network.vertices if v.op == "activation"} for network in networks]
    assert kinds == [{"relu"}, {"relu"}, {"hardswish", "hardsigmoid"}]
    attended = [name for name in space.parent.into_additions if f"{name}.gated" in networks[2]]
    assert attended == [name for name in space.parent.into_additions if name in networks[2]] != []


def test_where_there_is_more_width_inside_inverted_residuals_alone_have_it():
    network, own = ResNet(3, 10, widths=(32, 64), blocks=4), Choices(nonlinearities=("hardswish",))
    plain, wide = space_of(network, (3, 8, 8), own), space_of(network, (3, 8, 8), own, 2)
    drawn = [[s.parent.draw(s.design(row))[0].shapes for row in anchors(s)] for s in (plain, wide)]
    assert drawn[0][:2] == drawn[1][:2]
    inside, between = ([space[2][name][0] for space in drawn] for name in ("stages.1.0.conv1", "stages.1.0.conv2"))
    assert inside == [64, 96] and between == [40, 40]


def test_where_there_is_more_width_inverted_residuals_leave_the_largest_map_alone():
    space = space_of(ResNet(3, 10, widths=(8, 16, 32), blocks=3), (3, 16, 16), expansion=2)
    row = anchors(space)[2]
    kept = {site.name: site.choices[c] for site, c in zip(space.sites, row, strict=True) if site.kind == BLOCK}
    assert {name for name, choice in kept.items() if choice == DROP} == {
        f"stages.0.{i}.add/block" for i in range(3)} < kept.keys()
    whole = space_of(ResNet(3, 10, widths=(8, 16), blocks=2), (3, 16, 16), Choices(OPERATORS), 2)
    network, _ = whole.parent.draw(whole.design(anchors(whole)[2]))
    assert [v.name for v in network.vertices if v.name.startswith("stages.1.0.") and v.op == "conv"] == [
        "stages.1.0.conv1.pointwise", "stages.1.0.conv1", "stages.1.0.conv2", "stages.1.0.shortcut.0"]
    assert network["stages.1.0.conv1"].attrs["depthwise"] and network["stages.1.0.conv2"].attrs["kernel"] == [1, 1]
    alike = space_of(ResNet(3, 10, widths=(8,), blocks=4), (3, 16, 16), expansion=2)
    assert [alike.sites[i].choices[c] != DROP for i, c in enumerate(anchors(alike)[2]) if alike.sites[i].kind == BLOCK
            ] == [True, False, True, False]


@pytest.mark.parametrize("expansion", [1, 2])
@pytest.mark.parametrize("name", module_zoo.ZOO)
def test_every_structure_has_anchors(name, expansion):
    space = space_of(module_zoo.make(name), module_zoo.INPUT_SHAPE, expansion=expansion)
    found = anchors(space)
    assert len(found) == 3
    for row in found:
        check(build(space.parent.draw(space.design(row))[0]))


def test_a_space_that_cannot_say_inverted_residuals_has_two():
    fewer = Choices(("pointwise", "separable", "project", "dense"), activations=False, blind=True)
    assert len(anchors(space_of(module_zoo.make("resnet"), module_zoo.INPUT_SHAPE, fewer))) == 2
