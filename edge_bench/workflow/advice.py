"""What is left for a person to do after `edgesynth init-ci`, in the order in which it is done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from importlib import metadata

from edge_bench.gate.baseline import SESSIONS
from edge_bench.workflow.plan import OUT, Plan

PACKAGE = "edgesynth"


def default_requirement() -> tuple[str, str]:
    """What pip is to install on a runner so that it has this very edgesynth, and what is doubtful about that, or ""."""
    version = metadata.version(PACKAGE)
    text = metadata.distribution(PACKAGE).read_text("direct_url.json")
    origin = json.loads(text) if text else {}
    if "vcs_info" in origin:
        return f"{PACKAGE} @ {origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}", ""
    wanted = f"{PACKAGE}=={version}"
    if not origin:
        return wanted, ""
    return wanted, (f"this edgesynth comes from {origin.get('url', 'a folder')}, which a runner cannot see; it will\n"
                    f"ask your package index for {wanted}: name another source with --install")


def _baseline_by_ci(plan: Plan) -> str:
    """How the CI service measures a baseline, and where it leaves the file."""
    if plan.gitlab:
        return f"run a pipeline with the variable ACTION=baseline, and take the file from its job's artifacts ({OUT}/)"
    kept = "~/edgesynth-artifacts on the board" if plan.on_board else f"the artifact energy-gate-{plan.board}-1"
    return f"start the workflow by hand with `baseline` ticked, and take the file from {kept}"


def next_steps(plan: Plan, doubts: Sequence[str] = ()) -> list[str]:
    """Sentences with their commands; lines after the first of each are commands or asides. doubts: what comes last,
    those that are not empty."""
    steps = []
    if plan.gitlab:
        where = "on the board itself" if plan.on_board else "on a small Linux machine beside the board"
        steps.append(f"register a GitLab runner with the shell executor {where}, with the tag {plan.runner};\n"
                     f"include the job in .gitlab-ci.yml:  include: [{{local: {plan.gitlab_file}}}]")
    elif plan.on_board:
        steps.append("register a runner on the board itself (Settings > Actions > Runners), with the label "
                     f"{plan.runner}")
    else:
        steps.append("register a runner on a small Linux machine beside the board, with Python 3.10+, git and ssh\n"
                     f"(Settings > Actions > Runners > New self-hosted runner), with the label {plan.runner}")
    if plan.on_board:
        steps.append("give the board an edgesynth that can check: pip install edgesynth, with Python 3.10 or newer")
    else:
        name = plan.host.rpartition("@")[2]
        steps.append("as the runner's user, let ssh know the board (its host key) and the board know you (your key):\n"
                     f"ssh-keyscan -t ed25519 {name} >> ~/.ssh/known_hosts\n"
                     "    compare with what the board says itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n"
                     f"ssh-copy-id {plan.host}")
    if plan.target.board.kind == "jetson":
        at = f" --host {plan.host}" if plan.host else ""
        steps.append("once, let that user switch power modes and lock clocks without a password, and nothing else\n"
                     "(read the file before you install it, as its first lines say):\n"
                     f"edgesynth devices prepare{at} > edgesynth.sudoers")
    else:
        steps.append("clocks of such a machine cannot be locked by edgesynth: its results are marked unlocked, and the "
                     "gate\ntakes them only with init-ci --check --force")
    steps.append(f"measure the first baseline, {SESSIONS} sessions, and commit it:\n"
                 f"sh {plan.script} baseline && git add {shlex.quote(plan.baseline)}\n"
                 f"    or {_baseline_by_ci(plan)}")
    if not plan.gitlab:
        steps.append("in a public repository, also require approval for outside collaborators' workflows (Settings > "
                     "Actions >\nGeneral): the workflow skips forks, but a fork could change the workflow")
    return [*steps, *filter(None, doubts)]
