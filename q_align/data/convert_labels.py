"""Writes labels as a file of our own, on the data set's own scale, and lists of images and videos as a table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from q_align.data.columns import our_names
from q_align.data.labels import KNOWN, Labels
from q_align.data.published_json import is_published
from q_align.data.table_files import READERS, read_table, write_table
from q_align.errors import LabelError
from q_align.media.expand import TABLES, expand


def write_labels(labels: Labels, path: str | Path) -> int:
    """Writes CSV or Parquet, by the extension: MOS, std and votes on the data set's own scale.

    Paths are written as the labels hold them: read with `media_root=""` to keep those of the file.

    Range and direction are not part of a labels file: give them again when reading, or put them into a card.

    Returns:
        The number of rows written.
    """
    columns = {"media": labels.table.column("media"), "mos": labels.table.column("raw_mos")}
    if labels.has("raw_std"):
        columns["std"] = labels.table.column("raw_std")
    for name in ("split", "task", "id", "content", "question"):
        if labels.has(name):
            columns[name] = labels.table.column(name)
    if labels.has("raw_votes"):
        columns["votes"] = labels.table.column("raw_votes")
    others = [name for name in labels.table.column_names if name not in KNOWN]
    write_table(pa.table(columns | {name: labels.table.column(name) for name in others}), path)
    return len(labels)


def is_list(path: str | Path) -> bool:
    """Whether a file lists images and videos without rating them: a text file, or a table without MOS and votes."""
    path = Path(path)
    if path.suffix.lower() not in READERS:
        return path.suffix.lower() in TABLES
    names = our_names(read_table(path).slice(0, 1))[0].column_names
    return not ({"mos", "votes"} & set(names) or is_published(names))


def convert_list(path: str | Path, target: str | Path) -> int:
    """Writes a list of images and videos as CSV or Parquet with `id` and `path`, which `q-align cluster` reads.

    Relative paths are written relative to the current folder; they are those that `q-align score LIST` would open.

    Returns:
        The number of rows written.

    Raises:
        LabelError: for rows that are no paths, or an empty list.
    """
    items = list(expand([str(path)]))
    for number, item in enumerate(items, 1):
        if not isinstance(item.media, (str, Path)):
            raise LabelError(f"{path}: row {number} is not a path")
    if not items:
        raise LabelError(f"{path}: no rows")
    columns: dict[str, list[str | None]] = {
        "id": [item.id for item in items],
        "path": [str(item.media) for item in items],
    }
    if any(item.task for item in items):
        columns["task"] = [item.task for item in items]
    write_table(pa.table(columns), target)
    return len(items)
