"""The range and the direction of a data set's MOS: declared, that of the votes, or taken from the rows.

Declared is what the caller, a configuration or a dataset card gives. What a model was trained with replaces what
nobody declared, by `Labels.as_trained`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from q_align.data.column_checks import check_rows
from q_align.data.labels import Labels
from q_align.errors import LabelError
from q_align.log import log

ROWS = ("training rows", "all rows")  # where a range comes from that was taken from the MOS


def direction_of(declared: bool | None, called: Mapping[str, str], report: dict[str, Any]) -> bool:
    """Whether higher is better: declared, else by the name of the column; `called` has "mos" where it is `dmos`."""
    if declared is not None:
        report["direction_from"] = "declared"
        return declared
    if "mos" in called:
        report["direction_from"] = f"column {called['mos']!r}"
    return "mos" not in called


def checked_range(raw: np.ndarray, mos_range: tuple[float, float], path: str | Path) -> tuple[float, float]:
    """A declared range; raises for one that is empty or that leaves rows outside."""
    low, high = float(mos_range[0]), float(mos_range[1])
    if not low < high:
        raise LabelError(f"{path}: mos_range is (lowest, highest), got ({low:g}, {high:g})")
    slack = 1e-9 * (high - low)
    check_rows(path, (raw < low - slack) | (raw > high + slack), "mos", f"is {{}}, outside {low:g}..{high:g}", raw)
    return low, high


def range_of_rows(raw: np.ndarray, splits: Any, source: str | Path, report: dict[str, Any]) -> tuple[float, float]:
    """Lowest and highest MOS of the training rows, or of all rows where none is called "train"."""
    train = pc.fill_null(pc.equal(splits, "train"), False).to_numpy()
    rows = raw[train] if train.any() else raw
    low, high = float(rows.min()), float(rows.max())
    if low == high:
        raise LabelError(f"{source}: every MOS is {low:g}, so no range can be taken from them; declare mos_range")
    report["range_from"] = ROWS[0] if train.any() else ROWS[1]
    return low, high


def log_range(labels: Labels) -> None:
    """Logs the range and the direction of a set, where nobody declared them."""
    low, high = labels.mos_range
    origin, direction = labels.report.get("range_from"), labels.report.get("direction_from", "declared")
    if origin not in (None, "declared", "votes"):
        log.info(
            "%s: MOS range %g..%g taken from %s (--mos-range or data.mos_range declares another)%s",
            labels.source,
            low,
            high,
            origin,
            likely_scale(labels),
        )
    if direction != "declared":
        better = "higher" if labels.higher_is_better else "lower"
        log.info(
            "%s: %s is better, taken from %s (--lower-is-better or data.higher_is_better declares it)",
            labels.source,
            better,
            direction,
        )


def likely_scale(labels: Labels) -> str:
    """A hint where the range was taken from rows that are all within 1..5, the usual five-point scale; else ""."""
    low, high = labels.mos_range
    raw = labels.column("raw_mos")
    if labels.report.get("range_from") not in ROWS or (low, high) == (1, 5):
        return ""
    # at least two of the five points apart: shares and other small numbers are no such scale
    if raw.min() < 1 or raw.max() > 5 or high - low < 2:
        return ""
    return "; it looks like a 1-5 scale: set mos_range [1, 5]"
