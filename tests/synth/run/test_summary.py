"""What a run says of a network that is all wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

from report_example import example_summary

from synth.networks.tracing import trace
from synth.objective.requirements import Requirements
from synth.objective.share import share_error
from synth.prototypes.resnet import ResNet
from synth.report.report import render
from synth.report.summary import FERMINET, RunSummary
from synth.run.summary import _row
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
