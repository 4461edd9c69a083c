"""Options that the commands of this floor share. Importing this imports neither torch nor onnxruntime."""

from __future__ import annotations

import os
from typing import Any

import click

from devices.support.errors import EdgesynthError
from synth.training.device import AUTO, DEVICES

GREATEST_SEED = 2**64 - 1  # that torch takes


class Stopped(EdgesynthError):
    """Ctrl-C; the message says how to go on."""

    exit_code = 130


def default_workers() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


class SeedRange(click.ParamType):
    """ "7" or "100:120" (the last one not included)."""

    name = "SEEDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        first, colon, last = value.partition(":")
        try:
            seeds = list(range(int(first), int(last) if colon else int(first) + 1))
        except ValueError:
            self.fail(f"'{value}' is no range of seeds: write 7 or 100:120", param, ctx)
        if not seeds or seeds[0] < 0:
            self.fail(f"'{value}' holds no seed: write the smaller number first, from 0 on", param, ctx)
        if seeds[-1] > GREATEST_SEED:
            self.fail(f"'{value}' is too large: seeds end at {GREATEST_SEED}", param, ctx)
        return seeds


workers_option = click.option("--workers", type=click.IntRange(1), default=None, show_default="up to 4",
                              help="Processes, on a GPU lanes; the result does not depend on them.")
set_option = click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
                          help="In place of another value of a recipe, such as batch, rate or precision; "
                               "final.rate=0.02 is meant for one recipe alone.")
device_option = click.option("--device", type=click.Choice(DEVICES), default=AUTO, show_default=True,
                             help="Where networks are trained; auto: on a GPU when there is one.")
data_root_option = click.option("--data-root", type=click.Path(),
                                help="Folder with your copy of the data set; without it cifar10 is downloaded.")
