"""A whole run in seconds: a small network on small drawings, trained for two epochs.

    python tiny_run.py OUT [--resume] [--workers N] [--seed N]

runs it as a process of its own, which a test can kill.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from synth.run import scope
from synth.run.order import Order
from synth.run.run import synthesise
from synth.training.device import Compute
from synth.training.recipe import recipe_for

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"


def order(**changes):
    asked = {"target": "tx2", "data": f"{HERE / 'tiny_run.py'}:data",
             "prototype": f"{EXAMPLES / 'own_data.py'}:network",
             "requirements": ("accuracy >= 1 %", "img_per_joule >= 1", "params <= 100k"), "cycles": 3, "batch": 2,
             "ferminets": 2}
    return Order(**{**asked, **changes})


def data():
    """The drawings of examples/own_data.py, fewer of them."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("own_data", EXAMPLES / "own_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"train": module.shapes(120, 0), "validation": module.shapes(60, 1), "test": module.shapes(60, 2),
            "classes": module.CLASSES}


def short_recipes(name, purpose, **size):
    return replace(recipe_for(name, purpose, **size), epochs=2 if purpose != "prototype" else 6)


def run(out, *, resume=False, workers=1, boards=(), board_lost="stop", **changes):
    before, scope.recipe_for = scope.recipe_for, short_recipes
    try:
        return synthesise(order(**changes), out, command="edgesynth synth", resume=resume, compute=Compute(workers),
                          boards=boards, board_lost=board_lost)
    finally:
        scope.recipe_for = before


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run(given.out, resume=given.resume, workers=given.workers, seed=given.seed)
