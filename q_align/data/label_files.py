"""A labels file -> `Labels`: finds the columns, checks every row, brings opinions onto the level scale, once.

Knows what columns mean and which values make no sense; no media are opened, no model, no loss.
The range of the MOS is declared (argument, card, config), or what a model was taught, or taken from the training rows;
the last two are said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.data.columns import media_column, our_names, source_name
from q_align.data.labels import Labels
from q_align.data.published_json import from_published, is_published
from q_align.data.table_files import read_table, reason
from q_align.data.votes import mean_and_std, read_votes
from q_align.errors import LabelError, nearest
from q_align.levels import LevelScheme
from q_align.log import log
from q_align.media.video import SUFFIXES
from q_align.tasks import TASKS

INPUTS = ("mos", "std", "split", "task", "content", "id", "question", "votes")
VIDEO = rf"(?i)({'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES))})$"
LISTED = 100  # rows that a report names; it counts them all
TAUGHT = "the model's training"


def read_labels(
    path: str | Path,
    *,
    scheme: LevelScheme | None = None,
    media_root: str | Path | None = None,
    task: str | None = None,
    source: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    taught: Mapping[str, Mapping[str, Any]] | None = None,
) -> Labels:
    """Reads CSV, TSV, JSONL, Parquet, or the published Q-Align JSON.

    Args:
        path: the labels file. Columns: `image|video|media|path`, and `mos` or `votes`; optional `std`, `split` (read in
            lower case), `task`, `content`, `id`, `question`; others are kept. Other known names: docs/labels.md.
        scheme: the levels; default: the paper's five.
        media_root: folder of relative media paths; default: the folder of the labels file.
        task: "iqa", "iaa" or "vqa"; default: the `task` column, else by kind of medium.
        source: name of the data set; default: the file's name without "train", "test" and the like, or its
            folder's name where nothing is left ("labels.csv").
        mos_range: lowest and highest MOS that the data set's scale allows; default: 1..number of bins for votes, else
            the lowest and highest MOS among the training rows (all rows where there is no split column).
        higher_is_better: False for DMOS; scores are turned round here and nowhere else. Default: False for a column
            `dmos`, else True.
        taught: source -> `mos_range` and `higher_is_better` that a model was taught, for what is not
            declared; rows beyond such a range are kept. Where it is given, even empty, `say_range` is the caller's.

    Raises:
        LabelError: for an unreadable or empty file, missing columns, and for a MOS, std, task or votes that make no
            sense; names the row (the first one after the header is row 1).
    """
    path = Path(path)
    scheme = scheme or LevelScheme()
    table = read_table(path)
    report: dict[str, Any] = {"rows": table.num_rows, "repaired": 0, "off_vocabulary": 0, "without_score": 0}
    if is_published(table.column_names):
        table = _published(table, scheme, path, report)
    elif "level" in table.column_names:
        report |= _unknown_levels(table, scheme)
    table, called = our_names(table)
    media_name = media_column(table, path)
    columns: dict[str, Any] = {}
    names = pc.cast(table.column(media_name), pa.large_string())
    _check(path, pc.fill_null(pc.equal(names, ""), True), media_name, "is empty")
    columns["media"] = _resolve(names, Path(path.parent if media_root is None else media_root))

    name = source or source_name(path)
    known = (taught or {}).get(name, {})
    higher_is_better = _direction(higher_is_better, known, called, report)
    votes = read_votes(table, path) if "votes" in table.column_names else None
    mos_range = mos_range or _known_range(known, votes, report)
    raw, std = _scores(table, votes, mos_range, path)
    splits = pc.utf8_lower(pc.utf8_trim_whitespace(_text(table, "split")))
    mos_range = _range(raw, splits, mos_range, path, report)
    width = mos_range[1] - mos_range[0]
    columns["mos"] = scheme.to_scale(raw, mos_range, higher_is_better=higher_is_better)
    columns["raw_mos"] = raw
    columns["std"] = pa.array(std * ((scheme.high - scheme.low) / width), mask=np.isnan(std))
    columns["split"] = splits
    columns["task"] = _tasks(table, media_name, names, task, path)
    report["task_from"] = "declared" if task else "column" if "task" in table.column_names else "kind of file"
    columns["source"] = pa.repeat(pa.scalar(name), table.num_rows)
    columns["id"] = _text(table, "id") if "id" in table.column_names else names
    columns["content"] = _text(table, "content")
    columns["question"] = _text(table, "question")
    if votes is not None:
        shares = scheme.from_votes(votes if higher_is_better else votes[:, ::-1])
        flat = pa.array(shares.ravel())
        columns["raw_votes"] = table.column("votes")
        columns["votes"] = pa.FixedSizeListArray.from_arrays(flat, len(scheme.words))
    # A user's own "source" or "raw_mos" keeps its values under another name.
    used = (*INPUTS, media_name)
    others = [n for n in table.column_names if n not in used]
    columns |= {f"{n}_in_file" if n in columns else n: table.column(n) for n in others}
    report["usable"] = table.num_rows
    report["with_std"] = int((~np.isnan(std)).sum())
    whole = pa.table(columns).combine_chunks()
    labels = Labels(whole, name, mos_range, higher_is_better, scheme, report)
    if taught is None:
        say_range(labels)
    return labels


def say_range(labels: Labels) -> None:
    """Logs the range and the direction of a set, where nobody declared them."""
    low, high = labels.mos_range
    origin, turned = labels.report.get("range_from"), labels.report.get("direction_from")
    if origin not in (None, "declared", "votes"):
        log.info(
            "%s: MOS range %g..%g taken from %s (--mos-range or data.mos_range declares another)",
            labels.source,
            low,
            high,
            origin,
        )
    if turned is not None:
        better = "higher" if labels.higher_is_better else "lower"
        log.info(
            "%s: %s is better, taken from %s (--lower-is-better or data.higher_is_better declares it)",
            labels.source,
            better,
            turned,
        )


def _direction(
    declared: bool | None, known: Mapping[str, Any], called: Mapping[str, str], report: dict[str, Any]
) -> bool:
    if declared is not None:
        return declared
    lower = "mos" in called  # a column "dmos"
    better = bool(known.get("higher_is_better", not lower))
    if lower or not better:
        report["direction_from"] = TAUGHT if "higher_is_better" in known else f"column {called['mos']!r}"
    return better


def _published(table: pa.Table, scheme: LevelScheme, path: Path, report: dict[str, Any]) -> pa.Table:
    table, found = from_published(table, scheme.words)
    report |= found
    if table.num_rows == 0:
        raise LabelError(f"{path}: none of {report['rows']} records has a medium and a score (gt_score, id)")
    if report["without_score"]:
        log.warning("%s: %d records without a score are left out", path, report["without_score"])
    return table


def _unknown_levels(table: pa.Table, scheme: LevelScheme) -> dict[str, Any]:
    """Level words that the scheme does not know, counted; the level that is taught comes from the MOS in any case."""
    levels = _text(table, "level")
    unknown = pc.and_(pc.invert(pc.is_in(levels, value_set=pa.array(scheme.words, levels.type))), pc.is_valid(levels))
    rows = np.flatnonzero(unknown.to_numpy())
    return {
        "off_vocabulary": len(rows),
        "off_vocabulary_rows": [f"row {row + 1}: {levels[int(row)]}" for row in rows[:LISTED]],
    }


def _scores(
    table: pa.Table, votes: np.ndarray | None, mos_range: tuple[float, float] | None, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """MOS and std on the data set's own scale, from their columns or else from the votes; std NaN where unknown."""
    voted = mean_and_std(votes, mos_range) if votes is not None and mos_range is not None else None
    if "mos" in table.column_names:
        mos = _numbers(table, "mos", path)
        _check(path, ~np.isfinite(mos), "mos", "is {}; every row needs a finite MOS", mos)
    else:
        assert voted is not None  # media_column: mos or votes
        mos = voted[0]
    if "std" in table.column_names:
        std = _numbers(table, "std", path)
        _check(path, (std < 0) | np.isinf(std), "std", "is {}; a standard deviation is finite and >= 0", std)
    else:
        std = voted[1] if voted else np.full(len(mos), np.nan)
    return mos, std


def _known_range(
    known: Mapping[str, Any], votes: np.ndarray | None, report: dict[str, Any]
) -> tuple[float, float] | None:
    """The range that a model was taught, or that of the marks."""
    if known.get("mos_range"):
        report["range_from"] = TAUGHT
        return tuple(known["mos_range"])
    if votes is not None:
        report["range_from"] = "votes"
        return 1.0, float(votes.shape[1])
    return None


def _range(
    raw: np.ndarray, splits: Any, declared: tuple[float, float] | None, path: Path, report: dict[str, Any]
) -> tuple[float, float]:
    if declared is not None:
        low, high = float(declared[0]), float(declared[1])
        if not low < high:
            raise LabelError(f"{path}: mos_range is (lowest, highest), got ({low:g}, {high:g})")
        slack = 1e-9 * (high - low)
        if report.setdefault("range_from", "declared") != TAUGHT:
            _check(path, (raw < low - slack) | (raw > high + slack), "mos", f"is {{}}, outside {low:g}..{high:g}", raw)
        return low, high
    train = pc.fill_null(pc.equal(splits, "train"), False).to_numpy()
    rows = raw[train] if train.any() else raw
    low, high = float(rows.min()), float(rows.max())
    if low == high:
        raise LabelError(f"{path}: every MOS is {low:g}, so no range can be taken from them; declare mos_range")
    report["range_from"] = "training rows" if train.any() else "all rows"
    return low, high


def _tasks(table: pa.Table, media_name: str, names: Any, task: str | None, path: Path) -> pa.Array:
    if task is not None or "task" not in table.column_names:
        if task is not None and task not in TASKS:
            raise LabelError(f"{path}: unknown task {task!r}{nearest(task, TASKS)}; tasks are {', '.join(TASKS)}")
        video = pc.match_substring_regex(names, VIDEO) if media_name != "video" else pa.array([True] * len(names))
        return pa.array(np.full(len(names), task)) if task else pc.if_else(video, "vqa", "iqa")
    column = _text(table, "task")
    wrong = pc.invert(pc.fill_null(pc.is_in(column, value_set=pa.array(TASKS, pa.large_string())), False))
    _check(path, wrong, "task", f"is {{!r}}; tasks are {', '.join(TASKS)}", column)
    return column


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    try:
        return pc.cast(table.column(name), pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowException as error:
        raise LabelError(f"{path}: column {name!r} holds no numbers: {reason(error)}") from error


def _text(table: pa.Table, name: str) -> Any:
    if name in table.column_names:
        return pc.cast(table.column(name), pa.large_string())
    return pa.chunked_array([pa.nulls(table.num_rows, pa.large_string())])


def _resolve(names: Any, root: Path) -> Any:
    """Relative paths below `root`; absolute ones and URLs as they are."""
    fixed = pc.match_substring_regex(names, r"^(/|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]+://)")
    base = pa.scalar(root.as_posix().rstrip("/") + "/" if root != Path() else "", pa.large_string())
    return pc.if_else(fixed, names, pc.binary_join_element_wise(base, names, pa.scalar("", pa.large_string())))


def _check(path: Path, wrong: Any, column: str, problem: str, values: Any = None) -> None:
    """Raises for the first wrong row, with the number of them all."""
    mask = np.asarray(wrong.to_numpy(zero_copy_only=False) if isinstance(wrong, pa.Array) else wrong, dtype=bool)
    rows = np.flatnonzero(mask)
    if rows.size:
        value = values[int(rows[0])] if values is not None else None
        value = value.as_py() if isinstance(value, pa.Scalar) else value
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        raise LabelError(f"{path}: row {rows[0] + 1}: {column} {problem.format(value)}{more}")


__all__ = ["Labels", "read_labels", "say_range"]
