"""One run of generative synthesis from a prototype to FermiNets on disk: `synthesise`; and more of them: `generate`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devices.board import target_file
from devices.support.errors import UserError
from devices.support.files import read_json, sha256_file, write_json
from devices.support.reading import Reading
from edge_bench.bench import bench_model
from export.exporter import export_network
from synth.data.dataset import Dataset, load_dataset
from synth.energy.boards import Board
from synth.energy.crew import STOP, Crew
from synth.energy.feedback import one_state
from synth.networks.module import build
from synth.networks.network import Network
from synth.progress import Progress
from synth.report.summary import FILE_NAME, RunSummary
from synth.run.finalists import Made, make
from synth.run.finishing import Finished, finish, known_in_full, train_in_full
from synth.run.order import Order
from synth.run.preparation import VALIDATION, Laboratory, laboratory, traced_prototype
from synth.run.problem import NetworkProblem
from synth.run.scope import recipes_of
from synth.run.summary import Exported, Results, summarise
from synth.run.warm_start import FINISHED, refuse_unlike
from synth.search.decisions import Decisions
from synth.search.generator import Generator
from synth.search.synthesis import CycleReport, Settings, Synthesis
from synth.space.quantities import asks_for_power
from synth.storage.network_folder import card_of, save_network
from synth.storage.run_folder import Manifest, RunFolder
from synth.training.device import Compute
from synth.training.evaluation import Metrics, evaluate
from synth.training.workers import start_server
from synth.zoo.teachers import refuse_unheard, teachers_named

TESTED, EXPORT, MEASURED = "edgesynth.tested/1", "edgesynth.export/1", "edgesynth.measured/1"
MEASURED_S, WARMUP_CAP_S = 0.5, 2.0  # of a first look on this machine
SAMPLES = 32  # validation images that an export is compared on


@dataclass(frozen=True)
class Learned:
    """What the cycles came to."""

    synthesis: Synthesis
    problem: NetworkProblem


def synthesise(order: Order, out: str | os.PathLike[str], *, command: str, compute: Compute | None = None,
               resume: bool = False, progress: Progress | None = None, boards: Sequence[Board] = (),
               board_lost: str = STOP) -> RunSummary:
    """Learn a generator under the order's requirements, make FermiNets, export and judge them; all is in folder `out`.

    command: as typed, for the record. compute: where candidates are trained (None: in this process); the result does
    not depend on the number of workers. boards: that measure what the requirements ask (the order's `measure` says how
    much); board_lost: "stop", or "predict" what they would have measured, when all are lost. UserError for bad input,
    before anything is written where that can be told; a run that was cut goes on with resume=True to the same result.
    CannotMeasure when no board is left.
    """
    progress = progress or Progress(quiet=True)
    crew = _crew(order, boards, out, board_lost, resume, progress)
    compute = compute or Compute()
    if compute.workers > 1:
        start_server()
    dataset = load_dataset(order.data, order.data_root)
    recipes = recipes_of(order, dataset)  # what none of them can take is refused before anything is trained or written
    traced = traced_prototype(order, dataset)
    manifest = Manifest(command, order.arguments(), checksums(order, dataset))
    if not resume:
        refuse_unheard(order.teachers, recipes.short, recipes.final)
        refuse_unlike(order, manifest.data)
    with RunFolder.start(out, manifest, resume) as folder:
        if folder.finished:
            return RunSummary.load(folder.path / FILE_NAME)
        write = functools.partial(export_for_board, dataset, order)
        with laboratory(order, dataset, traced, folder, compute, progress, crew, write) as lab:
            progress.say(f"{dataset.name} · {lab.prototype.name} prototype · {order.target} · "
                         f"1r: {', '.join(map(str, lab.requirements))}")
            learned = learn(lab, folder, progress)
            done = finish(lab, learned.problem, learned.synthesis, folder, progress)
            exported = export_all(lab, done, folder, progress)
            measured = measure_here(exported, folder, progress)
            results = Results(exported, test_once(lab, done, folder, compute.device), measured)
            summary = summarise(lab, learned.synthesis, done, results, folder, progress)
        summary.save(folder.path / FILE_NAME)
        _report(summary, folder.path)
        folder.finish()
    return summary


def _crew(order: Order, boards: Sequence[Board], out: str | os.PathLike[str], board_lost: str, resume: bool,
          progress: Progress) -> Crew | None:
    """The boards, each asked at once what it is: before a prototype is trained for nothing. A run that goes on asks
    them when it comes to something that is not measured yet."""
    if bool(boards) != bool(order.measure):
        raise UserError("boards and a number of measurements go together: give --host and --measure, or neither")
    if not boards:
        return None
    crew = Crew(boards, Path(out) / "board" / "results", progress.say, board_lost)
    if not resume:
        stated = order.stated_requirements()
        one_state(crew.states(stated is None or asks_for_power(stated.on_costs)))
    return crew


def learn(lab: Laboratory, folder: RunFolder, progress: Progress) -> Learned:
    """All cycles; the generator is saved in the folder "generator"."""
    order = lab.order
    with progress.stage("cycle", order.cycles) as stage:
        so_far = ""

        def on_cycle(report: CycleReport) -> None:
            nonlocal so_far
            best = "none likely holds 1r" if report.best is None else f"best NetScore {report.best:.1f}"
            so_far = f"{best} · feasible seeds {100 * report.feasible_share:.0f} %"
            stage.at(report.cycle + 1, so_far)

        def on_training(what: str, done: int, total: int) -> None:
            stage.note(f"{so_far} · {what} {done}/{total}".removeprefix(" · "))

        problem = NetworkProblem(lab.space, lab.requirements, lab.probes, lab.pool, folder, lab.recipes, order.seed,
                                 lab.parent_outcome, on_cycle, lab.loop, on_training, lab.known.cycles)
        synthesis = Synthesis(problem, Settings(order.cycles, order.batch, order.seed), in_full=[
            (trained.decisions, trained.outcome.metrics.accuracy) for trained in lab.known.in_full])
        synthesis.run()
    folder.step("generator", lambda: synthesis.generator, _save_generator, Generator.load)
    return Learned(synthesis, problem)


def _save_generator(path: Path, generator: Generator) -> None:
    path.mkdir(parents=True)
    generator.save(path)


def export_all(lab: Laboratory, done: Sequence[Finished], folder: RunFolder, progress: Progress) -> dict[str, Exported]:
    """The prototype, and every FermiNet in a folder of its own name."""
    found = {}
    with progress.stage("exporting", 1 + len(done)) as stage:
        found["prototype"] = export_prototype(lab, folder)
        stage.at(1)
        for number, finished in enumerate(done, 2):
            found[finished.name] = export_one(lab, finished, finished.name, folder)
            stage.at(number)
    return found


def export_one(lab: Laboratory, finished: Finished, place: str, folder: RunFolder) -> Exported:
    """network.json, weights.safetensors, card.json and NAME.onnx in the folder `place` of the run."""
    def save(path: Path, _: Mapping[str, Any]) -> None:
        save_network(path, finished.network, finished.weights, _card(lab, finished))
        report = export_onnx(lab.dataset, finished.network, finished.weights, path / f"{finished.name}.onnx",
                             lab.order.target, finished.name)
        write_json(path / "export.json", report, EXPORT)

    report = folder.step(place, dict, save, lambda path: read_json(path / "export.json", EXPORT))
    return Exported(f"{place}/{finished.name}.onnx", report)


def export_prototype(lab: Laboratory, folder: RunFolder) -> Exported:
    """prototype.onnx in the folder "prototype-onnx" of the run."""
    def save(path: Path, _: Mapping[str, Any]) -> None:
        path.mkdir(parents=True)
        prototype = lab.prototype
        report = export_onnx(lab.dataset, prototype.network, prototype.weights, path / "prototype.onnx",
                             lab.order.target, "prototype")
        write_json(path / "export.json", report, EXPORT)

    report = folder.step("prototype-onnx", dict, save, lambda path: read_json(path / "export.json", EXPORT))
    return Exported("prototype-onnx/prototype.onnx", report)


def measure_here(exported: Mapping[str, Exported], folder: RunFolder, progress: Progress) -> dict[str, Reading]:
    """A first look at the latency of every ONNX file on this machine, batch 1; its source says that it is quick."""
    def measure(place: str) -> Reading:
        result = bench_model(folder.path / place, trials=1, window=MEASURED_S, warmup_cap=WARMUP_CAP_S, threads=1)
        value = result["readings"]["latency_p50_ms"]
        return Reading.from_json({**value, "source": f"{value['source']}, quick, onnxruntime on one thread"})

    def save(path: Path, reading: Reading) -> None:
        write_json(path, {"latency": reading.to_json()}, MEASURED)

    found = {}
    with progress.stage("measuring", len(exported)) as stage:
        for number, (name, one) in enumerate(exported.items(), 1):
            found[name] = folder.step(
                f"measured/{name}.json", functools.partial(measure, one.path), save,
                lambda path: Reading.from_json(read_json(path, MEASURED)["latency"]))
            stage.at(number)
    return found


def export_for_board(dataset: Dataset, order: Order, network: Network, weights: dict[str, Any], path: Path) -> None:
    """The file that a board measures: as a FermiNet's own, compared with torch on fewer images."""
    export_network(build(network, weights).eval(), dataset.shape, dataset.validation.images[:2].numpy(), path,
                   order.target, batch="1:8:64", name="candidate")


def export_onnx(dataset: Dataset, network: Network, weights: dict[str, Any], path: Path, target: str,
                name: str) -> dict[str, Any]:
    """ONNX for a target, checked against torch on validation images; what the exporter reports, as JSON."""
    module = build(network, weights).eval()
    report = export_network(
        module, dataset.shape, dataset.validation.images[:SAMPLES].numpy(), path, target, batch="1:8:64", name=name,
        normalisation=dataset.normalisation, labels=list(dataset.classes))
    return report.to_json() | {"path": path.name}


def _card(lab: Laboratory, finished: Finished) -> dict[str, Any]:
    return {"name": finished.name, "seed": finished.seed, "decisions": list(finished.decisions),
            "repaired": finished.repaired, **lab.dataset.to_card(), "prototype": lab.prototype.name,
            "target": lab.order.target, "requirements": [str(item) for item in lab.requirements],
            "validation": finished.metrics.to_json(), "recipe": lab.recipes.final.to_json()}


def checksums(order: Order, dataset: Dataset) -> dict[str, str]:
    """{what was read: SHA-256}: the data, the file of a board of one's own, whose cost model decides as well, and the
    teachers. UserError for a teacher that cannot be one."""
    file = target_file(order.target)
    return {order.data: dataset.checksum, **({} if file is None else {file: sha256_file(file)}),
            **teachers_named(order.teachers, dataset, VALIDATION).checksums}


def test_once(lab: Laboratory, done: Sequence[Finished], folder: RunFolder, device: str) -> dict[str, Metrics]:
    """The test split, read once, for networks that are chosen already; it changes nothing."""
    def compute() -> dict[str, Metrics]:
        networks = [("prototype", lab.prototype.network, lab.prototype.weights),
                    *((f.name, f.network, f.weights) for f in done)]
        return {name: evaluate(build(network, weights).to(device), lab.dataset.test)
                for name, network, weights in networks}

    def save(path: Path, found: dict[str, Metrics]) -> None:
        write_json(path, {"metrics": {name: metrics.to_json() for name, metrics in found.items()}}, TESTED)

    def load(path: Path) -> dict[str, Metrics]:
        return {name: Metrics(**value) for name, value in read_json(path, TESTED)["metrics"].items()}

    return folder.step("test.json", compute, save, load)


def _report(summary: RunSummary, folder: Path) -> Path:
    from synth.report.report import write_report

    return write_report(summary, folder / "report.html")


# --- more networks from a learned generator --------------------------------------------------------------------------


def generate(run: str | os.PathLike[str], seeds: Sequence[int], *, compute: Compute | None = None,
             prefer: Sequence[float] | None = None, progress: Progress | None = None) -> list[Finished]:
    """FermiNets of further seeds from a finished run's generator, trained and exported; nothing is learned any more.

    They lie in RUN/generated/seed-N. UserError when the run is not finished or its data have changed.
    """
    progress = progress or Progress(quiet=True)
    manifest = Manifest.read(run)
    if manifest.finished is None:
        raise UserError(f"{run}: this run is not finished; go on with: {manifest.resume_command(run)}")
    order = Order.from_arguments(dict(manifest.arguments))
    dataset = load_dataset(order.data, order.data_root)
    traced = traced_prototype(order, dataset)
    with RunFolder.start(run, Manifest(manifest.command, order.arguments(), checksums(order, dataset)),
                         resume=True) as folder, laboratory(
            order, dataset, traced, folder, compute or Compute(), progress,
            export=functools.partial(export_for_board, dataset, order)) as lab:
        if lab.loop is not None:
            lab.loop.feedback.recall()
        problem = NetworkProblem(lab.space, lab.requirements, lab.probes, lab.pool, folder, lab.recipes, order.seed,
                                 lab.parent_outcome, earlier=lab.known.cycles)
        problem.recall_bank(order.cycles)
        generator = Generator.load(folder.path / "generator")
        if [site.choices for site in generator.sites] != [site.choices for site in lab.space.sites]:
            raise UserError(f"{run}: its generator decides on other things than this edgesynth does: use the version "
                            "that made it")
        made = make(lab, generator, seeds, prefer)
        done: dict[int, Finished] = {}
        with progress.stage("generating", len(made.seeds)) as stage:
            for trained, rows in _in_full(lab, problem, made, folder):
                for i in rows:
                    done[i] = replace(trained, name=made.names[i], seed=made.seeds[i], repaired=bool(made.repaired[i]))
                    export_one(lab, done[i], f"generated/{made.names[i]}", folder)
                    stage.at(len(done))
        folder.finish()  # no training is under way any more
    return [done[i] for i in range(len(made.seeds))]


def _in_full(lab: Laboratory, problem: NetworkProblem, made: Made,
             folder: RunFolder) -> Iterator[tuple[Finished, list[int]]]:
    """Every different network of `made` after full training, with all its rows. None is trained to the same weights
    twice: not those of a finalist or of an earlier seed and, where trainings start from fresh weights, not those of a
    cycle either, or of an earlier run. What inherits would begin from another bank than it did there."""
    networks: dict[Decisions, list[int]] = {}
    for i in range(len(made.seeds)):
        networks.setdefault(made.row(i), []).append(i)
    finished = [name for name in folder.steps if name.startswith(f"{FINISHED}/") and folder.done(name)]
    names = {tuple(card_of(folder.path / name)["decisions"]): name.partition("/")[2] for name in finished}
    known: dict[Decisions, Finished] = {}
    if not lab.recipes.final.inherits:
        problem.recall_in_full(lab.order.cycles)
        known = {one.decisions: one for one in known_in_full(lab, problem) if one.decisions not in names}
    for row in [row for row in networks if row in known]:
        yield known[row], networks.pop(row)
    made = replace(made, names=[names.get(made.row(i), name) for i, name in enumerate(made.names)])
    yield from zip(train_in_full(lab, problem, made, [rows[0] for rows in networks.values()], folder),
                   networks.values(), strict=True)
