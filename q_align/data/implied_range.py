"""The MOS range that a labels file was cut into equal levels with, recovered from its level words.

Each border between two levels is between the MOS on both sides of it; K equal intervals make the
borders a straight line in two unknowns, the ends of the range. All ends that agree with every border form a polygon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Implied:
    """The range that levels imply.

    Attributes:
        low, high: ends of the range in the middle of all that fit.
        low_between, high_between: extremes of each end over all ranges that fit equally well.
        slack: how far the borders have to give way for equal intervals to exist, in units of the MOS; 0: not at all.
        strays: rows on the wrong side of a border wherever it is put (noise in the file), counted for each border.
    """

    low: float
    high: float
    low_between: tuple[float, float]
    high_between: tuple[float, float]
    slack: float
    strays: int


def implied_range(mos: np.ndarray, level: np.ndarray, levels: int) -> Implied | None:
    """Args:
        mos: (N,) on the data set's own scale, higher is better.
        level: (N,) index of the level that the file gives, 0 = best; negative where it gives none.
        levels: K.

    Returns:
        None where fewer than two borders can be seen, or all of them in one gap of the data.
    """
    known = level >= 0
    order = np.argsort(mos[known], kind="stable")
    mos, step = mos[known][order], (levels - 1 - level[known])[order]
    shares, below, above, strays = [], [], [], 0
    for border in range(1, levels):
        upper = step >= border
        if not upper.any() or upper.all():
            continue
        # wrong[i]: rows on the wrong side when the border is put before row i
        wrong = np.concatenate([[0], np.cumsum(upper)]) + np.concatenate([np.cumsum(~upper[::-1])[::-1], [0]])
        wrong[1:-1][mos[1:] == mos[:-1]] = len(mos) + 1  # no border between equal MOS
        cut = int(wrong[1:-1].argmin()) + 1
        strays += int(wrong[cut])
        shares.append(border / levels)
        below.append(mos[cut - 1])
        above.append(mos[cut])
    if len(shares) < 2:
        return None
    return _solve(np.array(shares), np.array(below), np.array(above), strays)


def _solve(shares: np.ndarray, below: np.ndarray, above: np.ndarray, strays: int) -> Implied | None:
    """below <= low + share (high - low) <= above for every border, with the least slack."""
    from scipy.optimize import linprog

    rows = np.stack([1 - shares, shares], axis=1)  # border = rows @ (low, high)
    one = -np.ones((len(shares), 1))
    sides = np.concatenate([np.hstack([rows, one]), np.hstack([-rows, one])])
    limits = np.concatenate([above, -below])
    free = [(None, None), (None, None), (0, None)]
    slack = linprog([0, 0, 1], A_ub=sides, b_ub=limits, bounds=free).x[2]
    free[2] = (0, slack + 1e-9 * (above[-1] - below[0]))
    ends = []
    for direction in ([1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]):
        ends.append(linprog(direction, A_ub=sides, b_ub=limits, bounds=free).x)
    # The solver's own tolerance is about 1e-8 of the data; more digits would be noise.
    digits = 5 - int(np.floor(np.log10(above[-1] - below[0])))
    corners = np.round(ends, digits)  # (4, 3): lowest and highest low, lowest and highest high
    low, high = np.round(np.mean(ends, axis=0)[:2], digits) + 0.0
    if not low < high:
        return None  # all borders in one gap of the data
    low_between = (float(corners[0, 0]), float(corners[1, 0]))
    high_between = (float(corners[2, 1]), float(corners[3, 1]))
    return Implied(float(low), float(high), low_between, high_between, round(float(slack), digits), strays)
