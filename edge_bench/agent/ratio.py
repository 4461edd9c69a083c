"""How much worse one model or day is than another: the ratio of positive values, with its 95 % interval.

What re-rolls the noise is the unit, never the sample: a session (the board warmed up anew, settings made anew) where a
stored baseline is held against, a pair of neighbouring trials (each a fresh process) where two models were measured in
turns. All of it is on logarithms, so that twice as much and half as much lie equally far from 1.
"""
import collections
import math

from edge_bench.agent import statistics

Ratio = collections.namedtuple("Ratio", "value low high units")
Ratio.__doc__ = """new / old (1.05 is 5 % more) and its interval; low and high are None where too little shows a spread.
units: how many sessions or pairs the interval rests on."""


def of_sessions(new, old, bounds=(), confidence=statistics.CONFIDENCE):
    """The ratio of new sessions to old ones: Ratio.

    new, old: [[value of each trial] of each session]. The centre is the ratio of the geometric means, every session
    counting alike. Two intervals are found and the wider one holds: Student's between the sessions, t(k + m - 2) s
    sqrt(1/k + 1/m) with s pooled over both sides, which is all there is to know about the next session; and Welch's
    from the trials inside the sessions, which is the least that can be: two or three sessions that agree by luck do
    not make it narrower. bounds: relative errors that all trials of a side share, such as a sensor's rounding.
    ValueError for values that are not positive.
    """
    sides = [[_logs(session) for session in side] for side in (new, old)]
    centres = [[statistics.mean(session) for session in side] for side in sides]
    difference = statistics.mean(centres[0]) - statistics.mean(centres[1])
    halves = [half for half in (_between(centres, confidence), _within(sides, confidence)) if half is not None]
    return _ratio(difference, max(halves) if halves else None, bounds, sum(map(len, sides)), confidence)


def centre(sessions):
    """The value of one side of a ratio, so that what is shown divides to it: the geometric mean."""
    return math.exp(statistics.mean([statistics.mean(_logs(session)) for session in sessions]))


def of_pairs(pairs, bounds=(), confidence=statistics.CONFIDENCE):
    """The ratio new / old of pairs (old, new) of neighbouring trials: Ratio, by Student's t on the pairs' differences.

    What both of a pair share, heat above all, cancels; pairs are turned about (old new, new old), so that a steady
    drift cancels too. No interval of fewer than 3 pairs. bounds: as for `of_sessions`.
    """
    differences = [new - old for old, new in (_logs(pair) for pair in pairs)]
    half = None
    if len(differences) >= statistics.FEWEST:
        half = (statistics.t_quantile(0.5 + confidence / 2, len(differences) - 1) * statistics.stdev(differences)
                / math.sqrt(len(differences)))
    return _ratio(statistics.mean(differences), half, bounds, len(differences), confidence)


def inverse(ratio):
    """old / new of new / old."""
    return ratio._replace(value=1.0 / ratio.value, low=None if ratio.high is None else 1.0 / ratio.high,
                          high=None if ratio.low is None else 1.0 / ratio.low)


def _logs(values):
    if min(values) <= 0:
        raise ValueError("a ratio is taken of positive values")
    return [math.log(value) for value in values]


def _between(centres, confidence):
    """Half-width from the spread between the sessions of each side; None below three sessions in all."""
    freedom = sum(len(side) - 1 for side in centres)
    if freedom < 1:
        return None
    squares = math.fsum((value - statistics.mean(side)) ** 2 for side in centres for value in side)
    return statistics.t_quantile(0.5 + confidence / 2, freedom) * math.sqrt(
        squares / freedom * math.fsum(1.0 / len(side) for side in centres))


def _within(sides, confidence):
    """Half-width from the spread between the trials inside the sessions (Welch and Satterthwaite); None where every
    session has one trial."""
    parts = [(statistics.stdev(session) ** 2 / len(session) / len(side) ** 2, len(session) - 1)
             for side in sides for session in side if len(session) > 1]
    total = math.fsum(part for part, _ in parts)
    if not parts:
        return None
    if total <= 0.0:
        return 0.0
    freedom = total ** 2 / math.fsum(part ** 2 / count for part, count in parts)
    return statistics.t_quantile(0.5 + confidence / 2, freedom) * math.sqrt(total)


def _ratio(difference, half, bounds, units, confidence):
    if half is None:
        return Ratio(math.exp(difference), None, None, units)
    for bound in bounds:
        half = statistics.beside_uniform(half, bound, confidence)
    return Ratio(math.exp(difference), math.exp(difference - half), math.exp(difference + half), units)
