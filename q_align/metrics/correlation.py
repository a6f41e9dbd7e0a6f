"""Correlation and error of predicted scores against MOS.

Where a number is undefined the answer is NaN, never an exception and never a made-up 0 or 1:
fewer than three pairs (two points always correlate by +-1), or one side constant.
Ties get midranks (SRCC) and the tau-b correction (KRCC), as in scipy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MIN_PAIRS = 3
# Spread below this share of the magnitude is rounding noise: such a column is constant.
_NOISE = 1e-13


def finite_pairs(mos: Any, score: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs in which both sides are finite.

    Args:
        mos: (N,) numbers; None, NaN and infinities mark items without a value.
        score: (N,) likewise.

    Returns:
        mos (n,), score (n,), and keep (N,) bool; N - n items have no pair.

    Raises:
        ValueError: when the lengths differ.
    """
    mos = np.asarray(mos, dtype=np.float64).reshape(-1)
    score = np.asarray(score, dtype=np.float64).reshape(-1)
    if len(mos) != len(score):
        raise ValueError(
            f"{len(mos)} MOS values but {len(score)} scores; give one score per item (NaN where there is none)"
        )
    keep = np.isfinite(mos) & np.isfinite(score)
    return mos[keep], score[keep], keep


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of finite (n,) arrays; NaN for n < 3 or a constant side."""
    if len(a) < MIN_PAIRS or is_constant(a) or is_constant(b):
        return float("nan")
    a = a - a.mean()
    b = b - b.mean()
    # normalised first: products of tiny or huge numbers neither vanish nor overflow
    a = a / np.abs(a).max()
    b = b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def is_constant(a: np.ndarray) -> bool:
    """Whether (n,) values are all the same, up to rounding."""
    return len(a) == 0 or bool(np.ptp(a) <= _NOISE * np.abs(a).max())


def plcc(mos: Any, score: Any) -> float:
    """Pearson linear correlation, -1..1, higher is better."""
    mos, score, _ = finite_pairs(mos, score)
    return pearson(mos, score)


def srcc(mos: Any, score: Any) -> float:
    """Spearman rank correlation, -1..1, higher is better: Pearson of midranks."""
    mos, score, _ = finite_pairs(mos, score)
    if is_constant(mos) or is_constant(score):  # before ranking, which turns rounding noise into an order
        return float("nan")
    return pearson(ranks(mos), ranks(score))


def within_content_srcc(mos: Any, score: Any, content: Any) -> dict[str, Any]:
    """SRCC inside each content (the versions of one scene), averaged over contents.

    Args:
        mos, score: (N,) as in `srcc`.
        content: (N,) name of what each item shows.

    Returns:
        srcc: mean over the contents whose SRCC is defined, NaN where none is; contents: how many there are;
        defined: how many of them have an SRCC (at least three items, neither side constant).
    """
    mos, score, keep = finite_pairs(mos, score)
    names, group = np.unique(np.asarray(content)[keep].astype(str), return_inverse=True)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(group, minlength=len(names)))[:-1]) if len(names) else []
    found = np.array([srcc(mos[part], score[part]) for part in parts if len(part) >= MIN_PAIRS])
    found = found[np.isfinite(found)]
    mean = float(found.mean()) if len(found) else float("nan")
    return {"srcc": mean, "contents": len(names), "defined": len(found)}


def krcc(mos: Any, score: Any) -> float:
    """Kendall rank correlation tau-b, -1..1, higher is better."""
    from scipy.stats import kendalltau

    mos, score, _ = finite_pairs(mos, score)
    if len(mos) < MIN_PAIRS or is_constant(mos) or is_constant(score):
        return float("nan")
    return float(kendalltau(mos, score).statistic)


def rmse(mos: Any, score: Any) -> float:
    """Root of the mean squared difference, divided by n, in the unit of both; lower is better. NaN for no pairs."""
    mos, score, _ = finite_pairs(mos, score)
    return float(np.sqrt(np.mean((mos - score) ** 2))) if len(mos) else float("nan")


def ranks(values: np.ndarray) -> np.ndarray:
    """Midranks 1..n of (n,) values."""
    from scipy.stats import rankdata

    return rankdata(values)
