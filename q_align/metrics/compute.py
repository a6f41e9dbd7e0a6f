"""All metrics of one set of scores in one record: what `q-align evaluate` writes and the report shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from q_align.levels import LevelScheme
from q_align.metrics import agreement
from q_align.metrics.bootstrap import bootstrap_correlations, content_groups, percentile_interval
from q_align.metrics.correlation import (
    MIN_PAIRS,
    finite_pairs,
    is_constant,
    krcc,
    plcc,
    rmse,
    srcc,
    within_content_srcc,
)
from q_align.metrics.logistic import fit_logistic


def compute_metrics(
    mos: Any,
    score: Any,
    *,
    probs: Any = None,
    target: Any = None,
    content: Any = None,
    scheme: LevelScheme | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics of predicted scores against MOS.

    Args:
        mos: (N,) on the level scale; None or NaN where an item has no value.
        score: (N,) on the level scale, likewise.
        probs: (N, K) level probabilities, best first; NaN rows where there are none. Adds level accuracy and
            reliability over the rows that have them.
        target: (N, K) raters' distribution over the levels, NaN rows where unknown. With `probs`, adds distances.
        content: (N,) names of what is shown; the intervals then draw contents.
        scheme: words and values of the levels; the default five where not given.
        resamples: bootstrap draws; 0 leaves the intervals out.
        seed: of the bootstrap.

    Returns:
        n (pairs used), failed (items left out), srcc, plcc, plcc_logistic, krcc, rmse, srcc_ci, plcc_ci and more (see
        docs/evaluation.md). `within_content` needs contents. `rmse` and `plcc_logistic` are taken after the
        four-parameter logistic, `rmse_raw` before; numbers are NaN where undefined, and `notes` says why.
    """
    scheme = scheme or LevelScheme()
    total = len(np.asarray(mos, dtype=np.float64).reshape(-1))
    mos, score, keep = finite_pairs(mos, score)
    if content is not None:
        content = np.asarray(content)[keep]
    four = fit_logistic(mos, score, parameters=4)
    five = fit_logistic(mos, score, parameters=5)
    result: dict[str, Any] = {
        "n": len(mos),
        "failed": total - len(mos),
        "srcc": srcc(mos, score),
        "plcc": plcc(mos, score),
        "plcc_logistic": four.plcc,
        "krcc": krcc(mos, score),
        "rmse": four.rmse,
        **_intervals(mos, score, content, resamples, seed),
        "rmse_raw": rmse(mos, score),
        "mae": float(np.mean(np.abs(mos - score))) if len(mos) else float("nan"),
        "plcc_logistic5": five.plcc,
        "rmse_logistic5": five.rmse,
        "logistic4": four.record(),
        "logistic5": five.record(),
        "calibration": agreement.score_calibration(mos, score),
        "notes": _notes(mos, score, {"4": four, "5": five}),
    }
    if content is not None:
        result["within_content"] = within_content_srcc(mos, score, content)
    if probs is not None:
        chosen = np.asarray(probs, dtype=np.float64)[keep]
        there = np.isfinite(chosen).all(axis=1)  # a model that predicts a number has no level probabilities
        result |= _levels(mos[there], chosen[there], scheme)
        if target is not None:
            target = np.asarray(target, dtype=np.float64)[keep]
            result |= _distributions(target[there], chosen[there], scheme)
    return result


def _intervals(mos: np.ndarray, score: np.ndarray, content: Any, resamples: int, seed: int) -> dict[str, Any]:
    nothing = (float("nan"), float("nan"))
    group, groups = content_groups(len(mos), content)
    found = {"srcc_ci": nothing, "plcc_ci": nothing}
    if resamples and len(mos) >= MIN_PAIRS and not (is_constant(mos) or is_constant(score)):
        ranked, linear = bootstrap_correlations(mos, [score], content, number=resamples, seed=seed)
        found = {
            "srcc_ci": percentile_interval(ranked[:, 0]),
            "plcc_ci": percentile_interval(linear[:, 0]),
        }
    how = {"level": 0.95, "unit": "item" if group is None else "content", "units": groups, "resamples": resamples}
    return {**found, "ci": how}


def _levels(mos: np.ndarray, probs: np.ndarray, scheme: LevelScheme) -> dict[str, Any]:
    predicted = probs.argmax(axis=1) if len(probs) else np.zeros(0, dtype=np.int64)
    confidence = probs.max(axis=1) if len(probs) else np.zeros(0)
    levels = agreement.level_accuracy(mos, predicted, scheme)
    curve = agreement.level_reliability(confidence, np.asarray(scheme.hard(mos)) == predicted)
    return {"level_accuracy": levels["accuracy"], "levels": levels, "ece": curve["ece"], "reliability": curve}


def _distributions(target: np.ndarray, probs: np.ndarray, scheme: LevelScheme) -> dict[str, Any]:
    known = np.isfinite(target).all(axis=1)
    if not known.any():
        return {}
    distances = agreement.distribution_distance(target[known], probs[known], scheme.values)
    return {"distribution": {"n": int(known.sum()), **distances}}


def _notes(mos: np.ndarray, score: np.ndarray, fits: dict[str, Any]) -> list[str]:
    notes = []
    if len(mos) < MIN_PAIRS:
        notes.append(f"correlations need {MIN_PAIRS} pairs, got {len(mos)}")
    else:
        notes += [
            f"the {what} are constant: correlations are undefined"
            for what, v in (("MOS values", mos), ("scores", score))
            if is_constant(v)
        ]
    for name, fit in fits.items():
        if fit.note:
            notes.append(f"{name}-parameter logistic: {fit.note}")
        elif not fit.converged:
            notes.append(f"{name}-parameter logistic: the fit did not converge")
        elif not fit.monotone:
            notes.append(
                f"{name}-parameter logistic: the curve is not monotone over the scores; prefer four parameters"
            )
    return notes
