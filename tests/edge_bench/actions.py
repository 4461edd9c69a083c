"""GitHub Actions as far as our workflows use it: their structure held to the documentation, their steps carried out.

`check_workflow` is strict: a key, an expression or an action that it does not know fails, so that what is written stays
within what has been thought about. `Job` runs a job's steps in order, as a runner does: checkout from a real git
repository, `run:` in the shell that the workflow names with GitHub's environment variables and files, `if:` decided by
the documented functions, uploads copied into a folder. Anything else that an action could do is not stood in for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TOP = {"name", "on", "permissions", "defaults", "jobs", "env"}
EVENTS = {"push": {"branches", "paths"}, "pull_request": {"branches", "paths"}, "workflow_dispatch": {"inputs"},
          "schedule": None}
JOB = {"name", "if", "runs-on", "timeout-minutes", "concurrency", "steps", "env", "strategy", "container"}
STEP = {"name", "if", "uses", "with", "run", "env", "timeout-minutes", "id", "shell"}
WITH = {"actions/checkout": {"persist-credentials", "fetch-depth", "lfs"},
        "actions/setup-python": {"python-version", "cache", "cache-dependency-path"},
        "actions/upload-artifact": {"name", "path", "if-no-files-found", "retention-days"}}
SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"], "sh -e {0}": ["sh", "-e", "{0}"]}
CONTEXTS = r"(github|inputs|vars|env|matrix|runner|steps)(\.[A-Za-z_][\w-]*)+"
TOKEN = re.compile(rf"\s*(?:(?P<name>{CONTEXTS})|(?P<text>'[^']*')|(?P<call>[a-z]+\(\))|(?P<word>true|false)"
                   r"|(?P<operator>&&|\|\||==|!=|!|\(|\)))")
HOSTED = re.compile(r"^ubuntu-(latest|\d\d\.\d\d)$")


class _Loader(yaml.SafeLoader):
    """YAML 1.2 in one point: `on` is a word and no truth value, as GitHub reads it; and no key may come twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in rules if pair[0] != "tag:yaml.org,2002:bool"]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def load(text: str) -> dict[str, Any]:
    return yaml.load(text, _Loader)


# --- structure -------------------------------------------------------------------------------------------------------

def check_workflow(text: str) -> dict[str, Any]:
    """The workflow, when every key, expression and action in it is one that may be there. AssertionError otherwise."""
    found = load(text)
    assert set(found) <= TOP and {"name", "on", "permissions", "jobs"} <= set(found), set(found)
    assert found["permissions"] == {"contents": "read"}  # nothing here needs to write
    _check_events(found["on"])
    assert "pull_request_target" not in text and "secrets." not in text
    for name, job in found["jobs"].items():
        assert re.fullmatch(r"[A-Za-z_][\w-]*", name)
        _check_job(job, found)
    for inner in re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL):
        tokens(inner)
    return found


def _check_events(events: dict[str, Any]) -> None:
    for event, how in events.items():
        assert event in EVENTS, event
        if isinstance(how, dict):
            assert set(how) <= EVENTS[event], how
    for name, asked in ((events.get("workflow_dispatch") or {}).get("inputs") or {}).items():
        assert re.fullmatch(r"[a-z_]+", name) and set(asked) == {"description", "type", "default"}
        assert asked["type"] == "boolean" and isinstance(asked["default"], bool)


def _check_job(job: dict[str, Any], workflow: dict[str, Any]) -> None:
    assert set(job) <= JOB and {"runs-on", "steps", "timeout-minutes"} <= set(job), set(job)
    assert 0 < job["timeout-minutes"] <= 360
    if "if" in job:
        tokens(job["if"])
    where = job["runs-on"]
    if isinstance(where, list):  # a machine of one's own: only for code of one's own, and one job at a time
        assert where[0] == "self-hosted" and all(re.fullmatch(r"[\w.-]+", label) for label in where)
        assert "head.repo.full_name == github.repository" in job["if"]
        assert set(job["concurrency"]) == {"group", "cancel-in-progress"}
        assert job["concurrency"]["cancel-in-progress"] is False
    else:
        assert HOSTED.match(where), where
        assert re.fullmatch(r"python:[\w. ${}]+-bookworm", job.get("container", "python:3-bookworm"))
    identities = [step["id"] for step in job["steps"] if "id" in step]
    assert len(identities) == len(set(identities))
    for step in job["steps"]:
        _check_step(step)
        assert step.get("timeout-minutes", 0) <= job["timeout-minutes"]
        shell = step.get("shell") or workflow.get("defaults", {}).get("run", {}).get("shell", "bash")
        assert "run" not in step or shell in SHELLS


def _check_step(step: dict[str, Any]) -> None:
    assert set(step) <= STEP and "name" in step and ("run" in step) != ("uses" in step), step
    for value in (step.get("env") or {}).values():
        assert isinstance(value, str), value
    if "if" in step:
        tokens(step["if"].removeprefix("${{").removesuffix("}}"))
    if "uses" in step:
        action, _, commit = step["uses"].partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{action} is not pinned to a commit"
        assert set(step.get("with") or {}) <= WITH[action], step
    else:
        assert "${{" not in step["run"], "an expression in a script is how foreign text becomes a command: use env"
        assert "with" not in step


def tokens(expression: str) -> list[tuple[str, str]]:
    """(kind, text) of the parts of an expression. AssertionError for one that is not understood."""
    found, place, expression = [], 0, expression.rstrip()
    while place < len(expression):
        match = TOKEN.match(expression, place)
        assert match, f"not understood: {expression[place:]}"
        kind = str(match.lastgroup) if match.lastgroup in ("text", "call", "word", "operator") else "name"
        found.append((kind, match[0].strip()))
        place = match.end()
    return found


# --- expressions -----------------------------------------------------------------------------------------------------

def evaluate(expression: str, contexts: dict[str, Any], failed: bool = False, cancelled: bool = False) -> Any:
    """What GitHub makes of an expression: && and || give one of their sides, == compares, a missing name is null."""
    calls = {"failure()": failed, "always()": True, "cancelled()": cancelled, "success()": not failed}
    parts = []
    for kind, text in tokens(expression):
        if kind == "name":
            value: Any = contexts
            for piece in text.split("."):
                value = value.get(piece) if isinstance(value, dict) else None
            parts.append(repr(value))
        elif kind == "call":
            parts.append(repr(calls[text]))
        elif kind == "word":
            parts.append(text.capitalize())
        else:
            parts.append({"&&": " and ", "||": " or ", "!": " not "}.get(text, text))
    return eval("".join(parts), {"__builtins__": {}})  # of literals and operators alone


def filled(text: str, contexts: dict[str, Any]) -> str:
    def words(match: re.Match[str]) -> str:
        value = evaluate(match[1], contexts)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return re.sub(r"\$\{\{(.*?)\}\}", words, text, flags=re.DOTALL)


# --- running ---------------------------------------------------------------------------------------------------------

@dataclass
class Job:
    """One run of one job. repository: the git repository that is checked out. folder: of the runner. environment: what
    the runner's machine has. github, inputs, vars: the contexts. leave: steps that an earlier job of the test has done.
    After `run`: codes {step: exit code}, log, summary (Markdown), uploads {name: folder}, and outcome "success",
    "failure" or "skipped"."""

    workflow: dict[str, Any]
    name: str
    repository: Path
    folder: Path
    environment: dict[str, str]
    github: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    vars: dict[str, Any] = field(default_factory=dict)
    leave: tuple[str, ...] = ()
    codes: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, Path] = field(default_factory=dict)
    log: str = ""
    outcome: str = "skipped"

    def __post_init__(self) -> None:
        self.work, self.files = self.folder / "work", self.folder / "files"
        for place in (self.work, self.files, self.folder / "temp", self.folder / "uploads"):
            place.mkdir(parents=True, exist_ok=True)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=self.repository, capture_output=True, text=True,
                                check=True).stdout.strip()
        self.github = {"event_name": "push", "repository": "team/nets", "sha": commit, "run_id": "1",
                       "run_attempt": "1", "server_url": "https://git.invalid", "token": "a-token", **self.github}

    @property
    def summary(self) -> str:
        return (self.files / "summary").read_text()

    def run(self) -> Job:
        job = self.workflow["jobs"][self.name]
        if "if" in job and not evaluate(job["if"], self._contexts()):
            return self
        for name in ("path", "env", "summary", "output"):
            (self.files / name).write_text("")
        failed = False
        for step in job["steps"]:
            condition = step.get("if", "success()").strip().removeprefix("${{").removesuffix("}}")
            if step["name"] in self.leave or not evaluate(condition, self._contexts(), failed):
                continue
            code = self._use(step) if "uses" in step else self._shell(step)
            self.codes[step["name"]] = code
            failed = failed or code != 0
        self.outcome = "failure" if failed else "success"
        return self

    def _contexts(self) -> dict[str, Any]:
        return {"github": self.github, "inputs": self.inputs, "vars": self.vars}

    def _use(self, step: dict[str, Any]) -> int:
        action = step["uses"].partition("@")[0]
        if action == "actions/checkout":
            subprocess.run(["git", "clone", "--quiet", self.repository, self.work], check=True)
            subprocess.run(["git", "checkout", "--quiet", self.github["sha"]], cwd=self.work, check=True)
        elif action == "actions/upload-artifact":
            name, path = (filled(str(step["with"][key]), self._contexts()) for key in ("name", "path"))
            self.uploads[name] = self.folder / "uploads" / name
            if (self.work / path).exists():
                shutil.copytree(self.work / path, self.uploads[name])
        else:
            raise AssertionError(f"nothing stands in for {action}")
        return 0

    def _shell(self, step: dict[str, Any]) -> int:
        shell = step.get("shell") or self.workflow.get("defaults", {}).get("run", {}).get("shell", "bash")
        script = self.files / "script.sh"
        script.write_text(step["run"])
        words = [word.replace("{0}", str(script)) for word in SHELLS[shell]]
        given = {name: filled(value, self._contexts()) for name, value in (step.get("env") or {}).items()}
        done = subprocess.run(words, cwd=self.work, env={**self._environment(), **given}, capture_output=True,
                              text=True, timeout=step.get("timeout-minutes", 10) * 60)
        self.log += f"## {step['name']}\n{done.stdout}{done.stderr}"
        return done.returncode

    def _environment(self) -> dict[str, str]:
        added = [line for line in (self.files / "path").read_text().splitlines() if line]
        more = dict(line.split("=", 1) for line in (self.files / "env").read_text().splitlines() if line)
        github = {f"GITHUB_{name.upper()}": str(value) for name, value in self.github.items() if name != "token"
                  and not isinstance(value, dict)}
        return {**self.environment, **github, "CI": "true", "GITHUB_ACTIONS": "true",
                "GITHUB_WORKSPACE": str(self.work), "RUNNER_TEMP": str(self.folder / "temp"),
                "GITHUB_PATH": str(self.files / "path"), "GITHUB_ENV": str(self.files / "env"),
                "GITHUB_STEP_SUMMARY": str(self.files / "summary"), "GITHUB_OUTPUT": str(self.files / "output"),
                "PATH": ":".join([*reversed(added), self.environment["PATH"]]), **more}
