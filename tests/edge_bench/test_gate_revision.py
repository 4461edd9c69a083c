"""The model that a git revision holds: found, absent, in Git LFS, with weights beside it."""

from __future__ import annotations

import subprocess

import onnx
import pytest
from bench_samples import write_model

from devices.support.errors import UserError
from edge_bench.gate.revision import Revision

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234\n"


def git(folder, *words):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main",
                    "-c", "commit.gpgsign=false", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with models/net.onnx of two revisions: `first`, tagged, and the working tree."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository"
    (folder / "models").mkdir(parents=True)
    git(folder, "init", "-q")
    write_model(folder / "models/net.onnx")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "first")
    return folder


def test_the_file_comes_as_the_revision_holds_it(repository, tmp_path):
    model = repository / "models/net.onnx"
    before = model.read_bytes()
    write_model(model, batch=8)
    revision = Revision("first", model)
    found = revision.model(tmp_path)
    assert found == tmp_path / "net.onnx" and found.read_bytes() == before != model.read_bytes()
    assert len(revision.commit) == 40 and revision.ref == "first"


def test_a_file_that_the_revision_does_not_hold_is_none(repository, tmp_path):
    write_model(repository / "models/added.onnx")
    assert Revision("first", repository / "models/added.onnx").model(tmp_path) is None


def test_another_path_can_be_named(repository, tmp_path):
    git(repository, "mv", "models/net.onnx", "models/renamed.onnx")
    revision = Revision("first:models/net.onnx", repository / "models/renamed.onnx")
    assert revision.model(tmp_path) == tmp_path / "net.onnx"


def test_weights_beside_the_model_come_with_it(repository, tmp_path):
    model = write_model(repository / "models/big.onnx", external=True)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "big")
    weights = (repository / "models/big.onnx.data").read_bytes()
    (repository / "models/big.onnx.data").write_bytes(b"changed")
    found = Revision("HEAD", model).model(tmp_path)
    assert (tmp_path / "big.onnx.data").read_bytes() == weights
    onnx.checker.check_model(str(found))


def test_an_lfs_pointer_is_noticed_with_the_remedy(repository, tmp_path):
    model = repository / "models/net.onnx"
    whole = model.read_bytes()
    model.write_text(POINTER)
    with pytest.raises(UserError, match=r"net\.onnx is a Git LFS pointer and not the model: run git lfs pull"):
        Revision("first", model).model(tmp_path)
    git(repository, "commit", "-qam", "into LFS")
    model.write_bytes(whole)
    with pytest.raises(UserError, match=r"in Git LFS and its content is not here: .* git lfs fetch origin"):
        Revision("HEAD", model).model(tmp_path)


def test_what_lfs_has_fetched_is_filled_in(repository, tmp_path):
    """Git's own filter, as git-lfs is one: `smudge` turns the stored text into the content."""
    model = repository / "models/net.onnx"
    whole = model.read_bytes()
    (repository / "content").write_bytes(whole)
    model.write_text(POINTER)
    (repository / ".gitattributes").write_text("*.onnx filter=lfs\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "into LFS")
    git(repository, "config", "filter.lfs.smudge", f"cat {repository / 'content'}")
    model.write_bytes(whole)
    assert Revision("HEAD", model).model(tmp_path).read_bytes() == whole


@pytest.mark.parametrize("ref, words", [
    ("no-such-branch", "git fetch it first"), ("--all", "is no git revision"), ("", "is no git revision"),
    ("first^{tree}", "git fetch it first")])
def test_what_is_no_revision_is_refused(repository, ref, words):
    with pytest.raises(UserError, match=words):
        Revision(ref, repository / "models/net.onnx")


def test_a_file_outside_of_a_repository_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="in no git repository"):
        Revision("HEAD", write_model(tmp_path / "net.onnx"))
