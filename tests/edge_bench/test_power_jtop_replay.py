"""jtop in all its versions, recorded samples, and their replay."""

import gzip
import json
import types

import pytest

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent.power import find_source
from edge_bench.agent.power.jtop import Jtop, rails_of
from edge_bench.agent.power.replay import Replay
from edge_bench.agent.power.source import Absent, ReadFailed
from edge_bench.agent.samples import Samples, read_samples


def rail(power, avg=9999):
    return {"type": "I2C", "online": True, "volt": 5000, "curr": 1, "power": power, "avg": avg}


V3 = ({"cur": 4120, "avg": 3056}, {"VDD_IN": {"cur": 4120, "avg": 3056}, "VDD_SYS_GPU": {"cur": 229, "avg": 152}})
V4 = {"rail": {"VDD_SYS_GPU": rail(229), "VDD_SYS_SOC": rail(763)}, "tot": dict(rail(4120), name="VDD_IN")}
V4_AGX = {"rail": {"VDD_GPU_SOC": rail(2411), "VDD_CPU_CV": rail(401), "VIN_SYS_5V0": rail(3202),
                   "VDDQ_VDD2_1V8AO": rail(604)}, "tot": rail(6618)}


@pytest.mark.parametrize(("power", "expected"), [
    (V3, {"VDD_IN": 4120, "VDD_SYS_GPU": 229}), (V4, {"VDD_SYS_GPU": 229, "VDD_SYS_SOC": 763, "VDD_IN": 4120})])
def test_present_values_of_every_version_and_never_averages(power, expected):
    assert rails_of(power) == expected


class FakeJtop:
    def __init__(self, power, ok=True, refuses=None):
        self.power, self._ok, self.refuses, self.closed, self.interval = power, ok, refuses, False, 1.0

    def __call__(self, interval):
        self.asked = interval
        return self

    def start(self):
        if self.refuses:
            raise self.refuses

    def ok(self):
        return self._ok

    def close(self):
        self.closed = True


def jtop(*args, board="tx2", **kwargs):
    fake = FakeJtop(*args, **kwargs)
    return Jtop(board=board, module=types.SimpleNamespace(jtop=fake, __version__="4.3.2")), fake


def test_jtop_reads_back_the_interval_that_it_got():
    source, fake = jtop(V4)
    source.open()
    assert (fake.asked, source.refresh_s, source.where) == (0.5, 1.0, "jtop 4.3.2")
    sample = source.read()
    assert sample.total_mw == 4120
    assert source.totals == {"module": ["VDD_IN"]}
    source.close()
    source.close()
    assert fake.closed


def test_jtop_s_wrong_total_of_the_agx_orin_is_not_used():
    source, _ = jtop(V4_AGX, board="agx-orin")
    source.open()
    assert source.read().total_mw == 2411 + 401 + 3202


def test_jtop_that_cannot_serve():
    with pytest.raises(Absent, match=r"is jtop\.service running"):
        jtop(V4, refuses=RuntimeError("no socket"))[0].open()
    with pytest.raises(CannotMeasure, match="jtop has stopped"):
        jtop(V4, ok=False)[0].open()
    with pytest.raises(CannotMeasure, match="of a form that is not known"):
        jtop({"what": 1})[0].open()
    with pytest.raises(CannotMeasure, match="no power data"):
        jtop({"rail": {}, "tot": rail(5)}, board=None)[0].open()
    source, fake = jtop(V4)
    source.open()
    fake.power = {"rail": {}, "tot": {}}
    with pytest.raises(ReadFailed, match="gave no VDD_IN"):
        source.read()


def test_jtop_is_only_looked_for_when_named():
    try:
        import jtop as installed  # noqa: F401
    except ImportError:
        with pytest.raises(CannotMeasure, match="power source jtop: jetson-stats cannot be imported"):
            find_source("jtop")


# recordings

def recording(counter=False):
    samples = Samples({"name": "test", "scope": "module", "rails": ["VDD_IN", "VDD_GPU"], "counter": counter,
                       "totals": {"module": ["VDD_IN"]}, "quantum_mw": 38.0, "refresh_s": 0.4, "filter_s": 0.42}, 0.05)
    for i in range(200):
        samples.add(1000 + i * 0.05 + (i % 3) * 1e-5, 3000.0 + 38 * (i % 7), 250.0 * i if counter else None,
                    [3000.0 + 38 * (i % 7), None if i == 5 else 760.25])
    return samples


def kept(path, samples):
    path.write_bytes(gzip.compress(json.dumps({"samples": samples.to_json()}).encode()))


@pytest.mark.parametrize("counter", [False, True])
def test_samples_survive_their_file(tmp_path, counter):
    before = recording(counter)
    before.about = {"missed": 3}
    kept(tmp_path / "samples.gz", before)
    after = read_samples(tmp_path / "samples.gz")
    assert after.t_s == pytest.approx(before.t_s, abs=1e-6)
    assert (after.total_mw, after.rails, after.energy_mj) == (before.total_mw, before.rails, before.energy_mj)
    assert (after.source, after.about, after.quantum_mw, after.refresh_s) == (before.source, {"missed": 3}, 38.0, 0.4)
    assert after.to_json() == before.to_json()


def test_samples_inside_a_record_are_found(tmp_path):
    path = tmp_path / "record.gz"
    path.write_bytes(gzip.compress(json.dumps({"schema": "edgesynth.record/1",
                                               "power": {"samples": recording().to_json()}}).encode()))
    assert len(read_samples(path)) == 200


@pytest.mark.parametrize(("data", "reason"), [
    (b"\x1f\x8bdamaged", "damaged"), (b"{", "damaged"), (b"[]", "holds no power samples"), (b"\xff\xfe", "damaged"),
    (b'{"power": {"samples": null}}', "holds no power samples"), (b'{"power": {"samples": {}}}', "damaged"),
    (b'{"schema": "edgesynth.network/1"}', "holds no power samples")])
def test_damaged_recordings_are_refused(tmp_path, data, reason):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=reason):
        read_samples(tmp_path / "file")


def test_columns_of_different_lengths_are_refused():
    value = recording().to_json()
    value["total_mw"] = value["total_mw"][:-1]
    with pytest.raises(UserError, match="different lengths"):
        Samples.from_json(value)


def test_replay_plays_in_time_and_begins_anew(tmp_path):
    kept(tmp_path / "samples.gz", recording(counter=True))
    now = [50.0]
    source = Replay(str(tmp_path / "samples.gz"), clock=lambda: now[0])
    source.open()
    assert source.read().total_mw == 3000
    now[0] += 0.30001 + 2e-5
    sample = source.read()
    assert (sample.t_s, sample.total_mw, sample.energy_mj) == (now[0], 3000 + 38 * 6, 1500)
    now[0] = 50.0 + 10.0 + 0.06
    assert source.read().energy_mj == 250 * 199 + 250


def test_replay_is_named_with_its_file(tmp_path):
    with pytest.raises(UserError, match="replay of what"):
        find_source("replay")
    with pytest.raises(UserError, match="no such file"):
        find_source(f"replay:{tmp_path}/none")
    with pytest.raises(UserError, match="unknown power source 'tegra'"):
        find_source("tegra")
