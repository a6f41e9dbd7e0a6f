"""Vote histograms: how many raters gave each mark.

A histogram counts marks from the lowest to the highest: "3 5 10 2", "[3, 5, 10, 2]", or a list column.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q_align.errors import LabelError

SEPARATOR = re.compile(r"[\s,;|]+")


def read_votes(table: pa.Table, path: str | Path) -> np.ndarray:
    """The `votes` column as (N, bins) float64, lowest mark first.

    Raises:
        LabelError: names the first row whose histogram has another length, a negative or infinite count, or no vote.
    """
    rows = [_counts(value) for value in table.column("votes").to_pylist()]
    bins = len(rows[0] or ())
    for number, row in enumerate(rows, 1):
        if row is None or len(row) < 2:
            raise LabelError(f"{path}: row {number}: votes is not a list of at least two counts")
        if len(row) != bins:
            raise LabelError(f"{path}: row {number}: votes has {len(row)} bins, the first row has {bins}")
        if not all(0 <= v < float("inf") for v in row) or sum(row) <= 0:
            raise LabelError(f"{path}: row {number}: votes must be finite, >= 0, and not all zero, got {row}")
    return np.asarray(rows, dtype=np.float64)


def mean_and_std(votes: np.ndarray, mos_range: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (N,) of histograms (N, bins) whose marks are evenly spaced over `mos_range`."""
    marks = np.linspace(*mos_range, votes.shape[1])
    shares = votes / votes.sum(1, keepdims=True)
    mean = shares @ marks
    return mean, np.sqrt(np.maximum(shares @ marks**2 - mean**2, 0.0))


def _counts(value: Any) -> list[float] | None:
    if isinstance(value, str):
        value = [part for part in SEPARATOR.split(value.strip(" []()")) if part]
    try:
        return [float(v) for v in value]
    except (TypeError, ValueError):
        return None
