"""What an earlier run found out, whatever it was asked, taken over by a new one of the same networks and data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices.support.errors import UserError
from synth.prototypes.registry import default_prototype
from synth.run.candidates import Outcome
from synth.run.order import Order
from synth.run.problem import CYCLES, Evaluated, load_cycle
from synth.search.decisions import Decisions
from synth.storage.network_folder import card_of, load_network
from synth.storage.run_folder import Manifest, RunFolder, differences, steps_of

WARM_START, FINISHED = "warm-start", "finished"
KINDS = (CYCLES, FINISHED)
# what nothing that may be ordered otherwise has a part in
PREPARED = ("prototype", "parent", "teacher.safetensors", "probing.json", "anchors.json")
Places = dict[str, list[Path]]  # by kind, oldest first
ALIKE = ("data", "seed", "epochs", "short_epochs", "changes", "teachers")  # of two orders, and the prototype


@dataclass(frozen=True)
class Trained:
    """A network that was trained in full, with its weights. repaired: whether G made it otherwise. digest: of the
    network that the decisions were."""

    decisions: Decisions
    repaired: bool
    outcome: Outcome
    digest: str


@dataclass(frozen=True)
class WarmStart:
    """What was evaluated, cycle by cycle, and what was trained in full."""

    cycles: tuple[Evaluated, ...] = ()
    in_full: tuple[Trained, ...] = ()


def refuse_unlike(order: Order, checksums: Mapping[str, str]) -> None:
    """UserError where the run that the order starts from is none, or of other networks or data, so that what it found
    out says nothing. checksums: {what was read: SHA-256}, of the order's own data and teachers."""
    if order.warm_start is None:
        return
    manifest = Manifest.read(order.warm_start)
    earlier = Order.from_arguments(dict(manifest.arguments))
    changes = differences(_alike(earlier), _alike(order))
    changes += [f"{word} has changed since" for word in (order.data, *order.teachers)
                if not changes and manifest.data.get(word) != checksums.get(word)]
    if changes:
        raise UserError(f"--warm-start {order.warm_start}: what it found out is of no use here ({'; '.join(changes)}); "
                        "ask for the same as there, or start without it")


def _alike(order: Order) -> dict[str, object]:
    return {"prototype": order.prototype or default_prototype(order.data)} | {
        name: getattr(order, name) for name in ALIKE}


def warm_start(order: Order, folder: RunFolder) -> WarmStart:
    """What the order's run starts from. It is copied, with what was prepared there, so that the earlier run may go on,
    or be deleted. UserError for a file of it that was damaged."""
    if order.warm_start is None:
        return WarmStart()
    earlier = Path(order.warm_start)
    if not folder.done(WARM_START):
        for name, place in steps_of(earlier, PREPARED).items():
            _adopt(folder, name, place)
    places = folder.step(WARM_START, lambda: _found_out(earlier), _copy_all, _kept)
    return WarmStart(tuple(map(load_cycle, places[CYCLES])), tuple(map(_trained, places[FINISHED])))


def _adopt(folder: RunFolder, name: str, place: Path) -> None:
    def copy(path: Path, place: Path) -> None:
        if place.is_dir():
            shutil.copytree(place, path)
        else:
            shutil.copyfile(place, path)

    folder.step(name, lambda: place, copy, lambda path: path)


def _found_out(earlier: Path) -> Places:
    """A run that had a warm start itself knew what still earlier ones found out."""
    done = steps_of(earlier, (WARM_START, *KINDS))
    known = _kept(earlier / WARM_START)
    return {kind: known[kind] + [place for name, place in done.items() if name.startswith(f"{kind}/")]
            for kind in KINDS}


def _copy_all(path: Path, places: Places) -> None:
    for kind in KINDS:
        (path / kind).mkdir(parents=True)
        for number, place in enumerate(places[kind]):
            shutil.copytree(place, path / kind / f"{number:04d}")


def _kept(path: Path) -> Places:
    return {kind: sorted((path / kind).glob("*")) for kind in KINDS}


def _trained(path: Path) -> Trained:
    card, (network, weights) = card_of(path), load_network(path)
    return Trained(tuple(card["decisions"]), card["repaired"], Outcome.from_json(card, weights), network.digest)
