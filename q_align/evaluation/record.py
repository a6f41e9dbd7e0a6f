"""The result of one model on one test set: metrics, one row per item, and the files of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q_align.errors import require
from q_align.evaluation.results import METRICS_FILE, SCHEMA, float_column, level_probs, write_json, write_scores
from q_align.levels import LevelScheme

LINE = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


@dataclass(slots=True, repr=False, eq=False)
class Evaluation(Mapping[str, Any]):
    """One model on one test set; `evaluation["srcc"]` is one of its metrics.

    Attributes:
        name: for the terminal: the test set, with the model where there are several.
        model, data: short names.
        metrics: all that metrics.json holds (docs/evaluation.md); undefined numbers are NaN.
        table: one row per item (pyarrow), as scores.parquet holds it.
        scheme: the model's levels.
        folder: where it was written, or None.
    """

    name: str
    model: str
    data: str
    metrics: dict[str, Any]
    table: pa.Table
    scheme: LevelScheme
    folder: Path | None = None

    def __getitem__(self, key: str) -> Any:
        return self.metrics[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __repr__(self) -> str:
        return f"Evaluation({self.line()})"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per item, in the order of the labels."""
        return self.table.to_pylist()

    def to_pandas(self) -> Any:
        """The rows as a DataFrame.

        Raises:
            MissingExtraError: without pandas.
        """
        require("pandas", extra="pandas")
        return self.table.to_pandas()

    def column(self, name: str) -> np.ndarray:
        """(N,) numbers of a column of scores.parquet, NaN where missing; texts as objects; (N, K) for "probs"."""
        if name == "probs":
            return level_probs(self.table, len(self.scheme.words))
        if pa.types.is_floating(SCHEMA.field(name).type):
            return float_column(self.table, name)
        there = name in self.table.column_names
        return np.array(self.table.column(name).to_pylist() if there else [None] * len(self.table), dtype=object)

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: items with a score and a MOS."""
        return np.isfinite(self.column("value")) & np.isfinite(self.column("mos"))

    def save(self, folder: str | Path) -> Path:
        """Writes scores.parquet and metrics.json, as `q-align report` reads them."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_scores(self.table, self.folder)
        write_json(self.metrics, self.folder / METRICS_FILE)
        return self.folder

    def line(self) -> str:
        """The result in one line."""
        m = self.metrics
        shown = [f"{key} {m[key]:.4f}" for key in LINE if math.isfinite(m[key])]
        low, high = m["srcc_ci"]
        interval = f" (srcc 95%: {low:.4f} .. {high:.4f})" if math.isfinite(low) else ""
        trained = f"; {m['training_rows']} rows are not a test of this model" if m.get("training_rows") else ""
        metrics = ", ".join(shown) or "no metric is defined"
        return f"{self.name}: n {m['n']}, failed {m['failed']}, {metrics}{interval}{trained}"
