"""`edgesynth` itself: what it imports, how it says what went wrong, and how it ends."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from operator import attrgetter
from types import SimpleNamespace

import click
import pytest
from front_door import call

import edgesynth
from devices.support.errors import CannotMeasure, CheckFailed, UserError

COMMANDS = [*((name,) for name in edgesynth.COMMANDS), *(("devices", name) for name in edgesynth.DEVICE_COMMANDS)]
HEAVY = ("torch", "onnxruntime", "onnx", "matplotlib", "scipy", "synth.run.run")


@pytest.fixture
def failing(monkeypatch):
    """`edgesynth bench` raises what it is given."""
    def install(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(edgesynth.cli, "get_command", lambda context, name: command)

    return install


def test_help_imports_nothing_heavy(tmp_path):
    """All in one process: what any of them imported would be there at the end."""
    program = (f"import sys, edgesynth\n"
               f"for words in {[(), *COMMANDS]!r}:\n"
               f"    sys.argv = ['edgesynth', *words, '--help']\n"
               f"    edgesynth.main()\n"
               f"    found = [name for name in {HEAVY!r} if name in sys.modules]\n"
               f"    assert not found, (words, found)\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    answer = call(*words, "--help")
    assert answer.code == 0 and answer.err == "" and answer.out.startswith("Usage: edgesynth")
    example = " ".join(("edgesynth", *words))
    assert words == ("devices",) or f"  {example}" in answer.out.split("\n", 1)[1]
    assert call(*words, "-h").out == answer.out


def test_the_tables_of_commands_are_true():
    """Every row leads to a command, and its line says what the command's own help begins with or better."""
    for group in (edgesynth.cli, edgesynth.devices_group):
        for name in group.list_commands(None):
            assert isinstance(group.get_command(None, name), click.Command)
    shown = call("--help").out
    assert all(text in shown for _, text in edgesynth.COMMANDS.values())
    assert edgesynth.cli.get_command(None, "none") is None


@pytest.mark.parametrize(("words", "said"), [
    (("swnth",), "unknown command 'swnth': did you mean synth?"),
    (("devices", "lst"), "unknown command 'lst': did you mean list?"),
    (("xyz",), "unknown command 'xyz': known: bench, check, compare, devices, evaluate, export, generate, init-ci, "
               "report, synth, train"),
    (("--frob",), "no such option '--frob'; see edgesynth --help"),
    (("devices", "show"), "missing argument 'BOARD'; see edgesynth devices show --help"),
    (("devices", "show", "tx22"), "unknown board 'tx22': did you mean tx2?"),
    (("devices", "predict", "a.onnx"), "missing option '--target'; see edgesynth devices predict --help"),
    (("bench", "a.onnx", "b.onnx"), "got unexpected extra argument 'b.onnx'; see edgesynth bench --help"),
])
def test_a_wrong_word_is_one_sentence(words, said):
    answer = call(*words)
    assert answer.code == 2 and answer.out == ""
    assert answer.sentence.replace("(b.onnx)", "'b.onnx'") == said


def test_without_a_command_the_help_is_shown():
    for words in ((), ("devices",)):
        answer = call(*words)
        assert answer.code == 2 and "Usage: edgesynth" in answer.err and "Commands:" in answer.err


@pytest.mark.parametrize(("error", "code"), [(CheckFailed("it is worse"), 1), (UserError("it is wrong"), 2),
                                             (CannotMeasure("it is not there"), 3)])
def test_what_is_expected_to_go_wrong_has_a_code_of_its_own(failing, error, code):
    failing(error)
    answer = call("bench")
    assert (answer.code, answer.out, answer.err) == (code, "", f"edgesynth: {error}\n")


def test_the_codes_come_from_real_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from onnx import TensorProto, helper, save

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 4, 4]), ("y", [1, 1]))]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", ports[:1], ports[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), "det.onnx")
    assert call("devices", "list").code == 0
    assert call("export", "--check", "det.onnx", "--target", "tx2").code == 1
    assert call("bench", "none.onnx").code == 2
    monkeypatch.setenv("PATH", "")  # no ssh
    answer = call("devices", "probe", "--host", "nobody@host.invalid")
    assert answer.code == 3 and answer.sentence


def test_a_bug_keeps_its_traceback(failing):
    failing(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        call("bench")
    failing(ModuleNotFoundError("No module named 'synth.runn'", name="synth.runn"))
    with pytest.raises(ModuleNotFoundError):
        call("bench")


def test_a_module_of_an_extra_is_named(failing):
    failing(ModuleNotFoundError("No module named 'torch'", name="torch"))
    answer = call("bench")
    assert answer.code == 2
    assert answer.sentence == "this command needs torch: pip install '.[synth]' in your clone of edgesynth"


def test_ctrl_c_outside_a_run(failing):
    failing(KeyboardInterrupt())
    answer = call("bench")
    assert (answer.code, answer.err) == (130, "\nedgesynth: stopped.\n")


def test_a_working_folder_that_is_gone(tmp_path):
    program = f"import os; os.chdir({str(tmp_path)!r}); os.rmdir({str(tmp_path)!r}); import edgesynth; edgesynth.main()"
    done = subprocess.run([sys.executable, "-c", program, "devices", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "Jetson TX2" in done.stdout, done.stderr


@pytest.mark.parametrize("words", [("--help",), ("devices", "list"), ("devices", "show", "tx2", "--json", "-")])
def test_a_reader_that_leaves_is_no_failed_check(words, tmp_path):
    """As in `edgesynth devices list | head -0`: no noise, and a code that is none of ours."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "edgesynth", *words], cwd=tmp_path, stdout=writing,
                              stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


class Called(Exception):
    """In place of what a command would have done."""


@pytest.mark.parametrize(("words", "function", "argument", "expected"), [
    (("synth", "--host", "nobody@nowhere", "--measure", 7), "synth.run.run.synthesise", "order.measure", 7),
    (("synth", "--board-lost", "predict"), "synth.run.run.synthesise", "board_lost", "predict"),
    (("devices", "predict", "m.onnx", "--target", "tx2", "--input-ready"), "devices.cli.predict_onnx", "input_ready",
     True),
    (("devices", "predict", "m.onnx", "--target", "tx2", "--top", 3), "devices.cli.print_prediction", "top", 3),
])
def test_an_option_reaches_the_function_that_it_is_for(words, function, argument, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, _, name = function.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    found = []

    def called(*given, **named):
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        found.append(attrgetter(argument)(SimpleNamespace(**bound.arguments)))
        raise Called

    monkeypatch.setattr("devices.cli.predict_onnx", lambda *given: None)
    monkeypatch.setattr(function, called)
    with pytest.raises(Called):
        call(*words)
    assert found == [expected]
