"""Fused boxes of a network, and how the boxes of two networks pair up."""

import pytest
from chain_network import CONV, POOL, chain
from hypothesis import given
from hypothesis import strategies as st

from synth.networks.boxes import ADDED, CHANGED, FOLLOWS, REMOVED, SAME, boxes, lanes, pair_up
from synth.networks.network import Network, Vertex


def test_norm_and_activation_join_the_box_of_what_they_follow():
    found = {box.name: box for box in boxes(chain())}
    assert list(found) == ["input", "stem", "conv", "add", "pool", "flatten", "head"]
    assert found["stem"].vertices == ("stem", "stem.bn", "stem.relu")
    assert (found["stem"].words, found["stem"].tail) == ("3×3", "bn relu")
    assert found["stem"].params == 3 * 9 * 16 + 16 and found["stem"].macs == 64 * 27 * 16  # folded
    assert found["add"].reads == ("conv", "stem")
    assert found["add"].kind == "join" and found["head"].kind == "linear"


def test_every_vertex_is_in_one_box():
    network = chain(separable=True)
    inside = [name for box in boxes(network) for name in box.vertices]
    assert sorted(inside) == sorted(vertex.name for vertex in network.vertices)


def test_an_activation_that_others_read_around_stays_apart():
    vertices = chain().vertices
    aside = Vertex("late", "add", {}, ("add", "stem.bn"))
    network = Network((*vertices[:6], aside, Vertex("pool", "adaptive_avg_pool", POOL, ("late",)), *vertices[7:]),
                      ("head",))
    assert "stem.relu" in {box.name for box in boxes(network)}


def test_equal_networks_do_not_differ():
    assert {row.change for row in pair_up(chain(), chain())} == {SAME}


def test_what_changed_is_said():
    rows = {row.name: row for row in pair_up(chain(), chain(width=9, separable=True))}
    assert rows["stem"].change == CHANGED and rows["stem"].what == ("16 → 9 channels",)
    assert rows["conv"].what == ("3×3 → depthwise 3×3 + 1×1", "16 → 9 channels")
    assert [box.name for box in rows["conv"].after] == ["conv.depthwise", "conv"]
    assert rows["add"].change == FOLLOWS
    assert rows["head"].change == FOLLOWS and rows["head"].what == ("reads 9 channels, was 16",)


def test_what_was_removed_or_added_stands_in_its_place():
    away = pair_up(chain(), chain(block=False))
    assert [(row.name, row.change) for row in away[2:4]] == [("conv", REMOVED), ("add", REMOVED)]
    back = pair_up(chain(block=False), chain())
    assert [(row.name, row.change) for row in back[1:4]] == [("stem", SAME), ("conv", ADDED), ("add", ADDED)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], sum(pair))), max_size=25))
def test_lanes_keep_apart_what_overlaps(spans):
    found = lanes(spans)
    for i, (first, last) in enumerate(spans):
        for j, (a, b) in enumerate(spans[:i]):
            assert found[i] != found[j] or last < a or first > b
    assert not spans or set(found) == set(range(max(found) + 1))


@pytest.mark.parametrize(
    ("op", "attrs", "words"),
    [
        ("conv", {**CONV, "stride": [2, 2]}, "3×3 /2"),
        ("conv", {**CONV, "kernel": [1, 3], "padding": [0, 1], "groups": 4, "out": 8}, "1×3 4 groups"),
        ("conv", {**CONV, "dilation": [2, 2], "padding": [2, 2]}, "3×3 dilated 2"),
        ("max_pool", {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "ceil": False}, "max 2×2 /2"),
        ("adaptive_avg_pool", {"size": [2, 2]}, "mean to 2×2"),
        ("activation", {"kind": "silu"}, "silu"),
        ("pixel_unshuffle", {"factor": 2}, "space to depth 2"),
    ],
)
def test_operations_in_words(op, attrs, words):
    network = Network((Vertex("x", "input", {"shape": [4, 8, 8]}), Vertex("y", op, attrs, ("x",))), ("y",))
    assert boxes(network)[1].words == words
