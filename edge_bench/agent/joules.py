"""Energy in a measurement: the sampler around the trials, and the energy of an image in the result."""
import math
import time

from devices.support.errors import CannotMeasure, UserError
from devices.support.reading import MEASURED, Reading
from edge_bench.agent import energy, statistics, trials
from edge_bench.agent.identity import identify
from edge_bench.agent.sampler import Sampler
from edge_bench.agent.samples import Samples

IDLE_S, IDLE_SAMPLES = 5.0, 30


class PowerSession(object):
    """Samples power from before the idle window until after the last trial.

        with PowerSession(source, root, runs_on) as power:
            power.measure_idle(); ...trials...; record = power.finish()
    """

    def __init__(self, source=None, root="/", runs_on=None):
        self.sampler = Sampler(source, root, runs_on=runs_on)
        self.idle = None

    def __enter__(self):
        self.sampler.start()
        return self

    def __exit__(self, *_):
        self.sampler.__exit__()

    @property
    def quantum_mw(self):
        return self.sampler.quantum_mw

    @property
    def core(self):
        return self.sampler.core

    @property
    def step_s(self):
        """The time between two samples that tell something new: that in which a counter moves, where it is slow."""
        samples = self.sampler.samples
        return samples.interval_s if samples.energy_mj is None else max(samples.interval_s, samples.refresh_s or 0.0)

    def check(self):
        """Raise when no more samples come."""
        self.sampler.check()

    def fit_windows(self, requests, progress):
        """Make the windows of the requests long enough for this source; CannotMeasure where the user chose the window.

        So that a shortage of samples is known before the first trial and not after the last.
        """
        least_s = math.ceil(round(10 * (energy.LEAST_SAMPLES + 1) * self.step_s, 6)) / 10
        for request in requests:
            if request["window"] >= least_s:
                continue
            if request["window_chosen"]:
                raise CannotMeasure("a window of {:g} s holds too few power samples, of which {} gives one in {:.2g} "
                                    "s: measure with --window {:g} or more".format(
                                        request["window"], self.sampler.samples.source["name"], self.step_s, least_s))
            progress("windows of {:g} s, for {} power samples".format(least_s, energy.LEAST_SAMPLES))
            request["window"] = least_s

    def measure_idle(self):
        """Let the board rest, for what it draws without load; as long as the source needs for enough samples."""
        time.sleep(2 * self.step_s)  # the window needs a sample before its beginning
        self.idle = trials.idle(max(IDLE_S, IDLE_SAMPLES * self.step_s))

    def mean_power_mw(self, start_s, end_s):
        """Mean of the samples between two moments, for the steadiness of a warm-up; None where there are none yet.

        The energy of a trial does not come from here: `energy.per_image` asks for more.
        """
        samples = self.sampler.samples
        values = [power for moment, power in zip(list(samples.t_s), list(samples.total_mw))
                  if start_s <= moment <= end_s and power is not None]
        return statistics.mean(values) if values else None

    def finish(self):
        """End the sampling; what the record keeps: {"samples", "idle"}."""
        time.sleep(3 * self.step_s)  # the last window needs a sample beyond its end
        samples = self.sampler.stop()
        return {"samples": samples.to_json(), "idle": self.idle and list(self.idle)}


def add_energy(rows, record, batch):
    """Add the energy of an image to every trial's row, and return the result's {"power", "readings"}.

    rows: of `evaluate`, changed in place. readings: functions of a source text, see `evaluate`. CannotMeasure when the
    samples do not carry an energy.
    """
    samples = Samples.from_json(record["power"]["samples"])
    windows = [(row["start_s"], row["end_s"], row["inferences"] * batch) for row in rows]
    idle = record["power"]["idle"]
    found = energy.per_image(samples, windows, idle)
    for row, trial in zip(rows, found.trials):
        row.update(energy_mj=trial["energy_mj"], energy_above_idle_mj=trial["above_idle_mj"],
                   power_mw=trial["power_mw"], power_samples=trial["samples"])
    intervals = {"energy_mj": found.energy_mj, "power_mw": found.power_mw, "energy_above_idle_mj": found.above_idle_mj}
    board_scope = None
    if "board" in samples.source["totals"] and samples.scope != "board":
        board_scope = energy.per_image(samples, windows, idle, scope="board").energy_mj
    shares = _shares(found, samples, record["preflight"]["board"]["board"])
    return {"power": {
        "source": samples.source, "scope": found.scope, "total_name": found.total_name, "idle_mw": found.idle_mw,
        "rails_mw": found.rails_mw, "shares": shares, "rounding_mj": found.rounding_mj, "filter_mj": found.filter_mj,
        "interval_s": samples.interval_s, "refresh_s": samples.refresh_s, "quantum_mw": samples.quantum_mw,
        "samples": len(samples),
        "sampler": dict(samples.about, apart=record["request"].get("sampler_core") is not None)},
        "intervals": intervals, "board": board_scope}


def readings(found, source):
    """{name: Reading} of what `add_energy` found; img_per_joule is the reciprocal of the energy of an image."""
    scope = found["power"]["scope"]
    units = {"energy_mj": "mJ", "power_mw": "mW", "energy_above_idle_mj": "mJ"}
    # few trials that differ may reach below 0, where no energy is; above idle it may be
    made = {name: _reading(interval, units[name], source, scope, -math.inf if name == "energy_above_idle_mj" else 0.0)
            for name, interval in found["intervals"].items() if interval is not None}
    if found["board"] is not None:
        made["energy_board_mj"] = _reading(found["board"], "mJ", source, "board")
    per = made["energy_mj"]
    if per.value <= 0:
        raise CannotMeasure("the energy of an image came out as {:.3g} mJ, which cannot be: check the power source "
                            "with edgesynth devices probe".format(per.value))
    bounded = per.low is not None and per.low > 0
    made["img_per_joule"] = Reading(1000.0 / per.value, "img/J", MEASURED, source, scope=scope,
                                    low=1000.0 / per.high if bounded else None,
                                    high=1000.0 / per.low if bounded else None)
    return made


def _reading(interval, unit, source, scope, least=0.0):
    low, high = interval.low, interval.high
    if low is not None:
        low, high = max(least, min(low, interval.centre)), max(high, interval.centre)
    return Reading(interval.centre, unit, MEASURED, source, low=low, high=high, scope=scope)


def _shares(found, samples, board):
    """{rail: share of the total} of the rails below the total, and the rest; {} where the total is their sum."""
    from devices.board import known_boards, load_board
    totals = {name for names in samples.source["totals"].values() for name in names}
    if len(samples.source["totals"][found.scope]) != 1 or board not in known_boards():
        return {}
    below = [rail["name"] for rail in load_board(board).rails
             if rail.get("scope") == "module" and rail["name"] not in totals and rail["name"] in found.rails_mw]
    total = found.rails_mw[samples.source["totals"][found.scope][0]]
    shares = {name: found.rails_mw[name] / total for name in below}
    if shares:
        shares["rest"] = 1.0 - sum(shares.values())
    return shares


def record_power(source, root, seconds):
    """Power alone for a while: {"samples", "mean_mw", "total_name", "scope", "rails_mw"}. UserError for a time that
    makes no sense."""
    if not 0 < seconds <= 3600:
        raise UserError("--seconds {:g} makes no sense: give seconds above 0 and at most 3600".format(seconds))
    with Sampler(source, root, identify(root)["board"]) as sampler:
        time.sleep(seconds)
        samples = sampler.stop()
    values = [value for value in samples.total_mw if value is not None]
    if not values:
        raise CannotMeasure("{} gave no power within {:g} s".format(samples.source["name"], seconds))
    rails = {name: [value for value in column if value is not None] for name, column in samples.rails.items()}
    return {"samples": samples.to_json(), "mean_mw": statistics.mean(values), "total_name": samples.total_name,
            "scope": samples.scope,
            "rails_mw": {name: statistics.mean(column) for name, column in rails.items() if column}}


def summary(found):
    """What `record_power` found, as lines for a person."""
    lines = ["{} {:.0f} mW ({}), {} samples".format(found["total_name"], found["mean_mw"], found["scope"],
                                                    len(found["samples"]["total_mw"]))]
    return "\n".join(lines + ["  {:16} {:8.0f} mW".format(name, value) for name, value in found["rails_mw"].items()])
