"""What an evaluation writes: scores beside opinions, one row per item; and records. Knows no model, no measures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from q_align.data.labels import LevelLabels
from q_align.evaluate.report.collect import SCORES, level_probs, numbers
from q_align.levels import LevelScheme

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
    ]
)


def make_table(labels: LevelLabels, scores: list[dict[str, Any]]) -> pa.Table:
    """One row per item of `labels`, in their order.

    Args:
        labels: rated media.
        scores: as many records with value, level, probs, std, mass, error, warning (missing keys are null).
    """
    assert len(scores) == len(labels), "an item never disappears"
    columns: dict[str, Any] = {
        name: pa.array([score.get(name) for score in scores], SCHEMA.field(name).type)
        for name in ("value", "level", "probs", "std", "mass", "error", "warning")
    }
    for name in ("id", "media", "mos", "raw_mos", "source", "task", "split", "content"):
        columns[name] = labels.table.column(name).cast(SCHEMA.field(name).type)
    columns["mos_std"] = labels.table.column("std").cast(pa.float64())
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def arrays(table: pa.Table, scheme: LevelScheme) -> dict[str, Any]:
    """Columns as `evaluate.metrics.summary` takes them: mos, score, probs (N, K), content (or None)."""
    content = table.column("content")
    return {
        "mos": numbers(table, "mos"),
        "score": numbers(table, "value"),
        "probs": level_probs(table, len(scheme.words)),
        "content": None if content.null_count == len(content) else np.array(content.to_pylist(), dtype=object),
    }


def targets(labels: LevelLabels, scheme: LevelScheme) -> np.ndarray | None:
    """Shares of opinions per level (N, K): from votes where there are any, else from MOS and std; NaN where unknown."""
    if labels.has("votes"):
        return labels.column("votes").astype(np.float64)
    if not labels.has("std"):
        return None
    std = labels.column("std").astype(np.float64)
    target = scheme.soft(labels.column("mos"), std)
    target[~np.isfinite(std)] = np.nan
    return target


def write_scores(table: pa.Table, folder: Path) -> None:
    half = folder / f"{SCORES}.writing"
    pq.write_table(table, half)
    half.replace(folder / SCORES)


def write_json(record: dict[str, Any], path: Path) -> None:
    """Strict JSON, whole or not at all: NaN and infinities become null."""
    half = path.with_name(f"{path.name}.writing")
    half.write_text(json.dumps(_plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    half.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
