"""A run summary with invented figures, of the shape that a real run has."""

import math
import random

from devices.support.reading import Reading
from synth.objective.performance import information_density, netscore
from synth.objective.requirements import Requirements
from synth.report.summary import Candidate, CycleRow, DataSource, Judgement, Making, NetworkRow, RunSummary

REQUIREMENTS = Requirements.parse(["accuracy >= 97%", "img_per_joule >= 400 @ batch=8"])
MODEL = "the tx2 cost model (±15 %)"


def example_row(name, role, accuracy, params, macs, networks=None, seed=None):
    latency, energy = 1.0 + macs / 1e6, 2.0 + macs / 5e5

    def predicted(value, unit, scope=None):
        return Reading(value, unit, "predicted", MODEL, 0.85 * value, 1.15 * value, scope)

    def on(split, value, images):
        half = 1.96 * math.sqrt(value * (1 - value) / images)
        return Reading(value, "", "measured", f"{split} split, {images} images", value - half, min(1.0, value + half))

    def exact(value, unit=""):
        return Reading(float(value), unit, "computed", "the graph")

    def of_accuracy(formula, *costs):
        value, low, high = (float(formula(a, *costs)) for a in (test.value, test.low, test.high))
        return Reading(value, "", "measured", "test accuracy and exact costs", low, high)

    test = on("test", accuracy, 360)
    readings = {
        "accuracy": test,
        "validation_accuracy": on("validation", accuracy + 0.002, 270),
        "params": exact(params),
        "params_raw": exact(1.02 * params),
        "macs": exact(macs),
        "information_density": of_accuracy(information_density, params),
        "netscore": of_accuracy(netscore, params, macs),
        "size": exact(4 * params, "B"),
        "peak_memory": exact(8 * 1024, "B"),
        "latency@1": predicted(latency, "ms"),
        "energy@1:module": predicted(energy, "mJ", "module"),
        "img_per_joule@1:module": predicted(1000 / energy, "img/J", "module"),
        "energy@8:module": predicted(energy / 4, "mJ", "module"),
        "img_per_joule@8:module": predicted(4000 / energy, "img/J", "module"),
    }
    judged = {"accuracy": readings["validation_accuracy"], "img_per_joule@8:module": readings["img_per_joule@8:module"]}
    judgements = tuple(Judgement(str(item), item.judge(judged[item.key]), judged[item.key]) for item in REQUIREMENTS)
    network = (networks or {}).get(name)
    return NetworkRow(name, role, readings, judgements if role == "ferminet" else (), seed, network,
                      {"stage1.block0.conv1": "uses 9 of 16 channels <&>"} if network and role == "ferminet" else {},
                      f"ferminets/{name}" if role == "ferminet" else "prototype")


def example_summary(networks=None, cycles=16):
    """networks: {row name: Network.to_json()} to draw."""
    draw = random.Random(7)
    rows = (
        example_row("prototype", "prototype", 0.983, 78_000, 790_000, networks),
        example_row("ferminet-a", "ferminet", 0.981, 14_200, 210_000, networks, 3),
        example_row("ferminet-b", "ferminet", 0.978, 9_800, 150_000, networks, 11),
        example_row("ferminet-c", "ferminet", 0.974, 6_100, 118_000, networks, 5),
        example_row("ferminet-d", "ferminet", 0.962, 3_900, 71_000, networks, 42),
    )
    best = 100.0
    shares, candidates = [], []
    for cycle in range(cycles):
        best += draw.random() * 2.5
        share = 1 - 0.7 * math.exp(-cycle / 4)
        half = 1.96 * math.sqrt(share * (1 - share) / 64) + 0.01
        feasible = Reading(share, "", "computed", "64 fresh seeds", max(0.0, share - half), min(1.0, share + half))
        shares.append(CycleRow(cycle, best if cycle else None, feasible, 4 * (cycle + 1)))
        for reason in ("improve", "improve", "uncertain", "fresh" if cycle % 4 == 3 else "improve"):
            params = 10 ** draw.uniform(3.4, 4.9)
            accuracy = min(0.99, 0.83 + 0.045 * math.log10(params / 1e3) * 1.8 + draw.gauss(0, 0.008))
            foreseen = accuracy + draw.gauss(0, 0.01)
            candidates.append(Candidate(cycle, params, 11 * params, accuracy, accuracy > 0.95, foreseen,
                                        foreseen - 0.02, foreseen + 0.02, reason))
    candidates.append(Candidate(0, 78_000, 790_000, 0.985, False))
    making = Making(
        "edgesynth synth --target tx2", {"edgesynth": "0.1.0", "torch": "2.13.0", "python": "3.11.2"}, 0,
        DataSource("digits", "UCI optical digits, the copy of scikit-learn", "CC BY 4.0",
                   {"train": 1167, "validation": 270, "test": 360}, {"digits.csv.gz": "ab" * 32}),
        "2 cores, x86_64", "2026-11-21T03:00:00+00:00", "2026-11-21T03:01:47+00:00",
        {"prototype": 14.0, "cycles": 62.0, "finishing": 31.0}, {"cycles": cycles, "candidates a cycle": 4},
    )
    return RunSummary(
        "resnet8", "tx2:maxn", tuple(REQUIREMENTS.to_json()), rows, making, tuple(shares), tuple(candidates),
        ("ferminet-d misses accuracy >= 97% by less than its margin; run more cycles with --cycles 32",),
        {"measure": "edgesynth bench runs/x/ferminets/ferminet-a/model.onnx --power --host USER@BOARD",
         "more networks": "edgesynth generate runs/x --seeds 0:10"},
    )
