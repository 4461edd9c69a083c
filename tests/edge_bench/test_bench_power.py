"""`bench --power` as a whole: a stand-in board whose power follows the load, and every way in which there is none."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys

import pytest
from agent_on_board import write_net
from bench_samples import write_model

from devices.support.errors import CannotMeasure
from edge_bench.agent import evaluate, result, store
from edge_bench.agent.power import find_source


def test_energy_of_an_image_comes_from_the_total_rail(agent, tmp_path):
    agent.board.add_tegrastats()
    request = agent.request(write_net(tmp_path / "net.onnx", ms=2.0), trials=3, window=3.0, batch=2, power=True,
                            layers=True)
    end = agent.call("bench", request)[-1]
    assert end["event"] == "result", end.get("message")
    found = result.check(end["result"])
    assert found["power"]["source"]["name"] == "tegrastats" and found["power"]["total_name"] == "VDD_IN"
    power, throughput = found["readings"]["power_mw"]["value"], found["readings"]["throughput_img_s"]["value"]
    assert power == pytest.approx(6000, rel=0.05) and found["power"]["idle_mw"] == pytest.approx(2500, rel=0.05)
    energy = found["readings"]["energy_mj"]
    assert energy["value"] == pytest.approx(power / throughput, rel=0.02)
    assert energy["scope"] == "module" and energy["low"] < energy["value"] < energy["high"]
    assert found["readings"]["img_per_joule"]["value"] == pytest.approx(1000 / energy["value"])
    above = found["readings"]["energy_above_idle_mj"]["value"]
    assert above == pytest.approx(energy["value"] * 3500 / 6000, rel=0.1)
    assert found["power"]["shares"]["VDD_SYS_GPU"] == pytest.approx(1 / 3, rel=0.05)
    assert sum(found["power"]["shares"].values()) == pytest.approx(1)
    assert found["power"]["sampler"]["apart"] is (found["power"]["sampler"]["core"] is not None)
    layers = {layer["name"]: layer["attributed_mj"] for layer in found["layers"]}
    assert layers["conv1"] == pytest.approx(3 * layers["fc"]) and sum(layers.values()) == pytest.approx(energy["value"])
    text = result.to_text(found)
    assert "mJ/image" in text and "module; carrier excluded" in text and "above idle" in text
    assert not any("--stop" in call for call in agent.board.calls)
    record = store.unpack(base64.b64decode(end["record"]))
    assert json.loads(json.dumps(evaluate.evaluate(record))) == end["result"]
    assert len(end["record"]) < 100_000


def test_a_rail_that_does_not_move_is_an_error_and_never_zero(agent, tmp_path):
    agent.board.add_tegrastats(idle_mw=2500, busy_mw=2500)
    end = agent.call("bench", agent.request(write_net(tmp_path / "net.onnx"), window=2.5, power=True))[-1]
    assert end["event"] == "error" and end["exit_code"] == 3 and "did not move" in end["message"]


def test_a_window_with_too_few_samples_is_an_error_before_the_first_trial(agent, tmp_path):
    agent.board.add_tegrastats()
    events = agent.call("bench", agent.request(write_net(tmp_path / "net.onnx"), window=2.0, power=True))
    end = events[-1]
    assert end["event"] == "error" and end["exit_code"] == 3 and "power samples" in end["message"]
    assert "measure with --window 2.1 or more" in end["message"]
    assert not any("idle power" in event.get("text", "") for event in events)


def test_a_quick_look_at_a_slow_source_is_as_long_as_it_needs(agent, tmp_path):
    agent.board.add_tegrastats()
    request = agent.request(write_net(tmp_path / "net.onnx"), window=None, trials=1, quick=True, power=True)
    end = agent.call("bench", request)[-1]
    assert end["event"] == "result", end.get("message")
    assert end["result"]["protocol"]["window"] == 2.1 and "quick" in end["result"]["marks"]
    assert end["result"]["trials"][0]["power_samples"] >= 20


def test_a_sensor_that_ends_in_the_middle_stops_the_trials_and_says_why(agent, tmp_path):
    agent.board.add_tegrastats()
    program = agent.board.bin / "tegrastats"
    program.write_text(program.read_text().replace("count += 1\n", "count += 1\n    if count > 70: sys.exit(7)\n"))
    events = agent.call("bench", agent.request(write_net(tmp_path / "net.onnx"), trials=5, window=2.5, power=True))
    end = events[-1]
    assert end["event"] == "error" and end["exit_code"] == 3
    assert "tegrastats has gone (it ended (exit code 7))" in end["message"]
    assert not any(event.get("text", "").startswith("trial 5/5") for event in events)


def test_power_alone_and_what_it_recorded_played_again(agent, tmp_path):
    agent.board.add_tegrastats()
    found = agent.result("samples", {"root": str(agent.board.root), "seconds": 1.0})
    assert found["total_name"] == "VDD_IN" and found["mean_mw"] == pytest.approx(2500, rel=0.05)
    (tmp_path / "samples.json").write_text(json.dumps(found))
    with find_source(f"replay:{tmp_path}/samples.json") as source:
        assert source.where.endswith("(tegrastats)") and source.read().total_mw == pytest.approx(2500, rel=0.05)


def test_without_a_source_the_command_says_what_was_looked_for(tmp_path):
    with contextlib.suppress(CannotMeasure):
        find_source(runs_on="cpu").close()
        pytest.skip("this machine has a power source")
    write_model(tmp_path / "net.onnx")
    done = subprocess.run([sys.executable, "-m", "edgesynth", "bench", "net.onnx", "--power"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 3 and not (tmp_path / "results").exists()
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgesynth: no power source") and all(
        name in last for name in ("ina3221", "tegrastats", "nvml", "rapl"))
