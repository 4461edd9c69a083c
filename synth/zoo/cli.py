"""The commands `train` and `evaluate`: single networks. Importing this imports neither torch nor onnxruntime."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devices.json_output import give_json, json_option
from devices.support.errors import UserError
from synth.options import SeedRange, Stopped, data_root_option, device_option, set_option
from synth.training.device import Compute, device_named

if TYPE_CHECKING:
    from synth.data.dataset import Dataset
    from synth.zoo.training import Trained


@click.command(epilog="\b\nExamples:\n"
                      "  edgesynth train resnet20 --data cifar10 --out trained/resnet20\n"
                      "  edgesynth train runs/mine/ferminet-d --data cifar10 --seeds 0:3 --on train+validation "
                      "--teacher resnet20x2 --out trained/d\n"
                      "  edgesynth train anchor mobilenetv2 --data cifar10 --set batch=256 --set rate=0.014 "
                      "--workers 2 --out trained/rivals")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.option("--data", default="digits", show_default=True, help="A known data set, or a factory.")
@data_root_option
@click.option("--recipe", "purpose", type=click.Choice(["prototype", "short", "final"]), default="final",
              show_default=True, help="How: as a prototype, a candidate or a FermiNet is trained.")
@click.option("--epochs", type=click.IntRange(1), help="In place of the recipe's own number.")
@set_option
@click.option("--on", type=click.Choice(["train", "train+validation"]), default="train", show_default=True,
              help="train+validation leaves nothing to choose by: for networks that are chosen already.")
@click.option("--teacher", "teachers", multiple=True, metavar="NETWORK",
              help="A trained network to distil from, by name or folder; several teach by the mean of what they say.")
@click.option("--seeds", type=SeedRange(), default="0", show_default=True, help="One seed, or FROM:TO.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Trainings at once: processes, or lanes of one GPU.")
@device_option
@click.option("--out", type=click.Path(), required=True, help="Folder; each seed has a folder of its own in it.")
@json_option()
def train(networks: tuple[str, ...], data: str, data_root: str | None, purpose: str, epochs: int | None,
          changes: tuple[str, ...], on: str, teachers: tuple[str, ...], seeds: list[int], workers: int, device: str,
          out: str, json_path: str | None) -> None:
    """Train networks from fresh weights, once a seed.

    NETWORK is a prototype, a factory, a shipped network, or a folder with network.json; only its graph is used. The
    same command goes on where it was cut.
    """
    from synth.data.dataset import load_dataset
    from synth.progress import Progress
    from synth.training.recipe import recipe_for
    from synth.zoo.training import train_networks

    compute = Compute(workers, device_named(device))
    dataset = load_dataset(data, data_root)
    words = (*changes, *(() if epochs is None else (f"epochs={epochs}",)))
    recipe = recipe_for(dataset.word, purpose, images=len(dataset.train), size=dataset.shape[1:], changes=words)
    command = shlex.join(["edgesynth", *sys.argv[1:]])
    try:
        done = list(train_networks(networks, dataset, recipe, seeds, Path(out), command=command, on=on,
                                   teachers=teachers, compute=compute, progress=Progress()))
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing but the last minute is lost, go on with the same command") from None
    if json_path != "-":
        _tell(done, len(seeds))
    if json_path:
        rows = [{"network": one.name, "seed": one.seed, "folder": str(one.folder),
                 "validation": None if one.validation is None else one.validation.to_json()} for one in done]
        give_json({"schema": "edgesynth.trained/1", "networks": list(networks), "data": dataset.name, "on": on,
                   "seeds": rows}, json_path)


def _tell(done: Sequence[Trained], seeds: int) -> None:
    for start in range(0, len(done), seeds):
        alike = done[start : start + seeds]
        for one in alike:
            click.echo(f"{one.folder}" + ("" if one.validation is None else
                                          f"  {100 * one.validation.accuracy:.2f} % on validation"))
        found = [100 * one.validation.accuracy for one in alike if one.validation is not None]
        if len(found) > 1:
            click.echo(f"mean {statistics.mean(found):.2f} %, standard deviation {statistics.stdev(found):.2f} % of "
                       f"{len(found)} seeds")


@click.command(epilog="\b\nExamples:\n  edgesynth evaluate runs/mine/ferminet-a --data digits --split validation\n"
                      "  edgesynth evaluate resnet20 --data cifar10 --split test")
@click.argument("network")
@click.option("--data", help="A known data set, or a factory.  [default: the one that its card names]")
@data_root_option
@click.option("--split", default="validation", show_default=True, help="train, validation or test.")
@json_option()
def evaluate(network: str, data: str | None, data_root: str | None, split: str, json_path: str | None) -> None:
    """A trained network's metric on a split.

    NETWORK is a folder with network.json and weights.safetensors, or the name of a network that comes with edgesynth.
    """
    from synth.data.dataset import load_dataset
    from synth.networks.costs import costs
    from synth.networks.module import build
    from synth.objective.performance import netscore
    from synth.training.evaluation import evaluate as evaluate_module
    from synth.zoo.shelf import find, load_fitting, trained_on

    folder = find(network, data)
    dataset = load_dataset(data, data_root) if data else _data_of(folder, data_root)
    chosen = dataset.split(split)
    graph, weights = load_fitting(network, folder, dataset)
    metrics = evaluate_module(build(graph, weights), chosen)
    found = costs(graph)
    score = float(netscore(metrics.accuracy, found.params, found.macs))
    seen = trained_on(folder, dataset, split)
    if json_path != "-":
        click.echo(f"{100 * metrics.accuracy:.2f} % ± {196 * metrics.accuracy_se:.2f} of {metrics.count} {split} images"
                   f" · cross-entropy {metrics.cross_entropy:.4f}")
        if seen:
            click.echo("it was trained on these images: they do not tell what it makes of others")
        click.echo(f"{found.params:,} parameters · {found.macs:,} MACs · NetScore {score:.1f}".replace(",", " "))
    if json_path:
        give_json({"schema": "edgesynth.evaluation/1", "network": network, "data": dataset.name, "split": split,
                   "trained_on": seen, **metrics.to_json(), "params": found.params, "macs": found.macs,
                   "netscore": score if metrics.accuracy else None}, json_path)


def _data_of(folder: Path, data_root: str | None) -> Dataset:
    from synth.networks.network import Network
    from synth.zoo.shelf import data_of

    found = data_of(folder, data_root)
    if found is None:
        Network.load(folder / "network.json")  # says so when there is no network at all
        raise UserError(f"{folder}: no card names the data that it was trained on; name them with --data")
    return found
