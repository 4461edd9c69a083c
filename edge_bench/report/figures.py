"""The figures of one measurement: its trials, latencies, power over time, rails, warm-up and layers."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from devices.support.reading import Reading
from edge_bench.agent.samples import Samples
from edge_bench.agent.trial import TICK_MS
from edge_bench.report.chart import WIDTH, Axis, Chart
from edge_bench.report.envelope import Column, envelope
from edge_bench.report.measurement import Measurement
from edge_bench.report.number import NO_BREAK, percent, plain, words
from edge_bench.report.rows import Bar, bars, shares

WIDE = 1120.0
BINS = 60           # of a histogram, at most
TAIL_POINTS = 160   # of one trial's curve
RAILS = 8           # that are drawn, the largest ones
LAYERS = 20
# field of a trial, and of the reading that the trials make together: (title, unit)
BY_TRIAL = {"energy_mj": ("energy of an image", "mJ"), "latency_p50_ms": ("median latency", "ms"),
            "latency_p99_ms": ("99th percentile of latency", "ms")}


def trials(measured: Measurement) -> list[str]:
    """Every trial as a point, with the reading and its 95 % interval that they make together."""
    found = []
    for field, (title, unit) in BY_TRIAL.items():
        values = [row.get(field) for row in measured.result["trials"]]
        if all(value is not None for value in values):
            outliers = measured.result.get("outliers") or [] if field == "latency_p50_ms" else []
            found.append(_by_trial(title, unit, values, measured.reading(field), outliers))
    return found


def _by_trial(title: str, unit: str, values: Sequence[float], reading: Reading | None, outliers: Sequence[int] = (),
              width: float = 357.0) -> str:
    ends = [] if reading is None or reading.low is None else [reading.low, reading.high]
    chart = Chart(f"{title}, {unit}", Axis("trial", 0.5, len(values) + 0.5, whole=True),
                  Axis.around("", [*values, *ends], room=0.15), width, 210,
                  words=f"trials 1 to {len(values)}: {', '.join(words(value, unit) for value in values)}")
    if reading is not None:
        if reading.low is not None and reading.high is not None:
            chart.band([(x, reading.low, reading.high) for x in (0.5, len(values) + 0.5)], "measured")
        chart.level(reading.value, "measured", "")
    for i, value in enumerate(values):
        chart.dot((i + 1, value), "outlier" if i in outliers else "measured", f"trial {i + 1}: {words(value, unit)}", 4)
    return chart.svg()


def latencies(measured: Measurement) -> list[str]:
    """The distribution over all trials, and each trial's tail; [] without the raw record."""
    if measured.record is None:
        return []
    packed = [trial["latencies"] for trial in measured.record["trials"]]
    together: dict[int, int] = {}
    for trial in packed:
        for tick, count in trial:
            together[tick] = together.get(tick, 0) + count
    pooled = sorted(together.items())
    return [_histogram(measured, pooled), _tails(packed, pooled)]


def _histogram(measured: Measurement, pooled: list[tuple[int, int]]) -> str:
    """Up to the 99.5th percentile; what lies beyond is counted in words."""
    count = sum(times for _, times in pooled)
    low, high = pooled[0][0], max(_quantile(pooled, 0.995), pooled[0][0] + 1)
    spread = _quantile(pooled, 0.75) - _quantile(pooled, 0.25)
    width = max(2 * spread / count ** (1 / 3), (high - low) / BINS, 1)  # Freedman and Diaconis
    size = max(1, math.ceil((high - low + 1) / width))
    bins = [0] * size
    for tick, times in pooled:
        if tick <= high:
            bins[min(int((tick - low) / width), size - 1)] += times
    beyond = count - sum(bins)
    top = max(bins) / count
    rest = f"; {plain(beyond, 0)} slower ones are not drawn, the slowest at {words(pooled[-1][0] * TICK_MS, 'ms')}"
    chart = Chart("how often a latency came, all trials", Axis("ms", low * TICK_MS, (low + size * width) * TICK_MS),
                  Axis("share of inferences", 0.0, 1.28 * top, words=percent), words=f"{plain(count, 0)} inferences"
                  + (rest if beyond else ""))
    for i, times in enumerate(bins):
        if times:
            ends = (low + i * width) * TICK_MS, (low + (i + 1) * width) * TICK_MS
            chart.pillar(*ends, times / count, "measured", f"{words(ends[0])} to {words(ends[1], 'ms')}: {times}")
    for row, name in enumerate(("p50", "p90", "p99")):
        reading = measured.reading(f"latency_{name}_ms")
        if reading is not None:
            chart.upright(reading.value, "bound", f"{name} {words(reading.value, 'ms')}", row, before=name == "p50")
    return chart.svg()


def _tails(packed: Sequence[Sequence[Sequence[int]]], pooled: list[tuple[int, int]]) -> str:
    """The share of inferences that took longer, on a logarithmic scale: one line a trial."""
    least = 1.0 / max(sum(times for _, times in trial) for trial in packed)
    across = Axis.around("ms", [pooled[0][0] * TICK_MS, pooled[-1][0] * TICK_MS], log=pooled[-1][0] > 4 * pooled[0][0])
    chart = Chart("how many took longer, trial by trial", across,
                  Axis("share that took longer", min(least, 0.01) * 0.7, 1.0, True, lambda share: f"{100 * share:g} %"),
                  words=f"{len(packed)} trials; the slowest inference took {words(pooled[-1][0] * TICK_MS, 'ms')}")
    for share, name in ((0.5, "median"), (0.1, "p90"), (0.01, "p99")):
        chart.level(share, "quantile", name)
    for trial in packed:
        chart.line(_tail(trial, least), "trial", steps=True)
    return chart.svg()


def _tail(trial: Sequence[Sequence[int]], least: float) -> list[tuple[float, float]]:
    """(latency in ms, share of this trial's inferences that took longer) at logarithmic steps, the slowest last."""
    ticks, below, total = [], [], 0
    for tick, times in trial:
        total += times
        ticks.append(tick)
        below.append(total)
    points: dict[int, float] = {}
    for step in range(TAIL_POINTS + 1):
        share = least ** (step / TAIL_POINTS)
        place = min(bisect.bisect_left(below, (1 - share) * total), len(ticks) - 1)
        points[ticks[place]] = max(1 - below[place] / total, 0.5 / total)
    return [(tick * TICK_MS, share) for tick, share in sorted(points.items())]


def _quantile(pooled: list[tuple[int, int]], share: float) -> int:
    """The tick that this share of all inferences does not exceed."""
    wanted, seen = share * sum(times for _, times in pooled), 0
    for tick, times in pooled:
        seen += times
        if seen >= wanted:
            return tick
    return pooled[-1][0]


def power(measured: Measurement) -> list[str]:
    """Power of the total and of every rail over the whole measurement; [] without samples."""
    samples, found = measured.samples, measured.result.get("power")
    if samples is None or found is None or len(samples) < 2:
        return []
    rails = _rails(measured)
    names = [f"{name} {words(mean / 1000, 'W')}" for name, mean in rails]
    right = 8.0 * max(map(len, [*names, "idle 0.00 W"])) + 12  # one for both, so that the windows lie in line
    total = _frame(measured, f"power of the total, {samples.total_name} ({samples.scope})", samples, [samples.total_mw],
                   right)
    for run in _runs(samples, samples.total_mw):
        total.band([(c.t_s, c.low / 1000, c.high / 1000) for c in run], "total")
        total.line([(c.t_s, c.mean / 1000) for c in run], "total")
    ends = []
    loaded = measured.reading("power_mw")
    if loaded is not None:
        ends.append((loaded.value / 1000, f"{words(loaded.value / 1000, 'W')} loaded", ""))
    if found.get("idle_mw"):
        total.level(found["idle_mw"] / 1000, "quantile", "")
        ends.append((found["idle_mw"] / 1000, f"{words(found['idle_mw'] / 1000, 'W')} idle", "c7"))
    total.names(ends)
    if not rails:
        return [total.svg()]
    most = f", the {RAILS} largest" if len(rails) == RAILS else ""
    columns = [[0.0], *(samples.rails[name] for name, _ in rails)]
    chart = _frame(measured, f"power of the rails{most}", samples, columns, right)
    for number, (name, _) in enumerate(rails):
        for run in _runs(samples, samples.rails[name]):
            chart.line([(c.t_s, c.mean / 1000) for c in run], f"c{number}")
    chart.names([(mean / 1000, label, f"c{number}")
                 for number, ((_, mean), label) in enumerate(zip(rails, names, strict=True))])
    return [total.svg(), chart.svg()]


def _frame(measured: Measurement, title: str, samples: Samples, columns: Sequence[Sequence[float | None]],
           right: float) -> Chart:
    """An empty chart of power over time, the idle stretch and the windows shaded."""
    start = samples.t_s[0]
    values = [value / 1000.0 for column in columns for value in column if value is not None]
    chart = Chart(title, Axis("seconds", 0.0, (samples.t_s[-1] - start) or 1.0), Axis.around("W", values), WIDE, 300,
                  right=right, words=_power_words(measured))
    if measured.idle:
        chart.stretch(measured.idle[0] - start, measured.idle[1] - start, "idle", "idle", "the board rests")
    for i, row in enumerate(measured.result["trials"]):
        chart.stretch(row["start_s"] - start, row["end_s"] - start, "window", f"trial {i + 1}",
                      f"measured window of trial {i + 1}")
    return chart


def _runs(samples: Samples, values: Sequence[float | None]) -> list[list[Column]]:
    times = [moment - samples.t_s[0] for moment in samples.t_s]
    return envelope(times, values, gap_s=5 * samples.interval_s)


def _rails(measured: Measurement) -> list[tuple[str, float]]:
    """(name, mean mW in the windows) of the rails that are not a total, the largest first."""
    found = measured.result["power"]
    totals = {name for names in found["source"]["totals"].values() for name in names}
    below = [(name, mean) for name, mean in (found.get("rails_mw") or {}).items() if name not in totals]
    return sorted(below, key=lambda pair: -pair[1])[:RAILS]


def _power_words(measured: Measurement) -> str:
    found = measured.result["power"]
    values = [row["power_mw"] / 1000 for row in measured.result["trials"] if row.get("power_mw") is not None]
    idle = f"; idle {words(found['idle_mw'] / 1000, 'W')}" if found.get("idle_mw") else ""
    return f"mean power of the windows: {', '.join(words(value, 'W') for value in values)}{idle}"


def rails(measured: Measurement) -> list[str]:
    """Where the energy of an image goes: the rails' shares, and what rests idle; [] where it is not known."""
    found = measured.result.get("power")
    if not found:
        return []
    order = {name: f"c{number}" for number, (name, _) in enumerate(_rails(measured))} if measured.record else {}
    energy = measured.reading("energy_mj")
    drawn = []
    if found.get("shares") and energy is not None:
        parts = [Bar(name, share, percent(share), order.get(name, "c7" if name == "rest" else f"c{i % RAILS}"),
                     f"{name}: {percent(share)}, {words(share * energy.value, 'mJ/image')}")
                 for i, (name, share) in enumerate(sorted(found["shares"].items(), key=lambda item: -item[1]))]
        drawn.append(shares(f"energy of an image by rail, of {found.get('total_name') or 'the total'}", parts))
    above = measured.reading("energy_above_idle_mj")
    if above is not None and energy is not None and 0 < above.value < energy.value:
        parts = [Bar("above idle", above.value, words(above.value, "mJ"), "measured"),
                 Bar("what idling costs", energy.value - above.value, words(energy.value - above.value, "mJ"), "idle")]
        drawn.append(shares("energy of an image above idle power", parts))
    return drawn


def settling(measured: Measurement) -> list[str]:
    """How latency settled before each window, against what the window then gave (from the raw record), and how warm
    the board was after each window."""
    rows, found = measured.result["trials"], []
    if measured.record is not None:
        found += _warm_ups(measured)
    warm = [row.get("temperature_c") for row in rows]
    if all(value is not None for value in warm):
        found.append(_by_trial("hottest zone at the end of each window", "°C", warm, None, width=WIDTH))
    return found


def _warm_ups(measured: Measurement) -> list[str]:
    assert measured.record is not None
    lines = []
    for row, trial in zip(measured.result["trials"], measured.record["trials"], strict=True):
        blocks, seconds = trial["warmup"].get("latency_ms") or [], trial["warmup"]["seconds"]
        if row["latency_p50_ms"] > 0 and len(blocks) > 1:
            lines.append([(seconds * (i + 0.5) / len(blocks), value / row["latency_p50_ms"])
                          for i, value in enumerate(blocks)])
    if not lines:
        return []
    longest = max(line[-1][0] for line in lines)
    chart = Chart("warm-up: latency beside that of the window", Axis("seconds of warm-up", 0.0, 1.03 * longest),
                  Axis.around("ratio", [1.0, *(value for line in lines for _, value in line)],
                              words=lambda v: f"{v:.4g}×"), height=210, words=_warm_up_words(measured))
    chart.level(1.0, "equal", "as in the window")
    for i, line in enumerate(lines):
        chart.line(line, "trial first" if i == 0 else "trial")
    return [chart.svg()]


def _warm_up_words(measured: Measurement) -> str:
    rows = measured.result["trials"]
    took = ", ".join(f"{row['warmup_s']:.0f}{NO_BREAK}s" + ("" if row["steady"] else " (not steady)") for row in rows)
    return f"warm-up of trials 1 to {len(rows)}: {took}"


def layers(measured: Measurement) -> list[str]:
    """The slowest layers, from a pass of their own; [] where none was made."""
    found: list[dict[str, Any]] = sorted(measured.result.get("layers") or [], key=lambda layer: -layer["ms"])
    if not found:
        return []
    whole = sum(layer["ms"] for layer in found) or 1.0
    rows = [Bar(_short(layer["name"]), layer["ms"], f"{words(layer['ms'], 'ms')} · {percent(layer['ms'] / whole)}",
                "measured", layer["name"]) for layer in found[:LAYERS]]
    rest = found[LAYERS:]
    if rest:
        took = sum(layer["ms"] for layer in rest)
        rows.append(Bar(f"{len(rest)} others", took, f"{words(took, 'ms')} · {percent(took / whole)}", "c7"))
    return [bars("time of layers, a pass of its own", rows, width=760, names=300, words=110)]


def _short(name: str, most: int = 44) -> str:
    """The end of a long name, which is what tells layers apart."""
    return name if len(name) <= most else "…" + name[1 - most:]


def side_by_side(several: Sequence[Measurement], labels: Sequence[str]) -> list[str]:
    """The headline numbers of several measurements with their intervals."""
    found = []
    for key in ("energy_mj", "latency_p50_ms"):
        title, unit = BY_TRIAL[key]
        rows = []
        for measured, label in zip(several, labels, strict=True):
            reading = measured.reading(key)
            if reading is not None:
                rows.append(Bar(_short(label, 30), reading.value, words(reading.value, unit), "measured",
                                reading.source, reading.low, reading.high))
        if len(rows) > 1:
            found.append(bars(f"{title}, with its 95 % interval", rows, zoomed=True, width=546, names=200, words=84))
    return found
