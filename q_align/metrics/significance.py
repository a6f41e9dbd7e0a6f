"""Significance of the difference between two models on the same items.

The two correlations share the MOS, so they are dependent; three tests that need no independence:
  - Williams' t (1959), as Steiger gives it (Psychological Bulletin 87, 1980, eq. 7), n - 3 degrees of freedom;
  - Steiger's Z: Fisher z with the pooled correlation (Steiger 1980, eqs. 3 and 14);
  - a paired bootstrap, by content where known: both models on the same resamples.
The first two hold for independent items and, strictly, for Pearson; on ranks they are the usual approximation. Where
several items share a content, believe the bootstrap. `holm` corrects for several comparisons (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from q_align.metrics.bootstrap import bootstrap_correlations, bootstrap_means, content_groups, percentile_interval
from q_align.metrics.correlation import is_constant, pearson, ranks

_MIN = 4  # Williams' t has n - 3 degrees of freedom


def williams(r_a: float, r_b: float, r_ab: float, n: int) -> tuple[float, float]:
    """t and two-sided p for r_a = r_b, where r_ab correlates the two predictors.

    Returns:
        (NaN, NaN) for n < 4 or when the predictors are the same up to sign.
    """
    from scipy.stats import t as student

    det = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    mean = (r_a + r_b) / 2
    if n < _MIN or not 1 - r_ab**2 > 1e-12:
        return (float("nan"), float("nan"))
    below = 2 * (n - 1) / (n - 3) * max(det, 0.0) + mean**2 * (1 - r_ab) ** 3
    statistic = (r_a - r_b) * np.sqrt((n - 1) * (1 + r_ab) / below) if below > 0 else float("nan")
    return float(statistic), float(2 * student.sf(abs(statistic), n - 3))


def steiger(r_a: float, r_b: float, r_ab: float, n: int) -> tuple[float, float]:
    """Z and two-sided p for r_a = r_b; (NaN, NaN) where undefined (n < 4, a perfect correlation, equal predictors)."""
    from scipy.stats import norm

    pooled = (r_a + r_b) / 2
    if n < _MIN or not (max(abs(r_a), abs(r_b)) < 1 and 1 - r_ab**2 > 1e-12):
        return (float("nan"), float("nan"))
    psi = r_ab * (1 - 2 * pooled**2) - 0.5 * pooled**2 * (1 - 2 * pooled**2 - r_ab**2)
    share = psi / (1 - pooled**2) ** 2
    if not share < 1:
        return (float("nan"), float("nan"))
    statistic = (np.arctanh(r_a) - np.arctanh(r_b)) * np.sqrt((n - 3) / (2 - 2 * share))
    return float(statistic), float(2 * norm.sf(abs(statistic)))


def compare_scores(
    mos: Any,
    scores: Mapping[str, Any],
    content: Any = None,
    *,
    correct: Mapping[str, Any] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Every pair of models, on the items that all of them scored.

    Args:
        mos: (N,) mean opinion scores.
        scores: model name -> (N,) scores; an item without a finite value in every model is left out. RMSE compares
            them with `mos` as they are, so both must be on one scale for it.
        content: (N,) names of what is shown, or None; the bootstrap then draws contents.
        correct: model name -> (N,) bool, whether the predicted level is that of the MOS; adds "level_accuracy".
        resamples: bootstrap draws, the same for every model.
        seed: of the bootstrap.

    Returns:
        One record per pair: models (a, b), n, unit ("content" or "item"), and under "srcc", "plcc", "rmse_raw" and
        "level_accuracy": a, b, difference (a - b), difference_ci (95%), bootstrap_p (two-sided), holm_p (corrected over
        the pairs), higher_is_better; for the correlations also williams_t, williams_p, steiger_z, steiger_p. NaN where
        undefined.
    """
    names = list(scores)
    table = np.stack([np.asarray(v, dtype=np.float64) for v in (mos, *scores.values())])  # (1 + M, N)
    keep = np.isfinite(table).all(axis=0)
    table = table[:, keep]
    content = None if content is None else np.asarray(content)[keep]
    n = table.shape[1]
    errors = (table[1:] - table[0]) ** 2  # (M, n)
    hits = None if correct is None else np.stack([np.asarray(correct[name], dtype=np.float64)[keep] for name in names])
    draws: dict[str, np.ndarray] = {}
    if n >= _MIN:
        options: dict[str, Any] = {"number": resamples, "seed": seed}
        if not any(map(is_constant, table)):
            ranked, linear = bootstrap_correlations(table[0], list(table[1:]), content, **options)
            draws = {"srcc": ranked, "plcc": linear}
        draws["rmse_raw"] = np.sqrt(bootstrap_means(errors.T, content, **options))
        if hits is not None:
            draws["level_accuracy"] = bootstrap_means(hits.T, content, **options)
    views = {"srcc": np.stack([ranks(row) for row in table]), "plcc": table}
    means: dict[str, Any] = {"rmse_raw": np.sqrt(_row_means(errors))}
    if hits is not None:
        means["level_accuracy"] = _row_means(hits)
    unit = "item" if content_groups(n, content)[0] is None else "content"
    found: list[dict[str, Any]] = []
    for i, j in combinations(range(len(names)), 2):
        record: dict[str, Any] = {"models": (names[i], names[j]), "n": n, "unit": unit}
        gaps = {name: drawn[:, i] - drawn[:, j] for name, drawn in draws.items()}
        for name, view in views.items():
            record[name] = _test_correlations(view[0], view[1 + i], view[1 + j], gaps.get(name))
        for name, values in means.items():
            record[name] = _difference(values[i], values[j], gaps.get(name))
            record[name]["higher_is_better"] = name != "rmse_raw"
        found.append(record)
    for name in (*views, *means):
        for record, value in zip(found, holm([record[name]["bootstrap_p"] for record in found])):
            record[name]["holm_p"] = value
    return found


def _test_correlations(mos: np.ndarray, a: np.ndarray, b: np.ndarray, gaps: np.ndarray | None) -> dict[str, Any]:
    n = len(mos)
    r_a, r_b, r_ab = pearson(mos, a), pearson(mos, b), pearson(a, b)
    t, t_p = williams(r_a, r_b, r_ab, n)
    z, z_p = steiger(r_a, r_b, r_ab, n)
    tests = {"williams_t": t, "williams_p": t_p, "steiger_z": z, "steiger_p": z_p, "higher_is_better": True}
    return {**_difference(r_a, r_b, gaps), **tests}


def _difference(a: float, b: float, gaps: np.ndarray | None) -> dict[str, Any]:
    """A difference with its interval and p from (R,) bootstrap differences; NaN without them."""
    low = high = p = float("nan")
    if gaps is not None:
        low, high = percentile_interval(gaps)
        gaps = gaps[np.isfinite(gaps)]
        # + 1: a p of exactly zero cannot come from finitely many resamples (Davison and Hinkley 1997, ch. 4)
        tail = min(np.sum(gaps <= 0), np.sum(gaps >= 0))
        p = float(min(1.0, 2 * (tail + 1) / (len(gaps) + 1)))
    return {
        "a": float(a),
        "b": float(b),
        "difference": float(a - b),
        "difference_ci": (low, high),
        "bootstrap_p": p,
    }


def _row_means(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=1) if values.shape[1] else np.full(len(values), np.nan)


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a comparison."""
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    adjusted = np.full(len(p), np.nan)
    ascending = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(ascending), 0, -1)
    adjusted[ascending] = np.minimum(1.0, np.maximum.accumulate(p[ascending] * factors))
    return [float(v) for v in adjusted]
