"""A run on disk: what it was asked, every step that is done, and all that it takes to go on after `kill -9`.

    run.json            the manifest: command, arguments, versions, data checksums, when started and finished
    steps.jsonl         the journal of steps, with the checksum of every file that a step wrote
    <step>              a file or a folder a step; it appears whole or not at all
    <name>.jsonl        further journals, such as what boards measured
    checkpoints/        trainings under way; gone when the run is finished
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from devices.support import files
from devices.support.errors import UserError
from synth.storage.folder_lock import LOCK_NAME, FolderLock
from synth.storage.journal import Journal

SCHEMA = "edgesynth.run/1"
MANIFEST, STEPS, PARTIAL = "run.json", "steps", ".partial"
CHECKPOINTS = "checkpoints"
PACKAGES = ("edgesynth", "torch", "numpy", "scipy", "onnx", "onnxruntime")
T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """What a run was asked. JSON throughout.

    command: as typed. arguments: all that decides the result (target, prototype, data, requirements, seed, cycles, ...)
    and nothing else (not the number of workers). data: {what: sha256} of everything that was read.
    versions: empty for those installed. started, finished: UTC, ISO 8601; set by the run folder.
    """

    command: str
    arguments: Mapping[str, Any]
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """UserError when the folder holds no run, a damaged one or one of another version."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(f"{folder}: there is no run in this folder (no {MANIFEST})")
        value = files.read_json(path, SCHEMA)
        for name in ("arguments", "data", "versions"):
            if not isinstance(value.get(name, {}), dict):
                raise UserError(f"{path}: damaged (its {name} are no object); restore it or start a new run")
        try:
            return cls(**{name: value[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise UserError(f"{path}: damaged ({error} is missing); restore it or start a new run") from error

    def resume_command(self, folder: str | os.PathLike[str]) -> str:
        """What to type to go on after a stop."""
        words = shlex.split(self.command)
        words += [] if any(word.split("=")[0] == "--out" for word in words) else ["--out", os.fspath(folder)]
        words += [] if "--resume" in words else ["--resume"]
        return shlex.join(words)

    def write(self, folder: Path) -> None:
        files.write_json(folder / MANIFEST, asdict(self), SCHEMA)


class RunFolder:
    """A run folder that this process works in; a context manager that lets go of the lock.

    Every step seeds its own random numbers and returns what it reads back from disk, so that a run that was cut and
    resumed computes with the same bits as one that was not.
    """

    def __init__(self, path: Path, manifest: Manifest, lock: FolderLock):
        self.path = path
        self.manifest = manifest
        self.warnings: list[str] = []
        self._lock = lock
        self._steps = self.journal(STEPS)

    @classmethod
    def start(cls, path: str | os.PathLike[str], manifest: Manifest, resume: bool = False) -> RunFolder:
        """Begin a run in a new or empty folder or, with `resume`, go on with the one that is there.

        UserError, and nothing changed: the folder holds something else, or a run and `resume` was not said; there is
        nothing to resume, or it was started with other arguments or data; another process works in it.
        """
        folder = Path(path)
        _refuse_foreign(folder, resume)
        made = _make_folder(folder)
        lock = FolderLock(folder)
        try:
            _refuse_foreign(folder, resume)  # once more: only now nobody else can change it
            _clear_leftovers(folder)
            warnings = []
            if resume:
                stored = Manifest.read(folder)
                _refuse_changes(folder, stored, manifest)
                warnings = _version_warnings(stored.versions, manifest.versions or installed_versions())
                manifest = stored
            else:
                manifest = replace(manifest, started=_now(), versions=manifest.versions or installed_versions())
                manifest.write(folder)
            run = cls(folder, manifest, lock)
        except BaseException:
            lock.release()
            if made:
                _remove_empty(folder, made)
            raise
        run.warnings += warnings
        return run

    @property
    def finished(self) -> bool:
        return self.manifest.finished is not None

    def step(self, name: str, compute: Callable[[], T], save: Callable[[Path, T], object],
             load: Callable[[Path], T]) -> T:
        """What `compute` returns, from disk when the step is done already.

        name: the file or folder in the run folder, e.g. "prototype" or "ferminets/a/network.json". save: writes the
        value at the path it is given, as a file or as a folder. UserError when a file of the step was damaged since.
        """
        path = self.path / name
        recorded = self._steps.get(name)
        if recorded is not None:
            _refuse_damage(self.path, recorded, f"delete {path} and run again with --resume to make it anew")
        if not path.exists():
            value = compute()
            self._place(path, lambda place: save(place, value))
            if recorded is not None and (made := _digests(self.path, path)) != recorded:
                self.warnings.append(f"{path}: made anew, and not the same as before")
                self._steps.replace(name, made)
        if recorded is None:
            self._steps.append(name, _digests(self.path, path))
        return load(path)

    @property
    def steps(self) -> list[str]:
        """Names of the steps that were done, in their order."""
        return list(self._steps)

    def done(self, name: str) -> bool:
        """Whether a step is on disk already."""
        return (self.path / name).exists()

    @property
    def checkpoints(self) -> Path:
        """Folder of trainings under way."""
        return self.path / CHECKPOINTS

    def journal(self, name: str) -> Journal:
        """The journal `name` of this run, in NAME.jsonl."""
        return _journal(self.path, name)

    def finish(self) -> None:
        """Mark the run as finished; a later `--resume` shows its result again."""
        if not self.finished:
            self.manifest = replace(self.manifest, finished=_now())
            self.manifest.write(self.path)
        _remove(self.checkpoints)

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _place(self, path: Path, write: Callable[[Path], object]) -> None:
        """Let `write` make a file or folder beside `path`, then give it its name at once."""
        partial = path.with_name(f".{path.name}{PARTIAL}{path.suffix}")
        try:
            with _explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write(partial)
                for file in _files_of(partial):
                    _sync(file)
                os.replace(partial, path)
                _sync(path.parent)
        finally:
            _remove(partial)


def steps_of(folder: str | os.PathLike[str], wanted: Sequence[str]) -> dict[str, Path]:
    """{name: where it lies} of the steps of a run, whoever works in it: those of these names, or in folders of these
    names, in the order in which they were done. UserError when a file of theirs was damaged since."""
    root = Path(folder)
    journal = root / f"{STEPS}.jsonl"
    done = {name: digests for name, digests in (_journal(root, STEPS).items() if journal.exists() else ())
            if name.split("/")[0] in wanted and (root / name).exists()}
    for name, digests in done.items():
        _refuse_damage(root, digests, f"delete {root / name} and go on with that run to make it anew")
    return {name: root / name for name in done}


def installed_versions() -> dict[str, str]:
    """Versions of what decides a result's bits; imports none of it."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of arguments, in words."""
    return [
        f"{name} was {_words(before.get(name))}, now {_words(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if files.canonical_json(before.get(name)) != files.canonical_json(now.get(name))
    ]


def _journal(folder: Path, name: str) -> Journal:
    return Journal(folder / f"{name}.jsonl", f"edgesynth.{name}/1")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """An OSError as one sentence about `path`."""
    try:
        yield
    except OSError as error:
        raise files.explain(error, path) from error


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder; what was made, innermost first."""
    with _explained(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folder: Path, made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        (folder / LOCK_NAME).unlink(missing_ok=True)
        for place in made:
            place.rmdir()


def _refuse_foreign(folder: Path, resume: bool) -> None:
    """UserError when this run cannot have the folder; looks and touches nothing."""
    with _explained(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: it is a file; name a folder for the run")
        names = sorted(os.listdir(folder)) if folder.exists() else []
    # a start that was cut before its manifest was whole leaves these
    names = [name for name in names if name != LOCK_NAME and not name.startswith(f".{MANIFEST}.")]
    if MANIFEST in names:
        if not resume:
            raise UserError(f"{folder}: it holds a run already; go on with --resume, or choose another --out")
    elif names:
        raise UserError(f"{folder}: it holds something else ({names[0]}); choose another --out")
    elif resume:
        raise UserError(f"{folder}: there is no run to resume; leave --resume out to start one")


def _refuse_changes(folder: Path, stored: Manifest, given: Manifest) -> None:
    """UserError that names every argument in which a resumed run differs from its start."""
    changes = differences(stored.arguments, given.arguments)
    if changes:
        raise UserError(
            f"{folder}: this run was started otherwise ({'; '.join(changes)}); "
            "resume it with what it was started with, or choose another --out"
        )
    changed = sorted(name for name, _ in stored.data.items() ^ given.data.items())
    if changed:
        names = ", ".join(dict.fromkeys(changed))
        raise UserError(f"{folder}: the data changed since this run was started ({names}); start a new run")


def _version_warnings(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changes = [
        f"{name} {before.get(name, 'missing')} -> {now.get(name, 'missing')}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if not changes:
        return []
    return [f"resumed with other versions ({', '.join(changes)}): the result may differ from that of an uncut run"]


def _words(value: Any) -> str:
    if value is None:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written: this run's temporary files and partial steps."""
    for place in sorted(folder.rglob(".*"), reverse=True):
        if PARTIAL in place.name or place.name.endswith(".tmp"):
            _remove(place)


def _remove(place: Path) -> None:
    with contextlib.suppress(OSError):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _digests(root: Path, path: Path) -> dict[str, str]:
    """{path in the run folder: sha256} of the files of a step."""
    return {file.relative_to(root).as_posix(): files.sha256_file(file) for file in _files_of(path)}


def _refuse_damage(root: Path, recorded: Mapping[str, str], remedy: str) -> None:
    """UserError when a file of a step is not what was written. A step that was deleted as a whole is no damage."""
    present = [name for name in recorded if (root / name).exists()]
    for name in recorded if present else ():
        if name not in present:
            raise UserError(f"{root / name}: it is missing; {remedy}")
        if files.sha256_file(root / name) != recorded[name]:
            raise UserError(f"{root / name}: it is damaged or was changed; {remedy}")


def _sync(place: Path) -> None:
    """Make what was written or renamed durable."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
