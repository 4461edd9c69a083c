"""`compare_models`: two models measured in turns, here or on a board."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from edge_bench.agent import comparison, pair, store
from edge_bench.bench import require_options

__all__ = ["compare_models"]


def compare_models(base: str | os.PathLike[str], head: str | os.PathLike[str], *, host: str | None = None,
                   save_to: str | os.PathLike[str] | None = None,
                   progress: Callable[[str], None] = lambda text: None, **options: Any) -> dict[str, Any]:
    """Measure two model files in turns as one job; the comparison, schema edgesynth.compare/1.

    Both are built and run where `host` (an ssh destination; None: here) says, trials in the order base head, head base
    and so on, each a fresh process: what the board does to both, heat above all, cancels in the ratio.
    options: `edge_bench.agent.arguments.BENCH` by name; trials are of each model (6 unless given). save_to: a folder
    that keeps the comparison and its raw record; "saved" is then the path. See `edge_bench.agent.comparison.make`.

    UserError for a model or option that is wrong; CannotMeasure where nothing sound can be measured.
    """
    require_options(options)
    options = {name: value for name, value in options.items() if value is not None}
    request = {**options, "base": os.fspath(base), "model": os.fspath(head)}
    pair.complete_pair(request)  # what makes no sense is refused before the board is asked
    if save_to is not None:
        store.require_folder(os.fspath(save_to))
    if host is not None:
        from edge_bench.remote import compare_on_host

        found, record = compare_on_host(host, os.fspath(base), os.fspath(head), options, progress)
    else:
        record = pair.measure_pair(request, progress)
        found = comparison.make(record)
    if save_to is not None:
        found["saved"] = comparison.save(found, record, os.fspath(save_to))
    return found
