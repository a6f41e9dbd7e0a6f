"""Result files of an evaluation: scores.parquet with one row per item, metrics.json, and the names of both."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from q_align.data.labels import Labels
from q_align.levels import LevelScheme
from q_align.score.scale import Scale

METRICS_FILE, SCORES_FILE = "metrics.json", "scores.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("media", pa.string()),
        ("value", pa.float64()),
        ("level", pa.string()),
        ("probs", pa.list_(pa.float64())),
        ("std", pa.float64()),
        ("mass", pa.float64()),
        ("error", pa.string()),
        ("mos", pa.float64()),
        ("raw_mos", pa.float64()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("content", pa.string()),
        ("mos_std", pa.float64()),
        ("warning", pa.string()),
        ("question", pa.string()),
        ("value_mos", pa.float64()),
        ("std_mos", pa.float64()),
        ("scale", pa.string()),
    ]
)


def make_scores_table(labels: Labels, scores: list[dict[str, Any]], scale: Scale | None = None) -> pa.Table:
    """One row per item of `labels`, in their order.

    Args:
        labels: rated items.
        scores: as many records with value, level, probs, std, mass, error, warning (missing keys are null).
        scale: adds `value_mos` and `std_mos`, the score in units of `raw_mos`, and `scale`, its name.
    """
    assert len(scores) == len(labels), "an item never disappears"
    columns: dict[str, Any] = {
        name: pa.array([score.get(name) for score in scores], SCHEMA.field(name).type)
        for name in ("value", "level", "probs", "std", "mass", "error", "warning")
    }
    for name in ("id", "media", "mos", "raw_mos", "source", "task", "split", "content", "question"):
        columns[name] = labels.table.column(name).cast(SCHEMA.field(name).type)
    columns["mos_std"] = labels.table.column("std").cast(pa.float64())
    pairs = [(None, None) if scale is None else scale.apply(s.get("value"), s.get("std")) for s in scores]
    columns["value_mos"] = pa.array([value for value, _ in pairs], pa.float64())
    columns["std_mos"] = pa.array([std for _, std in pairs], pa.float64())
    columns["scale"] = pa.array([scale.name if scale else None] * len(scores), pa.string())
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def metric_inputs(table: pa.Table, scheme: LevelScheme) -> dict[str, Any]:
    """Columns as `metrics.compute_metrics` takes them: mos, score, probs (N, K), content (or None)."""
    content = table.column("content")
    return {
        "mos": float_column(table, "mos"),
        "score": float_column(table, "value"),
        "probs": level_probs(table, len(scheme.words)),
        "content": None if content.null_count == len(content) else np.array(content.to_pylist(), dtype=object),
    }


def level_targets(labels: Labels, scheme: LevelScheme) -> np.ndarray | None:
    """Raters' distribution over the levels (N, K), from votes, else from MOS and std; NaN rows where unknown."""
    if labels.has("votes"):
        return labels.column("votes").astype(np.float64)
    if not labels.has("std"):
        return None
    std = labels.column("std").astype(np.float64)
    target = scheme.soft(labels.column("mos"), std)
    target[~np.isfinite(std)] = np.nan
    return target


def float_column(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, nulls as NaN; all NaN where there is no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return table.column(name).to_numpy().astype(np.float64)


def level_probs(table: pa.Table, k: int) -> np.ndarray:
    """(N, K) probabilities, NaN rows for items without any."""
    column = table.column("probs").combine_chunks()
    probs = np.full((table.num_rows, k), np.nan)
    there = np.flatnonzero(np.asarray(column.is_valid()))
    if len(there):
        probs[there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, k)
    return probs


def distinct_names(names: Sequence[str | Path]) -> list[str]:
    """Short names that differ: the last parts of a path, as many as are needed, then numbers."""
    parts = [[p for p in Path(name).parts if p not in ("/", ".", "..")] or [name] for name in map(str, names)]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["-".join(p[-depth:]) for p in parts]
        if len(set(short)) == len(short):
            return short
    return [f"{name}-{number}" for number, name in enumerate(short, 1)]


def write_scores(table: pa.Table, folder: Path) -> None:
    partial = folder / f"{SCORES_FILE}.writing"
    pq.write_table(table, partial)
    partial.replace(folder / SCORES_FILE)


def write_json(record: dict[str, Any], path: Path) -> None:
    """Strict JSON, written atomically: NaN and infinities become null."""
    partial = path.with_name(f"{path.name}.writing")
    partial.write_text(json.dumps(json_ready(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def json_ready(value: Any) -> Any:
    """The value with tuples as lists and undefined numbers as None, as metrics.json holds it."""
    if isinstance(value, dict):
        return {str(key): json_ready(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
