"""Shares of images or seeds that were counted, and how far off they may be."""

from __future__ import annotations

import math

from devices.support.reading import Z95


def share_error(share: float, count: int) -> float:
    """Standard error of a share of `count` (Agresti and Coull 1998: as if two more had been counted on either side, so
    that 100 % is not called certain)."""
    smooth = (share * count + 2) / (count + 4)
    return math.sqrt(smooth * (1 - smooth) / (count + 4))


def least_share(bound: float, count: int, margin: float) -> float:
    """The least share v of `count` with v - margin * share_error(v) >= bound; above 1 where even all do not suffice."""
    # with p = (v n + 2) / (n + 4), a p - c = margin sqrt(p (1 - p) / (n + 4)): the greater root of its square in p
    a, c, k = (count + 4) / count, bound + 2 / count, margin**2 / (count + 4)
    half = a * c + k / 2
    inside = half * half - (a * a + k) * c * c
    if inside < 0:
        return math.inf
    return a * (half + math.sqrt(inside)) / (a * a + k) - 2 / count


def share_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927)."""
    z2 = Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(share * (1 - share) * z2 / count + z2 * z2 / (4 * count * count)) / (1 + z2 / count)
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)
