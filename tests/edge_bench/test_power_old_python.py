"""The power side of the agent gives the same numbers under every Python that is installed, a board's 3.6 among them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent_on_board import pythons

HERE = Path(__file__).parent


def exercise(python, folder):
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run([python, HERE / "exercise_power.py", folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", pythons())
def test_the_same_numbers_under_every_python(tmp_path, version):
    here = exercise(sys.executable, tmp_path / "here")
    assert exercise(pythons()[version], tmp_path / "there") == here
    assert here["ina3221"] == [{"VDD_IN": 3040}, 3040, None]
    assert [entry["total_mw"] for entry in here["log"]] == [3056, None, 4120, None]
    assert here["energy"][0][0] == pytest.approx(70.3, rel=0.01)
    assert here["errors"] == ["CannotMeasure", "CannotMeasure", "UserError"]
