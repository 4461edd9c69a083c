"""What a repository's gate is to do, checked; and the files that do it."""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from devices.board import Target, resolve_target
from devices.support.errors import UserError
from edge_bench.agent.arguments import BENCH, add_to_parser, complete
from edge_bench.gate.baseline import SESSIONS
from edge_bench.gate.tolerances import parse_tolerances

WORKFLOW, SCRIPT = ".github/workflows/edgesynth-{board}.yml", "ci/edgesynth-gate-{board}.sh"
GITLAB = ".gitlab/edgesynth-{board}.yml"
OUT = "edgesynth-out"
MINUTES_A_JOB = 120  # a model takes two minutes, and up to ten where the noise asks for more sessions
# pinned by commit: a tag can be moved to other code
ACTIONS = {"checkout": "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8  # v5.0.0",
           "upload": "actions/upload-artifact@b7c566a772e6b6bfb58ed0dc250532a479d7789f  # v6.0.0"}
CHECKS = {"--force": False, "--inconclusive": True, "--more-sessions": True, "--summary": True}  # whether with a value
OURS = ("--power", "--lock", "--mode", "--save", "--host", "--json")  # what the script says itself
_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True)
class Plan:
    """A gate. target: board and mode; `mode` whether the mode was named. host: ssh destination, "" on the board.
    models: shell patterns below the repository's root. bench, check: more words for these commands. requirement: what
    pip installs on the runner. against: measure a pull request in turns with the branch it is for."""

    target: Target
    host: str
    requirement: str
    models: tuple[str, ...] = ("models/*.onnx",)
    baseline: str = ".edgesynth/baseline.json"
    tolerance: tuple[str, ...] = ("energy=5%", "latency=5%")
    label: str = ""
    mode: bool = False
    power: bool = True
    on_board: bool = False
    gitlab: bool = False
    against: bool = False
    bench: tuple[str, ...] = ()
    check: tuple[str, ...] = ()

    @property
    def board(self) -> str:
        return self.target.board.name

    @property
    def runner(self) -> str:
        """The label that the board's runner has."""
        return self.label or f"edgesynth-{self.board}"

    @property
    def group(self) -> str:
        """The board as a word for concurrency groups: one for each host, whatever the target is called."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.host or self.runner)

    @property
    def bench_words(self) -> list[str]:
        """The words after `edgesynth bench MODEL`."""
        words = ["--power"] if self.power else []
        if self.target.board.kind == "jetson":
            words += ["--lock"]  # a result without locked clocks cannot become a baseline
            if self.mode and self.target.mode is not None:
                words += ["--mode", self.target.mode.name]
        return [*words, *self.bench]

    @property
    def script(self) -> str:
        """One for each board: what it measures with is in it."""
        return SCRIPT.format(board=self.board)

    @property
    def workflow(self) -> str:
        return WORKFLOW.format(board=self.board)

    @property
    def gitlab_file(self) -> str:
        return GITLAB.format(board=self.board)


def make_plan(target: str, host: str | None, requirement: str, *, models: Iterable[str] = (),
              tolerance: Iterable[str] = (), bench: str = "", check: str = "", **rest: Any) -> Plan:
    """A Plan of what was asked for on the command line. UserError for whatever could not work."""
    found = resolve_target(target)
    tolerances = tuple(word for text in tolerance for word in text.replace(",", " ").split())
    parse_tolerances(tolerances)
    if host is not None and (not host or host.startswith("-") or any(letter.isspace() for letter in host)):
        raise UserError(f"--host '{host}' is no ssh destination: write USER@BOARD")
    if rest.get("on_board") and host is not None:
        raise UserError("--on-board is for a board that runs its own jobs: leave --host out")
    if not rest.get("on_board") and host is None:
        raise UserError("name the board with --host USER@BOARD, or write --on-board if it runs its own jobs")
    plan = Plan(found, host or "", requirement, models=tuple(models) or Plan.models, mode=":" in target,
                tolerance=tolerances or Plan.tolerance, bench=_bench_words(bench), check=_check_words(check),
                **rest)
    if not _LABEL.match(plan.runner):
        raise UserError(f"--label '{plan.label}' is no runner label: use letters, digits, dots, dashes")
    for path in (plan.baseline, *plan.models):
        if not path.strip():
            raise UserError("--models and --baseline want a path below the repository's root; one is empty")
        if Path(path).is_absolute() or ".." in Path(path).parts or path.startswith("-"):
            raise UserError(f"{path}: name a path below the repository's root")
    return plan


def _words(option: str, text: str) -> list[str]:
    """The words of an option's text. UserError for quotes that do not close."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{option} '{text}': {error}") from None


def _bench_words(text: str) -> tuple[str, ...]:
    """More words for bench. UserError for options that it does not have, and for those that the script sets."""
    words, known = _words("--bench", text), [argument.flag for argument in BENCH]
    for word in words:
        flag = word.partition("=")[0]
        if flag in OURS:
            raise UserError(f"--bench: {flag} follows from the other options of init-ci; leave it out")
        if flag.startswith("--") and flag not in known:
            raise UserError(f"--bench: bench has no {flag}; it has {', '.join(known)}")
    parser = _Parser(prog="bench", add_help=False, allow_abbrev=False)
    add_to_parser(parser)
    complete(vars(parser.parse_args(words)))
    return tuple(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"--bench: {message}")


def _check_words(text: str) -> tuple[str, ...]:
    """More words for check: how it judges. UserError for all else; `--update` would let every change pass."""
    words = _words("--check", text)
    before = ""
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag.startswith("-") and flag not in CHECKS:
            raise UserError(f"--check: {flag} is not for a gate that others run; it may hold {', '.join(CHECKS)}")
        if not flag.startswith("-") and not CHECKS.get(before, False):
            raise UserError(f"--check: '{word}' belongs to no option")
        before = "" if equals else flag
    return tuple(words)


def files(plan: Plan) -> dict[str, str]:
    """{path below the repository's root: text} of all that the gate needs."""
    force = " --force" if "--force" in plan.check else ""
    values = {
        "board": plan.board, "board_title": plan.target.board.title, "host": plan.host, "label": plan.runner,
        "group": plan.group, "script": plan.script, "out": OUT, "baseline": plan.baseline, "sessions": SESSIONS,
        "minutes": MINUTES_A_JOB, "on_board": plan.on_board, "against": plan.against, "actions": ACTIONS,
        "requirement": plan.requirement,
        "models": " ".join(map(_pattern, plan.models)), "bench": _after(plan.bench_words), "force": force,
        "tolerance": _after([word for one in plan.tolerance for word in ("--tolerance", one)]),
        "check": _after(plan.check),
        # nothing needs to be forced where both sides are measured in turns, and check refuses it there
        "check_in_turns": _after([word for word in plan.check if word != "--force"]), "gitlab_file": plan.gitlab_file}
    made = {plan.script: _template("gate.sh.jinja").render(values)}
    if plan.gitlab:
        made[plan.gitlab_file] = _template("gitlab.yml.jinja").render(values)
    else:
        made[plan.workflow] = _template("workflow.yml.jinja").render(values)
    return made


def _after(words: Sequence[str]) -> str:
    return "".join(f" {shlex.quote(word)}" for word in words)


def _pattern(text: str) -> str:
    """A path for the shell: all is quoted but what stands for other letters."""
    return "".join(part if part and part in "*?" else shlex.quote(part) if part else ""
                   for part in re.split(r"([*?])", text))


def _yaml(text: str) -> str:
    """A double-quoted YAML string: JSON's, with what is not printed escaped as YAML wants it."""
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}"
                   for letter in json.dumps(text, ensure_ascii=False))


@functools.cache
def _template(name: str) -> Any:
    """A template whose marks are [[ ]] and [% %]: ${{ }} is GitHub's and {0} is the shell's."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              variable_start_string="[[", variable_end_string="]]", block_start_string="[%",
                              block_end_string="%]", comment_start_string="[#", comment_end_string="#]",
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.filters["quoted"] = shlex.quote
    environment.filters["yaml"] = _yaml
    return environment.get_template(name)
