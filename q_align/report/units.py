"""Units of a chart: scores and MOS on the level scale, or in the data set's own MOS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q_align.evaluation.record import Evaluation

LEVELS, MOS = "levels", "mos"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores and MOS of the items that have both, in one unit.

    Attributes:
        score, mos: (n,).
        ends: lowest and highest value of the unit.
        reach: lowest and highest MOS to draw, over all items of the set, so that models share their axes.
        unit: for axis titles.
    """

    score: np.ndarray
    mos: np.ndarray
    ends: tuple[float, float]
    reach: tuple[float, float]
    unit: str


def pairs_of(result: Evaluation, units: str) -> Pairs:
    """The pairs of a result in "levels" or, where it was evaluated with a scale, in "mos"."""
    keep = result.known
    low, high = ends = (result.scheme.low, result.scheme.high)
    score, mos, unit = result.column("value"), result.column("mos"), "level scale"
    if in_mos(result, units):
        score, mos, unit = result.column("value_mos"), result.column("raw_mos"), "MOS of the data set"
        low, high = map(float, result.metrics["mos_range"])
        ends = (low, high)
    every = mos[np.isfinite(mos)]
    reach = (min([low, *every]), max([high, *every]))
    return Pairs(score[keep], mos[keep], ends, reach, unit)


def in_mos(result: Evaluation, units: str) -> bool:
    """Whether the charts of this result can be, and are to be, in the data set's own units."""
    return units == MOS and bool(result.metrics.get("mos_scale"))


def logistic_in(result: Evaluation, units: str, score: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve over the level scale (score, fitted MOS) -> the same curve in the units asked for."""
    if not in_mos(result, units):
        return score, fitted
    keep = result.known
    order = np.argsort(result.column("value")[keep])
    level, mapped = result.column("value")[keep][order], result.column("value_mos")[keep][order]
    first, last = map(float, result.metrics["mos_range"])
    if not result.metrics["higher_is_better"]:
        first, last = last, first
    share = (fitted - result.scheme.low) / (result.scheme.high - result.scheme.low)
    return np.interp(score, level, mapped), first + share * (last - first)
