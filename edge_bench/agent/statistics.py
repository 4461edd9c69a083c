"""Statistics of trials and samples, on the standard library alone (the board has no scipy).

The trial is the unit: samples inside one window are autocorrelated and say nothing about the next run. Outliers are
flagged and never dropped. Everything is deterministic: the same numbers give the same interval everywhere.
"""
import collections
import functools
import math
import random

CONFIDENCE = 0.95
FEWEST = 3            # below this many trials no interval: that of two is 13 times as wide as they lie apart
SMALL = 10            # below this many trials Student's t, from it on the bootstrap
RESAMPLES = 2000      # of the bootstrap
MAX_DRIFT_POINTS = 200  # Theil-Sen looks at all pairs; longer series are reduced to medians of blocks

# Standard error of the median of n normal values over that of their mean, from the order statistics (exact to the
# digits given; tests integrate them anew).
MEDIAN_FACTOR = {3: 1.1602, 4: 1.0922, 5: 1.1976, 6: 1.1351, 7: 1.2137, 8: 1.1599, 9: 1.2227}

Interval = collections.namedtuple("Interval", "centre low high method")
Interval.__doc__ = """Centre and bounds in the unit of the values; method: "t", "bootstrap", "likelihood" (see
`rounding`), or "none" with low and high None where fewer than FEWEST values show too little of their spread."""

Drift = collections.namedtuple("Drift", "slope low high p_value drifting")
Drift.__doc__ = """Theil-Sen slope (unit of the values per unit of time) with its interval, and the Mann-Kendall
p-value; drifting: p below 1 - confidence."""


def _checked(values, least=1):
    """The values as floats; ValueError when there are too few or one is not finite."""
    values = [float(value) for value in values]
    if len(values) < least:
        raise ValueError("{} values are needed, {} given".format(least, len(values)))
    if not all(math.isfinite(value) for value in values):
        raise ValueError("the values hold NaN or infinity")
    return values


def mean(values):
    values = _checked(values)
    return math.fsum(values) / len(values)


def stdev(values):
    """Sample standard deviation (n - 1)."""
    values = _checked(values, least=2)
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def percentile(values, percent):
    """Percentile by linear interpolation between closest ranks: Hyndman and Fan's definition 7, numpy's default."""
    return _percentile_of_sorted(sorted(_checked(values)), percent)


def _percentile_of_sorted(ordered, percent):
    if not 0 <= percent <= 100:
        raise ValueError("a percentile lies in 0..100, not {}".format(percent))
    place = (len(ordered) - 1) * percent / 100.0
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def percentiles(values, percents=(50, 90, 95, 99)):
    """{"p50": ..., "p90": ..., ...} of the values, sorted once; see `percentile` for the definition."""
    ordered = sorted(_checked(values))
    return collections.OrderedDict(("p{:g}".format(percent), _percentile_of_sorted(ordered, percent))
                                   for percent in percents)


def median(values):
    return percentile(values, 50)


def mad(values):
    """Median absolute deviation from the median, not scaled."""
    values = _checked(values)
    centre = median(values)
    return median([abs(value - centre) for value in values])


def outliers(values, threshold=3.5, resolution=None):
    """Indices of the values further than `threshold` robust standard deviations (1.4826 MAD) from the median.

    They are flagged for a person and never dropped. resolution: the deviation that means nothing (a sensor's quantum, a
    timer's tick; default 0.1 % of the median): it guards against a MAD of nearly 0, where equal values would make
    an outlier of any other. Rule: Iglewicz and Hoaglin 1993.
    """
    values = _checked(values)
    centre = median(values)
    deviations = [abs(value - centre) for value in values]
    scale = max(1.4826 * median(deviations), abs(centre) * 1e-3 if resolution is None else resolution)
    if scale == 0.0:
        scale = 1.2533 * mean(deviations)  # the standard deviation from the mean deviation, where the MAD is 0
    return [i for i, deviation in enumerate(deviations) if deviation > threshold * scale]


def interval(values, confidence=CONFIDENCE):
    """The median of trials and its confidence interval, from the spread between the trials.

    Below 3 trials: none. Below 10: median ± t(n - 1) x factor(n) x s / sqrt(n), where factor(n) is how much wider the
    median of n normal values scatters than their mean. From 10 on: bootstrap of the median (`_bootstrap_median`).
    """
    values = _checked(values)
    centre, count = median(values), len(values)
    if count < FEWEST:
        return Interval(centre, None, None, "none")
    if count >= SMALL:
        low, high = _bootstrap_median(values, confidence)
        return Interval(centre, min(low, centre), max(high, centre), "bootstrap")
    half = t_quantile(0.5 + confidence / 2, count - 1) * MEDIAN_FACTOR[count] * stdev(values) / math.sqrt(count)
    return Interval(centre, centre - half, centre + half, "t")


def _bootstrap_median(values, confidence):
    """Percentile bootstrap of the median, lightly smoothed: resamples get the normal jitter of a narrow kernel.

    Without smoothing the median of a few values takes only a few places and the interval covers 92 to 94 %; with
    Silverman's full kernel (0.9) it covers 98 %. Resampling shrinks the variance by (n - 1) / n, which is put back.
    """
    count, centre = len(values), median(values)
    generator = random.Random(20181)  # fixed: the same trials give the same interval
    # the smaller of the two measures of spread, so that outliers do not widen the kernel
    spread = min(stdev(values), 1.4826 * mad(values) or stdev(values))
    kernel = 0.4 * spread * count ** -0.2
    grow = math.sqrt(count / (count - 1.0))
    medians = sorted(
        _percentile_of_sorted(sorted(values[int(generator.random() * count)] + kernel * generator.gauss(0.0, 1.0)
                                     for _ in range(count)), 50)
        for _ in range(RESAMPLES))
    low = _percentile_of_sorted(medians, 50 * (1 - confidence))
    high = _percentile_of_sorted(medians, 50 * (1 + confidence))
    return centre + grow * (low - centre), centre + grow * (high - centre)


def quadrature(*half_widths):
    """The half-width of independent parts together: the root of the sum of squares."""
    return math.sqrt(math.fsum(half * half for half in half_widths))


def beside_uniform(half_width, bound, confidence=CONFIDENCE):
    """The half-width of a normal part of the given half-width together with an error anywhere in ± bound.

    What an unknown rounding adds: the exact quantile of the sum. Quadrature would take half a quantum for normal and
    cover 99 % where the rounding is most of the error.
    """
    sigma = half_width / normal_quantile(0.5 + confidence / 2)
    if bound <= 0 or sigma <= 0:
        return half_width if bound <= 0 else confidence * bound
    if sigma > 20 * bound:
        return half_width

    def within(half):
        # P(|U + N| <= half), from the integral of the normal distribution: G(x) = x Phi(x) + phi(x)
        def integral(x):
            x /= sigma
            return sigma * (x * 0.5 * math.erfc(-x / math.sqrt(2.0)) + math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))
        upper = integral(half + bound) - integral(half - bound)
        lower = integral(bound - half) - integral(-bound - half)
        return (upper - lower) / (2 * bound)

    return _invert(within, confidence)


# drift

def _slopes(times, values):
    """The slopes over all pairs of points at different times, sorted."""
    if len(times) != len(values):
        raise ValueError("as many times as values are needed")
    times, values = _checked(times, least=2), _checked(values, least=2)
    slopes = sorted((values[j] - values[i]) / (times[j] - times[i])
                    for i in range(len(times)) for j in range(i + 1, len(times)) if times[j] != times[i])
    if not slopes:
        raise ValueError("all points lie at one time")
    return slopes


def drift(times, values, confidence=CONFIDENCE):
    """Whether the values drift with time: Theil-Sen's slope, Sen's interval of it, and Mann and Kendall's test.

    Exact for up to 10 untied points, the normal approximation with ties corrected beyond. More than 200 points are
    reduced to the medians of equal blocks, which also takes out most of the autocorrelation of samples.
    """
    if len(times) > MAX_DRIFT_POINTS:
        times, values = _blocks(times), _blocks(values)
    slopes = _slopes(times, values)
    order = sorted(range(len(times)), key=lambda i: times[i])
    ranked = [values[i] for i in order]
    count = len(ranked)
    score = sum((ranked[j] > ranked[i]) - (ranked[j] < ranked[i]) for i in range(count) for j in range(i + 1, count))
    ties = [ranked.count(value) for value in set(ranked)]
    variance = (count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18.0
    if count <= 10 and max(ties) == 1:
        p_value = _kendall_exact(count, score)
    elif variance > 0:
        z = max(0, abs(score) - 1) / math.sqrt(variance)
        p_value = math.erfc(z / math.sqrt(2.0))
    else:
        p_value = 1.0
    reach = normal_quantile(0.5 + confidence / 2) * math.sqrt(variance)
    low = slopes[max(0, round((len(slopes) - reach) / 2.0) - 1)]
    high = slopes[min(len(slopes) - 1, round((len(slopes) + reach) / 2.0))]
    return Drift(_percentile_of_sorted(slopes, 50), low, high, p_value, p_value < 1 - confidence)


def _blocks(values):
    """Medians of 200 blocks of consecutive values, as equal in length as they can be."""
    count = len(values)
    edges = [i * count // MAX_DRIFT_POINTS for i in range(MAX_DRIFT_POINTS + 1)]
    return [median(values[a:b]) for a, b in zip(edges, edges[1:])]


def _kendall_exact(count, score):
    """Two-sided probability of a Kendall score at least this far from 0 in a random order of distinct values."""
    ways = [1]  # permutations by their number of inversions
    for size in range(2, count + 1):
        ways = [sum(ways[max(0, k - size + 1):k + 1]) for k in range(len(ways) + size - 1)]
    pairs = count * (count - 1) // 2
    extreme = sum(number for inversions, number in enumerate(ways) if abs(pairs - 2 * inversions) >= abs(score))
    return min(1.0, extreme / float(sum(ways)))


# quantiles

@functools.lru_cache(maxsize=64)
def normal_quantile(probability):
    """The standard normal quantile, by bisection on erfc."""
    return _invert(lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)), probability)


@functools.lru_cache(maxsize=64)
def t_quantile(probability, freedom):
    """Student's t quantile for any positive real number of degrees of freedom, by bisection on the distribution."""
    if not freedom > 0:
        raise ValueError("the degrees of freedom must be positive, not {}".format(freedom))
    return _invert(lambda x: _t_distribution(x, freedom), probability)


def _invert(distribution, probability):
    if not 0 < probability < 1:
        raise ValueError("a probability lies between 0 and 1, not {}".format(probability))
    if probability < 0.5:
        return -_invert(distribution, 1 - probability)
    low, high = 0.0, 1.0
    while distribution(high) < probability and high < 1e12:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if distribution(middle) < probability else (low, middle)
    return (low + high) / 2


def _t_distribution(x, freedom):
    """P(T <= x) for x >= 0, from the regularised incomplete beta function."""
    return 1 - 0.5 * _incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + x * x))


def _incomplete_beta(a, b, x):
    """Regularised incomplete beta function (continued fraction 26.5.8 of Abramowitz and Stegun, Lentz's method)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1.0 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value
