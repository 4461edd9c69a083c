"""The board in the loop: measurements run beside the training, are kept in the run folder, and correct the cost model.

    measurements.jsonl      the cache: what was measured of a network, in which state of the board
    board/state.json        the state of the boards when the run began
    board/<phase>.json      what one phase of the run asked for, and what was answered; a resumed run replays it
    board/results/          every result with its raw record
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import read_json, write_json
from synth.energy.boards import Board, Job, marks_of
from synth.energy.crew import STOP, Crew
from synth.networks.module import Weights
from synth.networks.network import Network
from synth.space.correction import Measurement
from synth.space.prices import Prices
from synth.space.quantities import ENERGY, LATENCY, asks_for_power
from synth.storage.run_folder import RunFolder

PHASE, STATE = "edgesynth.board-phase/1", "edgesynth.board-state/1"
PLACE, CACHE = "board", "measurements"

ExportNetwork = Callable[[Network, "Weights | None", Path], None]


@dataclass(frozen=True)
class Request:
    """A network that is to be measured at a batch, by the full protocol or quickly. gain: the doubt that it was chosen
    to remove, None where it was asked for anyway. weights: trained ones, since what a GPU computes with shows in its
    power; None for those that it begins with."""

    network: Network
    batch: int
    full: bool = False
    gain: float | None = None
    weights: Weights | None = None


class Feedback:
    """A context manager: leaving it ends what still runs on the boards.

    crew: None where a finished run is only recalled. export: writes the ONNX file of a network for the target, with its
    weights or, for None, those that it begins with.
    """

    def __init__(self, folder: RunFolder, prices: Prices, crew: Crew | None, export: ExportNetwork):
        assert prices.correction is not None
        self.prices, self.correction, self.crew = prices, prices.correction, crew
        self.phases: list[dict[str, Any]] = []
        self._folder, self._export = folder, export
        self._cache = folder.journal(CACHE)
        self._state: dict[str, Any] | None = None
        self._checked = False
        self._phase: str | None = None
        self._requests: list[Request] = []
        self._answers: dict[tuple[str, int], str] = {}

    @property
    def power(self) -> bool:
        """Whether energy is measured: it is when any requirement asks for it."""
        return asks_for_power(self.prices.requirements.on_costs)

    def __enter__(self) -> Feedback:
        return self

    def __exit__(self, *error: object) -> None:
        if self.crew is not None and self._phase is not None:
            self.crew.stop()
        shutil.rmtree(self._exports, ignore_errors=True)

    # --- a phase -----------------------------------------------------------------------------------------------------

    def begin(self, phase: str, requests: Callable[[], Sequence[Request]]) -> None:
        """Start measuring in the background; `end` waits for it. A phase that is on disk asks no board again."""
        assert self._phase is None, "one phase at a time"
        self._phase, self._requests, self._answers = phase, [], {}
        if self._folder.done(_place(phase)):
            return
        self._requests = list(requests())
        waiting = [one for one in self._requests if self._recall(one) is None]
        if not waiting:
            return
        if self.crew is None:
            raise UserError("this run needs its board for what is still to be measured: give --host")
        self._check_state()
        self._waiting = len(waiting)
        self.crew.start([self._job(one) for one in waiting], self._take)

    def end(self) -> list[dict[str, Any]]:
        """Wait for the phase, learn from it, and return its rows: {"network", "batch", "full", "gain"} with
        "measurement", or with "why" it was not measured."""
        phase, self._phase = self._phase, None
        assert phase is not None

        def compute() -> list[dict[str, Any]]:
            if self.crew is not None:
                try:
                    self.crew.join()
                except KeyboardInterrupt:
                    self.crew.stop()
                    raise
            return [self._row(one) for one in self._requests]

        def save(path: Path, rows: list[dict[str, Any]]) -> None:
            write_json(path, {"rows": rows}, PHASE)

        rows = self._folder.step(_place(phase), compute, save, lambda path: read_json(path, PHASE)["rows"])
        self.learn(phase, rows)
        return rows

    def learn(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.correction.learn(Measurement.from_json(row["measurement"]) for row in rows if "measurement" in row)
        self.phases.append({"phase": phase, "rows": list(rows)})

    def recall(self) -> None:
        """Learn all that a finished run had measured, in its order."""
        found = [(read_json(path, PHASE), path) for path in (self._folder.path / PLACE).glob("*.json")
                 if path.name != "state.json"]
        order = {name: number for number, name in enumerate(self._folder.steps)}
        for value, path in sorted(found, key=lambda pair: order.get(f"{PLACE}/{pair[1].name}", 0)):
            self.learn(path.stem, value["rows"])

    @property
    def count(self) -> int:
        """Networks that were measured so far, a network at two batches counting twice."""
        return len(self.correction.known)

    @property
    def unmeasured(self) -> list[str]:
        """Why something that was asked for was not measured, each reason once."""
        return list(dict.fromkeys(row["why"] for phase in self.phases for row in phase["rows"] if "why" in row))

    @property
    def marks(self) -> list[str]:
        """What speaks against relying on some of the results, each once."""
        found = (mark for one in self.correction.known.values() for mark in one.about.get("marks", ()))
        return list(dict.fromkeys(found))

    # --- cache -------------------------------------------------------------------------------------------------------

    def _key(self, request: Request, full: bool) -> list[Any]:
        return [request.network.digest, request.batch, "full" if full else "quick", self._known_state()]

    def _recall(self, request: Request) -> Measurement | None:
        """From the cache; a full measurement answers a quick question as well."""
        for full in dict.fromkeys((True, request.full)):
            found = self._cache.get(self._key(request, full))
            if found is not None:
                return Measurement.from_json(found)
        return None

    def _row(self, request: Request) -> dict[str, Any]:
        row = {"network": request.network.digest, "batch": request.batch, "full": request.full, "gain": request.gain}
        found = self._recall(request)
        if found is not None:
            return row | {"measurement": found.to_json()}
        return row | {"why": self._answers[request.network.digest, request.batch]}

    def _take(self, job: Job, board: Board | None, answer: dict[str, Any] | str) -> None:
        """Called from the crew, one at a time."""
        request = next(one for one in self._requests if (one.network.digest, one.batch) == (job.network, job.batch))
        self._waiting -= 1
        if isinstance(answer, str):
            self._answers[job.network, job.batch] = answer
            return
        features, predicted = self.prices.baseline(request.network, request.batch)
        saved = answer.get("saved")
        about = {"board": board.name if board else "", "created": answer.get("created"), "marks": marks_of(answer),
                 "result": None if saved is None else f"{PLACE}/results/{Path(saved).name}"}
        measurement = Measurement(job.network, job.batch, job.full, answer["readings"], features, predicted, about)
        self._cache.append(self._key(request, job.full), measurement.to_json())
        if self.crew is not None:
            kind = "decided" if job.full else "measured"
            self.crew.say(f"{about['board']}: {kind} {_words(measurement)} @ batch={job.batch}, {self._waiting} to go")

    # --- boards ------------------------------------------------------------------------------------------------------

    def _known_state(self) -> dict[str, Any]:
        if self._state is None:
            place = f"{PLACE}/state.json"
            self._checked = not self._folder.done(place)
            self._state = self._folder.step(place, self._ask_state, _save_state,
                                            lambda path: read_json(path, STATE)["state"])
        return self._state

    def _ask_state(self) -> dict[str, Any]:
        assert self.crew is not None
        return one_state(self.crew.states(self.power))

    def _check_state(self) -> None:
        """The boards must be as they were when the run began. A board that is lost is the crew's to deal with."""
        assert self.crew is not None
        before = self._known_state()
        if self._checked or self.crew.gone:
            return
        try:
            now = one_state(self.crew.states(self.power))
        except CannotMeasure:
            if self.crew.lost_policy == STOP:
                raise
            return  # the crew asks again, and predicts in the end
        changes = [f"{name} was {before.get(name)}, now {now.get(name)}" for name in {**before, **now}
                   if before.get(name) != now.get(name)]
        if changes:
            raise UserError(f"the board is not as it was when this run began ({'; '.join(changes)}), and its numbers "
                            "would not fit together: set it back, or start a new run")
        self._checked = True

    def _job(self, request: Request) -> Job:
        self._exports.mkdir(parents=True, exist_ok=True)
        path = self._exports / f"{request.network.digest[:16]}-{request.batch}{'-full' if request.full else ''}.onnx"
        self._export(request.network, request.weights, path)
        return Job(request.network.digest, path, request.batch, request.full, self.power)

    @property
    def _exports(self) -> Path:
        return self._folder.path / PLACE / ".exports.partial"


def one_state(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The state that all boards share. UserError that names what differs: their numbers would not fit together."""
    (first, state), *others = states.items()
    for name, other in others:
        for what in {**state, **other}:
            if state.get(what) != other.get(what):
                raise UserError(f"{first} and {name} cannot share the work: {what} is {state.get(what)} there and "
                                f"{other.get(what)} here; make them alike, or name one of them")
    return dict(state)


def _words(measurement: Measurement) -> str:
    """The latency, and the energy where there is one, for progress."""
    values = ((measurement.readings.get(name), unit) for name, unit in ((LATENCY, "ms"), (ENERGY, "mJ/image")))
    return ", ".join(f"{value['value']:.3g} {unit}" for value, unit in values if value is not None)


def _save_state(path: Path, state: Mapping[str, Any]) -> None:
    write_json(path, {"state": dict(state)}, STATE)


def _place(phase: str) -> str:
    return f"{PLACE}/{phase}.json"
