"""The trtexec runner against a stand-in that is called and answers as trtexec does."""

from __future__ import annotations

import json
import sys

import pytest

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import engines, sidecar
from edge_bench.agent.arguments import complete
from edge_bench.agent.runners import RUNNERS, runner_for, trtexec

STAND_IN = """#!{python}
import json, sys, time
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
print("&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec")
if "loadEngine" in options:
    with open(options["loadEngine"]) as stream:
        if stream.read() != "an engine":
            print("[E] Error[1]: [stdArchiveReader.cpp::StdArchiveReader::32] Serialization assertion failed")
            print("&&&& FAILED TensorRT.trtexec")
            sys.exit(1)
if "saveEngine" in options:
    with open(options["saveEngine"], "w") as stream:
        stream.write("an engine")
    print("[I] Input binding for x with dimensions 1x3x8x8 is created.")
print("[I] Starting inference")
duration = float(options.get("duration", 3))
time.sleep(duration)
if "exportTimes" in options:
    count = int(duration * 500)
    row = {{"startInMs": 2.0, "inMs": 0.1, "computeMs": 1.5, "outMs": 0.1, "latencyMs": 1.7}}
    rows = [row] * count
    with open(options["exportTimes"], "w") as stream:
        json.dump(rows, stream)
    print("[I] Timing trace has %d queries over %g s" % (count, duration))
if "exportProfile" in options:
    with open(options["exportProfile"], "w") as stream:
        json.dump([{{"count": 500}}, {{"name": "conv1", "averageMs": 1.2, "percentage": 80}}], stream)
print("&&&& PASSED TensorRT.trtexec")
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The stand-in on the PATH; gives how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program, log = folder / "trtexec", tmp_path / "calls.log"
    program.write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return lambda: log.read_text().splitlines()


def request(tmp_path, content="an engine", **given):
    path = tmp_path / "net.engine"
    path.write_text(content)
    return complete({"model": str(path), "runner": "trtexec", **given})


def test_a_run_is_timed_by_trtexec_and_always_pipelined(calls, tmp_path):
    runner = trtexec.TrtexecRunner.open(request(tmp_path))
    start, end, latencies, compute = runner.run_for(0.5)
    assert end - start == pytest.approx(0.5) and len(latencies) == 250
    assert latencies[0] == pytest.approx(0.0017) and compute[0] == 1.5
    told = runner.describe()
    assert told["pipelined"] is True and told["origin_unknown"] is True
    assert runner.layer_times_ms() == [{"name": "conv1", "ms": 1.2}]
    assert "--warmUp=0" in calls()[0]


def test_a_damaged_engine_gives_trtexecs_reason(calls, tmp_path):
    runner = trtexec.TrtexecRunner.open(request(tmp_path, content="an eng"))
    with pytest.raises(CannotMeasure, match="Serialization assertion failed"):
        runner.run_for(0.1)


def test_an_engine_is_built_with_its_shapes(calls, tmp_path):
    built = trtexec.build_engine({**request(tmp_path), "model": "net.onnx", "engine": str(tmp_path / "made.engine")})
    assert built["batch"] == 1 and built["inputs"] == {"x": [1, 3, 8, 8]} and built["precision"] == "fp16"
    assert "--fp16" in calls()[0]
    with pytest.raises(UserError, match="built for batch 1, not 4"):
        trtexec.build_engine({**request(tmp_path, batch=4), "model": "net.onnx", "engine": str(tmp_path / "m.engine")})


def test_int8_is_not_calibrated_with_random_numbers(calls, tmp_path):
    with pytest.raises(UserError, match="random numbers"):
        trtexec.build_engine({**request(tmp_path, precision="int8"), "engine": "x"})


def test_it_is_chosen_where_no_python_has_tensorrt(calls):
    assert trtexec.preferred() == "trtexec" and runner_for("net.engine") == "trtexec"
    assert runner_for("net.onnx") == "onnxruntime" and set(RUNNERS) == {"onnxruntime", "tensorrt", "trtexec"}
    with pytest.raises(UserError, match="neither an ONNX file"):
        runner_for("net.pt")


def test_without_trtexec_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="/usr/src/tensorrt/bin"):
        trtexec.TrtexecRunner.open(request(tmp_path))


def test_a_trial_of_trtexec_measures_as_others_do(calls, tmp_path):
    from edge_bench.agent.trials import run_trial

    wanted = {**request(tmp_path, trials=1, window=0.5), "root": str(tmp_path), "python": sys.executable}
    trial = run_trial({**wanted, "warmup_cap": 1.0}, 0, lambda text: None)
    assert trial["inferences"] == 250 and trial["runner"]["pipelined"] is True and trial["compute_ms"] == 1.5


def test_external_weights_are_found_without_an_onnx_reader(tmp_path):
    from bench_samples import write_model

    path = write_model(tmp_path / "net.onnx", external=True)
    assert engines.external_weights(str(path)) == [str(tmp_path / "net.onnx.data")]
    assert engines.external_weights(str(write_model(tmp_path / "inside.onnx"))) == []
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(UserError, match=r"net\.onnx\.data, which is not beside it"):
        engines.build({"model": str(path), "runner": "tensorrt"})


def test_a_damaged_sidecar_is_one_sentence(tmp_path):
    (tmp_path / "net.engine.json").write_text(json.dumps({"schema": "edgesynth.other/1"}))
    with pytest.raises(UserError, match=r"expected edgesynth\.engine/1"):
        sidecar.read_sidecar(str(tmp_path / "net.engine"))
