"""1r: slacks and verdicts, the set's vectorised view, contradictions, and what no network of the space can reach."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.support.errors import UserError
from devices.support.reading import Reading
from synth.objective.requirements import LIMIT, NO, UNCERTAIN, YES, Requirement, Requirements
from synth.objective.share import share_error
from synth.run.finishing import accuracy_reading
from synth.training.evaluation import Metrics

positive = st.floats(1e-6, 1e12, allow_nan=False)
share = st.floats(0.01, 1.0)


def computed(value, unit="", **more):
    return Reading(value, unit, "computed", "the graph", **more)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("accuracy >= 89%", "accuracy"),
        ("params <= 100k", "params"),
        ("latency_p99 <= 10 ms", "latency_p99@1"),
        ("latency <= 10 ms @ batch=4", "latency@4"),
        ("img_per_joule >= 60 @ batch=8", "img_per_joule@8:module"),
        ("energy <= 20 mJ @ board", "energy@1:board"),
        ("peak_memory <= 4 MB", "peak_memory"),
    ],
)
def test_the_key_names_the_cost(text, key):
    assert Requirement.parse(text).key == key


@given(bound=positive, value=positive, relation=st.sampled_from([">=", "<="]))
def test_slack_has_the_sign_of_the_comparison(bound, value, relation):
    slack = float(Requirement("macs", relation, bound).slack(value))
    assert (slack >= 0) == (value >= bound if relation == ">=" else value <= bound)
    assert abs(slack) <= LIMIT


@given(bound=share, value=st.floats(0.0, 1.0))
def test_slack_of_accuracy_has_the_sign_of_the_comparison(bound, value):
    slack = float(Requirement("accuracy", ">=", bound).slack(value))
    assert (slack >= 0) == (value >= bound)
    assert math.isfinite(slack)


def test_slack_is_relative():
    latency = Requirement.parse("latency <= 10 ms")
    assert float(latency.slack(5.0)) == pytest.approx(math.log(2)) == -float(latency.slack(20.0))
    accuracy = Requirement.parse("accuracy >= 90%")
    assert float(accuracy.slack(0.95)) == pytest.approx(math.log(2), rel=2e-3)  # half the errors that are allowed


def test_slack_of_nothing_finite():
    latency = Requirement.parse("latency <= 10 ms")
    assert latency.slack([-1.0, 0.0, math.inf, math.nan]).tolist() == [LIMIT, LIMIT, -LIMIT, -LIMIT]


def test_judging_an_exact_reading():
    verdict = Requirement.parse("params <= 100k").judge(computed(100_000))
    assert (verdict.holds, verdict.slack, verdict.margin) == (YES, 0.0, 0.0)
    assert Requirement.parse("params <= 100k").judge(computed(100_001)).holds == NO


@pytest.mark.parametrize(("value", "holds"), [(8.0, YES), (9.9, UNCERTAIN), (10.1, UNCERTAIN), (12.0, NO)])
def test_judging_an_estimate_wants_one_standard_error(value, holds):
    low, high = value - 1.959964 * 0.5, value + 1.959964 * 0.5
    verdict = Requirement.parse("latency <= 10 ms").judge(Reading(value, "ms", "predicted", "a model", low, high))
    assert verdict.holds == holds
    assert verdict.margin == pytest.approx(0.5 / value, rel=0.1)


@pytest.mark.parametrize(("images", "bound"), [(50, 0.9), (100, 0.99), (360, 0.96), (5000, 0.8)])
def test_an_accuracy_within_one_standard_error_of_its_bound_is_uncertain_on_either_side(images, bound):
    requirement, found = Requirement("accuracy", ">=", bound), set()
    for right in range(images // 2, images + 1):
        seen, error = right / images, share_error(right / images, images)
        holds = requirement.judge(accuracy_reading(Metrics(1.0, 0.0, 0.0, seen, error, images), "validation")).holds
        assert holds == (YES if seen - error >= bound else NO if seen + error < bound else UNCERTAIN), seen
        found.add(holds)
    assert {NO, UNCERTAIN} <= found


def test_judging_converts_units():
    assert Requirement.parse("latency <= 10 ms").judge(computed(0.009, "s")).holds == YES
    assert Requirement.parse("accuracy >= 89%").judge(computed(89.5, "%")).holds == YES
    energy = Requirement.parse("energy <= 20 mJ @ board")
    assert energy.judge(computed(0.03, "J/image", scope="board")).holds == NO


def test_a_module_reading_does_not_answer_for_the_board():
    with pytest.raises(ValueError, match="board"):
        Requirement.parse("energy <= 20 mJ @ board").judge(computed(1.0, "mJ", scope="module"))


def test_exact_is_vectorised_over_networks():
    requirements = Requirements.parse(["accuracy >= 89%", "params <= 100k", "img_per_joule >= 60 @ batch=8"])
    assert requirements.keys == ("params", "img_per_joule@8:module")
    costs = {"params": np.array([50e3, 200e3]), "img_per_joule@8:module": np.array([60.0, 120.0])}
    slack = requirements.cost_slack(costs)
    assert slack.shape == (2, 2)
    assert slack == pytest.approx(np.array([[math.log(2), 0.0], [-math.log(2), math.log(2)]]))


def test_exact_takes_its_margin_from_what_is_predicted():
    requirements = Requirements.parse(["energy <= 20 mJ"]).with_margins(1000, {"energy@1:module": 0.1})
    at_bound = {"energy@1:module": np.array([20.0])}
    assert requirements.cost_slack(at_bound)[0, 0] == pytest.approx(-0.1)
    assert requirements.cost_slack(at_bound, relative_sigma={})[0, 0] == 0.0


def test_exact_of_nothing_required():
    assert Requirements().cost_slack({"params": np.ones(3)}).shape == (3, 0)


def test_exact_names_a_missing_cost():
    with pytest.raises(ValueError, match="macs"):
        Requirements.parse(["macs <= 1M"]).cost_slack({"params": np.ones(3)})


@given(bound=share, images=st.integers(50, 10_000))
def test_the_accuracy_bound_clears_its_standard_error(bound, images):
    requirements = Requirements((Requirement("accuracy", ">=", bound),)).with_margins(images)
    v = requirements.accuracy_bound
    assert bound <= v <= 1.0
    if v < 1:
        assert v - share_error(v, images) == pytest.approx(bound, abs=1e-6)


@given(bound=st.floats(0.05, 0.999), images=st.integers(20, 10_000), missing=st.integers(0, 20))
def test_what_counts_as_holding_in_the_search_is_what_is_judged_to_hold(bound, images, missing):
    right = images - min(missing, images)
    requirements = Requirements((Requirement("accuracy", ">=", bound),)).with_margins(images)
    verdict = requirements.items[0].judge(accuracy_reading(metrics_of(right, images), "validation"))
    if requirements.accuracy_bound < 1 and abs(right / images - requirements.accuracy_bound) > 1e-9:
        assert (verdict.holds == YES) == (right / images > requirements.accuracy_bound)


def metrics_of(right, images):
    return Metrics(0.1, math.log(0.1), 0.1, right / images, share_error(right / images, images), images)


def test_the_accuracy_bound_without_a_split_or_a_requirement():
    assert Requirements.parse(["accuracy >= 89%"]).accuracy_bound == 0.89
    assert Requirements.parse(["params <= 1k"]).accuracy_bound is None


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["params <= 1k", "params <= 2k"], "twice"),
        (["energy <= 1 mJ @ batch=1", "energy <= 2 mJ @ module"], "twice"),
        (["params <= 1k", "params >= 2k"], "contradict"),
        (["energy >= 20 mJ", "img_per_joule >= 60"], "contradict"),
        (["energy <= 10 mJ @ board", "img_per_joule <= 99 @ board"], "contradict"),
    ],
)
def test_sets_that_make_no_sense_are_refused(texts, word):
    with pytest.raises(UserError, match=word) as caught:
        Requirements.parse(texts)
    assert all(text.split(" ")[0] in str(caught.value) for text in texts)


@pytest.mark.parametrize(
    "texts",
    [
        ["params <= 2k", "params >= 1k"],
        ["params <= 1k", "params >= 1k"],
        ["energy <= 10 mJ", "energy <= 20 mJ @ board", "energy <= 8 mJ @ batch=8"],
        ["energy <= 10 mJ", "img_per_joule >= 60"],
    ],
)
def test_sets_that_make_sense_are_taken(texts):
    assert len(Requirements.parse(texts)) == len(texts)


def test_what_the_space_cannot_reach_is_named_with_the_best():
    requirements = Requirements.parse(["params <= 1k", "macs <= 1M", "energy <= 5 mJ", "params >= 10"])
    sentences = requirements.infeasible(
        {
            "params": computed(1234),
            "macs": computed(9e5),
            "energy@1:module": Reading(9.0, "mJ", "predicted", "tx2 model", 8.0, 10.0, "module"),
        }
    )
    assert len(sentences) == 2
    assert "params <= 1 k" in sentences[0] and "1.23 k" in sentences[0]
    assert "energy" in sentences[1] and "9.00 mJ (predicted)" in sentences[1]


def test_within_the_error_of_a_prediction_nothing_is_refused():
    best = Reading(5.1, "mJ", "predicted", "tx2 model", 4.0, 6.2, "module")
    assert Requirements.parse(["energy <= 5 mJ"]).infeasible({"energy@1:module": best}) == []


def test_json_round_trip():
    requirements = Requirements.parse(["accuracy >= 89.5%", "energy <= 20 mJ @ batch=8, board"])
    assert Requirements.from_json(requirements.to_json()) == requirements
    assert str(requirements) == "accuracy >= 89.5%, energy <= 20 mJ @ batch=8, board"
