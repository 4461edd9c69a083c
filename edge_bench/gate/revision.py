"""The model file that a git revision holds, beside the one in the working tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from devices.support.errors import CannotMeasure, UserError, last_line
from devices.support.files import write_bytes
from edge_bench.agent import engines, runners
from edge_bench.agent.sidecar import sidecar_path

__all__ = ["Revision"]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Revision:
    """One revision of the repository that a file is in.

    near: a file in the repository's working tree. ref: what git takes for a commit; "REF:PATH" also names another file
    than `near` there. UserError where there is no repository or no such revision.
    """

    def __init__(self, ref: str, near: str | os.PathLike[str]):
        if shutil.which("git") is None:
            raise CannotMeasure("there is no git on this machine: install it")
        self.near = Path(near).resolve()
        self.ref, _, self.other = ref.partition(":")
        if not self.ref or self.ref.startswith("-"):
            raise UserError(f"--against '{ref}' is no git revision: write a branch, a tag or a commit")
        self.folder = self.near.parent
        self.root = Path(self._ask("rev-parse", "--show-toplevel",
                                   otherwise=f"{near} is in no git repository, so no revision holds it"))
        self.commit = self._ask("rev-parse", "--verify", "--quiet", self.ref + "^{commit}", otherwise=(
            f"there is no revision '{self.ref}' in this clone: git fetch it first (in CI, check out with "
            "fetch-depth: 0)"))

    def model(self, folder: str | os.PathLike[str]) -> Path | None:
        """The file as the revision holds it, with what belongs to it, written into `folder`; None where it has none.

        UserError where the file is a Git LFS pointer whose content is not here, in the revision or the working tree.
        """
        if _is_pointer(self.near):
            raise UserError(f"{self.near.name} is a Git LFS pointer and not the model: run git lfs pull")
        path = self.other or self.near.relative_to(self.root.resolve()).as_posix()
        target = Path(folder) / Path(path).name
        if not self._extract(path, target):
            return None
        weights = engines.external_weights(os.fspath(target)) if runners.is_onnx(target.name) else []
        beside = [name for name in (*weights, sidecar_path(os.fspath(target)))
                  if Path(name).parent == target.parent]
        for name in beside:  # a missing one is told of where the model is sent or loaded
            self._extract((Path(path).parent / Path(name).name).as_posix(), Path(name))
        return target

    def _extract(self, path: str, target: Path) -> bool:
        """Write a file of the revision, LFS content filled in where git can; False where there is none."""
        place = f"{self.commit}:{path}"
        if self._git("cat-file", "-e", place).returncode != 0:
            return False
        done = self._git("cat-file", "--filters", place)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace")
            raise UserError(f"git cannot read {path} of {self.ref}: {last_line(said)}")
        if done.stdout.startswith(LFS_POINTER):
            raise UserError(f"{path} of {self.ref} is in Git LFS and its content is not here: install git-lfs and run "
                            f"git lfs fetch origin {self.commit[:12]}")
        write_bytes(target, done.stdout)
        return True

    def _git(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", *words], cwd=self.folder, capture_output=True, stdin=subprocess.DEVNULL)

    def _ask(self, *words: str, otherwise: str) -> str:
        done = self._git(*words)
        if b"dubious ownership" in done.stderr:
            raise UserError(f"git does not trust {self.folder}: git config --global --add safe.directory {self.folder}")
        if done.returncode != 0:
            raise UserError(otherwise)
        return os.fsdecode(done.stdout).strip()


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False
