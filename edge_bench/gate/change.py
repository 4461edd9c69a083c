"""`check --against`: models of the working tree against what a git revision holds of them, measured in turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devices.support.errors import EdgesynthError, UserError
from devices.support.files import sha256_file
from edge_bench.agent import engines, runners, statistics, store
from edge_bench.compare import compare_models
from edge_bench.gate import checking, verdict
from edge_bench.gate.revision import Revision
from edge_bench.gate.verdict import ModelVerdict

__all__ = ["check_against"]


def check_against(models: Sequence[str], ref: str, allowed: dict[str, float] | None = None, *,
                  host: str | None = None, again: bool = True, save_to: str | os.PathLike[str] = store.FOLDER,
                  progress: Callable[[str], None] = lambda text: None, **options: Any,
                  ) -> tuple[list[ModelVerdict], dict[str, Any]]:
    """The verdict of each model file, and {"kind", "ref", "commit"} of what it was held against.

    A model that the revision holds with the same bytes is not measured; one that it does not hold is "new". again:
    where the pairs tell nothing, measure as many once more. host, options: as for `compare.compare_models`; energy is
    measured where `allowed` names it. The comparisons are kept in `save_to`, whatever comes of the next model.
    UserError for a model, option or revision that is wrong.
    """
    if not models:
        raise UserError("name a model: edgesynth check MODEL --against REF")
    for model in models:
        runners.require_file(model)
    if (options.get("trials") or statistics.FEWEST) < statistics.FEWEST:  # known before anything is measured
        raise UserError(f"--trials {options['trials']} would show no interval, without which nothing is judged: "
                        f"give at least {statistics.FEWEST}")
    if allowed and "energy" in allowed and not options.get("power_source"):
        options["power"] = True
    revisions = [Revision(ref, model) for model in models]
    verdicts: list[ModelVerdict] = []
    with tempfile.TemporaryDirectory(prefix="edgesynth-") as folder:
        bases = [revision.model(tempfile.mkdtemp(dir=folder)) for revision in revisions]  # all, before one is measured
        for model, base, revision in zip(models, bases, revisions, strict=True):
            found = ModelVerdict(Path(model).stem, file=os.path.relpath(model))
            if base is None:
                found.settled(verdict.NEW, f"{revision.ref} holds no such file, so there is nothing to hold it against")
            elif contents(base) == contents(Path(model)):
                found.settled(verdict.PASS, f"the same file as in {revision.ref}, not measured")
            else:
                try:
                    _compare(found, base, model, revision.ref, allowed, again,
                             dict(options, host=host, save_to=save_to, progress=progress))
                except EdgesynthError as error:
                    if isinstance(error, UserError) and not any(other.method for other in verdicts):
                        raise  # a mistake that has cost nothing yet; later it must not hide what was found
                    found.settled(verdict.UNMEASURED, str(error))
            verdicts.append(found)
    return verdicts, {"kind": "revision", "ref": ref, "commit": revisions[0].commit}


def contents(model: Path) -> list[str]:
    """The hashes of a model file and of the files beside it that hold its weights."""
    weights = engines.external_weights(os.fspath(model)) if runners.is_onnx(model.name) else []
    return [sha256_file(path) for path in (model, *weights) if os.path.isfile(path)]


def _compare(found: ModelVerdict, base: Path, model: str, where: str, allowed: dict[str, float] | None, again: bool,
             options: dict[str, Any]) -> None:
    def measured(why: str = "") -> list[tuple[str, dict[str, Any]]]:
        options["progress"](f"{found.model}: {why}in turns with what {where} holds")
        compared = compare_models(base, model, **options)
        return [(compared.pop("saved"), compared)]

    path, first = measured()[0]
    found.results.append(path)
    checking.check_comparisons(found, [first], allowed, (lambda: measured("it is not clear yet, once more ")) if again
                           else None)
