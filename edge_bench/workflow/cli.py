"""`edgesynth init-ci`: the energy gate in a repository's CI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from devices.json_output import give_json, json_option

__all__ = ["init_ci"]


@click.command(name="init-ci", epilog="\b\nExamples:\n"
               "  edgesynth init-ci --target tx2 --host nvidia@tx2\n"
               "  edgesynth init-ci --target tx2:maxq --host ci@tx2 --models 'nets/*.onnx' --bench '--batch 8'\n"
               "  edgesynth init-ci --target tx2 --on-board\n"
               "  edgesynth init-ci --target tx2 --host nvidia@tx2 --gitlab")
@click.option("--target", "--board", "target", default="tx2", show_default=True, metavar="BOARD[:MODE]",
              help="The board that guards, and the power mode to measure in (else the present one is kept).")
@click.option("--host", metavar="USER@BOARD", help="The board as the runner's ssh knows it.")
@click.option("--on-board", is_flag=True, help="The board runs its jobs itself: a workflow without any actions.")
@click.option("--models", multiple=True, metavar="PATTERN", help="Which models, below the repository's root; may be "
                                                                 "repeated.  [default: models/*.onnx]")
@click.option("--baseline", default=".edgesynth/baseline.json", show_default=True, metavar="FILE",
              help="Where the baseline lives in the repository.")
@click.option("--tolerance", multiple=True, metavar="METRIC=5%",
              help="How much worse is still fine; may be repeated.  [default: energy=5% latency=5%]")
@click.option("--against", is_flag=True, help="Measure a pull request's models in turns with those of the branch it "
                                              "is for; a push is still held against the baseline.")
@click.option("--no-power", is_flag=True, help="Guard latency alone, where the board measures no power.")
@click.option("--bench", default="", metavar="TEXT", help="More options for bench, such as '--batch 8'.")
@click.option("--check", default="", metavar="TEXT", help="More options for check, such as '--force'.")
@click.option("--label", default="", metavar="NAME", help="The runner's label.  [default: edgesynth-BOARD]")
@click.option("--install", "requirement", metavar="REQUIREMENT",
              help="What pip installs on the runner.  [default: this version, from where it came here]")
@click.option("--gitlab", is_flag=True, help="A job for GitLab in place of GitHub's workflow.")
@click.option("--out", default=".", show_default=True, metavar="FOLDER", help="The repository's root.")
@click.option("--force", is_flag=True, help="Also replace files that were edited by hand.")
@json_option("What was written and what is to do next, as JSON.")
def init_ci(target: str, requirement: str | None, no_power: bool, out: str, force: bool, json_path: str | None,
            **asked: Any) -> None:
    """Put the energy gate into a repository's CI: a workflow that measures its models on a board for every change, and
    the shell script that it calls, which works everywhere else too."""
    from edge_bench.workflow.advice import default_requirement, next_steps
    from edge_bench.workflow.plan import files, make_plan
    from edge_bench.workflow.writing import write_files

    if no_power and not asked["tolerance"]:
        asked["tolerance"] = ("latency=5%",)
    source, doubt = (requirement, "") if requirement else default_requirement()
    plan = make_plan(target, asked.pop("host"), source, power=not no_power, **asked)
    written = write_files(files(plan), Path(out), force)
    steps = next_steps(plan, [doubt, "" if (Path(out) / ".git").exists() else
                              f"{out} is not the root of a git repository: CI reads these files at the root only"])
    if json_path:
        body = {"schema": "edgesynth.init-ci/1", "target": str(plan.target), "host": plan.host or None,
                "label": plan.runner, "files": written, "baseline": plan.baseline, "next": steps}
        give_json(body, json_path)
    if json_path != "-":
        for path, what in written.items():
            click.echo(f"{what:10} {path}")
        click.echo("\nnext")
        for number, step in enumerate(steps, 1):
            click.echo(f"  {number}. " + "\n     ".join(step.split("\n")))
