"""`edgesynth check` and `edgesynth compare` as commands: exit codes, sentences, files, and what CI is told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from bench_samples import make_pair_record, make_record, write_model
from front_door import call
from test_gate_revision import git

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import json_text
from edge_bench import compare
from edge_bench.agent import comparison, evaluate, store
from edge_bench.agent import result as results
from edge_bench.gate import remeasuring

STEADY = (1.0, 1.002, 0.998, 1.001, 0.999)
NOISY = (0.8, 1.3, 1.0, 1.5, 0.9)


def scaled(factor):
    return tuple(factor * value for value in STEADY)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder outside of CI."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keep(latencies=STEADY, day=1, **options):
    """A result in results/, with its record, as bench keeps it."""
    record = make_record(latencies, created=f"2026-01-{day:02d}T00:00:00Z", **options)
    return store.save(evaluate.evaluate(record), record)


def baseline_of(*factors):
    paths = [keep(scaled(factor), day + 1) for day, factor in enumerate(factors)]
    done = call("check", *paths, "--baseline", "b.json", "--update")
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize("words", [["--json", "none/x"], ["--summary", "none/x"], ["--summary", "."]])
def test_a_place_for_the_verdict_is_found_before_anything_is_judged(folder, monkeypatch, words):
    baseline_of(1.0, 1.003, 0.997)
    monkeypatch.setattr("edge_bench.gate.checking.check_results", None)
    done = call("check", keep(scaled(1.2), 9), "--baseline", "b.json", *words)
    assert done.code == 2 and f"{words[1]}: " in done.err, done.err


def test_a_verdict_that_cannot_be_written_is_shown_all_the_same(folder, monkeypatch):
    def full(value, path):
        raise UserError("the disk is full")

    baseline_of(1.0, 1.003, 0.997)
    monkeypatch.setattr("edge_bench.gate.cli.give_json", full)
    done = call("check", keep(scaled(1.2), 9), "--baseline", "b.json", "--json", "check.json")
    assert "regression" in done.out and "the disk is full" in done.err


@pytest.mark.parametrize("factor, words, code", [
    (1.0, [], 0), (1.2, [], 1), (1.2, ["--tolerance", "latency=50%"], 0),
    (1.2, ["--tolerance", "latency=50%", "latency_p99=1%"], 1), (1.0, ["--tolerance", "energy=5%"], 3),
    (1.0, ["--tolerance", "speed=5%"], 2), (1.0, ["--tolerance", "latency=5ms"], 2)])
def test_check_exit_codes(folder, factor, words, code):
    baseline_of(1.0, 1.003, 0.997)
    done = call("check", keep(scaled(factor), 9), "--baseline", "b.json", *words, "--json", "check.json")
    assert done.code == code, done.err
    if code != 2:
        written = json.loads((folder / "check.json").read_text())
        assert written["schema"] == "edgesynth.check/1" and written["exit_code"] == code
        assert written["verdict"] == {0: "pass", 1: "regression", 3: "could not measure"}[code]
        assert written["models"][0]["line"] in done.out


def test_update_says_what_the_baseline_holds(folder):
    assert "net on tx2: 3 sessions\n" in baseline_of(1.0, 1.003, 0.997).err
    assert call("check", keep(day=9), "--baseline", "b.json", "--update").err.endswith("4 sessions\n")


def test_an_inconclusive_verdict_warns_passes_or_fails(folder):
    baseline_of(1.0, 1.003, 0.997)
    noisy = keep(NOISY, 9)
    for choice, code in (("warn", 0), ("pass", 0), ("fail", 1)):
        done = call("check", noisy, "--baseline", "b.json", "--inconclusive", choice)
        assert done.code == code and "inconclusive: net on tx2 (s1234)" in done.out
    assert "more could not be measured: name its board with --host" in done.out
    assert done.sentence == "inconclusive: net"


def test_more_sessions_are_measured_where_the_board_is(folder, monkeypatch):
    baseline_of(1.0, 1.04, 0.96)
    asked = []

    def bench(model, **options):
        asked.append((model, options["host"], options["trials"]))
        path = keep(scaled(1.1), 10 + len(asked))
        return {**results.load(path), "saved": path}

    monkeypatch.setattr(remeasuring, "bench_model", bench)
    head = keep(scaled(1.1), 9)
    done = call("check", head, "--baseline", "b.json", "--host", "nvidia@tx2", "--json", "c.json", "--rest", 0)
    assert "net: not clear yet, session 3 of 3 more\n" in done.err
    assert done.code == 1 and len(asked) == 3
    record = store.load_record(f"results/{results.load(head)['record']['file']}")
    assert asked[0] == (f"board:{record['request']['model']}", "nvidia@tx2", 5)
    model = json.loads((folder / "c.json").read_text())["models"][0]
    assert model["sessions"] == {"baseline": 3, "present": 4, "more": 3} and len(model["results"]) == 4
    done = call("check", head, "--baseline", "b.json", "--host", "nvidia@tx2", "--more-sessions", 0)
    assert done.code == 0 and len(asked) == 3


def test_github_gets_annotations_and_a_summary_and_others_the_same_words(folder, monkeypatch):
    baseline_of(1.0, 1.003, 0.997)
    head = keep(scaled(1.2), 9)
    plain = call("check", head, "--baseline", "b.json", "--summary", "mine.md")
    assert "::error" not in plain.out
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "step.md"))
    done = call("check", head, "--baseline", "b.json")
    assert done.code == 1 and "\n::error title=edgesynth%3A regression::net on tx2" in done.out
    assert (folder / "step.md").read_text() == (folder / "mine.md").read_text() != ""
    as_json = call("check", head, "--baseline", "b.json", "--json", "-")
    assert json.loads(as_json.out)["verdict"] == "regression" and "::error" in as_json.err


def test_github_hears_of_bad_input_too(folder, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = call("check", "nothing.json", "--baseline", "b.json")
    assert done.code == 2 and "::error title=edgesynth check::b.json: there is no such file" in done.out


def test_a_session_counts_once_however_often_it_is_named(folder):
    baseline_of(1.0, 1.003, 0.997)
    head = keep(day=9)
    done = call("check", head, head, "--baseline", "b.json", "--json", "-")
    assert json.loads(done.out)["models"][0]["sessions"]["present"] == 1
    done = call("check", "results/0001-net-tx2.json", "--baseline", "b.json")
    assert "the baseline holds the session of 2026-01-01T00:00:00Z itself" in done.out


@pytest.mark.parametrize("words, sentence", [
    (["nothing.json", "--baseline", "b.json"], "nothing.json: there is no such file"),
    (["torn.json", "--baseline", "b.json"], "torn.json: damaged JSON"),
    (["empty.json", "--baseline", "b.json"], "empty.json: expected edgesynth.result/1"),
    (["none.json", "--baseline", "b.json"], "none.json: it holds no trials"),
    (["b.json", "--baseline", "b.json"], "b.json: expected edgesynth.result/1, found edgesynth.baseline/2"),
    (["new.json", "--baseline", "nowhere.json"], "nowhere.json: there is no such file"),
    (["new.json", "--baseline", "torn.json"], "torn.json: damaged JSON"),
    (["new.json"], "name what to hold them against"), (["net.onnx"], "a model is held against a revision"),
    (["net.onnx", "--baseline", "b.json"], "--baseline FILE is for results, which `edgesynth bench` makes"),
    (["net.onnx", "--baseline", "b.json", "--update"], "a model is held against a revision"),
    (["--baseline", "b.json", "energy=5%"], "name a result or a model"),
    (["new.json", "--baseline", "b.json", "--batch", "4"], "--batch is for --against"),
    (["net.onnx", "--against", "HEAD", "--baseline", "b.json"], "leave --baseline and --update out"),
    (["new.json", "--update"], "--update needs the baseline"),
    (["pair.json", "new.json", "--baseline", "b.json"], "check results and comparisons apart"),
    (["pair.json", "--baseline", "nowhere.json"], "a comparison is judged by itself"),
    (["new.json", "--baseline", "b.json", "--trials", "0"], "--trials is for --against"),
    (["net.onnx", "--against", "HEAD", "--force"], "in turns: leave --force out"),
    (["net.onnx", "--against", "HEAD", "--rest", "0"], "in turns: leave --rest out"),
    (["new.json", "--baseline", "b.json", "--update", "--more-sessions", "0", "--json", "-"],
     "does nothing else: leave --more-sessions and --json out"),
    (["new.json", "--baseline", "b.json", "--update", "energy=5%"], "does nothing else: leave --tolerance out"),
    (["pair.json", "--force", "--host", "nvidia@tx2"], "as it was measured: leave --force and --host out"),
    (["none.onnx", "--against", "HEAD"], "none.onnx: there is no such file"),
    (["net.onnx", "--against", "HEAD"], "in no git repository")])
def test_bad_input_is_one_sentence(folder, monkeypatch, words, sentence):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    baseline_of(1.0, 1.0, 1.0)
    write_model(folder / "net.onnx")
    (folder / "torn.json").write_text('{"schema": "edges')
    (folder / "empty.json").write_text("{}")
    result = evaluate.evaluate(make_record())
    (folder / "new.json").write_text(json_text(result, results.SCHEMA))
    (folder / "none.json").write_text(json_text({**result, "trials": []}, results.SCHEMA))
    record = make_pair_record()
    (folder / "pair.json").write_text(json_text(comparison.make(record), comparison.SCHEMA))
    done = call("check", *words)
    assert done.code == 2 and sentence in done.sentence


def test_mixed_precisions_are_refused_with_what_differs(folder):
    baseline_of(1.0, 1.003, 0.997)
    done = call("check", keep(day=8), keep(day=9, precision="fp16"), "--baseline", "b.json", "--json", "c.json")
    assert done.code == 3 and "not comparable: precision is fp16, was fp32" in done.sentence
    assert [model["verdict"] for model in json.loads((folder / "c.json").read_text())["models"]] == [
        "pass", "could not measure"]


def test_kept_comparisons_are_judged_again(folder):
    records = [make_pair_record(created=f"2026-01-0{day}T00:00:00Z") for day in (1, 2)]
    paths = [comparison.save(comparison.make(record), record) for record in records]
    done = call("check", *paths, *paths, "--tolerance", "latency=5%", "--json", "c.json")
    model = json.loads((folder / "c.json").read_text())["models"][0]
    assert done.code == 1 and model["method"] == "interleaved" and model["sessions"]["present"] == 8
    assert call("check", paths[0], "--tolerance", "latency=20%").code == 0


# compare and --against, with nothing measured

def test_compare_replays_a_record(folder):
    record = make_pair_record()
    comparison.save(comparison.make(record), record)
    done = call("compare", "--replay", "results/0001-old-new-tx2.record.gz", "--json", "-")
    found = json.loads(done.out)
    assert done.code == 0 and found["schema"] == "edgesynth.compare/1" and found["metrics"][0]["verdict"] == "worse"
    assert "name two models" in call("compare", "one.onnx").sentence


@pytest.fixture
def repository(folder):
    git(folder, "init", "-q")
    for name in ("net", "same"):
        write_model(folder / f"{name}.onnx")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    write_model(folder / "net.onnx", batch=8)
    write_model(folder / "added.onnx")
    return folder


def fake_pairs(monkeypatch, *heads):
    """Let pair.measure_pair give records of these latencies instead of measuring; what it was asked."""
    asked, left = [], list(heads)

    def measure_pair(request, progress):
        asked.append(request)
        head = left.pop(0)
        if isinstance(head, Exception):
            raise head
        return make_pair_record((1.0, 1.01, 0.99, 1.0), head, created=f"2026-01-{len(asked):02d}T00:00:00Z")

    monkeypatch.setattr(compare.pair, "measure_pair", measure_pair)
    return asked


def test_only_what_changed_is_measured_against_a_revision(repository, monkeypatch):
    asked = fake_pairs(monkeypatch, (1.1, 1.112, 1.09, 1.1))
    done = call("check", "net.onnx", "same.onnx", "added.onnx", "--against", "HEAD", "--trials", 4, "--json", "c.json",
                "--tolerance", "latency=5%")
    written = json.loads((repository / "c.json").read_text())
    assert [model["verdict"] for model in written["models"]] == ["regression", "pass", "new"]
    assert done.code == 1 and len(asked) == 1 and asked[0]["trials"] == 4 and asked[0]["base"] != asked[0]["model"]
    assert written["against"]["ref"] == "HEAD" and len(written["against"]["commit"]) == 40
    assert written["models"][0]["file"] == "net.onnx" and "not measured" in written["models"][1]["line"]
    assert written["models"][0]["results"] == ["results/0001-old-new-tx2.json"]
    assert call("check", "same.onnx", "added.onnx", "--against", "HEAD").code == 0


def test_an_unclear_pair_is_measured_once_more(repository, monkeypatch):
    asked = fake_pairs(monkeypatch, (1.2, 1.0, 1.1, 1.0), (1.1, 1.112, 1.09, 1.1))
    done = call("check", "net.onnx", "--against", "HEAD", "--trials", 4, "--json", "-")
    model = json.loads(done.out)["models"][0]
    assert len(asked) == 2 and model["sessions"]["more"] == 4 and len(model["results"]) == 2
    assert "once more" in done.err
    fake_pairs(monkeypatch, (1.2, 1.0, 1.1, 1.0))
    assert call("check", "net.onnx", "--against", "HEAD", "--trials", 4, "--more-sessions", 0).code == 0


def test_a_board_that_fails_one_model_does_not_hide_the_others(repository, monkeypatch):
    write_model(repository / "same.onnx", batch=4)
    fake_pairs(monkeypatch, CannotMeasure("the board is busy"), (1.0, 1.01, 0.99, 1.0))
    done = call("check", "net.onnx", "same.onnx", "--against", "HEAD", "--trials", 4)
    assert done.code == 3 and "could not measure: net: the board is busy" in done.out
    assert "\npass: same on tx2" in done.out


def test_bad_input_is_an_error_at_first_and_hides_nothing_later(repository, monkeypatch):
    write_model(repository / "same.onnx", batch=4)
    fake_pairs(monkeypatch, UserError("net.onnx: damaged"))
    assert call("check", "net.onnx", "same.onnx", "--against", "HEAD").sentence == "net.onnx: damaged"
    fake_pairs(monkeypatch, (1.1, 1.112, 1.09, 1.1), UserError("same.onnx: damaged"))
    done = call("check", "net.onnx", "same.onnx", "--against", "HEAD", "--trials", 4)
    assert done.code == 1 and "could not measure: same: same.onnx: damaged" in done.out
    (repository / "same.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    asked = fake_pairs(monkeypatch)
    done = call("check", "net.onnx", "same.onnx", "--against", "HEAD")
    assert done.code == 2 and "git lfs pull" in done.sentence and not asked


def test_energy_in_a_tolerance_turns_power_on(repository, monkeypatch):
    asked = fake_pairs(monkeypatch, (1.0, 1.01, 0.99, 1.0))
    call("check", "net.onnx", "--against", "HEAD", "--trials", 4, "--tolerance", "energy=5%")
    assert asked[0]["power"] is True


def test_too_few_trials_to_judge_by_are_refused_before_they_are_measured(repository, monkeypatch):
    asked = fake_pairs(monkeypatch, (1.0, 1.01))
    done = call("check", "net.onnx", "--against", "HEAD", "--trials", 2)
    assert done.code == 2 and "--trials 2 would show no interval" in done.sentence and not asked


# the whole way, measured here

def test_models_are_measured_in_turns_here(repository):
    words = ["check", "net.onnx", "--against", "HEAD:net.onnx", "--trials", "3", "--window", "0.2", "--batch", "8",
             "--warmup-cap", "1", "--more-sessions", "0", "--json", "c.json", "--tolerance", "latency=900%"]
    write_model(repository / "net.onnx", batch="N")
    git(repository, "commit", "-qam", "dynamic")
    write_model(repository / "net.onnx", batch=8)
    done = subprocess.run([sys.executable, "-m", "edgesynth", *words], capture_output=True, text=True, timeout=120)
    written = json.loads((repository / "c.json").read_text())
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    kept = comparison.load(written["models"][0]["results"][0])
    assert kept["order"] == ["base", "head", "head", "base", "head", "base"]
    assert kept["base"]["batch"] == kept["head"]["batch"] == 8
    assert kept["base"]["model"]["sha256"] != kept["head"]["model"]["sha256"]
    assert "base: trial 1/6: measuring 0.2 s" in done.stderr.replace(", not steady", "")
