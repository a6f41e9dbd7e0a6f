"""Calibration: scores on the level scale -> a data set's own MOS, in its own units and direction.

A fit is a small dictionary of numbers; `ModelCard.calibration[source]` holds it, and whoever scores applies it:
`scale = find_scale("mos:koniq", card.calibration, card.trained_on, low, high)` once, then
`row = rescaled(score.row(), scale)` (or `convert(scale, score.value, score.std)`) per score. What each scale means:
docs/scales.md.
Knows arrays and dictionaries; no files, no models. Fit on a validation split, never on the rows that are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from q_align.errors import ConfigError, QAlignError, nearest

Kind = Literal["affine", "logistic", "isotonic"]
KNOTS = 100  # of an isotonic fit
FEWEST = 10  # media; below that a fit says more about chance than about the scale


def fit(score: Any, mos: Any, *, kind: Kind = "logistic", higher_is_better: bool = True) -> dict[str, Any]:
    """Fits a monotone map from scores to MOS by least squares.

    Args:
        score: (N,) values on the level scale.
        mos: (N,) opinions on the data set's own scale.
        kind: "affine" (slope and offset), "logistic" (four parameters, VQEG), or "isotonic" (any monotone curve;
            straight between its knots, constant beyond its ends).
        higher_is_better: direction of `mos`.

    Returns:
        `kind`, its parameters, `n` and the root mean squared error `rmse` in units of the MOS.

    Raises:
        QAlignError: for fewer than ten media, constant scores, or scores that run against the opinions.
    """
    score, mos = np.asarray(score, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    known = np.isfinite(score) & np.isfinite(mos)
    score, mos = score[known], mos[known]
    if len(score) < FEWEST:
        raise QAlignError(f"calibration needs at least {FEWEST} rated and scored media, got {len(score)}")
    sign = 1 if higher_is_better else -1
    if not sign * float(((score - score.mean()) * (mos - mos.mean())).sum()) > 0:
        raise QAlignError(f"the scores of these {len(score)} media do not rise with the opinions; nothing to calibrate")
    if kind == "affine":
        slope, offset = np.polyfit(score, mos, 1)
        record: dict[str, Any] = {"kind": kind, "slope": float(slope), "offset": float(offset)}
    elif kind == "logistic":
        from q_align.evaluate.metrics import fit_logistic

        found = fit_logistic(mos, score, parameters=4)
        if not found.beta:
            raise QAlignError(f"no logistic calibration: {found.note}")
        record = {"kind": kind, "beta": list(found.beta)}
    elif kind == "isotonic":
        x, y = _isotonic(score, sign * mos)
        record = {"kind": kind, "score": x.tolist(), "mos": (sign * y).tolist()}
    else:
        raise ConfigError(f"unknown calibration {kind!r}{nearest(kind, KINDS)}; kinds are {', '.join(KINDS)}")
    rmse = float(np.sqrt(np.mean((apply(record, score) - mos) ** 2)))
    return record | {"n": len(score), "rmse": rmse}


def apply(record: Mapping[str, Any], score: Any) -> np.ndarray:
    """Scores on the level scale (any shape) -> MOS of the data set that the record was fitted on."""
    if record.get("kind") not in KINDS:
        raise QAlignError(
            f"unknown calibration {record.get('kind')!r} in the model's card; kinds are {', '.join(KINDS)}"
        )
    score = np.asarray(score, dtype=np.float64)
    if record["kind"] == "affine":
        return record["slope"] * score + record["offset"]
    if record["kind"] == "logistic":
        from q_align.evaluate.metrics.logistic import curve

        return curve(score, tuple(record["beta"]))
    return np.interp(score, record["score"], record["mos"])


def convert(record: Mapping[str, Any], value: float, std: float | None = None) -> tuple[float, float | None]:
    """One score and its std -> both on the other scale (the std by the local slope of the map)."""
    if std is None:
        return float(apply(record, value)), None
    below, here, above = apply(record, [value - std / 2, value, value + std / 2])
    return float(here), float(abs(above - below))


def rescaled(row: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A row of scores with `value`, `std` and `frames` on the other scale; probabilities and level stay as they are."""
    if row.get("value") is None:
        return row
    value, std = convert(record, row["value"], row.get("std"))
    row = row | {"value": value, "std": std}
    if row.get("frames"):
        row["frames"] = tuple(None if frame is None else float(apply(record, frame)) for frame in row["frames"])
    return row


def find_scale(
    name: str, calibration: Mapping[str, Any], trained_on: Sequence[Mapping[str, Any]], low: float, high: float
) -> dict[str, Any]:
    """The map behind a name of a scale.

    Args:
        name: "level" (as it is), "unit" (0..1), "percent" (0..100), or "mos:SOURCE".
        calibration: source -> record, of the model's card.
        trained_on: records with source, mos_range and higher_is_better, of the model's card. A source that the model
            was trained on, but never calibrated for, is mapped by its range: the level scale turned back.
        low, high: ends of the level scale.

    Raises:
        ConfigError: for an unknown scale or source; names those there are.
    """
    ends = {"level": (low, high), "unit": (0.0, 1.0), "percent": (0.0, 100.0)}
    ranges = {str(r["source"]): r for r in trained_on if r.get("mos_range")}
    kind, _, source = name.partition(":")
    if kind == "mos" and source in calibration:
        return dict(calibration[source])
    if kind == "mos" and source in ranges:
        first, last = (float(end) for end in ranges[source]["mos_range"])
        better = ranges[source].get("higher_is_better", True)
        return _between((low, high), (first, last) if better else (last, first))
    if name in ends:
        return _between((low, high), ends[name])
    known = [*ends, *(f"mos:{s}" for s in sorted({*calibration, *ranges}))]
    raise ConfigError(f"unknown scale {name!r}{nearest(name, known)}; scales of this model are {', '.join(known)}")


def _between(old: tuple[float, float], new: tuple[float, float]) -> dict[str, Any]:
    slope = (new[1] - new[0]) / (old[1] - old[0])
    return {"kind": "affine", "slope": slope, "offset": new[0] - slope * old[0]}


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


KINDS = ("affine", "logistic", "isotonic")
