"""From power samples to the energy of a window, and from the windows of trials to the energy of one image.

Instantaneous power of the total, trapezoids with interpolated edges; counters are interpolated between their steps.
What does not carry an energy raises CannotMeasure with the reason and is never 0 J.
mW times seconds are mJ.
"""
import bisect
import collections
import math

from devices.support.errors import CannotMeasure
from edge_bench.agent import rounding, statistics

LEAST_SAMPLES = 20
GAP_INTERVALS = 5.0   # a gap longer than this many intervals between samples spoils a window
FILTER_S = 0.42       # the INA3221's time constant where nothing better is known; only its rails are filtered so

Window = collections.namedtuple("Window", "energy_mj mean_mw count edge_mw rails_mw")
Window.__doc__ = """energy_mj of the whole window, its mean power, the number of samples inside, the rise of power from
the first edge to the last (0 for counters), and the mean power of every rail."""

PerImage = collections.namedtuple(
    "PerImage", "energy_mj above_idle_mj power_mw trials idle_mw rounding_mj filter_mj rails_mw scope total_name")
PerImage.__doc__ = """energy_mj, above_idle_mj (None without idle), power_mw: statistics.Interval of an image, of an
image above idle power, of the mean power. trials: a dict a trial (energy_mj, above_idle_mj an image; window_mj,
power_mw, samples). rounding_mj: bound of what the sensor's step may hide of an image, near 0 where noise dithers it
away; filter_mj: what the sensor's averaging may have left out or in. rails_mw: {rail: mean mW over all windows}."""


def window(samples, start_s, end_s, scope=None):
    """The Window of these samples between two moments of time.monotonic().

    CannotMeasure: fewer than 20 samples, a gap, an edge without samples beside it, a power that is 0 or no number.
    """
    if not end_s > start_s:
        raise ValueError("a window ends after it starts")
    powers = samples.power_of(scope)
    first, last = bisect.bisect_left(samples.t_s, start_s), bisect.bisect_right(samples.t_s, end_s)
    name = " + ".join(samples.source["totals"][scope or samples.scope])
    if last - first < LEAST_SAMPLES:
        raise CannotMeasure("only {} power samples in a window of {:.3g} s, {} are needed: measure for longer with "
                            "--window".format(max(0, last - first), end_s - start_s, LEAST_SAMPLES))
    if first == 0 or last == len(samples):
        raise CannotMeasure("the power samples do not reach over the whole window: the sampler began too late or ended "
                            "too early{}; measure again".format(_failure(samples)))
    _check_gaps(samples, first, last)
    _check_values(samples, powers, first, last, name)
    if samples.energy_mj is not None and scope in (None, samples.scope):
        energy, edge = _counted(samples, start_s, end_s), 0.0
    else:
        times, values = _cut(samples.t_s, powers, first, last, start_s, end_s)
        energy, edge = _trapezoids(times, values), values[-1] - values[0]
    rails = {}
    for rail, column in samples.rails.items():
        values = [value for value in column[first:last] if value is not None]
        if values:
            rails[rail] = math.fsum(values) / len(values)
    return Window(energy, energy / (end_s - start_s), last - first, edge, rails)


def _check_gaps(samples, first, last):
    times = samples.t_s[first - 1:last + 1]
    worst = max(b - a for a, b in zip(times, times[1:]))
    if worst > GAP_INTERVALS * samples.interval_s:
        failure = _failure(samples)
        raise CannotMeasure("a gap of {:.2g} s between power samples, where {:.2g} s were asked for{}".format(
            worst, samples.interval_s, failure + "; measure again" if failure else
            ": the machine is too busy for the sampler; end other programs and measure again"))


def _failure(samples):
    """Why the last reading that failed did so, where one did."""
    found = samples.about.get("failure")
    return ", and a reading failed ({})".format(found) if found else ""


def _check_values(samples, powers, first, last, name):
    for time, value in zip(samples.t_s[first - 1:last + 1], powers[first - 1:last + 1]):
        if value is None or not math.isfinite(value):
            raise CannotMeasure("{} gave no number at {:.3f} s: check the power source with edgesynth devices "
                                "probe".format(name, time))
        if value <= 0 and samples.energy_mj is None:
            raise CannotMeasure("{} read {:g} mW while the machine ran, which cannot be: the rail is not connected or "
                                "not the total; name another with --power-source".format(name, value))


def _cut(times, values, first, last, start_s, end_s):
    """The samples inside, with the values at both edges interpolated between the samples on their two sides."""
    def at(moment, after):
        t0, t1 = times[after - 1], times[after]
        share = (moment - t0) / (t1 - t0) if t1 > t0 else 0.0
        return values[after - 1] + share * (values[after] - values[after - 1])

    return ([start_s] + times[first:last] + [end_s], [at(start_s, first)] + values[first:last] + [at(end_s, last)])


def _trapezoids(times, values):
    return math.fsum((t1 - t0) * (v0 + v1) / 2
                     for t0, t1, v0, v1 in zip(times, times[1:], values, values[1:]))


def _counted(samples, start_s, end_s):
    """What a counter gained, interpolated between the moments at which it moved."""
    times, energies = [], []
    for i in range(1, len(samples)):
        if samples.energy_mj[i] != samples.energy_mj[i - 1]:
            # it moved between the two readings, and no longer ago than it needs to move
            gap_s = samples.t_s[i] - samples.t_s[i - 1]
            times.append(samples.t_s[i] - min(gap_s, samples.refresh_s or gap_s) / 2)
            energies.append(samples.energy_mj[i])
    inside = bisect.bisect_right(times, end_s) - bisect.bisect_left(times, start_s)
    if inside < LEAST_SAMPLES:
        raise CannotMeasure("the energy counter moved only {} times in a window of {:.3g} s: measure for longer with "
                            "--window".format(inside, end_s - start_s))
    if times[0] > start_s or times[-1] < end_s:
        raise CannotMeasure("the energy counter did not move beside the window; measure again")
    ends = []
    for moment in (start_s, end_s):
        after = bisect.bisect_right(times, moment)
        if after == len(times):
            ends.append(energies[-1])
            continue
        share = (moment - times[after - 1]) / (times[after] - times[after - 1])
        ends.append(energies[after - 1] + share * (energies[after] - energies[after - 1]))
    return ends[1] - ends[0]


def per_image(samples, windows, idle=None, scope=None):
    """The energy of one image over trials: PerImage.

    samples: Samples that reach over all windows. windows: [(start_s, end_s, images)], one a trial. idle: (start_s,
    end_s) before the load, or None. The interval is the spread between the trials, combined with the error of the
    sensor's recursive average and with its rounding: half a step less what noise dithers away and the median of the
    trials as centre, or, where the load stays within two steps, `rounding.interval`. The sensor's gain error is not in
    it: no public source gives it for these boards.
    CannotMeasure where `window` says so, and for a total that did not move between idle and load.
    """
    found = [window(samples, start, end, scope) for start, end, _ in windows]
    idle_mw = window(samples, idle[0], idle[1], scope).mean_mw if idle else None
    _check_moved(samples, found, idle_mw, scope)
    trials = []
    for each, (start, end, images) in zip(found, windows):
        above = None if idle_mw is None else (each.energy_mj - idle_mw * (end - start)) / images
        trials.append({"energy_mj": each.energy_mj / images, "above_idle_mj": above, "window_mj": each.energy_mj,
                       "power_mw": each.mean_mw, "samples": each.count})
    image_s = statistics.median([(end - start) / images for start, end, images in windows])
    lag_mw = abs(statistics.mean([each.edge_mw / (end - start) for each, (start, end, _) in zip(found, windows)])
                 ) * _filter_s(samples)
    bounds = _bounds_mw(samples, windows, scope)
    rounding_mw = (statistics.mean([(below + above) / 2 for below, above in bounds]) if bounds
                   else _dithered_mw(samples, windows, scope))
    seconds = [(end - start) / images for start, end, images in windows]
    shared = [] if bounds else [rounding_mw]

    def between(name, weights, weight, shared_mw):
        """Interval of a figure of the trials; weights, weight: what 1 mW makes of it, trial by trial and at all."""
        values = [trial[name] for trial in trials]
        if bounds and len(values) >= statistics.FEWEST:
            spread = rounding.interval([value - below * k for value, (below, _), k in zip(values, bounds, weights)],
                                       [value + above * k for value, (_, above), k in zip(values, bounds, weights)])
        else:
            spread = statistics.interval(values)
        return _widened(spread, lag_mw * weight, [bound * weight for bound in shared_mw])

    rails = {rail: statistics.mean([each.rails_mw[rail] for each in found])
             for rail in samples.rails if all(rail in each.rails_mw for each in found)}
    return PerImage(
        between("energy_mj", seconds, image_s, shared),
        None if idle is None else between("above_idle_mj", seconds, image_s,
                                          shared + [_dithered_mw(samples, [idle], scope)]),
        between("power_mw", [1.0] * len(trials), 1.0, shared),
        trials, idle_mw, rounding_mw * image_s, lag_mw * image_s, rails, scope or samples.scope,
        " + ".join(samples.source["totals"][scope or samples.scope]))


def _widened(spread, lag, roundings):
    """An interval of trials with the errors that all of them share."""
    if spread.low is None:
        return spread
    halves = []
    for half in (spread.centre - spread.low, spread.high - spread.centre):
        half = statistics.quadrature(half, lag)
        for bound in roundings:
            half = statistics.beside_uniform(half, bound)
        halves.append(half)
    return spread._replace(low=spread.centre - halves[0], high=spread.centre + halves[1])


def _filter_s(samples):
    """The time constant of the sensor's average; 0 for counters and for sensors that do not filter."""
    documented = samples.source.get("filter_s")
    if documented is not None:
        return documented
    return FILTER_S if samples.source["name"] in ("ina3221", "tegrastats", "jtop") else 0.0


def _bounds_mw(samples, windows, scope):
    """(below, above) in mW of the mean power of each window, where every one stays within two steps; else None."""
    if not samples.quantum_mw or samples.energy_mj is not None:
        return None
    powers = samples.power_of(scope)
    found = [rounding.bounds(powers[bisect.bisect_left(samples.t_s, start):bisect.bisect_right(samples.t_s, end)],
                             samples.quantum_mw) for start, end, _ in windows]
    return None if None in found else found


def _dithered_mw(samples, windows, scope):
    """Bound in mW of the error that the sensor's steps leave in the mean power of all windows.

    Half a quantum when the power stands still between two steps. Where it moves over steps the rounding averages
    out: the bias of a rounded value with normal scatter sigma falls as exp(-2 (pi sigma / quantum)^2), the first
    harmonic of the rounding error. The scatter is that of all samples of all windows, less the rounding's own.
    """
    quantum = samples.quantum_mw
    if not quantum or samples.energy_mj is not None:
        return 0.0
    powers = samples.power_of(scope)
    values = []
    for each in windows:
        start, end = each[:2]
        values += powers[bisect.bisect_left(samples.t_s, start):bisect.bisect_right(samples.t_s, end)]
    variance = max(0.0, statistics.stdev(values) ** 2 - quantum ** 2 / 12)
    return 0.5 * quantum * math.exp(-2 * math.pi ** 2 * variance / quantum ** 2)


def _check_moved(samples, found, idle_mw, scope):
    load = statistics.median([each.mean_mw for each in found])
    name = " + ".join(samples.source["totals"][scope or samples.scope])
    if idle_mw is not None and abs(load - idle_mw) <= (samples.quantum_mw or 0.0):
        raise CannotMeasure("{} did not move between idle ({:.0f} mW) and load ({:.0f} mW): the model ran elsewhere, "
                            "or the rail is not the total; name another source with --power-source".format(
                                name, idle_mw, load))
    if idle_mw is None and len(set(samples.power_of(scope))) == 1:
        raise CannotMeasure("{} read {:.0f} mW all the time: a sensor that works moves; name another source with "
                            "--power-source".format(name, load))
