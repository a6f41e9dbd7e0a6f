"""SRCC and PLCC of an evaluation, per set and on average. Knows arrays; no model, no trainer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from q_align.metrics import plcc, srcc


def rating_metrics(scores: np.ndarray, rows: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Agreement of scores with opinions; opinions are compared within one set only.

    Args:
        scores: (N,) predicted, higher is better.
        rows: (N, 3) position in the data set, number of the set, MOS; NaN MOS where the medium could not be read.
        names: of the sets.

    Returns:
        `NAME_srcc`, `NAME_plcc` per set, `srcc` and `plcc` (their means over the sets), `n` media that were rated and
        `failed` ones that could not be read.
    """
    # several processes fill the last batch up with repeated media: every one counts once
    _, first = np.unique(rows[:, 0], return_index=True)
    scores, rows = scores[first], rows[first]
    usable = np.isfinite(rows[:, 2])
    failed = int((~usable).sum())
    scores, rows = scores[usable], rows[usable]
    found: dict[str, list[float]] = defaultdict(list)
    metrics: dict[str, float] = {}
    for number in np.unique(rows[:, 1]).astype(int):
        mine = rows[:, 1] == number
        for name, function in (("srcc", srcc), ("plcc", plcc)):
            value = float(function(rows[mine, 2], scores[mine]))
            # a constant score ranks nothing: 0, so that the mean stays a number
            metrics[f"{names[number]}_{name}"] = 0.0 if np.isnan(value) else value
            found[name].append(metrics[f"{names[number]}_{name}"])
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return metrics | {"srcc": 0.0, "plcc": 0.0} | means | {"n": len(rows), "failed": failed}
