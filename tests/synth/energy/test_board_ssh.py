"""One whole run with the board in the loop over real ssh: trained, exported, built by the TensorRT double, benched by
the agent on a stand-in TX2 whose time and power follow a law that the cost model does not contain.

Also as a command, with more cycles than a test has time for:

    PYTHONPATH=tests/synth:tests/edge_bench .venv/bin/python tests/synth/energy/test_board_ssh.py OUT
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
sys.path.append(str(HERE.parent / "edge_bench"))
import board_process  # noqa: E402
import law_board  # noqa: E402
import ssh_server  # noqa: E402
import tiny_run  # noqa: E402
from agent_on_board import wait_for, write_net  # noqa: E402
from stand_in_rails import rails_following  # noqa: E402

from devices.board import resolve_target  # noqa: E402
from devices.support.errors import CannotMeasure, UserError  # noqa: E402
from edge_bench.connection import Connection  # noqa: E402
from synth.energy import boards  # noqa: E402

WHY_NOT = ssh_server.why_not()
if WHY_NOT and os.environ.get("EDGESYNTH_SSH_TESTS") == "required":
    raise RuntimeError(f"the ssh tests must run here: {WHY_NOT}")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")

# in reach on a machine that is many times slower than it should be
REQUIRED = ("accuracy >= 1 %", "img_per_joule >= 50 @ batch=8")
# trials and seconds: what is tested is the path, not the statistics
QUICK, FULL = {"trials": 1, "window": 1.5}, {"trials": 2, "window": 1.5}


def server_with_law(law=law_board.LAWS / "waves.py"):
    """The stand-in behind ssh, obeying a law: (server, its rails, which follow what the double tells in $LOAD_FILE)."""
    server = ssh_server.SshBoard(environment={"BOARD_LAW": "{home}/law.py", "LOAD_FILE": "{root}/load"})
    (server.board.home / "law.py").write_text(Path(law).read_text())
    idle_mw = int(law_board.board_law.load_law(str(law))["IDLE_MW"])
    rails = rails_following(server.board.root, server.board.root / "load", idle_mw=idle_mw)
    return server, rails


def hasty(quick, full):
    """`bench_model` with other protocols for quick and full measurements."""
    original = boards.bench_model

    @functools.wraps(original)
    def bench(*given, trials=None, window=None, **options):
        return original(*given, warmup_cap=1.0, **{**options, **(full if trials is None else quick)})

    return bench


def board_of(server, order):
    return boards.SshBoard("board", order.resolve_target(), order.precision, str(server.board.root))


@pytest.fixture(scope="module")
def server():
    found, rails = server_with_law()
    with rails:
        yield found
    found.close()


@pytest.fixture
def board(server, monkeypatch):
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    yield server
    Connection("board").close()


def test_a_run_measures_on_the_board_and_decides_on_it(board, tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "bench_model", hasty(QUICK, FULL))
    monkeypatch.setattr("synth.energy.choice.LEAST_GAIN", -1.0)  # though nothing is in doubt
    order = tiny_run.order()
    summary, _ = board_process.run(tmp_path / "run", [board_of(board, order)], requirements=REQUIRED, measure=1,
                                   cycles=1, ferminets=1)
    law = law_board.LawBoard()
    (row,) = summary.ferminets
    energy = next(judgement for judgement in row.judgements if judgement.requirement.startswith("img_per_joule"))
    assert energy.reading.provenance == "measured" and "tx2 (serial" in energy.reading.source
    latency_ms, energy_mj = law.truth(tmp_path / "run" / row.folder / "ferminet-a.onnx", 8)
    # the machine of the tests is busy, and sleeps longer than it was told
    assert 50 < energy.reading.value < 1.2 * 1e3 / energy_mj
    assert row.readings["latency@8"].value > 0.9 * latency_ms
    results = sorted((tmp_path / "run" / "board" / "results").glob("*.json"))
    measured = [json.loads(path.read_text()) for path in results]
    assert len(measured) == 5  # two chosen, the prototype, the final and one that might have been better
    assert all(one["readings"]["energy_mj"] for one in measured)
    assert {one["batch"] for one in measured} == {8}, summary.warnings
    assert {one["runner"]["name"] for one in measured} == {"tensorrt"}
    assert {one["preflight"]["mode"]["name"] for one in measured} == {"MAXN"}  # the target's, put back afterwards
    assert board.board.mode == "pmode:0003" and not board.board.locked
    state = json.loads((tmp_path / "run" / "board" / "state.json").read_text())["state"]
    assert (state["board"], state["l4t"], state["mode"]) == ("tx2", "32.7.1", "MAXN")


def test_cancelling_ends_the_job_on_the_board(board, tmp_path):
    one = board_of(board, tiny_run.order())
    job = boards.Job("net", write_net(tmp_path / "net-8.onnx"), 8, True, False)
    said: list[BaseException] = []

    def measure():
        try:
            one.measure(job, tmp_path / "results", print)
        except CannotMeasure as error:
            said.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    jobs = board.board.home / ".local/state/edgesynth/jobs"
    wait_for(lambda: any("warming up" in path.read_text() and '"event":"result"' not in path.read_text()
                         for path in jobs.glob("*/events.jsonl")), 90)
    one.cancel()
    thread.join(60)
    assert "was cancelled there" in str(said[0])
    assert board.board.mode == "pmode:0003" and not board.board.locked


def test_what_the_board_is_not_is_said_before_anything_begins(board, tmp_path):
    other = boards.SshBoard("board", resolve_target("nano"), "fp16", str(board.board.root))
    with pytest.raises(UserError, match="board is a tx2, and the networks are made for nano"):
        other.state(True)


if __name__ == "__main__":
    found, moving = server_with_law()
    os.environ["PATH"] = f"{found.bin}:{os.environ['PATH']}"
    with contextlib.ExitStack() as held:
        held.callback(found.close)
        held.enter_context(moving)
        boards.bench_model = hasty({"trials": 3, "window": 1.0}, {"trials": 5, "window": 2.0})
        from rich.console import Console

        from synth.progress import Progress
        from synth.report.table import console_table
        from synth.run.order import Order
        from synth.run.run import synthesise

        asked = Order(target="tx2", requirements=("accuracy >= 96 %", "img_per_joule >= 450 @ batch=8"), cycles=4,
                      measure=1, ferminets=2)
        Console(width=170).print(console_table(synthesise(
            asked, sys.argv[1], command="edgesynth synth --target tx2 --host board",
            boards=[board_of(found, asked)], progress=Progress())))
