"""Fits the map from a model's scores to a data set's own MOS, in its own units and direction.

A fit is a small dictionary of numbers; `ModelCard.calibration[source]` holds it and `q_align.score.scale` applies it.
Fit on a validation split, never on the rows that are reported.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from q_align.errors import ConfigError, QAlignError, nearest
from q_align.score.scale import KINDS, map_scores

Kind = Literal["affine", "logistic", "isotonic"]
KNOTS = 100  # of an isotonic fit
FEWEST = 10  # items; with fewer a fit shows chance rather than the scale


def fit_calibration(score: Any, mos: Any, *, kind: Kind = "logistic", higher_is_better: bool = True) -> dict[str, Any]:
    """Fits a monotone map from scores to MOS by least squares.

    Args:
        score: (N,) values on the level scale.
        mos: (N,) on the data set's own scale.
        kind: "affine" (slope and offset), "logistic" (four parameters, VQEG), or "isotonic" (any monotone curve;
            straight between its knots, constant beyond its ends).
        higher_is_better: direction of `mos`.

    Returns:
        `kind`, its parameters, `n` and the root mean squared error `rmse` in units of the MOS.

    Raises:
        QAlignError: for fewer than ten items, constant scores, or scores that do not rise with the MOS.
    """
    score, mos = np.asarray(score, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    known = np.isfinite(score) & np.isfinite(mos)
    score, mos = score[known], mos[known]
    if len(score) < FEWEST:
        raise QAlignError(f"calibration needs at least {FEWEST} items with MOS and score, got {len(score)}")
    sign = 1 if higher_is_better else -1
    if not sign * float(((score - score.mean()) * (mos - mos.mean())).sum()) > 0:
        raise QAlignError(f"the scores of these {len(score)} items do not rise with the MOS; nothing to calibrate")
    if kind == "affine":
        slope, offset = np.polyfit(score, mos, 1)
        record: dict[str, Any] = {"kind": kind, "slope": float(slope), "offset": float(offset)}
    elif kind == "logistic":
        from q_align.metrics import fit_logistic

        found = fit_logistic(mos, score, parameters=4)
        if not found.beta:
            raise QAlignError(f"no logistic calibration: {found.note}")
        record = {"kind": kind, "beta": list(found.beta)}
    elif kind == "isotonic":
        x, y = _isotonic(score, sign * mos)
        record = {"kind": kind, "score": x.tolist(), "mos": (sign * y).tolist()}
    else:
        raise ConfigError(f"unknown calibration {kind!r}{nearest(kind, KINDS)}; kinds are {', '.join(KINDS)}")
    rmse = float(np.sqrt(np.mean((map_scores(record, score) - mos) ** 2)))
    return record | {"n": len(score), "rmse": rmse}


def _isotonic(score: np.ndarray, mos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of the rising least-squares fit (pool adjacent violators)."""
    from scipy.optimize import isotonic_regression

    x, where, count = np.unique(score, return_inverse=True, return_counts=True)
    y = isotonic_regression(np.bincount(where, mos) / count, weights=count).x
    # Blocks of equal value keep their two ends; a long fit is thinned.
    step = np.diff(y) != 0
    keep = np.flatnonzero(np.concatenate([[True], step]) | np.concatenate([step, [True]]))
    if len(keep) > KNOTS:
        keep = keep[np.linspace(0, len(keep) - 1, KNOTS).round().astype(int)]
    return x[keep], y[keep]
