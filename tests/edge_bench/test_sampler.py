"""The sampler: deadlines, its child process in every Python that is here, and every way in which it can end."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_on_board import pythons, wait_for

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent import cores, energy, runners, sampler
from edge_bench.agent.power.source import PowerSource, ReadFailed, Sample
from edge_bench.agent.sampler import Sampler
from edge_bench.agent.sensor import find_refresh, quantum_of, refresh_of
from edge_bench.agent.spawn import agent_command


@pytest.fixture
def board(tmp_path):
    """A /sys tree with the monitor of a TX2; returns its root."""
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
    folder.mkdir(parents=True)
    for channel, (name, power) in enumerate((("VDD_IN", 3040), ("VDD_SYS_CPU", 304), ("VDD_SYS_DDR", 912))):
        (folder / f"rail_name_{channel}").write_text(name + "\n")
        (folder / f"in_power{channel}_input").write_text(f"{power:05d}\n")
    return tmp_path


def set_power(board, power_mw):
    path = board / "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power0_input"
    with path.open("r+") as stream:
        stream.write(f"{power_mw:05d}")


@pytest.fixture(autouse=True)
def short_look(monkeypatch):
    monkeypatch.setattr(sampler, "STOP_S", 2.0)


@pytest.mark.parametrize("version", pythons())
def test_samples_of_a_child_in_every_python(board, version):
    with Sampler(root=str(board), board="tx2", interval_s=0.02, python=pythons()[version]) as running:
        start = time.monotonic()
        set_power(board, 5016)
        wait_for(lambda: len(running.samples) > 60)
        samples = running.stop()
    assert samples.source["name"] == "ina3221"
    assert samples.total_mw[-1] == 5016
    assert samples.rails["VDD_SYS_DDR"][-1] == 912
    assert samples.quantum_mw == 38
    assert samples.about["failed"] == 0
    assert samples.about["cpu_share"] > 0
    assert samples.about["peak_rss_bytes"] < 40e6
    steps = [b - a for a, b in zip(samples.t_s, samples.t_s[1:], strict=False)]
    assert min(steps) > 0
    assert sorted(steps)[len(steps) // 2] == pytest.approx(0.02, rel=0.25)
    # the clock is that of this process
    assert samples.t_s[0] - 5 < start < samples.t_s[-1]
    window = energy.window(samples, samples.t_s[-40], samples.t_s[-2])
    assert window.mean_mw == pytest.approx(5016, rel=0.2)


@pytest.mark.skipif(len(cores.allowed()) < 2, reason="this machine has one core")
def test_it_keeps_to_one_core_and_a_trial_leaves_it(board):
    with Sampler(root=str(board), board="tx2") as running:
        assert running.core == cores.allowed()[-1]  # where it began; on a busy machine it may have left meanwhile
        assert len(cores.allowed()) > 1             # this process is as it was
    program = ("import os, sys; from edge_bench.agent import cores; core = int(sys.argv[1]); before = cores.allowed()\n"
               "assert cores.leave(core) and cores.allowed() == [each for each in before if each != core]\n"
               "os.sched_setaffinity(0, before); now = cores.Settled(); assert cores.allowed() == [now.core]\n"
               "now.leave(); assert now.core is None and cores.allowed() == before\n"
               "os.sched_setaffinity(0, {core}); assert cores.Settled().core is None and not cores.leave(core)")
    done = subprocess.run([sys.executable, "-c", program, str(running.core)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("request_, spares", [
    ({"runner": "tensorrt"}, True), ({"runner": "trtexec", "threads": 2}, True), ({"runner": "onnxruntime"}, False),
    ({"runner": "onnxruntime", "threads": 1}, True), ({"runner": "onnxruntime", "threads": 4}, False)])
def test_inference_leaves_a_core_only_where_it_does_not_need_it(monkeypatch, request_, spares):
    monkeypatch.setattr(cores, "allowed", lambda: [0, 1, 4, 5])
    assert runners.spares_a_core(request_) is spares


def test_stop_twice_gives_the_same(board):
    with Sampler(root=str(board), board="tx2") as running:
        assert running.stop() is running.stop()


def test_sigterm_ends_it_cleanly(board):
    words = json.dumps({"root": str(board), "board": "tx2", "interval_s": 0.02})
    child = subprocess.Popen(agent_command("_sample", words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [child.stdout.readline() for _ in range(3)]
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=10)
    assert (child.returncode, errors) == (0, b"")
    assert json.loads(lines[0])["event"] == "source"
    end = json.loads(output.splitlines()[-1])
    assert end["event"] == "end"
    assert set(end) >= {"missed", "failed", "failure", "cpu_share", "seconds", "peak_rss_bytes"}


def test_it_ends_when_its_agent_is_killed(board):
    """An agent that is killed with -9 closes nothing in order; the child sees its standard input end."""
    running = Sampler(root=str(board), board="tx2").start()
    os.close(os.dup(running.process.stdin.fileno()))
    running.process.stdin.close()
    assert running.process.wait(timeout=10) == 0
    wait_for(lambda: running._end is not None)


def test_a_reader_that_went_away_ends_it_without_a_word(board):
    words = json.dumps({"root": str(board), "board": "tx2", "interval_s": 0.02})
    child = subprocess.Popen(agent_command("_sample", words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(timeout=10) == 0
    assert child.stderr.read() == b""
    child.stderr.close()


def test_a_child_that_is_killed_is_an_error(board):
    with Sampler(root=str(board), board="tx2") as running:
        running.process.kill()
        running.process.wait()
        with pytest.raises(CannotMeasure, match="the power sampler died before its end"):
            running.stop()


def test_no_source_is_said_in_the_agent(tmp_path):
    running = Sampler(root=str(tmp_path))
    with pytest.raises(CannotMeasure, match=r"no power source .ina3221: no INA3221 monitor"):
        running.start()
    with pytest.raises(UserError, match="unknown power source 'watts'"):
        Sampler("watts", root=str(tmp_path)).start()


def test_a_paced_source_gives_the_interval(tmp_path):
    path = tmp_path / "usr/bin/tegrastats"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\necho $$ > $0.pid\nwhile true; do echo 'RAM 1/2MB CPU [1%@345] VDD_IN 3040/1'; "
                    "sleep 0.1; done\n")
    path.chmod(0o755)
    with Sampler("tegrastats", root=str(tmp_path), board="tx2") as running:
        wait_for(lambda: len(running.samples) > 5)
        samples = running.stop()
    assert samples.interval_s == 0.1
    assert set(samples.total_mw) == {3040}
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path(f"{path}.pid").read_text()), 0)


# the loop, in pretended time

class Slow(PowerSource):
    """A source whose readings take as long as `takes` says."""

    name = "slow"

    def __init__(self, takes, clock):
        super().__init__(clock=clock)
        self.takes, self.rails, self.totals = list(takes), ["A"], {"module": ["A"]}

    def read(self):
        duration = self.takes.pop(0)
        self.clock.now += abs(duration)
        if duration < 0:
            raise ReadFailed("not now")
        return Sample(self.clock.now - duration / 2, {"A": 5}, 5, None)


class Time:
    now = 10.0

    def __call__(self):
        return self.now


class Stop:
    """Stops when the source has no more readings; sleeping moves the time."""

    def __init__(self, source, clock):
        self.source, self.clock, self.slept = source, clock, []

    def wait(self, seconds):
        self.slept.append(round(seconds, 6))
        self.clock.now += seconds
        return not self.source.takes


def run(takes, interval_s=0.05, late=lambda: None, paced=False):
    clock = Time()
    source = Slow(takes, clock)
    source.paced = paced
    stream, stop = io.StringIO(), Stop(source, clock)
    counts = sampler.sample(source, interval_s, stream, stop, clock, late)
    return [json.loads(line) for line in stream.getvalue().splitlines()], counts, stop.slept


def test_deadlines_are_absolute():
    rows, counts, slept = run([0.01, 0.03, 0.002, 0.01])
    assert slept == [0.04, 0.02, 0.048, 0.04]
    assert [row[0] for row in rows] == pytest.approx([10.005, 10.065, 10.101, 10.155])  # mid-read
    assert counts == {"missed": 0, "failed": 0, "failure": None}


def test_a_core_that_is_busy_with_others_is_left():
    told = []
    run([0.01, 0.07, 0.01], late=lambda: told.append("left"))  # one deadline passed: a slow reading
    assert told == []
    run([0.01, 0.12, 0.01], late=lambda: told.append("left"))
    assert told == ["left"]


def test_missed_deadlines_are_counted_and_the_others_stay_where_they_were():
    rows, counts, slept = run([0.01, 0.12, 0.01, 0.01])
    assert counts["missed"] == 2
    assert slept == [0.04, 0.03, 0.04, 0.04]
    assert [row[0] for row in rows] == pytest.approx([10.005, 10.11, 10.205, 10.255])


def test_failed_readings_are_counted_with_the_last_reason():
    rows, counts, _ = run([0.01, -0.01, -0.01, 0.01])
    assert len(rows) == 2
    assert (counts["failed"], counts["failure"]) == (2, "not now")


def test_a_paced_source_that_fails_is_asked_again_after_its_interval():
    _, counts, slept = run([0.05, -0.001, -0.001, 0.05], paced=True)
    assert slept == [0, 0.05, 0.05, 0] and counts["failed"] == 2


@pytest.mark.parametrize("paced", [False, True])
def test_a_source_that_fails_on_and_on_has_gone(paced):
    assert run([0.01] + [-0.001] * 40 + [0.01] + [-0.001] * 40, paced=paced)[1]["failed"] == 80
    with pytest.raises(CannotMeasure, match=r"the power source slow has gone \(not now\)"):
        run([0.01] + [-0.001] * 70, paced=paced)


# the sensor

def test_the_refresh_of_a_value_is_found():
    clock = Time()

    def read():
        clock.now += 0.001
        return int((clock.now - 10) / 0.042)

    refresh_s, read_s = find_refresh(read, clock)
    assert refresh_s == pytest.approx(0.042, abs=0.001)
    assert read_s == pytest.approx(0.001)


def test_a_steady_value_shows_no_refresh():
    clock = Time()

    def read():
        clock.now += 0.001
        return 7

    assert find_refresh(read, clock)[0] is None
    assert refresh_of([1.0, 2.0]) is None


@pytest.mark.parametrize(("values", "expected"), [
    ([38 * k for k in (131, 132, 131, 133, 130, 131)], 38),
    ([38 * k for k in (131, 131, 132, 131)] + [38 * 60] * 3, 38),  # idle is no step
    ([1649 + k for k in (0, 3, 2, 7, 2, 9, 4)], 1), ([5000.0] * 9, None), ([], None), ([None, 5.0], None)])
def test_the_quantum_is_the_step_of_the_sensor(values, expected):
    assert quantum_of(values) == expected


def test_the_quantum_is_found_though_the_voltage_moves():
    values = [round((19000 + 8 * (i // 4 % 3)) * 2 * (131 + i * i % 5) / 1000, 3) for i in range(200)]
    assert quantum_of(values) == pytest.approx(38, rel=0.02)
