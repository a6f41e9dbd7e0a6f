"""Settings of an evaluation, from the command line or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How to evaluate; the defaults are those of `q-align evaluate`.

    Attributes:
        split: rows to take; None: "test" where there is such a split, else every row; "all": every row.
        labels_root: folder of published label files.
        mos_range: lowest and highest MOS of the data sets' own scale; None: see `ground_truth`.
        higher_is_better: direction of the MOS; None: the card's, the models', or that of the column's name.
        task: task of data sets that name none; None: see `ground_truth`.
        scale: scale of the `*_mos` results: None: each data set's own; "mos:SOURCE"; "level": leave them out.
        loading: options of `Scorer.from_pretrained`.
        cache: folder of cached scores; None: the user's cache folder; False: no cache.
        resamples, seed: of the bootstrap.
    """

    split: str | None = None
    labels_root: str | None = None
    mos_range: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    task: str | None = None
    scale: str | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    cache: str | bool | None = None
    resamples: int = 1000
    seed: int = 0
