"""From what a run came to, to what a person is shown."""

from __future__ import annotations

import math
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from devices.support.errors import UserError
from devices.support.reading import COMPUTED, MEASURED, Z95, Reading
from synth.energy.boards import asked_mode
from synth.energy.feedback import Feedback
from synth.networks.costs import costs
from synth.networks.network import Network
from synth.objective.performance import information_density, netscore
from synth.objective.requirements import Verdict
from synth.objective.share import share_error, share_interval
from synth.probing.probing import Insight
from synth.progress import Progress
from synth.report.summary import (
    FERMINET,
    PROTOTYPE,
    Candidate,
    CycleRow,
    DataSource,
    Judgement,
    Making,
    NetworkRow,
    RunSummary,
)
from synth.run.finishing import Finished, accuracy_reading, judge
from synth.run.order import Order
from synth.run.preparation import Laboratory
from synth.search.decisions import rows
from synth.search.moves import violation
from synth.search.synthesis import FRESH_COUNT, Synthesis
from synth.space.feasibility import refuse_impossible
from synth.space.prices import Prices
from synth.space.quantities import on_board
from synth.storage.run_folder import RunFolder
from synth.training.evaluation import Metrics


@dataclass(frozen=True)
class Exported:
    """Where a network's ONNX file is, relative to the run, and what the exporter reported."""

    path: str
    report: Mapping[str, Any]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Results:
    """What a run came to, by network name, "prototype" among them. measured: latency on this machine."""

    exported: Mapping[str, Exported]
    tested: Mapping[str, Metrics]
    measured: Mapping[str, Reading]


def summarise(lab: Laboratory, synthesis: Synthesis, done: Sequence[Finished], results: Results, folder: RunFolder,
              progress: Progress) -> RunSummary:
    """The summary of a run that is through."""
    order, dataset = lab.order, lab.dataset
    judgements = judge(lab, lab.prototype.network, lab.prototype.metrics)
    phi = _row(lab, PROTOTYPE, PROTOTYPE, lab.prototype.network, lab.prototype.metrics, results, judgements)
    networks = [replace(phi, name=lab.prototype.name.rpartition(":")[2])]
    for f in done:
        row = _row(lab, f.name, FERMINET, f.network, f.metrics, results, f.verdicts)
        networks.append(replace(row, seed=f.seed, insights=_seen(lab, f.network, f.insights)))
    first = done[0].name if done else "ferminet-a"
    run, onnx = (shlex.quote(path) for path in (f"{folder.path}", f"{folder.path}/{first}/{first}.onnx"))
    manifest = folder.manifest
    making = Making(
        command=manifest.command, versions=dict(manifest.versions), seed=order.seed,
        data=DataSource(dataset.name, dataset.source, dataset.licence,
                        {name: len(dataset.split(name)) for name in ("train", "validation", "test")},
                        {dataset.name: dataset.checksum}),
        machine=f"{platform.machine()}, {platform.system()}", started=manifest.started,
        times={name: round(seconds, 1) for name, seconds in progress.times.items()},
        settings={"cycles": order.cycles, "batch": order.batch, "precision of predictions": order.precision,
                  "prototype trained here": lab.prototype.trained_here, **_known(lab), **_measured(lab)})
    return RunSummary(
        prototype=lab.prototype.name, target=str(order.resolve_target()),
        requirements=tuple(str(item) for item in lab.requirements), networks=tuple(networks), making=making,
        cycles=tuple(_cycles(synthesis)), candidates=tuple(_candidates(lab, synthesis)),
        warnings=tuple(_warnings(lab, done, folder)),
        next_steps={
            **_board_steps(onnx, order, lab.space.prices.batches),
            "measure it here": f"edgesynth bench {onnx}",
            "more networks": f"edgesynth generate {run} --seeds 1000:1010",
            "report": f"{folder.path}/report.html"})


def _board_steps(onnx: str, order: Order, batches: Sequence[int]) -> dict[str, str]:
    """{what: command} that measures a network where and how it was judged, one for every batch. onnx: its path, quoted
    where a shell needs that."""
    mode = asked_mode(order.resolve_target())
    words = f"edgesynth bench {onnx} --power --host USER@BOARD" + (f" --mode {shlex.quote(mode)}" if mode else "")
    words += f" --precision {order.precision}" if order.precision != "fp16" else ""  # which boards take by themselves
    return {"measure it on the board" + (f" at batch {batch}" if len(batches) > 1 else ""):
            words + (f" --batch {batch}" if batch > 1 else "") for batch in batches}


def _row(lab: Laboratory, name: str, role: str, network: Network, validation: Metrics, results: Results,
         verdicts: Mapping[str, Verdict]) -> NetworkRow:
    found = costs(network)
    accuracy = accuracy_reading(results.tested[name], "test")
    graph = "the graph"

    def of_accuracy(formula, *values: float, unit: str, source: str) -> Reading:
        value, low, high = (float(formula(a, *values)) for a in (accuracy.value, accuracy.low, accuracy.high))
        return Reading(value, unit, MEASURED, source, low, high)

    readings = {
        "accuracy": accuracy,
        "validation_accuracy": accuracy_reading(validation, "validation"),
        "params": Reading(found.params, "", COMPUTED, graph),
        "params_raw": Reading(found.params_raw, "", COMPUTED, graph),
        "macs": Reading(found.macs, "", COMPUTED, graph),
        "information_density": of_accuracy(information_density, found.params, unit="%/M",
                                           source="test accuracy over parameters"),
        "size": Reading(found.weight_bytes, "B", COMPUTED, graph),
        "peak_memory": Reading(found.peak_memory_bytes, "B", COMPUTED, graph),
    }
    if accuracy.low:  # else it is without an end
        readings["netscore"] = of_accuracy(netscore, found.params, found.macs, unit="",
                                           source="test accuracy and exact costs")
    if name in results.measured:
        readings["latency_here"] = results.measured[name]
    for batch in sorted({1, *(item.batch or 1 for item in lab.requirements.on_costs)}):
        readings |= lab.space.prices.shown(network, batch)
    by_words = {str(item): item for item in lab.requirements.items}
    judged = []
    for words, verdict in verdicts.items():
        item = by_words[words]
        reading = (accuracy_reading(validation, "validation") if item.metric == "accuracy"
                   else lab.space.prices.reading(item, network))
        judged.append(Judgement(words, verdict, reading))
    return NetworkRow(name, role, readings, tuple(judged), network=network.to_json(),
                      folder=results.exported[name].folder)


def _seen(lab: Laboratory, network: Network, insights: Mapping[str, Insight]) -> dict[str, str]:
    """{vertex: what its responses to the stimuli say, with φ's in brackets}, for feature maps."""
    said = {}
    for name, here in insights.items():
        there = lab.probes.parent_insights.get(name)
        if there is not None and len(network.shapes[name]) == 3:
            said[name] = (f"rank {here.rank:.1f} of {network.shapes[name][0]} "
                          f"({there.rank:.1f} of {lab.prototype.network.shapes[name][0]}), label {here.dependence:.2f} "
                          f"({there.dependence:.2f}), redundancy {here.redundancy:.2f} ({there.redundancy:.2f})")
    return said


def _cycles(synthesis: Synthesis) -> list[CycleRow]:
    evaluated = 0
    found = []
    for report in synthesis.reports:
        evaluated += len(report.observations)
        share = share_reading(report.feasible_share, FRESH_COUNT)
        found.append(CycleRow(report.cycle, report.best, share, evaluated))
    return found


def share_reading(share: float, count: int) -> Reading:
    """A share of seeds with its interval; requirements on costs are computed, not measured."""
    low, high = share_interval(share, count)
    return Reading(share, "", COMPUTED, f"{count} fresh seeds, before repair", low, high)


def _candidates(lab: Laboratory, synthesis: Synthesis) -> list[Candidate]:
    """Every candidate with what was foreseen of it, put as accuracy by the link that was learnt in the end."""
    theory, images = synthesis.inquisitor.theory, len(lab.dataset.validation)
    of_training = float(np.exp(theory.surrogate.log_sd[-1]))  # beliefs are of the mean over trainings
    slope = theory.link.short[0][1]  # about its line, errors scatter no more than counting them explains
    found = []
    for report in synthesis.reports:
        decisions = rows(report.candidates, len(lab.space.sites))
        table = lab.space.costs(decisions)
        missed = violation(lab.requirements, table)
        predicted = theory.link.short_accuracy(report.foreseen.log_loss)
        spread = abs(slope) * np.hypot(report.foreseen.log_loss_sd, of_training)
        for i, (observation, reason) in enumerate(zip(report.observations, report.reasons, strict=True)):
            low, high = observed_interval(float(predicted[i]), float(spread[i]), images)
            found.append(Candidate(report.cycle, float(table["params"][i]), float(table["macs"][i]),
                                   observation.accuracy, bool(missed[i] <= 0), float(predicted[i]), low, high, reason))
    return found


def observed_interval(accuracy: float, log_error_sd: float, images: int) -> tuple[float, float]:
    """The 95 % interval of the accuracy that will be counted on so many images, where the logarithm of the error is
    believed with this standard deviation: both distances in quadrature, each side by itself (Zou and Donner 2008)."""
    error, factor = 1.0 - accuracy, math.exp(Z95 * log_error_sd)
    counting = Z95 * share_error(accuracy, images)
    return (max(accuracy - math.hypot(error * (factor - 1), counting), 0.0),
            min(accuracy + math.hypot(error * (1 - 1 / factor), counting), 1.0))


def _warnings(lab: Laboratory, done: Sequence[Finished], folder: RunFolder) -> list[str]:
    found = list(folder.warnings)
    missing = sum(not f.holds for f in done)
    if missing:
        found.append(f"{missing} of {len(done)} FermiNets do not satisfy 1r on the validation split with its margin: "
                     "relax a requirement, or give more cycles, with --warm-start "
                     f"{shlex.quote(str(folder.path))} in a new run")
    tails = [str(item) for item in lab.requirements.on_costs
             if item.metric in ("latency_p90", "latency_p95", "latency_p99", "latency_max")]
    if lab.loop is not None:
        found += _board_warnings(lab, done, lab.loop.feedback)
    elif tails:
        found.append(f"{', '.join(tails)} was judged by the predicted median, since the cost model knows no tails: "
                     "measure with edgesynth bench")
    return found + (_prediction_warnings(lab.space.prices, done) if lab.loop is None else [])


def _prediction_warnings(prices: Prices, done: Sequence[Finished]) -> list[str]:
    """What must be known before relying on the predictions for the final networks, at every batch that is required;
    what is said of several of them is said once, without the numbers that tell them apart."""
    said: dict[str, dict[str, None]] = {}
    for f in done:
        for batch in prices.batches:
            prediction = prices.prediction(f.network, batch)
            for warning in prediction.warnings if prediction is not None else ():
                said.setdefault(re.sub(r"\b(macs|layers) [\d,]+", r"\1", warning), {})[f.name] = None
    return [f"{', '.join(names)}: {warning}" for warning, names in said.items()]


def _known(lab: Laboratory) -> dict[str, Any]:
    """How much of a run earlier ones found out."""
    if lab.order.warm_start is None:
        return {}
    evaluated = sum(len(cycle.candidates) for cycle in lab.known.cycles)
    return {"candidates known from earlier runs": evaluated, "trained in full by them": len(lab.known.in_full)}


def _measured(lab: Laboratory) -> dict[str, Any]:
    """How much of a run boards decided."""
    if lab.loop is None:
        return {}
    return {"measured on the board": lab.loop.feedback.count, "measurements beside a cycle": lab.order.measure}


def _board_warnings(lab: Laboratory, done: Sequence[Finished], feedback: Feedback) -> list[str]:
    """What of the final networks no board decided, and what speaks against relying on the rest."""
    found = []
    if not done:
        try:
            refuse_impossible(lab.space)
        except UserError as error:
            found.append(f"by what was measured, {error}")
    predicted = [f"{f.name}: {item}" for f in done for item in lab.requirements.on_costs if on_board(item)
                 and lab.space.prices.reading(item, f.network).provenance != MEASURED]
    if predicted:
        found.append(f"decided by predictions, not measured: {', '.join(predicted)}")
    known = feedback.correction.known
    quick = [f.name for f in done for batch in lab.space.prices.batches
             if (f.network.digest, batch) in known and not known[f.network.digest, batch].full]
    if quick:
        found.append(f"decided by a quick measurement with untrained weights: {', '.join(dict.fromkeys(quick))}")
    if feedback.unmeasured:
        found.append(f"not all could be measured ({'; '.join(feedback.unmeasured)})")
    if feedback.marks:
        found.append(f"some measurements are marked {', '.join(feedback.marks)}: see board/results, and edgesynth "
                     "devices prepare")
    return found

