"""Bootstrap distributions of SRCC, PLCC and means, resampled by content where contents are known.

Items that show the same content are not independent: where the contents are known, contents are drawn (with
replacement), not items; the interval is then as wide as the number of contents warrants. Percentile intervals
(Efron and Tibshirani 1993, ch. 13), which for a correlation equal those taken on Fisher's z.

A resample is a vector of counts. With the order of the items known, the midranks of a resample are a running sum of
its counts, so no resample is ever sorted: O(n) each, equal to ranking the resampled items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_BLOCK = 2_000_000  # numbers in one block of resamples
MIN_GROUPS = 2


@dataclass(frozen=True, slots=True)
class TieOrder:
    """The order of (n,) values: `sort` (n,) indices, `start` (g,) where each tie begins, `group` (n,) tie of each."""

    sort: np.ndarray
    start: np.ndarray
    group: np.ndarray


def tie_order(values: np.ndarray) -> TieOrder:
    sort = np.argsort(values, kind="stable")
    new = np.ones(len(values), dtype=bool)
    new[1:] = np.diff(values[sort]) > 0
    group = np.empty(len(values), dtype=np.int64)
    group[sort] = np.cumsum(new) - 1
    return TieOrder(sort, np.flatnonzero(new), group)


def resampled_ranks(by: TieOrder, counts: np.ndarray) -> np.ndarray:
    """Midranks (R, n) of each item within each resample; counts (R, n) says how often the item is in it."""
    sizes = counts[:, by.sort]
    if len(by.start) < len(by.sort):
        sizes = np.add.reduceat(sizes, by.start, axis=1)  # (R, g)
    above = np.cumsum(sizes, axis=1)
    return (above - (sizes - 1) / 2)[:, by.group]


def weighted_pearson(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson correlation (R,) of a and b, (R, n) or (n,), with counts (R, n); NaN where a side is constant."""
    total = counts.sum(axis=1)
    a = a - (np.einsum("...n,...n->...", counts, a) / total)[:, None]
    b = b - (np.einsum("...n,...n->...", counts, b) / total)[:, None]
    weighted = counts * a
    cross, aa = np.einsum("rn,rn->r", weighted, b), np.einsum("rn,rn->r", weighted, a)
    bb = np.einsum("rn,rn,rn->r", counts, b, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((aa > 1e-20) & (bb > 1e-20), cross / np.sqrt(aa * bb), np.nan)


def resample_counts(n: int, content: Any = None, *, number: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of counts (r, n), `number` rows in all.

    Args:
        n: items.
        content: (n,) labels; whole contents are drawn. None, or fewer than two contents: items are drawn.
        number: resamples.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    group, groups = content_groups(n, content)
    rows = max(1, _BLOCK // max(n, 1))
    for first in range(0, number, rows):
        size = min(rows, number - first)
        drawn = rng.integers(0, groups, size=(size, groups)) + np.arange(size)[:, None] * groups
        counts = np.bincount(drawn.reshape(-1), minlength=size * groups).reshape(size, groups)
        yield counts.astype(np.float64) if group is None else counts[:, group].astype(np.float64)


def content_groups(n: int, content: Any = None) -> tuple[np.ndarray | None, int]:
    """Number (n,) of each item's content and how many there are; (None, n) where items themselves are drawn."""
    if content is None:
        return None, n
    names, group = np.unique(np.asarray(content).astype(str), return_inverse=True)
    return (group, len(names)) if MIN_GROUPS <= len(names) < n else (None, n)


def bootstrap_correlations(
    mos: np.ndarray, scores: list[np.ndarray], content: Any = None, *, number: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """SRCC and PLCC, each (number, models), of several models on the same resamples.

    Args:
        mos: (n,) finite.
        scores: one finite (n,) array per model.
        content: (n,) labels, or None.
        number: resamples.
        seed: of the resamples.
    """
    by_mos, by_score = tie_order(mos), [tie_order(s) for s in scores]
    ranked, linear = [], []
    unit_mos, units = _unit(mos), [_unit(s) for s in scores]
    for counts in resample_counts(len(mos), content, number=number, seed=seed):
        mos_ranks = resampled_ranks(by_mos, counts)
        ranked.append([weighted_pearson(mos_ranks, resampled_ranks(by, counts), counts) for by in by_score])
        linear.append([weighted_pearson(unit_mos, unit, counts) for unit in units])
    return np.concatenate(ranked, axis=1).T, np.concatenate(linear, axis=1).T


def bootstrap_means(columns: np.ndarray, content: Any = None, *, number: int = 1000, seed: int = 0) -> np.ndarray:
    """Means (number, k) of columns (n, k) on the same resamples that `bootstrap_correlations` draws for this seed."""
    means = [
        counts @ columns / counts.sum(axis=1, keepdims=True)
        for counts in resample_counts(len(columns), content, number=number, seed=seed)
    ]
    return np.concatenate(means)  # (number, k)


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of (R,) draws, NaN draws left out; (NaN, NaN) when fewer than half are defined."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < max(2, len(draws) / 2):
        return (float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def _unit(values: np.ndarray) -> np.ndarray:
    """Standardised values, so that the test for a constant resample is free of units."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
