"""SRCC and PLCC of an evaluation in training: per data set, and their means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from q_align.metrics import plcc, srcc


def rating_metrics(scores: np.ndarray, rows: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Agreement of scores with MOS, which are compared within one set only.

    Args:
        scores: (N,) predicted, higher is better.
        rows: (N, 3) position in the data set, number of the set, MOS; NaN MOS where the item could not be read.
        names: of the sets.

    Returns:
        `NAME_srcc`, `NAME_plcc` per set (NaN where undefined: one item, or constant scores or MOS), `srcc` and `plcc`
        (means over the sets where they are defined, else NaN), `n` items that were scored and `failed` ones that could
        not be read.
    """
    # several processes fill the last batch up with repeated items: each one counts once
    _, first = np.unique(rows[:, 0], return_index=True)
    scores, rows = scores[first], rows[first]
    usable = np.isfinite(rows[:, 2])
    failed = int((~usable).sum())
    numbers = np.unique(rows[:, 1]).astype(int)
    scores, rows = scores[usable], rows[usable]
    found: dict[str, list[float]] = defaultdict(list)
    metrics: dict[str, float] = {}
    for number in numbers:
        mine = rows[:, 1] == number
        for name, function in (("srcc", srcc), ("plcc", plcc)):
            value = float(function(rows[mine, 2], scores[mine])) if mine.sum() > 1 else float("nan")
            metrics[f"{names[number]}_{name}"] = value
            found[name] += [value] if np.isfinite(value) else []
    means = {name: float(np.mean(found[name])) if found[name] else float("nan") for name in ("srcc", "plcc")}
    return metrics | means | {"n": len(rows), "failed": failed}
