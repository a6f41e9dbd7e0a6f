"""What is in a labels file, and how much of its MOS the level labels keep: numbers in a dictionary, and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.data.implied_range import implied_range
from q_align.data.labels import LevelLabels
from q_align.data.mos_range import likely_scale
from q_align.data.questions import question_kind
from q_align.metrics import plcc, srcc

CHUNK = 100_000  # rows whose soft labels are made at once
FEW = 3  # rows below which no correlation is computed


def inspect(labels: LevelLabels) -> dict[str, Any]:
    """Counts, ranges and precision of one set.

    Returns:
        `rows, usable, repaired, off_vocabulary, without_score, duplicates`; `mos` and `std` on the data set's own
        scale; `hint` (a likely scale, or ""); `questions` (see `q_align.data.questions`); `levels` (rows per word);
        `conversion` (SRCC and PLCC of the means of hard and, where a std is known, soft labels with the MOS; empty for
        fewer than three rows or equal MOS); `own_levels` (null where the file has none): agreement with the levels the
        file gives, and the range that those imply.
    """
    report = {k: v for k, v in labels.report.items() if not k.endswith("_rows")}
    hard = labels.scheme.hard(labels.column("mos"))
    counts = np.bincount(hard, minlength=len(labels.scheme.words))
    return report | {
        "source": labels.source,
        "duplicates": len(labels) - pc.count_distinct(labels.table.column("media")).as_py(),
        "mos_range": list(labels.mos_range),
        "higher_is_better": labels.higher_is_better,
        "mos": _moments(labels.column("raw_mos")),
        "std": _moments(labels.column("raw_std")) if labels.has("raw_std") else None,
        "hint": likely_scale(labels).removeprefix("; "),
        "questions": question_kind(labels).kind,
        "tasks": _counts(labels, "task"),
        "splits": _counts(labels, "split"),
        "contents": pc.count_distinct(labels.table.column("content")).as_py() if labels.has("content") else None,
        "levels": dict(zip(labels.scheme.words, counts.tolist())),
        "conversion": _conversion(labels, hard),
        "own_levels": _own_levels(labels, hard) if labels.has("level") else None,
    }


def plot(labels: LevelLabels, path: str | Path) -> None:
    """Draws the histogram of the MOS with the borders of the levels, and the rows per level, into an image file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scheme, (low, high) = labels.scheme, labels.mos_range
    counts = np.bincount(scheme.hard(labels.column("mos")), minlength=len(scheme.words))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), width_ratios=(2, 1), layout="constrained")
    left.hist(labels.column("raw_mos"), bins=60, color="tab:blue")
    for border in np.linspace(low, high, len(scheme.words) + 1):
        left.axvline(border, color="grey", linewidth=0.8, linestyle="--")
    better = "" if labels.higher_is_better else " (lower is better)"
    left.set(xlabel=f"MOS of {labels.source}{better}", ylabel="items", title="MOS and the borders of the levels")
    bars = right.bar(range(len(counts)), counts, color="tab:blue")
    right.bar_label(bars, fontsize=8)
    right.set_xticks(range(len(counts)), scheme.words, rotation=30)
    right.set(title=f"{len(labels)} items per level")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _conversion(labels: LevelLabels, hard: np.ndarray) -> dict[str, dict[str, float]]:
    """What each kind of label keeps: correlation of the label's mean with the MOS it was made from."""
    mos, std, values = labels.column("mos"), labels.column("std"), np.asarray(labels.scheme.values)
    if len(mos) < FEW or mos.min() == mos.max():
        return {}
    means = {"hard": values[hard]}
    if not np.isnan(std).all():
        parts = range(0, len(mos), CHUNK)
        means["soft"] = np.concatenate(
            [labels.scheme.soft(mos[i : i + CHUNK], std[i : i + CHUNK]) @ values for i in parts]
        )
    return {name: {"srcc": srcc(mos, mean), "plcc": plcc(mos, mean)} for name, mean in means.items()}


def _own_levels(labels: LevelLabels, hard: np.ndarray) -> dict[str, Any] | None:
    words = list(labels.scheme.words)
    given = pc.cast(labels.table.column("level"), pa.large_string())
    index = pc.fill_null(pc.index_in(given, value_set=pa.array(words, given.type)), -1)
    own = index.to_numpy()
    known = own >= 0
    if not known.any():
        return None
    sign = 1 if labels.higher_is_better else -1
    raw = labels.column("raw_mos")
    found = implied_range(sign * raw, own, len(words))
    result: dict[str, Any] = {"rows": int(known.sum()), "agreement": float((own == hard)[known].mean())}
    if found is not None:
        ends = (found.low, found.high)
        again = labels.scheme.hard(labels.scheme.to_scale(sign * raw, ends))
        values = np.asarray(labels.scheme.values)[again]
        result["implied_range"] = sorted(sign * end for end in ends)
        result["implied_range_within"] = [
            sorted(sign * e for e in between) for between in (found.low_between, found.high_between)[::sign]
        ]
        result["implied_agreement"] = float((own == again)[known].mean())
        result["implied_strays"] = found.strays
        result["implied_conversion"] = {"srcc": srcc(sign * raw, values), "plcc": plcc(sign * raw, values)}
    return result


def _moments(values: np.ndarray) -> dict[str, float]:
    known = values[~np.isnan(values)]
    return {
        "rows": len(known),
        "min": float(known.min()),
        "max": float(known.max()),
        "mean": float(known.mean()),
        "std": float(known.std()),
    }


def _counts(labels: LevelLabels, name: str) -> dict[str, int]:
    counts = pc.value_counts(labels.table.column(name).combine_chunks()).to_pylist()
    return {str(c["values"]): c["counts"] for c in counts if c["values"] is not None}
