"""What is installed: a wheel of exactly four packages and a front door, that works beside a user's own modules."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from built import PACKAGES, ROOT, build_wheel, tracked

import edgesynth

COMMANDS = [*((name,) for name in edgesynth.COMMANDS), *(("devices", name) for name in edgesynth.DEVICE_COMMANDS)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel as pip unpacks it, with its console script."""
    target = tmp_path_factory.mktemp("installed")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target",
                           target, wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory) -> Path:
    """A user's folder, with modules of our names that must not be imported, data and a network."""
    folder = tmp_path_factory.mktemp("own")
    for name in (*PACKAGES, "click", "torch", "numpy", "onnx", "statistics", "tests"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the user was imported')\n")
    (folder / "mine.py").write_text(textwrap.dedent("""
        import numpy as np
        from torch import nn

        def data():
            def part(count):
                labels = np.arange(count) % 2
                images = np.random.default_rng(count).integers(0, 100, (count, 1, 8, 8))
                images += 100 * labels[:, None, None, None]
                return images.astype(np.uint8), labels
            return {"train": part(48), "validation": part(24), "test": part(26)}

        def network():
            def block(inputs, outputs):
                return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            return nn.Sequential(*block(1, 8), *block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    """))
    return folder


def run(*words: object, cwd: Path, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", **variables} | ({} if path is None else {"PYTHONPATH": str(path)})
    return subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=240)


@pytest.fixture(scope="module")
def exported(own_folder) -> Path:
    """The user's network as ONNX, beside the modules of our names."""
    done = run(Path(sys.executable).parent / "edgesynth", "export", "mine.py:network", "--input", "1x8x8", "--target",
               "tx2", "--out", "net.onnx", cwd=own_folder)
    assert done.returncode == 0, done.stderr
    return own_folder / "net.onnx"


def test_the_wheel_holds_the_four_packages_and_the_front_door(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {*PACKAGES, "edgesynth.py"}
    ours = {name for name in tracked() if name.split("/")[0] in PACKAGES} | {"edgesynth.py"}
    held = {name for name in names if ".dist-info/" not in name}
    assert held == ours, f"left out: {sorted(ours - held)}; too much: {sorted(held - ours)}"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_installed_wheel_runs(installed, tmp_path):
    script = installed / "bin" / "edgesynth"
    done = run(sys.executable, script, "--version", cwd=tmp_path, path=installed)
    assert (done.returncode, done.stdout) == (0, f"edgesynth, version {edgesynth.__version__}\n"), done.stderr
    program = "import devices, edgesynth; print(devices.__file__); edgesynth.main()"
    done = run(sys.executable, "-c", program, "devices", "list", cwd=tmp_path, path=installed)
    assert done.returncode == 0 and done.stdout.startswith(str(installed)), done.stderr
    assert "Jetson TX2" in done.stdout and "Jetson AGX Orin" in done.stdout


def test_the_installed_wheel_has_its_data(installed, tmp_path):
    """Boards, digits, trained networks, the report's template and the agent's sources are where the code looks."""
    program = ("from synth.data.dataset import load_dataset; assert len(load_dataset('digits').train) == 1078\n"
               "from synth.zoo.shelf import find; from synth.storage.network_folder import load_network\n"
               "assert load_network(find('resnet20', 'cifar10'))[0].input_shape == (3, 32, 32)\n"
               "from edge_bench.agent_build import write_agent; write_agent('agent.pyz')\n"
               "from export.rules import operators\n"
               "from synth.report import report; print(report.__file__)")
    done = run(sys.executable, "-c", program, cwd=tmp_path, path=installed)
    assert done.returncode == 0 and done.stdout.startswith(str(installed)), done.stderr
    done = run(sys.executable, "agent.pyz", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def every_help(start: str, call: str = "edgesynth.main()") -> str:
    """A program that calls every command's --help in one process, after `start`."""
    return start + textwrap.dedent(f"""
        import sys
        for words in {COMMANDS!r}:
            sys.argv = ["edgesynth", *words, "--help"]
            try:
                {call}
            except SystemExit as stop:
                assert not stop.code, (words, stop.code)
    """)


def test_every_command_answers_in_a_folder_with_modules_of_our_names(own_folder):
    """As the console script, whose own folder is first on the path, and as `python -m`, where it is the working one."""
    script = Path(sys.executable).parent / "edgesynth"
    for start in ([script], [sys.executable, "-m", "edgesynth"]):
        done = run(*start, "devices", "list", cwd=own_folder)
        assert done.returncode == 0 and "Jetson TX2" in done.stdout, done.stderr
    as_script = every_help(f"import runpy, sys; sys.path[0] = {str(script.parent)!r}",
                           f"runpy.run_path({str(script)!r}, run_name='__main__')")
    as_module = every_help("import runpy, sys; assert sys.path[0] == ''",
                           "runpy.run_module('edgesynth', run_name='__main__', alter_sys=True)")
    for program in (as_script, as_module):
        done = run(sys.executable, "-c", program, cwd=own_folder)
        assert done.returncode == 0 and done.stdout.count("--help") >= len(COMMANDS), done.stderr


def test_real_commands_in_a_folder_with_modules_of_our_names(own_folder, exported):
    """Worker processes and a user's own factory too."""
    script = Path(sys.executable).parent / "edgesynth"
    for start in ([script], [sys.executable, "-m", "edgesynth"]):
        done = run(*start, "devices", "predict", exported.name, "--target", "tx2", cwd=own_folder)
        assert done.returncode == 0 and "predicted by the" in done.stdout, done.stderr
    done = run(sys.executable, "-m", "edgesynth", "synth", "--data", "mine.py:data", "--prototype", "mine.py:network",
               "--require", "params <= 2k", "--cycles", 1, "--batch", 2, "--ferminets", 1, "--workers", 2, "--out",
               "runs/mine", cwd=own_folder)
    assert done.returncode == 0, done.stderr
    assert (own_folder / "runs/mine/ferminet-a/ferminet-a.onnx").is_file()


def test_the_base_requirements_suffice_for_bench_check_and_devices(exported, tmp_path):
    """With everything blocked that only the extras bring."""
    extras = [*_modules("synth"), *_modules("test"), "jtop", "pycuda"]
    assert {"torch", "yaml", "xdist", "importlinter"} < set(extras)
    blocked = f"import sys\nfor name in {extras!r}: sys.modules[name] = None\nimport edgesynth\n"
    done = run(sys.executable, "-c", every_help(blocked), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.copy(exported, tmp_path)
    for words in (["devices", "predict", "net.onnx", "--target", "tx2"], ["devices", "probe"],
                  ["bench", "net.onnx", "--trials", "2", "--window", "0.2", "--json", "r.json"],
                  ["check", "r.json", "--baseline", "b.json", "--update", "--force"],
                  ["check", "r.json", "--baseline", "b.json", "--force"]):
        done = run(sys.executable, "-c", blocked + "edgesynth.main()", *words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    done = run(sys.executable, "-c", blocked + "edgesynth.main()", "synth", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "edgesynth: this command needs torch: pip install '.[synth]' in your clone of edgesynth\n"


def _packages(extra: str) -> list[str]:
    """The names of an extra's packages, as PyPI writes them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.extras_require"][extra].split("\n")
    names = [line.split(";")[0].split(">")[0].split("<")[0].split("=")[0].strip() for line in lines if line.strip()]
    return [name for name in names if not name.startswith(("#", "edgesynth"))]


def _modules(extra: str) -> list[str]:
    """What an extra's packages are imported as, where they are installed: pyyaml as yaml."""
    packages = set(_packages(extra))
    return [module for module, owners in importlib.metadata.packages_distributions().items()
            if packages & {owner.lower().replace("_", "-") for owner in owners}]


def test_no_extra_for_a_board_brings_tensorrt():
    """A board's own TensorRT belongs to its JetPack; one from the network would take its place."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    base = setup["options"]["install_requires"]
    assert not any(name in base for name in ("torch", "tensorrt", "pycuda"))
    assert "tensorrt" not in _packages("jetson") and _packages("jetson")
    assert not any(name.startswith("tensorrt") for name in _packages("synth"))
