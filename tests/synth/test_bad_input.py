"""Whatever is handed over by mistake: one sentence, exit code 2, and nothing that was not there before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bad_factories
import pytest
from front_door import call

ROOT = Path(__file__).parents[2]
ASKED = {"--target": "tx2", "--data": "own.py:data", "--prototype": "own.py:network", "--require": "params <= 100k",
         "--out": "run", "--cycles": "1", "--batch": "2", "--ferminets": "1", "--workers": "1"}
FILES = {
    "broken.py": "def make(:\n",
    "raising.py": "raise KeyError('x')\n",
    "leaving.py": "import sys\nsys.exit(4)\n",
    "importing.py": "import no_such_package\n",
    "a_file": "text",
    "full/thesis.tex": "text",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    shutil.copy(bad_factories.__file__, "own.py")
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(place.relative_to(folder)): place.read_bytes() if place.is_file() else None
            for place in folder.rglob("*") if "__pycache__" not in str(place)}


def synth(changes: dict[str, str | None], *more: str):
    words = [word for pair in {**ASKED, **changes}.items() if pair[1] is not None for word in pair]
    return call("synth", *words, *more)


def refused(answer, said: str) -> None:
    assert answer.code == 2 and answer.out == "", answer.err
    assert said in answer.sentence


@pytest.mark.parametrize(("option", "word", "said"), [
    ("--target", "tx22", "unknown target 'tx22': did you mean tx2?"),
    ("--target", "tx2:maxx", "unknown power mode of tx2 'maxx': did you mean maxq?"),
    ("--target", "", "'' names no target"),
    ("--target", "nano", "Jetson Nano has no cost model yet"),
    ("--target", "cpu", "use fp32 or int8"),
    ("--precision", "int8", "Jetson TX2 has no INT8"),
    ("--precision", "fp61", "unknown precision of tx2 'fp61': did you mean fp16?"),
    ("--prototype", "resnet9", "unknown prototype 'resnet9': did you mean resnet8?"),
    ("--prototype", "own.py", "write package.module:name or path/file.py:name"),
    ("--prototype", "own.py:", "write package.module:name or path/file.py:name"),
    ("--prototype", "own.py:netwrk", "unknown factory in own.py 'netwrk': did you mean network?"),
    ("--prototype", "none.py:make", "none.py: there is no such file"),
    ("--prototype", "no_such_package.net:make", "install it, or name a file"),
    ("--prototype", "own.py:not_callable", "own.py:not_callable is not a function"),
    ("--prototype", "broken.py:make", "broken.py:1: invalid syntax"),
    ("--prototype", "raising.py:make", "raising.py: fails when it is imported: KeyError: 'x'"),
    ("--prototype", "leaving.py:make", "leaving.py: fails when it is imported: SystemExit: 4"),
    ("--prototype", "importing.py:make", "importing.py: cannot be imported: No module named 'no_such_package'"),
    ("--data", "digts", "unknown data set 'digts': did you mean digits?"),
    ("--data", "own.py", "write package.module:name or path/file.py:name"),
    ("--batch", "-1", "--batch -1: it must be 2 to 1000"),
    ("--batch", "two", "invalid value for '--batch': 'two' is not a valid integer; see edgesynth synth --help"),
    ("--cycles", "-3", "--cycles -3: it must be 1 to 10000"),
    ("--ferminets", "27", "--ferminets 27: it must be 1 to 26"),
    ("--seed", "-1", "--seed -1: it must be 0 to 18446744073709551615"),
    ("--seed", "18446744073709551616", "--seed 18446744073709551616: it must be 0 to 18446744073709551615"),
    ("--workers", "0", "invalid value for '--workers'"),
    ("--sede", "1", "no such option '--sede'"),
    ("--out", "a_file", "a_file: it is a file; name a folder for the run"),
    ("--out", "full", "full: it holds something else (thesis.tex); choose another --out"),
    ("--out", "a_file/run", "a_file/run: a part of the path is a file, not a folder"),
    ("--json", "none/summary.json", "--json none/summary.json: there is no such folder; name a file"),
    ("--json", "full", "--json full: it is a folder; name a file"),
    ("--require", "acuracy >= 90 %", "unknown metric 'acuracy': did you mean accuracy?"),
    ("--require", "accuracy => 90 %", "unknown relation '=>': write >= or <="),
    ("--require", "accuracy >= 90", "'90' is more than 100 %: write a % sign"),
    ("--require", "params <= 10 ms", "write no unit, k, M or G"),
    ("--require", "latency <= 9 ms @ batch=0", "'batch=0' is no batch size"),
    ("--require", "", "a requirement is empty"),
    ("--require", "params <= 3", "'params <= 3' cannot be met: the best that this space can reach is"),
    ("--set", "batc=3", "unknown value of a recipe 'batc': did you mean batch?"),
    ("--set", "final.foo=3", "unknown value of a recipe 'foo'"),
    ("--set", "final.batch=0", "a recipe with batch = 0: it must be 1 to"),
    ("--set", "prototype.small_px=9", "small_px = 9: it would enlarge images of 8 x 8 instead of shrinking"),
    ("--require", "img_per_joule >= 1000000", "cannot be met: the best that this space can reach is"),
])
def test_a_wrong_word(folder, option, word, said):
    before = contents(folder)
    answer = synth({option: word})
    if option == "--require" and "\n" in answer.err.strip():  # these underline the wrong word
        first, line, mark = answer.err.rstrip("\n").split("\n")
        assert said in first and line.strip() == word and set(mark.strip()) == {"^"} and answer.code == 2
    else:
        refused(answer, said)
    assert contents(folder) == before


@pytest.mark.parametrize(("factory", "said"), {
    "five_outputs": "gives 5 outputs, but own has 3 classes",
    "grey_only": "does not accept images [2, 3, 8, 8]: 0 expects 1 channels",
    "damaged_weights": "3.weight holds NaN or infinity",
    "damaged_statistics": "4.running_var holds NaN or infinity",
    "unsupported": "body.1: torch.sort is not supported",
    "no_module": "expected a torch.nn.Module, found str",
    "no_weights": "has no weights that can be trained",
    "two_answers": "returns tuple, not one tensor",
    "raises": "ValueError: no such column: 'label'; mend the factory",
    "wants": "missing 1 required positional argument: 'folder'",
}.items())
def test_a_prototype_that_is_none(folder, factory, said):
    before = contents(folder)
    refused(synth({"--prototype": f"own.py:{factory}"}), said)
    assert contents(folder) == before


@pytest.mark.parametrize(("factory", "said"), {
    "label_out_of_range": "validation: label 3 of image 2 is out of range for 3 classes (0..2)",
    "negative_label": "test: label -1 of image 0 is out of range",
    "empty_split": "validation: there is no image in this split",
    "nan_image": "train: image 7 holds NaN or infinity",
    "nothing": "expected a Dataset or a dict of arrays, found NoneType",
    "a_list": "expected a Dataset or a dict of arrays, found list",
    "no_test": "there is no 'test' split",
    "images_alone": "train: expected a pair (images, labels), found ndarray",
    "flat_images": "images must be [N, C, H, W], found [24, 192]",
    "channels_last": "move the channels to the second place",
    "fractions_as_labels": "labels are float64; use whole numbers",
    "too_few_labels": "24 images but 20 labels",
    "one_class": "'classes' must be a list of two or more names",
    "raises": "ValueError: no such column: 'label'; mend the factory",
}.items())
def test_data_that_are_none(folder, factory, said):
    before = contents(folder)
    refused(synth({"--data": f"own.py:{factory}"}), said)
    assert contents(folder) == before


@pytest.mark.parametrize(("words", "said"), [
    (("params <= 9k", "params <= 5k"), "bound the same thing twice"),
    (("params <= 1k", "params >= 50k"), "contradict each other"),
])
def test_requirements_that_do_not_go_together(folder, words, said):
    before = contents(folder)
    refused(synth({"--require": words[0]}, "--require", words[1]), said)
    assert contents(folder) == before


def test_nothing_to_resume(folder):
    before = contents(folder)
    refused(synth({}, "--resume"), "run: there is no run to resume; leave --resume out to start one")
    refused(synth({"--out": None}, "--resume"), "--resume goes on with a run: name its folder with --out")
    refused(synth({"--out": "full"}, "--resume"), "it holds something else (thesis.tex)")
    assert contents(folder) == before


@pytest.mark.parametrize(("manifest", "said"), [
    ({"schema": "edgesynth.run/2"}, "it was written by another version of edgesynth"),
    ({"schema": "edgesynth.network/1"}, "it is another kind of file"),
    ({"schema": "edgesynth.run/1"}, "damaged ('command' is missing)"),
    (None, "damaged JSON"),
])
@pytest.mark.parametrize("command", ["synth", "generate"])
def test_a_run_of_another_version_or_damaged(folder, manifest, said, command):
    Path("run").mkdir()
    Path("run/run.json").write_text("{" if manifest is None else json.dumps(manifest))
    before = contents(folder)
    refused(synth({}, "--resume") if command == "synth" else call("generate", "run"), said)
    after = contents(folder)
    after.pop("run/.lock", None)  # it stays in a folder that holds a run
    assert after == before


@pytest.mark.parametrize(("words", "said"), [
    (("generate", "none"), "none: there is no run in this folder (no run.json)"),
    (("generate", "full"), "full: there is no run in this folder"),
    (("generate", "full", "--seeds", "9:3"), "'9:3' holds no seed: write the smaller number first"),
    (("generate", "full", "--seeds", "x"), "'x' is no range of seeds: write 7 or 100:120"),
    (("generate", "full", "--seeds", "-1"), "'-1' holds no seed"),
    (("generate", "full", "--prefer", "smal"), "'smal' is not one of"),
    (("report", "none"), "none: holds no finished run (no summary.json)"),
    (("report", "full"), "full: holds no finished run"),
    (("evaluate", "none"), "none: there is no such folder, and no network of this name comes with edgesynth"),
    (("evaluate", "none", "--split", "tst"), "none: there is no such folder"),
    (("evaluate", "full"), "full/network.json: there is no such file or folder"),
    (("evaluate",), "missing argument 'NETWORK'; see edgesynth evaluate --help"),
    (("evaluate", "full", "--data", "digts"), "unknown data set 'digts': did you mean digits?"),
    (("evaluate", "full", "--data", "digits", "--split", "tst"), "unknown split 'tst': did you mean test?"),
    (("report", "full", "--json", "none/r.json"), "--json none/r.json: there is no such folder"),
])
def test_other_commands(folder, words, said):
    before = contents(folder)
    refused(call(*words), said)
    assert contents(folder) == before


@pytest.mark.parametrize("words", [("evaluate",), ("export", "--target", "tx2"), ("train", "--out", "trained")])
def test_a_run_in_the_place_of_one_of_its_networks(folder, words):
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    before = contents(folder)
    refused(call(*words, "run"), "run: it is a run; name one network in it, such as run/ferminet-a")
    assert contents(folder) == before


def ordinary_user(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line as a user who may not write everywhere: also root may not, once it gave up its capabilities."""
    program = ("import ctypes, edgesynth\n"
               "header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
               "assert ctypes.CDLL(None).capset(header, none) == 0\n"
               "edgesynth.main()")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", program, *words], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gives up the capabilities of Linux")
def test_a_read_only_folder(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = ordinary_user("synth", "--workers", "1", "--out", str(locked / "run"), cwd=Path("/"))
    locked.chmod(0o755)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence == (f"edgesynth: {locked / 'run'}: permission is denied; choose another folder or change its "
                        "permissions")
    assert list(locked.iterdir()) == []
