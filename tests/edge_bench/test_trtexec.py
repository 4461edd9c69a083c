"""The trtexec runner against a stand-in that is called and answers as trtexec does."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from agent_on_board import wait_for
from onnx import TensorProto, helper

from devices.support import files
from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import engines, identity, sidecar, trtexec_builder
from edge_bench.agent.arguments import complete
from edge_bench.agent.runners import RUNNERS, runner_for, trtexec

STAND_IN = """#!{python}
import json, sys, time
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if "help" in options:
    print("\\n".join("  --" + word for word in {help!r}.split()))
    sys.exit(0)
unknown = set(options) - set({help!r}.split()) - set("loadEngine saveEngine onnx warmUp duration iterations".split())
if unknown:
    sys.exit("[E] Unknown option: --" + sorted(unknown)[0])
print("&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec")
if "loadEngine" in options:
    with open(options["loadEngine"]) as stream:
        kept = stream.read()
        if not kept.startswith("an engine"):
            print("[E] Error[1]: [stdArchiveReader.cpp::StdArchiveReader::32] Serialization assertion failed")
            print("&&&& FAILED TensorRT.trtexec")
            sys.exit(1)
    built = kept[len("an engine at "):] or "1x3x8x8"
    shape = options.get("shapes", "x:" + built).split(":")[1]
    if " " in built:
        shape = "1x3x8x8"  # a version that does what it likes
if "saveEngine" in options:
    if {broken!r}:
        print("[11/26/2026-04:00:00] [E] Error[10]: Could not find any implementation for node conv1.")
        print("[11/26/2026-04:00:00] [E] Error[2]: [builder.cpp::buildSerializedNetwork::609] Assertion failed.")
        print("&&&& FAILED TensorRT.trtexec")
        sys.exit(1)
    if "exportLayerInfo" in options:
        with open(options["exportLayerInfo"], "w") as stream:
            json.dump({{"Layers": [{{"Name": "conv1", "ParameterType": "Convolution", "Outputs": [
                {{"Format/Datatype": "Row major linear FP32"}}]}}], "Bindings": ["x", "y"]}}, stream)
    if "timingCacheFile" in options:
        with open(options["timingCacheFile"], "a") as stream:
            stream.write("timings")
    with open(options["saveEngine"], "w") as stream:
        stream.write("an engine")
    shape = options.get("optShapes", "x:1x3x8x8").split(":")[1]
print("[I] Using random values for input x")
print({binding!r} % shape)
print("[I] Created output binding for y with dimensions 5x10")
print("[I] Starting inference")
duration, warm_up = float(options.get("duration", 3)), float(options.get("warmUp", 200)) / 1000
time.sleep(warm_up + duration)
if "exportTimes" in options:
    held = b"x" * (100 << 20)
    count = int(duration * 500)
    cold = 0 if {version!r} == "11" else int(warm_up * 250)  # how many of the warm-up an older version writes too
    rows = [{{"startComputeMs": 1000 * warm_up - 4 * (cold - number), "computeMs": 3.5, "latencyMs": 3.7}}
            for number in range(cold)]
    rows += [{{"startComputeMs": 1000 * warm_up + 2 * number + 0.5, "computeMs": 1.5, "latencyMs": 1.7}}
             for number in range(count)]
    with open(options["exportTimes"], "w") as stream:
        json.dump(rows, stream)
    print("[I] Warmup completed %d queries over %g ms" % (warm_up * 250, 1000 * warm_up))
    print("[I] Timing trace has %d queries over %g s" % (count, duration))
if "exportProfile" in options:
    with open(options["exportProfile"], "w") as stream:
        json.dump([{{"count": 500}}, {{"name": "conv1", "averageMs": 1.2, "percentage": 80}}], stream)
print("&&&& PASSED TensorRT.trtexec")
"""


COMMON = "help fp16 int8 noTF32 workspace minShapes optShapes maxShapes shapes exportTimes exportProfile dumpProfile \
separateProfileRun"
HELP = {"8.0": COMMON + " nvtxMode timingCacheFile buildOnly",
        "8.6": COMMON + " memPoolSize profilingVerbosity exportLayerInfo timingCacheFile skipInference",
        "11": COMMON.replace(" fp16 int8 noTF32 workspace", "") + " memPoolSize profilingVerbosity exportLayerInfo"}
CREATED, IS_CREATED = ("[I] Created input binding for x with dimensions %s",
                       "[I] Input binding for x with dimensions %s is created.")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Function that puts the stand-in of a version on the PATH."""
    def put(version="8.6", broken=False, binding=CREATED):
        program = tmp_path / "bin" / "trtexec"
        program.write_text(STAND_IN.format(python=sys.executable, log=str(tmp_path / "calls.log"), help=HELP[version],
                                           version=version, broken=broken, binding=binding))
        program.chmod(0o755)

    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return put


@pytest.fixture
def calls(tmp_path, install):
    """The stand-in on the PATH; gives how it was called."""
    install()
    return lambda: [line for line in (tmp_path / "calls.log").read_text().splitlines() if line != "--help"]


def request(tmp_path, content="an engine", **given):
    path = tmp_path / "net.engine"
    path.write_text(content)
    return complete({"model": str(path), "runner": "trtexec", **given})


@pytest.mark.parametrize("version", ["8.6", "11"])  # of which the former writes the times of the warm-up too
def test_a_run_is_timed_by_trtexec_and_always_pipelined(calls, install, tmp_path, version):
    install(version)
    runner = trtexec.TrtexecRunner.open(request(tmp_path))
    start, end, latencies, compute = runner.run_for(0.5)
    assert end - start == pytest.approx(0.5) and len(latencies) == 250
    assert set(latencies) == {1.7 / 1000} and set(compute) == {1.5}
    told = runner.describe()
    assert told["pipelined"] is True and told["origin_unknown"] is True
    assert runner.layer_times_ms() == [{"name": "conv1", "ms": 1.2}]
    assert "--warmUp=0" in calls()[0]


def test_a_window_begins_when_the_warm_up_is_over(calls, tmp_path):
    runner = trtexec.TrtexecRunner.open(request(tmp_path))
    called = time.monotonic()
    start, end, _, _ = runner.run_for(0.5)
    assert start - called > trtexec.WARM_UP_MS / 1000 and end <= time.monotonic()
    assert f"--warmUp={trtexec.WARM_UP_MS} " in calls()[-1]


def test_an_engine_of_another_tensorrt_is_refused_and_its_power_mode_told(calls, tmp_path):
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text("Package: libnvinfer8\nStatus: install ok installed\nVersion: 8.2.1-1+cuda10.2\n\n")
    wanted = {**request(tmp_path), "root": str(tmp_path)}
    sidecar = {"schema": "edgesynth.engine/1", "tensorrt": "8.2.1", "device": None, "mode": "MAXQ", "batch": 2,
               "inputs": {"x": [2, 3, 8, 8]}}
    (tmp_path / "net.engine.json").write_text(json.dumps(sidecar))
    told = trtexec.TrtexecRunner.open(wanted).describe()
    assert (told["built_in_mode"], told["batch"], told["origin_unknown"]) == ("MAXQ", 2, False)
    (tmp_path / "net.engine.json").write_text(json.dumps({**sidecar, "tensorrt": "8.0.1"}))
    with pytest.raises(CannotMeasure, match=r"built by TensorRT 8.0.1, here is 8.2.1"):
        trtexec.TrtexecRunner.open(wanted)


def test_of_two_libraries_the_one_of_trtexec_is_told(tmp_path):
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    packages = (("libnvinfer8", "8.6.2.3-1"), ("libnvinfer10", "10.3.0.30-1"), ("libnvinfer-bin", "8.6.2.3-1"))
    for count, version in ((2, "10.3.0.30"), (3, "8.6.2.3")):
        (tmp_path / "var/lib/dpkg/status").write_text("".join(
            f"Package: {name}\nStatus: install ok installed\nVersion: {said}+cuda12.5\n\n"
            for name, said in packages[:count]))
        assert identity.software(str(tmp_path))["tensorrt"] == version


def test_a_damaged_engine_gives_trtexecs_reason(calls, tmp_path):
    with pytest.raises(CannotMeasure, match="Serialization assertion failed"):
        trtexec.TrtexecRunner.open(request(tmp_path, content="an eng"))


@pytest.mark.parametrize("binding", [CREATED, IS_CREATED])
@pytest.mark.parametrize("content, given, batch", [
    ("an engine", {}, 1), ("an engine at 8x3x8x8", {}, 8), ("an engine at 8x3x8x8", {"batch": 8}, 8),
    ("an engine", {"shape": ["x=8x3x8x8"]}, 8), ("an engine", {"shape": ["x=8x3x8x8"], "batch": 8}, 8)])
def test_images_of_an_engine_from_elsewhere_are_those_that_trtexec_runs(install, tmp_path, content, given, batch,
                                                                        binding):
    install(binding=binding)
    runner = trtexec.TrtexecRunner.open(request(tmp_path, content, **given))
    assert runner.batch == batch and runner.inputs == [{"name": "x", "dtype": None, "shape": [batch, 3, 8, 8]}]
    runner.run_for(0.1)


@pytest.mark.parametrize("content, given, words", [
    ("an engine", {"batch": 8}, r"runs it at batch 1, not 8: .*--shape x=8x3x8x8"),
    ("an engine at 8x3x8x8", {"batch": 1}, "runs it at batch 8, not 1"),
    ("an engine", {"batch": 4, "shape": ["x=8x3x8x8"]}, "runs it at batch 8, not 4")])
def test_a_batch_that_trtexec_does_not_run_is_refused(calls, tmp_path, content, given, words):
    with pytest.raises(UserError, match=words):
        trtexec.TrtexecRunner.open(request(tmp_path, content, **given))


def test_shapes_that_trtexec_does_not_run_are_refused(install, tmp_path):
    install()
    with pytest.raises(CannotMeasure, match="ran input 'x' at 1x3x8x8, not 8x3x8x8"):
        trtexec.TrtexecRunner.open(request(tmp_path, "an engine at its own shape", shape=["x=8x3x8x8"]))
    known = {"schema": "edgesynth.engine/1", "batch": 8, "inputs": {"x": [8, 3, 8, 8]}}
    wanted = request(tmp_path)
    (tmp_path / "net.engine.json").write_text(json.dumps(known))
    with pytest.raises(CannotMeasure, match="ran input 'x' at 1x3x8x8, not 8x3x8x8"):
        trtexec.TrtexecRunner.open(wanted).run_for(0.1)
    (tmp_path / "net.engine.json").unlink()
    install(binding="[I] %s")
    with pytest.raises(CannotMeasure, match="does not say at which shapes"):
        trtexec.TrtexecRunner.open(wanted)


@pytest.mark.parametrize("binding", [CREATED, IS_CREATED])
def test_inputs_that_cannot_be_read_from_the_file_are_those_that_trtexec_tells(install, tmp_path, binding):
    install(binding=binding)
    asked = to_build(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"")
    assert trtexec_builder.build_engine(asked)["inputs"] == {"x": [1, 3, 8, 8]}


def to_build(tmp_path, batch=None, sizes=(1, 3, 8, 8), kind="Relu", **given):
    """A request to build a file of that input, as `engines.build` completes it."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "xy"]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return {**complete({"model": str(path), "runner": "trtexec", "batch": batch}), "engine": str(tmp_path / "a.engine"),
            "log": str(tmp_path / "a.log"), "timing_cache": str(tmp_path / "timings"), "workspace_bytes": 1 << 29,
            **given}


@pytest.mark.parametrize("version, words, layers", [
    ("8.0", ["--fp16", "--workspace=512", "--nvtxMode=verbose", "--buildOnly", "--timingCacheFile="], None),
    ("8.6", ["--fp16", "--memPoolSize=workspace:512", "--profilingVerbosity=detailed", "--skipInference"],
     [{"name": "conv1", "type": "Convolution", "format": "Row major linear FP32"}])])
def test_an_engine_is_built_with_what_the_version_knows(install, tmp_path, version, words, layers):
    install(version)
    built = trtexec_builder.build_engine(to_build(tmp_path))
    assert built["batch"] == 1 and built["inputs"] == {"x": [1, 3, 8, 8]} and built["precision"] == "fp16"
    assert built["layers"] == layers and (built["layers_note"] is None) == (layers is not None)
    said = (tmp_path / "calls.log").read_text().splitlines()[-1]
    assert all(word in said for word in words), said
    assert built["timings_reused"] is False and trtexec_builder.build_engine(to_build(tmp_path))["timings_reused"]
    assert not list(tmp_path.glob("*.layers.json")) and "PASSED" in (tmp_path / "a.log").read_text()


def test_the_whole_range_of_batches_is_built_and_any_of_it_runs(calls, tmp_path):
    asked = to_build(tmp_path, sizes=("n", 3, 8, 8), batches=[1, 4, 16])
    built = trtexec_builder.build_engine(asked)
    assert "--minShapes=x:1x3x8x8 --optShapes=x:4x3x8x8 --maxShapes=x:16x3x8x8" in calls()[-1]
    assert built["batch"] == 4 and built["profile"] == {"x": [[1, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8]]}
    files.write_json(sidecar.sidecar_path(asked["engine"]), built, sidecar.SCHEMA)
    for batch, wanted in ((None, 4), (9, 9)):
        runner = trtexec.TrtexecRunner.open({**asked, "model": asked["engine"], "batch": batch})
        runner.run_for(0.1)
        assert runner.batch == wanted and f"--shapes=x:{wanted}x3x8x8" in calls()[-1]
    with pytest.raises(UserError, match="built for batch 1 to 16, not 17"):
        trtexec.TrtexecRunner.open({**asked, "model": asked["engine"], "batch": 17})


def test_a_fixed_batch_is_refused_at_build_and_run(calls, tmp_path):
    with pytest.raises(UserError, match="built for batch 1, not 4"):
        trtexec_builder.build_engine(to_build(tmp_path, batch=4))
    asked = to_build(tmp_path)
    files.write_json(sidecar.sidecar_path(asked["engine"]), trtexec_builder.build_engine(asked), sidecar.SCHEMA)
    with pytest.raises(UserError, match="built for batch 1, not 4"):
        trtexec.TrtexecRunner.open({**asked, "model": asked["engine"], "batch": 4})


def test_int8_is_built_of_scales_and_never_calibrated_with_random_numbers(calls, tmp_path):
    with pytest.raises(UserError, match="needs a quantised ONNX file"):
        trtexec_builder.build_engine(to_build(tmp_path, precision="int8"))
    built = trtexec_builder.build_engine(to_build(tmp_path, precision="int8", kind="QuantizeLinear"))
    assert built["precision"] == "int8" and "--int8 --fp16" in calls()[-1]


def test_fp32_is_not_tf32(calls, tmp_path):
    for precision, told in (("fp32", True), ("fp16", False)):
        trtexec_builder.build_engine(to_build(tmp_path, precision=precision))
        assert ("--noTF32" in calls()[-1]) is told


def test_where_the_graph_alone_says_the_precision(install, tmp_path):
    install("11")
    assert trtexec_builder.build_engine(to_build(tmp_path))["precision"] == "as in the graph"
    assert trtexec_builder.build_engine(to_build(tmp_path, precision="fp16", in_graph="fp16"))["precision"] == "fp16"
    with pytest.raises(UserError, match="from the graph"):
        trtexec_builder.build_engine(to_build(tmp_path, precision="fp16"))


def test_a_build_that_fails_says_why(install, tmp_path):
    install(broken=True)
    with pytest.raises(CannotMeasure, match=r"Could not find any implementation for node conv1\.; .*Assertion failed"):
        trtexec_builder.build_engine(to_build(tmp_path))
    assert "&&&& FAILED" in (tmp_path / "a.log").read_text()


def test_a_program_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    stuck = tmp_path / "trtexec"
    stuck.write_text("#!/bin/sh\nexec sleep 60\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(trtexec_builder, "program", lambda: str(stuck))
    monkeypatch.setattr(trtexec_builder, "HELP_S", 0.2)
    with pytest.raises(CannotMeasure, match="trtexec --help said nothing for 0 s: is the GPU in use"):
        trtexec_builder.build_engine(to_build(tmp_path))


def test_it_is_chosen_where_no_python_has_tensorrt(calls):
    assert trtexec.preferred() == "trtexec" and runner_for("net.engine") == "trtexec"
    assert runner_for("net.onnx") == "onnxruntime" and set(RUNNERS) == {"onnxruntime", "tensorrt", "trtexec"}
    with pytest.raises(UserError, match=r"neither an ONNX file.*edgesynth export makes one of a network"):
        runner_for("net.pt")


def test_without_trtexec_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="/usr/src/tensorrt/bin"):
        trtexec.TrtexecRunner.open(request(tmp_path))


def test_a_trial_of_trtexec_measures_as_others_do(calls, tmp_path):
    from edge_bench.agent.trials import run_trial

    held = b"x" * (400 << 20)  # a trial's memory is not that of who started it
    wanted = {**request(tmp_path, trials=1, window=0.5), "root": str(tmp_path), "python": sys.executable}
    trial = run_trial({**wanted, "warmup_cap": 1.0}, 0, lambda text: None)
    assert trial["inferences"] == 250 and trial["runner"]["pipelined"] is True and trial["compute_ms"] == 1.5
    assert 100 << 20 < trial["peak_rss_bytes"] < len(held)


def test_a_trial_that_is_ended_takes_its_trtexec_with_it(calls, tmp_path):
    from edge_bench.agent.trials import TrialProcess

    def measuring():
        listed = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True).stdout
        return f"{tmp_path}/bin/trtexec --loadEngine={tmp_path}/net.engine --warmUp={trtexec.WARM_UP_MS} " in listed

    with TrialProcess({**request(tmp_path, window=0.5), "root": str(tmp_path)}, sys.executable) as trial:
        trial.next_event()
        wait_for(measuring)
    wait_for(lambda: not measuring(), 2.0)


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
