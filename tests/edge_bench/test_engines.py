"""Engines as the agent builds and keeps them on a stand-in board: batches, side-cars, caches, failures."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from agent_on_board import AgentOnBoard, wait_for, write_net
from onnx import TensorProto, helper
from stand_in_board import StandInBoard

from devices.support.errors import CannotMeasure
from edge_bench.agent import engines, lock, measure, onnx_words


@pytest.fixture
def agent(pyz, tmp_path):
    return AgentOnBoard(pyz, StandInBoard(tmp_path / "board"))


def exported(path: Path, batch=(1, 4, 16), precision="fp16", by="builder", kind="Relu") -> Path:
    """A real ONNX file with the words that edgesynth's export writes into it."""
    size = "batch" if batch[0] != batch[2] else batch[0]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], "the_node")], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    words = {"batch": dict(zip(("min", "opt", "max"), batch, strict=True)), "precision": precision, "precision_by": by}
    for name, value in words.items():
        model.metadata_props.add(key=f"edgesynth.{name}", value=json.dumps(value))
    path.write_bytes(model.SerializeToString())
    return path


def build(agent, model, **given):
    """The events of a build, and its end."""
    events = agent.call("build", {"model": str(model), "root": str(agent.board.root), **given})
    agent.call("jobs", {"acknowledge": events[0]["id"]})  # else the same request is answered with this very result
    return [event["text"] for event in events if event["event"] == "progress"], events[-1]


def test_an_engine_serves_every_batch_of_its_file(agent, tmp_path):
    model = exported(tmp_path / "net.onnx")
    made = build(agent, model)[1]["result"]
    shape = [3, 8, 8]
    assert made["sidecar"]["profile"] == {"x": [[1, *shape], [4, *shape], [16, *shape]]}
    assert all(build(agent, model, batch=batch)[1]["result"]["cached"] for batch in (1, 9, 16))
    found = agent.result("bench", agent.request(model, batch=9, window=0.2))
    assert found["batch"] == 9 and found["runner"]["inputs"][0]["shape"] == [9, 3, 8, 8]
    assert len(list(Path(made["engine"]).parent.glob("*.engine"))) == 1
    end = build(agent, model, batch=17)[1]
    assert (end["exit_code"], end["kind"]) == (2, "UserError")
    assert "exported for batch 1 to 16, not 17: export it with --batch 1:4:17" in end["message"]


def test_the_sidecar_says_of_what_where_and_how_it_was_built(agent, tmp_path):
    agent.board.write("proc/meminfo", "MemTotal:        8040872 kB\nMemFree: 1 kB\n")
    model = exported(tmp_path / "net.onnx")
    made = agent.result("build", {"model": str(model), "root": str(agent.board.root)})
    said = json.loads(Path(made["engine"] + ".json").read_text())
    assert said == made["sidecar"] and said["schema"] == "edgesynth.engine/1"
    known = {"onnx": "net.onnx", "board": "tx2", "l4t": "32.7.1", "tensorrt": "8.2.1.8", "precision": "fp16",
             "mode": "MAXP_CORE_ARM", "batch": 4, "batches": [1, 4, 16], "device": "sm_62", "builder": "tensorrt",
             "workspace_bytes": 981 << 20, "timings_reused": False, "layers_note": None}
    assert {name: said[name] for name in known} == known
    assert said["layers"] == [{"name": "the_node", "type": "Relu", "format": "Channel major FP16 format",
                               "tactic": "maxwell_fp16_128x64_relu_small_nn_v1"}]
    assert said["onnx_sha256"] and said["engine_sha256"] and said["build_s"] >= 0


def test_timings_are_kept_for_the_device_its_version_and_its_power_mode(agent, tmp_path):
    def reused(name):
        model = exported(tmp_path / name, batch=(1, 1, 1))
        model.write_bytes(model.read_bytes() + b"\x1a" + bytes([len(name)]) + name.encode())  # another domain
        return build(agent, model)[1]["result"]["sidecar"]["timings_reused"]

    assert [reused("a.onnx"), reused("b.onnx")] == [False, True]
    agent.board.write("var/lib/nvpmodel/status", "pmode:0000")
    assert [reused("a.onnx"), reused("c.onnx")] == [False, True]  # other clocks, other tactics: also another engine
    for cache in (agent.board.home / "state/edgesynth/engines").glob("timings-*.cache"):
        cache.write_bytes(b"damaged")
    assert [reused("d.onnx"), reused("e.onnx")] == [False, True]


@pytest.mark.parametrize("version, layers", [("8.0.1", None), ("8.6.1", 1), ("10.3.0", 1), ("11.4.0.106", 1)])
def test_what_a_version_lacks_is_left_out_and_said(agent, tmp_path, version, layers):
    agent.environment["TENSORRT_DOUBLE"] = version
    agent.board.write("var/lib/dpkg/status", "")
    by = "graph" if version.startswith("11") else "builder"
    model = exported(tmp_path / "net.onnx", by=by)
    said = agent.result("build", {"model": str(model), "root": str(agent.board.root)})["sidecar"]
    assert said["tensorrt"] == version and said["precision"] == "fp16"
    assert (said["layers_note"] == f"TensorRT {version} has no inspector") if layers is None else (
        len(said["layers"]) == layers)


def test_a_long_build_says_that_it_goes_on(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "BEAT_S", 0.1)
    for name, value in {**agent.environment, "TENSORRT_DOUBLE": "10.3.0"}.items():
        monkeypatch.setenv(name, value)
    said = []
    engines.build({"model": str(write_net(tmp_path / "net.onnx", build_s=1.0)), "root": str(agent.board.root),
                   "runner": "tensorrt", "board_python": agent.python}, said.append)
    beats = [text for text in said if text.startswith("building the engine, ")]
    assert len(beats) >= 3 and any("Building engine, 1 of 2" in text for text in beats), said


def test_who_asks_for_an_engine_that_is_being_built_waits_for_it(agent, tmp_path, monkeypatch):
    for name, value in agent.environment.items():
        monkeypatch.setenv(name, value)
    request = {"model": str(write_net(tmp_path / "net.onnx", build_s=0.5)), "root": str(agent.board.root),
               "runner": "tensorrt", "board_python": agent.python}
    said = [[], []]
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda words: engines.build(dict(request), words.append), said)
    assert first["engine"] == second["engine"] and [first["cached"], second["cached"]].count(True) == 1
    waited, = [words for words in said if "the same engine is being built already: waiting for it" in words]
    assert waited[-1] == "engine from the cache"


def test_the_engines_used_last_stay(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "KEEP", 2)
    for name, value in agent.environment.items():
        monkeypatch.setenv(name, value)

    def made(name, ms, age_s):
        found = engines.build({"model": str(write_net(tmp_path / name, ms=ms)), "root": str(agent.board.root),
                               "runner": "tensorrt", "board_python": agent.python})
        for path in folder.glob(Path(found["engine"]).stem + ".*") if age_s else ():
            os.utime(path, (time.time() - age_s,) * 2)
        return Path(found["engine"]), found["cached"]

    folder = agent.board.home / "state/edgesynth/engines"
    first, second = made("a.onnx", 1.0, 30)[0], made("b.onnx", 2.0, 20)[0]
    assert made("a.onnx", 1.0, 0) == (first, True)  # used again
    third = made("c.onnx", 3.0, 0)[0]
    assert {path.stem for path in folder.glob("*.engine")} == {first.stem, third.stem}
    assert not list(folder.glob(second.stem + ".*")) and list(folder.glob("timings-*"))
    assert made("a.onnx", 1.0, 0)[1] is True


def test_an_engine_that_a_person_had_built_stays(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "KEEP", 1)
    for name, value in agent.environment.items():
        monkeypatch.setenv(name, value)
    request = {"root": str(agent.board.root), "runner": "tensorrt", "board_python": agent.python}
    mine, *others = [make({**request, "model": str(write_net(tmp_path / f"{ms}.onnx", ms=ms))})["engine"]
                     for make, ms in ((measure.build_engine, 1.0), (engines.build, 2.0), (engines.build, 3.0))]
    assert [os.path.exists(path) for path in (mine, *others)] == [True, False, True]


def test_the_version_is_that_of_the_python_that_builds_and_not_of_the_packages(agent, tmp_path):
    model = exported(tmp_path / "net.onnx")
    for version in ("8.6.1", "10.3.0"):  # the package list says 8.2.1 all along
        agent.environment["TENSORRT_DOUBLE"] = version
        made = build(agent, model)[1]["result"]
        assert (made["cached"], made["sidecar"]["tensorrt"]) == (False, version)
    found = agent.result("bench", agent.request(model, window=0.2))
    assert found["runner"]["version"] == "10.3.0" and build(agent, model)[1]["result"]["cached"]


def test_an_engine_that_is_not_what_was_built_is_built_anew(agent, tmp_path):
    model = write_net(tmp_path / "net.onnx")
    engine = Path(build(agent, model)[1]["result"]["engine"])
    whole, beside = engine.read_bytes(), Path(f"{engine}.json")
    said = json.loads(beside.read_text())
    for path, spoiled in ((engine, whole[:100]), (engine, b""), (beside, b"{"),
                          (beside, json.dumps({**said, "tensorrt": "8.0.1"}).encode())):
        path.write_bytes(spoiled)
        assert build(agent, model)[1]["result"]["cached"] is False
        assert engine.read_bytes() == whole and build(agent, model)[1]["result"]["cached"] is True


def test_a_builder_that_fails_gives_its_errors_and_leaves_its_log(agent, tmp_path):
    end = build(agent, write_net(tmp_path / "net.onnx", unbuildable=True))[1]
    assert (end["exit_code"], end["kind"]) == (3, "CannotMeasure")
    assert "4: no implementation for a node; 2: Assertion enginePtr" in end["message"] and "\n" not in end["message"]
    log = Path(end["message"].rpartition(" is in ")[2])
    assert "[INTERNAL_ERROR] 4: no implementation" in log.read_text() and "[INFO]" in log.read_text()
    assert not [path for path in log.parent.iterdir() if "engine" in path.name]


def test_a_builder_that_crashes_is_a_sentence_too(agent, tmp_path):
    end = build(agent, write_net(tmp_path / "net.onnx", crash=True))[1]
    assert end["exit_code"] == 3 and "failed with exit code -6" in end["message"]


def test_a_build_and_a_measurement_never_run_at_once(agent, tmp_path):
    model, root = write_net(tmp_path / "net.onnx", build_s=60), str(agent.board.root)
    with lock.board_lock(root, "the measurement of other.onnx"):
        end = build(agent, model, wait=0)[1]
        assert end["exit_code"] == 3 and "the board is busy: the measurement of other.onnx" in end["message"]
        # without a job, as `export --engine` on the board itself
        with pytest.raises(CannotMeasure, match=r"the board is busy"):
            measure.build_engine({"model": str(model), "root": root, "wait": 0})
    process = agent.start("build", {"model": str(model), "root": root})
    identity = json.loads(process.stdout.readline())["id"]
    # it takes the lock, then says what for
    assert wait_for(lambda: (lock.holder(root) or {}).get("what") == "the build of net.onnx")
    agent.call("cancel", {"id": identity})
    process.stdout.read()
    process.wait()


def test_a_cancelled_build_ends_its_builder(agent, tmp_path):
    process = agent.start("build", {"model": str(write_net(tmp_path / "net.onnx", build_s=60)),
                                    "root": str(agent.board.root)})
    job = json.loads(process.stdout.readline())["id"]
    log = agent.board.home / "state/edgesynth/engines"
    wait_for(lambda: any("Graph optimization" in path.read_text() for path in log.glob("*.log")))
    agent.call("cancel", {"id": job})
    assert json.loads(process.stdout.read().splitlines()[-1])["event"] == "cancelled"
    assert not [path for path in log.iterdir() if "engine" in path.name]
    listed = subprocess.run(["ps", "-e", "-o", "args="], capture_output=True, text=True).stdout
    assert f"{agent.pyz} _build" not in listed


def test_int8_is_what_the_file_says(agent, tmp_path):
    """A quantised file is built with INT8 without being asked; the TX2 refuses it with the reason."""
    end = build(agent, exported(tmp_path / "net.onnx", precision="int8", by="graph", kind="QuantizeLinear"))[1]
    assert end["exit_code"] == 2 and "has no INT8: its GPU" in end["message"]


@pytest.mark.parametrize("board, version, told", [
    ("TX2", "8.2.1", None), ("Orin NX", "8.5.2", "int8"), ("Orin NX", "10.3.0", "int8"),
    ("Orin NX", "11.4.0.106", "int8")])
def test_a_quantised_file_of_somebody_else_is_built_as_one(agent, tmp_path, board, version, told):
    """Up to TensorRT 10 a builder that is not told INT8 refuses such a file; from 11 on it has no flag for it."""
    model = exported(tmp_path / "net.onnx", kind="QuantizeLinear")
    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, model)
    agent.environment.update(TENSORRT_DOUBLE=version, TENSORRT_DOUBLE_INT8="1")
    agent.board.write("proc/device-tree/model", f"NVIDIA {board} Developer Kit\0")
    end = build(agent, model, batch=1)[1]
    if told is None:
        assert end["exit_code"] == 2 and "Jetson TX2 has no INT8: its GPU" in end["message"]
    else:
        assert end["result"]["sidecar"]["precision"] == told


def test_words_of_a_file_are_read_without_onnx(tmp_path):
    path = exported(tmp_path / "net.onnx")
    assert onnx_words.inputs(str(path)) == {"x": [None, 3, 8, 8]}
    assert onnx_words.metadata(str(path)) == {"batch": {"min": 1, "opt": 4, "max": 16}, "precision": "fp16",
                                              "precision_by": "builder"}
    assert onnx_words.opset(str(path)) == 13
    whole = path.read_bytes()
    for end in range(len(whole)):  # torn anywhere: quiet
        path.write_bytes(whole[:end])
        assert isinstance(onnx_words.inputs(str(path)), dict) and isinstance(onnx_words.metadata(str(path)), dict)
        assert onnx_words.external_weights(str(path)) == [] and onnx_words.opset(str(path)) in (None, 13)
