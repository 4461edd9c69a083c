"""What a run says of a network that is all wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from report_example import example_summary

from devices.board import resolve_target
from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.objective.share import share_error
from synth.prototypes.resnet import ResNet
from synth.report.figures import foresight
from synth.report.report import render
from synth.report.summary import FERMINET, RunSummary
from synth.run.order import Order
from synth.run.summary import _board_steps, _candidates, _cycles, _prediction_warnings, _row, observed_interval
from synth.search.link import Link
from synth.space.prices import Prices
from synth.training.evaluation import Metrics


def test_a_network_without_right_answers_has_no_netscore_and_can_be_told():
    network, _ = trace(ResNet(1, 10, widths=(2, 4), blocks=1), (1, 8, 8), "net")
    metrics = Metrics(9.0, 2.2, 0.1, 0.0, share_error(0.0, 40), 40)
    lab = SimpleNamespace(requirements=Requirements(), space=SimpleNamespace(
        prices=SimpleNamespace(shown=lambda network, batch: {})))
    results = SimpleNamespace(tested={"net": metrics}, measured={}, exported={"net": SimpleNamespace(folder="net")})
    row = _row(lab, "net", FERMINET, network, metrics, results, {})
    assert "netscore" not in row.readings and row.readings["accuracy"].value == 0
    summary = replace(example_summary(), networks=(row,))
    text = json.dumps(summary.to_json(), allow_nan=False)
    assert "net" in render(RunSummary.from_json(json.loads(text)))


def test_there_is_no_best_netscore_before_something_likely_satisfies_1r():
    reports = [SimpleNamespace(cycle=cycle, incumbent=26.8, best=best, observations=[None] * 4, feasible_share=0.5)
               for cycle, best in enumerate((None, 151.5))]
    found = _cycles(SimpleNamespace(reports=reports))
    assert [(row.best_netscore, row.evaluated) for row in found] == [(None, 4), (151.5, 8)]


def test_a_warning_of_predictions_is_given_for_every_network_and_batch_once():
    def finished(name, widths):
        network, _ = trace(ResNet(3, 10, widths=widths, blocks=1), (3, 32, 32), name)
        return SimpleNamespace(name=name, network=network)

    done = [finished("ferminet-a", (16, 32)), finished("ferminet-b", (1, 2)), finished("ferminet-c", (1, 3))]
    prices = Prices(Requirements.parse(("latency <= 9 ms", "img_per_joule >= 9 @ batch=500")), resolve_target("tx2"))
    said = _prediction_warnings(prices, done)
    names = {text.partition(": ")[2].partition(" (")[0]: text.partition(": ")[0] for text in said}
    assert len(names) == len(said)
    assert names["outside the calibrated range: batch 500"] == "ferminet-a, ferminet-b, ferminet-c"
    assert names["outside the calibrated range: macs"] == "ferminet-b, ferminet-c"


def test_the_next_step_measures_on_the_board_as_the_run_judged():
    assert _board_steps("a.onnx", Order("tx2:maxq"), [8]) == {
        "measure it on the board": "edgesynth bench a.onnx --power --host USER@BOARD --mode MAXQ --batch 8"}
    assert _board_steps("a.onnx", Order("tx2", precision="fp32"), [1, 4]) == {
        "measure it on the board at batch 1":
        "edgesynth bench a.onnx --power --host USER@BOARD --mode MAXN --precision fp32",
        "measure it on the board at batch 4":
        "edgesynth bench a.onnx --power --host USER@BOARD --mode MAXN --precision fp32 --batch 4"}


@pytest.mark.parametrize("accuracy, log_error_sd, images", [
    (0.6, 0.2, 100), (0.9, 0.3, 360), (0.97, 0.3, 360), (0.99, 0.1, 5000), (0.9, 0.0, 200), (0.995, 0.2, 200)])
def test_the_interval_of_a_foreseen_accuracy_holds_what_is_counted(accuracy, log_error_sd, images):
    """Errors drawn as believed, and counted on so many images."""
    random = np.random.default_rng(0)
    errors = np.minimum((1 - accuracy) * np.exp(log_error_sd * random.standard_normal(20_000)), 1)
    counted = random.binomial(images, 1 - errors) / images
    low, high = observed_interval(accuracy, log_error_sd, images)
    assert 0 <= low < accuracy < high <= 1
    assert 0.93 < ((low <= counted) & (counted <= high)).mean() < 0.997  # errors come in whole images


def test_what_was_foreseen_of_a_candidate_allows_for_the_noise_of_its_training():
    """Log losses that are believed exactly, and trainings that scatter by 0.3 about them."""
    random, link, believed = np.random.default_rng(0), Link(), np.full(400, -1.0)
    losses = believed + 0.3 * random.standard_normal(400)
    counted = random.binomial(360, link.short_accuracy(losses)) / 360
    observations = [SimpleNamespace(accuracy=accuracy) for accuracy in counted]
    report = SimpleNamespace(cycle=0, candidates=[(0,)] * 400, observations=observations, reasons=["fresh"] * 400,
                             foreseen=SimpleNamespace(log_loss=believed, log_loss_sd=np.zeros(400)))
    theory = SimpleNamespace(link=link, surrogate=SimpleNamespace(log_sd=np.log([0.2, 0.1, 0.1, 0.3])))
    lab = SimpleNamespace(requirements=Requirements(), dataset=SimpleNamespace(validation=range(360)),
                          space=SimpleNamespace(sites=[None], costs=lambda decisions: {
                              "params": np.ones(len(decisions)), "macs": np.ones(len(decisions))}))
    seen = _candidates(lab, SimpleNamespace(inquisitor=SimpleNamespace(theory=theory), reports=[report]))
    found = foresight(seen)
    assert {candidate.reason for candidate in seen} == {"fresh"}
    assert 0.92 < found.covered / found.count < 0.99
