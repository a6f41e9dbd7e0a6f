"""Level accuracy, reliability, calibration, and distance between rating distributions.

Probabilities are (n, K), best level first, rows summing to 1; mos and score are (n,) on the level scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from q_align.levels import LevelScheme

BINS = 10


def level_accuracy(mos: np.ndarray, predicted: np.ndarray, scheme: LevelScheme) -> dict[str, Any]:
    """How often the predicted level is the level of the MOS.

    Args:
        mos: (n,) on the level scale.
        predicted: (n,) index of the predicted level, 0 = best.
        scheme: words and values of the K levels.

    Returns:
        accuracy, within_one (at most one level off), per_level: {word: {n, accuracy}} (accuracy NaN where n = 0),
        confusion: K x K counts, rows the true level.
    """
    truth = np.asarray(scheme.hard(mos))
    k = len(scheme.words)
    confusion = np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k)
    sizes = confusion.sum(axis=1)
    hits = np.diag(confusion)
    off = np.abs(truth - predicted)
    return {
        "accuracy": _mean(off == 0),
        "within_one": _mean(off <= 1),
        "per_level": {
            word: {"n": int(size), "accuracy": float(hit / size) if size else float("nan")}
            for word, hit, size in zip(scheme.words, hits, sizes)
        },
        "confusion": confusion.tolist(),
    }


def level_reliability(confidence: np.ndarray, correct: np.ndarray, *, bins: int = BINS) -> dict[str, Any]:
    """Reliability of the most probable level: stated probability against how often it is right.

    Args:
        confidence: (n,) probability of the predicted level.
        correct: (n,) bool.
        bins: equal widths over 0..1.

    Returns:
        ece: expected calibration error, sum_b n_b / n |accuracy_b - confidence_b| (Guo et al., ICML 2017), 0..1, lower
        is better; n, confidence and accuracy per bin (None where a bin is empty).
    """
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return _binned(index, confidence, correct.astype(np.float64), bins, names=("confidence", "accuracy"), error="ece")


def score_calibration(mos: np.ndarray, score: np.ndarray, *, bins: int = BINS) -> dict[str, Any]:
    """Calibration of the score itself: mean MOS of items with similar scores against their mean score.

    Returns:
        calibration_error: sum_b n_b / n |mean MOS_b - mean score_b| over bins with equally many items, in levels;
        bias: mean(score - MOS); n, score and mos per bin.
    """
    bins = max(1, min(bins, len(mos)))
    index = np.empty(len(mos), dtype=np.int64)
    index[np.argsort(score, kind="stable")] = np.arange(len(mos)) * bins // max(len(mos), 1)
    table = _binned(index, score, mos, bins, names=("score", "mos"), error="calibration_error")
    return {**table, "bias": _mean(score - mos)}


def distribution_distance(target: np.ndarray, probs: np.ndarray, values: tuple[float, ...]) -> dict[str, float]:
    """Mean distance of predicted level distributions from those of the raters; lower is better.

    Args:
        target: (n, K) share of ratings per level.
        probs: (n, K) predicted.
        values: (K,) of the levels, best first.

    Returns:
        kl: KL(target || probs) in nats (probabilities below 1e-12 count as 1e-12);
        js: Jensen-Shannon divergence in nats, 0..ln 2 (the square of scipy's `jensenshannon`);
        wasserstein: earth mover's distance with the level values as positions, in levels.
    """
    mixed = (target + probs) / 2
    gaps = -np.diff(np.asarray(values))  # (K-1,) positive
    apart = np.abs(np.cumsum(target - probs, axis=1)[:, :-1]) @ gaps
    return {
        "kl": _mean(_kl(target, np.maximum(probs, 1e-12))),
        "js": _mean(_kl(target, mixed) / 2 + _kl(probs, mixed) / 2),
        "wasserstein": _mean(apart),
    }


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)  # 0 log 0 = 0
    return np.sum(p * np.log(ratio), axis=1)


def _binned(
    index: np.ndarray, stated: np.ndarray, seen: np.ndarray, bins: int, *, names: tuple[str, str], error: str
) -> dict[str, Any]:
    sizes = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, weights=v, minlength=bins) / sizes for v in (stated, seen)]
    gap = np.nansum(np.abs(means[0] - means[1]) * sizes) / max(len(stated), 1)
    return {
        error: float(gap) if len(stated) else float("nan"),
        "n": sizes.tolist(),
        **{name: [float(m) if s else None for m, s in zip(mean, sizes)] for name, mean in zip(names, means)},
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
