"""What a sensor's steps leave of a load that hardly moves: the mean power of a window to within bounds, and the
interval of trials of which only such bounds are known.

A sensor that shows steps of 38 mW shows a steady load as one number or as two in turn. The mean of the samples is then
off by up to half a step, by the same for all samples, and more samples do not help. What can be said:

  one level          the power lies within half a step of it
  two levels         the power lies between the mean of the samples and the border between the levels: with little noise
                     beneath the steps it is at the border, with more it is at the mean (the share of the upper level is
                     that of a normal distribution above the border, of a spread that two levels do not tell)
  three and more     the noise beneath the steps is so large that it dithers them: no bounds, the mean is right
"""
import math

from edge_bench.agent import statistics

MARGIN = 0.12  # of a step: by which few independent samples may misjudge the share of two levels, found by simulation
PRIOR = 0.4    # p(s) ~ s^-0.4 of the spread between trials: between flat and 1/s, calibrated by simulation
MEANS, SPREADS = 81, 24  # points of the grid


def bounds(values, quantum):
    """(below, above): how far the true mean may lie below and above the mean of a window's samples.

    None where the samples take three levels or more, and need no bounds.
    """
    span = max(values) - min(values)
    if span > 1.5 * quantum:
        return None
    if span < 0.5 * quantum:
        return 0.5 * quantum, 0.5 * quantum
    to_border = (min(values) + max(values)) / 2 - statistics.mean(values)
    margin = MARGIN * quantum
    return max(0.0, -to_border) + margin, max(0.0, to_border) + margin


def interval(lows, highs, confidence=statistics.CONFIDENCE):
    """The Interval of the centre of trials, each of which lies somewhere between its low and its high.

    Trials are normal around the centre with an unknown spread; each contributes the probability of its bounds. The
    posterior of the centre is summed up over a grid of centres and spreads; its median and quantiles are returned. What
    all trials have in common may be the whole truth, at equal odds everywhere: its middle 95 % are always within.
    """
    middles = [(low + high) / 2 for low, high in zip(lows, highs)]
    halves = [(high - low) / 2 for low, high in zip(lows, highs)]
    scale = math.hypot(statistics.stdev(middles), statistics.mean(halves))
    middle = statistics.mean(middles)
    if scale <= 1e-12 * abs(middle):  # equal and exact
        return statistics.Interval(middle, middle, middle, "likelihood")
    halves = [max(half, 1e-3 * scale) for half in halves]
    # dense in the middle; the weight of a point is the distance between its neighbours
    centres = [middle + scale * math.sinh(7.0 * (k / (MEANS - 1.0) - 0.5)) for k in range(MEANS)]
    steps = [centres[min(k + 1, MEANS - 1)] - centres[max(k - 1, 0)] for k in range(MEANS)]
    spreads = [scale * math.exp(math.log(0.03) + k * math.log(1000.0) / (SPREADS - 1)) for k in range(SPREADS)]
    weights = [step * math.fsum(_likelihood(centre, spread, middles, halves) * spread ** (1 - PRIOR)
                                for spread in spreads) for centre, step in zip(centres, steps)]
    centre, low, high = [_quantile(centres, weights, share) for share in
                         (0.5, 0.5 - confidence / 2, 0.5 + confidence / 2)]
    common, half = (max(lows) + min(highs)) / 2, confidence * (min(highs) - max(lows)) / 2
    if half > 0:
        low, high = min(low, common - half), max(high, common + half)
    return statistics.Interval(centre, low, high, "likelihood")


def _likelihood(centre, spread, middles, halves):
    scaled = 1.0 / (spread * math.sqrt(2.0))
    product = 1.0
    for middle, half in zip(middles, halves):
        product *= 0.5 * (math.erfc((centre - middle - half) * scaled) - math.erfc((centre - middle + half) * scaled)
                          ) / half
        if product == 0.0:
            return 0.0
    return product


def _quantile(points, weights, share):
    """The point below which that share of the weight lies, by interpolation."""
    target, passed, last = share * math.fsum(weights), 0.0, None
    for point, weight in zip(points, weights):
        reached = passed + weight / 2
        if reached >= target:
            if last is None:
                return point
            return last[0] + (point - last[0]) * (target - last[1]) / (reached - last[1])
        passed, last = passed + weight, (point, reached)
    return points[-1]
