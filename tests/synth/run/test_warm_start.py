"""What an earlier run found out is known to a new one, and nothing of it is trained again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_run
from front_door import call

from devices.support.errors import UserError
from synth.run import candidates
from synth.run.run import generate
from synth.storage.network_folder import card_of, load_network
from synth.storage.run_folder import Manifest, RunFolder

STRICTER = {"requirements": ("accuracy >= 20 %", "params <= 9k"), "cycles": 1}


@pytest.fixture(scope="module", autouse=True)
def unmeasured():
    """A measurement takes its time whatever the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synth.run.run.measure_here", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "earlier"
    tiny_run.run(out)
    return out


@pytest.fixture(scope="module")
def warm(earlier, tmp_path_factory):
    """A run that starts from it under other requirements."""
    out = tmp_path_factory.mktemp("runs") / "warm"
    return out, tiny_run.run(out, warm_start=str(earlier), **STRICTER)


def networks_of(folder: Path, kind: str) -> list[str]:
    """Digests of the networks in a folder of networks, sorted."""
    return sorted(load_network(place)[0].digest for place in (folder / kind).glob("*"))


def words_of(folder: Path) -> list[list[str]]:
    return [words for path in sorted(folder.glob("cycles/*/outcomes.json"))
            for words in json.loads(path.read_text())["candidates"]]


def test_nothing_that_is_known_is_trained_again(earlier, tmp_path, monkeypatch):
    trained = []
    original = candidates.run_task

    def counted(shared, task):
        trained.append(task)
        return original(shared, task)

    for place in ("synth.run.problem", "synth.run.preparation"):
        monkeypatch.setattr(f"{place}.run_task", counted)
    monkeypatch.delattr("synth.run.preparation.teacher_logits")
    monkeypatch.delattr("synth.run.preparation.train")
    out = tmp_path / "warm"
    tiny_run.run(out, warm_start=str(earlier), **STRICTER)
    again = [task for task in trained if task.recipe is not None and not task.keep_weights]  # as anchors are
    assert trained and not again and not [row for row in words_of(out) if row in words_of(earlier)]
    assert not set(networks_of(out, "finished")) & set(networks_of(earlier, "finished"))
    for name in ("anchors.json", "probing.json", "teacher.safetensors", "prototype/weights.safetensors"):
        assert (out / name).read_bytes() == (earlier / name).read_bytes()


def test_what_was_trained_in_full_is_judged_by_the_new_requirements(earlier, warm):
    out, summary = warm
    known = {load_network(place)[0].digest: card_of(place) for place in (earlier / "finished").glob("*")}
    assert summary.making.settings["candidates known from earlier runs"] == 6
    assert summary.making.settings["trained in full by them"] == len(list((earlier / "finished").iterdir()))
    kept = {row.name: load_network(out / row.folder)[0].digest for row in summary.ferminets}
    assert set(kept.values()) & set(known), "on this data a known network is among the best"
    for row in summary.ferminets:
        if kept[row.name] in known:
            before = known[kept[row.name]]["metrics"]["accuracy"]
            assert row.readings["validation_accuracy"].value == before
            assert {j.requirement.split()[0] for j in row.judgements} == {"accuracy", "params"}
            assert row.readings["params"].value <= 9000 and row.seed is None


def test_what_is_known_can_be_finished_without_another_cycle(earlier, tmp_path):
    out, asked = tmp_path / "finished", {**STRICTER, "warm_start": str(earlier), "cycles": 0, "finalists": 1}
    summary = tiny_run.run(out, **asked)
    assert not (out / "cycles").exists() and len(networks_of(out, "finished")) == 1
    assert len(summary.ferminets) == 2 and not summary.cycles and (out / "report.html").is_file()
    assert tiny_run.run(out, resume=True, **asked) == summary


def test_a_run_that_starts_from_one_that_did_knows_both(earlier, warm, tmp_path):
    out, first = tmp_path / "third", warm[0]
    tiny_run.run(out, warm_start=str(first), **STRICTER)
    assert words_of(out / "warm-start") == words_of(earlier) + words_of(first)
    assert networks_of(out / "warm-start", "finished") == sorted(
        networks_of(earlier, "finished") + networks_of(first, "finished"))


def test_the_earlier_run_is_not_needed_any_more_and_no_cut_changes_the_result(earlier, warm, tmp_path, monkeypatch):
    copy, out = tmp_path / "earlier", tmp_path / "warm"
    shutil.copytree(earlier, copy)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("synth.run.run.learn", interrupted)
        tiny_run.run(out, warm_start=str(copy), **STRICTER)
    shutil.rmtree(copy)
    summary = tiny_run.run(out, resume=True, warm_start=str(copy), **STRICTER)
    assert [row.network for row in summary.ferminets] == [row.network for row in warm[1].ferminets]
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    made = generate(out, [1000])
    assert len(made) == 1 and (out / "generated" / made[0].name).is_dir()


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_run_that_was_cut_is_known_as_far_as_it_came(earlier, tmp_path):
    copy, out = tmp_path / "cut", tmp_path / "warm"
    shutil.copytree(earlier, copy)
    for place in ("cycles/0002", "finished", "teacher.safetensors"):
        shutil.rmtree(copy / place) if (copy / place).is_dir() else (copy / place).unlink()
    with RunFolder.start(copy, Manifest.read(copy), resume=True):  # another process works in it
        tiny_run.run(out, warm_start=str(copy), **STRICTER)
    assert words_of(out / "warm-start") == words_of(earlier)[:4]
    assert not networks_of(out / "warm-start", "finished")
    assert (out / "teacher.safetensors").read_bytes() == (earlier / "teacher.safetensors").read_bytes()


@pytest.mark.parametrize(("changed", "named"), [
    ({"seed": 1}, "seed was 0, now 1"), ({"changes": ("batch=32",)}, "changes was , now batch=32"),
    ({"epochs": 3}, "epochs was not given, now 3"), ({"data": "digits", "prototype": None}, "data was")])
def test_other_networks_or_data_are_refused_before_anything_is_written(earlier, tmp_path, changed, named):
    with pytest.raises(UserError, match=named):
        tiny_run.run(tmp_path / "never", warm_start=str(earlier), **changed)
    assert not (tmp_path / "never").exists()


def test_data_that_have_changed_are_refused(earlier, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(earlier, copy)
    manifest = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(manifest | {"data": dict.fromkeys(manifest["data"], "other")}))
    with pytest.raises(UserError, match="has changed since"):
        tiny_run.run(tmp_path / "never", warm_start=str(copy))
    with pytest.raises(UserError, match="no run in this folder"):
        tiny_run.run(tmp_path / "never", warm_start=str(tmp_path / "nothing"))


def test_a_damaged_file_of_the_earlier_run_is_named(earlier, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(earlier, copy)
    path = copy / "cycles" / "0001" / "outcomes.json"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(UserError, match=r"outcomes\.json: it is damaged"):
        tiny_run.run(tmp_path / "new", warm_start=str(copy))


def test_what_is_not_said_is_as_it_was_there(earlier, tmp_path, monkeypatch):
    monkeypatch.setattr("synth.run.scope.recipe_for", tiny_run.short_recipes)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(earlier, "earlier")
    words = ("--warm-start", "earlier", "--require", "params <= 9k", "--cycles", "1", "--workers", "1", "--out", "new")
    answer = call("synth", *words)
    assert answer.code == 0, answer.err
    asked, before = (Manifest.read(place).arguments for place in ("new", "earlier"))
    assert asked == {**before, "requirements": ["params <= 9k"], "cycles": 1,
                     "warm_start": str(tmp_path / "earlier")}
    shutil.rmtree("earlier")
    assert call("synth", *words, "--resume").code == 0
