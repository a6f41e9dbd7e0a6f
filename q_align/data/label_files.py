"""A labels file -> `Labels`: finds the columns, checks every row, and settles the range of the MOS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.data.column_checks import check_rows, numbers_of, text_of
from q_align.data.columns import media_column, our_names, source_name
from q_align.data.labels import KNOWN, Labels
from q_align.data.mos_range import checked_range, direction_of, range_of_rows
from q_align.data.published_json import from_published, is_published
from q_align.data.table_files import known_name, read_table
from q_align.data.votes import mean_and_std, read_votes
from q_align.errors import LabelError
from q_align.log import log
from q_align.media.video import SUFFIXES
from q_align.registry import PLUGINS
from q_align.tasks import TASKS

INPUTS = ("mos", "std", "split", "task", "content", "id", "question", "votes")
VIDEO = rf"(?i)({'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES))})$"


def read_labels(
    path: str | Path,
    *,
    media_root: str | Path | None = None,
    task: str | None = None,
    source: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
) -> Labels:
    """Reads CSV, TSV, JSONL, Parquet, or the published Q-Align JSON.

    Args:
        path: the labels file. Columns: `image|video|media|path`, and `mos` or `votes`; optional `std`, `split` (read in
            lower case), `task`, `content`, `id`, `question`; others are kept. Other known names: docs/labels.md.
        media_root: folder of relative media paths; default: the folder of the labels file.
        task: the rating task of every row, "iqa", "iaa", "vqa" or a registered one; default: the `task` column, else
            by kind of file.
        source: name of the data set; default: the file's name without "train", "test" and the like, or its
            folder's name where nothing is left ("labels.csv").
        mos_range: lowest and highest MOS that the data set's scale allows; default: 1..number of bins for votes, else
            the lowest and highest MOS among the training rows (all rows where there is no split column).
        higher_is_better: False for DMOS. Default: False for a column `dmos`, else True.

    Raises:
        LabelError: for an unreadable or empty file, missing columns, and for a MOS, std, task or votes that make no
            sense; names the row (the first one after the header is row 1).
    """
    path = Path(path)
    return labels_from_table(
        read_table(path),
        path,
        media_root=path.parent if media_root is None else media_root,
        task=task,
        source=source or source_name(path),
        mos_range=mos_range,
        higher_is_better=higher_is_better,
    )


def labels_from_table(
    table: pa.Table,
    path: str | Path,
    *,
    media_root: str | Path,
    source: str,
    task: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
) -> Labels:
    """Rows that are in memory, with the columns and checks of `read_labels`.

    Args:
        table: the rows.
        path: what error messages call the table.
        media_root: folder of relative paths; "" keeps them.
        source: name of the data set.
        task, mos_range, higher_is_better: as for `read_labels`.

    Raises:
        LabelError: as `read_labels`.
    """
    table = table.rename_columns([known_name(name) for name in table.column_names])
    report: dict[str, Any] = {"rows": table.num_rows, "repaired": 0, "without_score": 0}
    if is_published(table.column_names):
        table = _published(table, path, report)
    table, called = our_names(table)
    media_name = media_column(table, path)
    columns: dict[str, Any] = {}
    names = pc.cast(table.column(media_name), pa.large_string())
    check_rows(path, pc.fill_null(pc.equal(names, ""), True), media_name, "is empty")
    columns["media"] = _resolve(names, Path(media_root))

    higher_is_better = direction_of(higher_is_better, called, report)
    votes = read_votes(table, path) if "votes" in table.column_names else None
    report["range_from"] = "declared"
    if mos_range is None and votes is not None:
        mos_range, report["range_from"] = (1.0, float(votes.shape[1])), "votes"
    raw, std = _scores(table, votes, mos_range, path, report)
    splits = pc.utf8_lower(pc.utf8_trim_whitespace(text_of(table, "split")))
    if mos_range is None:
        mos_range = range_of_rows(raw, splits, path, report)
    elif report["range_from"] == "declared":
        mos_range = checked_range(raw, mos_range, path)
    columns["raw_mos"] = pa.array(raw)
    columns["raw_std"] = pa.array(std, mask=np.isnan(std))
    columns["split"] = splits
    columns["task"] = _tasks(table, media_name, names, task, path)
    report["task_from"] = "declared" if task else "column" if "task" in table.column_names else "kind of file"
    columns["source"] = pa.repeat(pa.scalar(source), table.num_rows)
    columns["id"] = text_of(table, "id") if "id" in table.column_names else names
    columns["content"] = text_of(table, "content")
    columns["question"] = text_of(table, "question")
    if votes is not None:
        columns["raw_votes"] = pa.FixedSizeListArray.from_arrays(pa.array(votes.ravel()), votes.shape[1])
    # A user's own "source" or "raw_mos" keeps its values under another name.
    used = (*INPUTS, media_name)
    others = [n for n in table.column_names if n not in used]
    columns |= {f"{n}_in_file" if n in KNOWN else n: table.column(n) for n in others}
    report["usable"] = table.num_rows
    report["with_std"] = int((~np.isnan(std)).sum())
    return Labels(pa.table(columns).combine_chunks(), source, mos_range, higher_is_better, report)


def _published(table: pa.Table, path: str | Path, report: dict[str, Any]) -> pa.Table:
    table, found = from_published(table)
    report |= found
    if table.num_rows == 0:
        raise LabelError(f"{path}: none of {report['rows']} records has an image or video and a score (gt_score, id)")
    if report["without_score"]:
        log.warning("%s: %d records without a score are left out", path, report["without_score"])
    return table


def _scores(
    table: pa.Table,
    votes: np.ndarray | None,
    mos_range: tuple[float, float] | None,
    path: str | Path,
    report: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """MOS and std on the data set's own scale, from their columns or else from the votes; std NaN where unknown."""
    voted = mean_and_std(votes, mos_range) if votes is not None and mos_range is not None else None
    if voted is not None:
        report["from_votes"] = [f"raw_{name}" for name in ("mos", "std") if name not in table.column_names]
    if "mos" in table.column_names:
        mos = numbers_of(table, "mos", path)
        check_rows(path, ~np.isfinite(mos), "mos", "is {}; every row needs a finite MOS", mos)
    else:
        assert voted is not None  # media_column: mos or votes
        mos = voted[0]
    if "std" in table.column_names:
        std = numbers_of(table, "std", path)
        check_rows(path, (std < 0) | np.isinf(std), "std", "is {}; a standard deviation is finite and >= 0", std)
    else:
        std = voted[1] if voted else np.full(len(mos), np.nan)
    return mos, std


def _tasks(table: pa.Table, media_name: str, names: Any, task: str | None, path: str | Path) -> pa.Array:
    if task is not None or "task" not in table.column_names:
        if task is not None and task not in TASKS:
            raise LabelError(f"{path}: {TASKS.unknown(task)}")
        video = pc.match_substring_regex(names, VIDEO) if media_name != "video" else pa.array([True] * len(names))
        return pa.array(np.full(len(names), task)) if task else pc.if_else(video, "vqa", "iqa")
    column = text_of(table, "task")
    wrong = pc.invert(pc.fill_null(pc.is_in(column, value_set=pa.array(TASKS.names(), pa.large_string())), False))
    known = f"tasks are {', '.join(TASKS)}; one of your own: name its module in {PLUGINS}"
    check_rows(path, wrong, "task", f"is {{!r}}; {known}", column)
    return column


def _resolve(names: Any, root: Path) -> Any:
    """Relative paths below `root`; absolute ones and URLs as they are."""
    fixed = pc.match_substring_regex(names, r"^(/|[A-Za-z]:[\\/]|[a-z][a-z0-9+.-]+://)")
    base = pa.scalar(root.as_posix().rstrip("/") + "/" if root != Path() else "", pa.large_string())
    return pc.if_else(fixed, names, pc.binary_join_element_wise(base, names, pa.scalar("", pa.large_string())))
