"""Drawings are sound SVG, show every vertex, stay inside their frame and escape what they are told."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from chain_network import CONV, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.networks.drawing import draw
from synth.networks.network import Network, Vertex

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def words(root):
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def check_frame(root):
    _, _, width, height = map(float, root.get("viewBox").split())
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and w > 0 and x + w <= width + 0.1 and y + h <= height
    for text in root.iter(f"{SVG}text"):
        # 6.2 units a letter is what 12 px sans-serif takes
        left = float(text.get("x")) - (3.1 * len(text.text or "") if text.get("text-anchor") else 0)
        assert left >= 0 and left + 6.2 * len(text.text or "") <= width + 30


def test_every_vertex_is_named_somewhere():
    before, after = chain(), chain(width=9, separable=True)
    root = parsed(draw(after, before, titles=("φ", "FermiNet-A")))
    titles = " ".join("".join(title.itertext()) for title in root.iter(f"{SVG}title"))
    for vertex in (*before.vertices, *after.vertices):
        assert vertex.name in titles
    assert "16 → 9 channels" in words(root) and "φ" in words(root) and "FermiNet-A" in words(root)
    check_frame(root)


def test_removed_vertices_stay_visible_and_are_marked():
    root = parsed(draw(chain(block=False), chain()))
    assert words(root).count("removed") == 2
    assert sum("gone" in (rect.get("class") or "") for rect in root.iter(f"{SVG}rect")) == 2


def test_a_narrower_bar_shows_the_width_before():
    root = parsed(draw(chain(width=8), chain(width=16)))
    ghosts = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "ghost"]
    assert len(ghosts) == 5  # all but the input and the head
    group = next(group for group in root.iter(f"{SVG}g") if any(rect.get("class") == "ghost" for rect in group))
    ghost, bar = (float(rect.get("width")) for rect in group.iter(f"{SVG}rect"))
    assert ghost == pytest.approx(2 * bar, abs=0.2)


def test_one_network_alone():
    root = parsed(draw(chain()))
    assert "added" not in words(root)
    check_frame(root)


def test_what_the_inquisitor_saw_stands_beside_its_vertex():
    root = parsed(draw(chain(), chain(), insights={"stem.bn": "uses 9 of 16 channels"}))
    y = {text.text: float(text.get("y")) for text in root.iter(f"{SVG}text")}
    assert y["uses 9 of 16 channels"] == y["stem"]


@settings(max_examples=40)
@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn", "Co"]), min_size=1, max_size=60))
def test_wild_names_are_escaped(name):
    network = Network((Vertex(name, "input", {"shape": [3, 8, 8]}), Vertex(name + "y", "conv", CONV, (name,))),
                      (name + "y",))
    parsed(draw(network, network, titles=(name, name), insights={name: name}))
    assert "<script" not in draw(network, titles=("", "<script>"))


def test_a_long_network_with_many_skips_stays_readable():
    vertices = [Vertex("input", "input", {"shape": [3, 8, 8]}), Vertex("conv0", "conv", CONV, ("input",))]
    for i in range(1, 75):
        vertices.append(Vertex(f"conv{i}", "conv", CONV, (vertices[-1].name,)))
        vertices.append(Vertex(f"add{i}", "add", {}, (f"conv{i}", f"conv{max(0, i - 12)}")))
    network = Network(tuple(vertices), (vertices[-1].name,))
    svg = draw(network, network)
    root = parsed(svg)
    check_frame(root)
    rows = sorted(float(text.get("y")) for text in root.iter(f"{SVG}text") if re.fullmatch(r"conv\d+", text.text or ""))
    assert len(rows) == 75 and min(b - a for a, b in itertools.pairwise(rows)) >= 20
    assert len(svg) < 200_000


def test_nothing_is_fetched():
    svg = draw(chain(), chain(width=8))
    assert not re.search(r"(href|src|url\()", svg.replace('xmlns="http://www.w3.org/2000/svg"', ""))
