"""What a run is ordered with, and how that survives its manifest."""

from __future__ import annotations

import json

import pytest

from devices.support.errors import UserError
from synth.run.order import Order
from synth.training.recipe import changes_of, recipe_for

FULL = Order(target="tx2", requirements=("accuracy >= 90 %",), epochs=7, short_epochs=3, finalists=9,
             changes=("batch=256", "final.rate=0.014", "short.inherits=false"),
             teachers=("resnet20x2", "/a/committee/member"))


@pytest.mark.parametrize("order", [Order(target="tx2"), FULL])
def test_an_order_comes_back_from_its_manifest(order):
    assert Order.from_arguments(json.loads(json.dumps(order.arguments()))) == order


def test_what_older_versions_do_not_know_is_left_out_where_it_was_not_asked():
    later = {"epochs", "short_epochs", "finalists", "changes", "measure", "teachers"}
    assert not later & set(Order(target="tx2").arguments())


@pytest.mark.parametrize(("changes", "said"), [
    ({"epochs": 0}, "--epochs 0: it must be 1 or more"),
    ({"short_epochs": 0}, "--short-epochs 0: it must be 1 or more"),
    ({"cycles": 0}, "--cycles 0: it must be 1 to 10000"),
    ({"cycles": -1, "warm_start": "earlier"}, "--cycles -1: it must be 0 to 10000"),
    ({"finalists": 3}, "--finalists 3: 4 FermiNets are to be chosen from them"),
    ({"changes": ("batch",)}, "--set batch: NAME=VALUE is expected"),
    ({"changes": ("first.batch=3",)}, "for one of prototype, short, final"),
])  # fmt: skip
def test_what_cannot_be_ordered(changes, said):
    with pytest.raises(UserError, match=said):
        Order(target="tx2", **changes)


def test_a_change_is_of_all_recipes_or_of_one():
    assert changes_of(FULL.changes, "final") == {"batch": 256, "rate": 0.014}
    assert changes_of(FULL.changes, "short") == {"batch": 256, "inherits": False}
    asked = {"images": 1000, "size": (8, 8), "changes": FULL.changes}
    short, final = (recipe_for("digits", purpose, **asked) for purpose in ("short", "final"))
    assert (short.batch, final.batch) == (256, 256) and final.rate == 0.014 != short.rate


def test_images_may_be_shrunk_to_their_own_size_at_most():
    asked = {"images": 1000, "size": (6, 8)}
    assert recipe_for("own", "short", **asked, changes=("small_px=6",)).small_px == 6
    with pytest.raises(UserError, match=r"small_px = 7: it would enlarge images of 6 x 8 .* at most 6"):
        recipe_for("own", "short", **asked, changes=("small_px=7",))
