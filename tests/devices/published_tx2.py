"""The published TX2 measurements as samples for the calibration; the data itself is not part of the project."""

from __future__ import annotations

import csv
import pathlib
import tempfile
from functools import cache

from tx2_zoo import build

from devices.calibration import Sample
from devices.layer_cost import LayerCost, Operation, fuse
from devices.onnx_layers import operations_of_onnx

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "tx2"
MODES = {"maxn": "MAXN", "maxp": "MAXP_CORE_ARM", "maxq": "MAXQ"}
QUTIBENCH = {"CNV": "cnv", "MLP": "mlp", "GoogLeNetv1": "googlenet", "ResNet50": "resnet50", "MobileNetv1": "mobilenet"}
TF_TO_TRT = {"inception_v1": "googlenet", "inception_v3": "inception_v3", "inception_v4": "inception_v4",
             "resnet_v1_50": "resnet50", "resnet_v1_101": "resnet101", "vgg_16": "vgg16",
             "mobilenet_v1_1p0_224": "mobilenet_v1_1p0_224", "mobilenet_v1_0p5_160": "mobilenet_v1_0p5_160",
             "mobilenet_v1_0p25_128": "mobilenet_v1_0p25_128"}
# idle power by mode is measured (QuTiBench, board level); the carrier's part is an explicit prior
FIXED = {
    "reference_gpu_mhz": 1122.0,
    "idle_w": {"MAXN": 5.7, "MAXQ": 4.15, "MAXP_CORE_ARM": 4.7, "MAXP_CORE_ALL": 4.7, "MAXP_CORE_DENVER": 4.7},
    "carrier_w": 2.4,
}


@cache
def operations_of(name: str) -> tuple[Operation, ...]:
    """The operations of a network of the zoo, read from its ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(operations_of_onnx(build(name, pathlib.Path(folder))))


@cache
def layers_of(name: str) -> tuple[LayerCost, ...]:
    """The fused layers of a network of the zoo."""
    return tuple(fuse(operations_of(name)))


def _number(text: str) -> float:
    return float(text.replace(",", ""))  # some latencies have a thousands comma


def qutibench(folder: pathlib.Path) -> list[Sample]:
    """Full power belongs to the system runs. The MLP's compute rows exceed the hardware's peak and are left out; its
    power does not fit its own throughput (a GPU that is busy for a tenth of the time draws 7 W more), so its rows
    weigh less."""
    samples = []
    with open(folder / "qutibench_tx2.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            family = QUTIBENCH[row["NN_Topology"]]
            pruned = family in ("cnv", "mlp")
            network = f"{family}_{float(row['PruningFactor']):g}" if pruned else family
            samples.append(Sample(
                network, family, layers_of(network), MODES[row["Op mode"]], row["Datatype"].lower(),
                int(row["batch/thread/stream"]), _number(row["lat-sys"]),
                None if family == "mlp" else _number(row["lat-comp"]), _number(row["Full_Pwr_W"]),
                latency_sigma=0.2 if family == "mlp" else 0.08, power_sigma=0.4 if family == "mlp" else 0.06))
    return samples


def tf_to_trt(folder: pathlib.Path) -> list[Sample]:
    """Batch 1 in MAXN with TensorRT 3.0, which was slower, and a host that only copies: a stack of its own."""
    samples = []
    with open(folder / "latency_tx2.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            network = TF_TO_TRT[row["network"]]
            family = network.split("_1p")[0].split("_0p")[0]
            samples.append(Sample(network, family, layers_of(network), "MAXN", row["precision"], int(row["batch"]),
                                  _number(row["latency_ms"]), stack="tensorrt3", feeds=False, latency_sigma=0.2))
    return samples


# HW-NAS-Bench, "edgegpu": TX2, torch2trt, batch 1, energy of the module (MIT; facts of three of its rows): cells with
# the MACs of the rows stand in for their networks, whose other edges are not told
HW_NAS = {"nasbench201_16M": (5.81, 24.2), "nasbench201_79M": (6.51, 29.4), "nasbench201_115M": (6.55, 30.0)}


def hw_nas_bench() -> list[Sample]:
    """Latencies with torch2trt: a third stack. The mode is not told; 4.2 to 4.6 W of the module are those of the mode
    that a TX2 starts in. Their energies are not fitted on: they check the module's scope."""
    return [Sample(name, "nasbench201", layers_of(name), "MAXP_CORE_ARM", "fp16", 1, latency, stack="torch2trt",
                   feeds=False, latency_sigma=0.3) for name, (latency, _) in HW_NAS.items()]


def published(folder: pathlib.Path = DATA) -> list[Sample]:
    """All rows that the folder holds."""
    return qutibench(folder) + tf_to_trt(folder) + hw_nas_bench()
