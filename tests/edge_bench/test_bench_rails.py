"""`bench --power` as a whole on INA3221 rails that follow the load, of both drivers."""

from __future__ import annotations

import pytest
from agent_on_board import AgentOnBoard, write_net
from stand_in_board import StandInBoard
from stand_in_rails import ORIN_NX, TX2, rails_following

from edge_bench.agent import result


@pytest.mark.parametrize(("driver", "rails", "model"), [
    ("iio", TX2, "NVIDIA Jetson TX2 Developer Kit"), ("hwmon", ORIN_NX, "NVIDIA Orin NX Developer Kit")])
def test_the_rails_are_found_first_and_give_the_energy_of_an_image(pyz, tmp_path, driver, rails, model):
    board = StandInBoard(tmp_path)
    board.write("proc/device-tree/model", model)
    board.add_tegrastats(idle_mw=1, busy_mw=2)  # there, and not to be used
    agent = AgentOnBoard(pyz, board)
    with rails_following(board.root, board.root / "load", rails, driver):
        request = agent.request(write_net(tmp_path / "net.onnx", ms=2.0), trials=2, window=2.0, power=True)
        end = agent.call("bench", request)[-1]
    assert end["event"] == "result", end.get("message")
    found = result.check(end["result"])
    power, readings = found["power"], found["readings"]
    assert (power["source"]["name"], power["total_name"]) == ("ina3221", "VDD_IN")
    assert power["idle_mw"] == pytest.approx(2500, rel=0.03)
    assert readings["power_mw"]["value"] == pytest.approx(6000, rel=0.03)
    energy = readings["energy_mj"]
    # throughput is a median of its own, and the machine of the tests is busy
    assert energy["value"] == pytest.approx(6000 / readings["throughput_img_s"]["value"], rel=0.1)
    assert (energy["scope"], energy["provenance"]) == ("module", "measured")
    assert power["quantum_mw"] == pytest.approx(38, rel=0.1)
    assert power["sampler"]["failed"] == 0
    assert not any(call.startswith("tegrastats") for call in board.calls)
    if driver == "iio":
        assert power["source"]["totals"]["board"] == ["VDD_IN", "VDD_MUX"]
        assert readings["energy_board_mj"]["value"] == pytest.approx(1.25 * energy["value"], rel=0.03)
