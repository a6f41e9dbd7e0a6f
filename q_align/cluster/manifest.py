"""Parquet tables of images and videos -> units of work: one per row group, with the rows that have no score yet.

Only the columns that make up an id are read, so a table that holds the images costs no more than a list of paths. Rows
are skipped as on one machine (`q_align.score.resume`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from q_align.errors import ConfigError, MediaError, nearest
from q_align.media.expand import COLUMNS, item_of
from q_align.score.resume import ResumeState, ScoringSummary
from q_align.types import Item


@dataclass(frozen=True, slots=True)
class ManifestTable:
    """A Parquet file that lists images and videos.

    Attributes:
        path: the file.
        column: which column holds them: paths, bytes, or {bytes, path}.
        others: which of the columns `id`, `task` and `question` it has.
    """

    path: str
    column: str
    others: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        return [self.column, *self.others]


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Rows of one row group; `rows` are those without a score, None for all of them."""

    table: ManifestTable
    group: int
    rows: tuple[int, ...] | None


def open_tables(words: Sequence[str], column: str | None) -> list[ManifestTable]:
    """Parquet files behind files and folders.

    Raises:
        ConfigError: for a word that is neither.
        MediaError: for a table without a column of images or videos.
    """
    paths: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            paths += sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))
        elif path.suffix.lower() == ".parquet" and path.is_file():
            paths.append(path)
        else:
            raise ConfigError(f"{word}: not a Parquet file or a folder of them{_as_parquet(path)}")
    return [_open(path, column) for path in paths]


def _as_parquet(path: Path) -> str:
    """How a list becomes a Parquet table, where there is one."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return ""
    made = path.with_suffix(".parquet")
    return (
        '; make one with: python -c "import pyarrow.csv as c, pyarrow.parquet as p; '
        f"p.write_table(c.read_csv('{path}'), '{made}')\""
    )


def _open(path: Path, column: str | None) -> ManifestTable:
    names = pq.read_schema(path).names
    found = column or next((name for name in COLUMNS if name in names), None)
    if found is None or found not in names:
        guess = nearest(found, names) if found else ""
        raise MediaError(
            f"{path}: no column {found or ' | '.join(COLUMNS)}{guess}; it has {', '.join(names)} (--column)"
        )
    return ManifestTable(str(path), found, tuple(name for name in ("id", "task", "question") if name in names))


def work_units(
    tables: Iterable[ManifestTable],
    state: ResumeState,
    root: str | None,
    summary: ScoringSummary,
    *,
    task: str = "auto",
) -> Iterator[WorkUnit]:
    """Units that have rows without a score; counts duplicates.

    Args:
        tables: in the order in which the first of equal ids counts.
        state: what has a row already.
        root: folder that paths are relative to; the table's own where not given.
        summary: gets the duplicates.
        task: of rows without one.
    """
    for table in tables:
        file = pq.ParquetFile(table.path)
        for group in range(file.num_row_groups):
            left = []
            count = 0
            for item in _items(file, table, group, root, only_ids=True):
                if state.remaining_tasks(item, (task,), summary):
                    left.append(count)
                count += 1
            if left:
                yield WorkUnit(table, group, None if len(left) == count else tuple(left))


def read_unit(unit: WorkUnit, root: str | None) -> Iterator[Item]:
    """The items of a unit."""
    keep = None if unit.rows is None else set(unit.rows)
    items = _items(pq.ParquetFile(unit.table.path), unit.table, unit.group, root, only_ids=False)
    yield from (item for number, item in enumerate(items) if keep is None or number in keep)


def _items(file: Any, table: ManifestTable, group: int, root: str | None, *, only_ids: bool) -> Iterator[Item]:
    base = Path(root) if root else Path(table.path).parent
    wanted = _names_only(file, table) if only_ids else table.columns
    first = sum(file.metadata.row_group(g).num_rows for g in range(group))
    rows = (row for batch in file.iter_batches(256, row_groups=[group], columns=wanted) for row in batch.to_pylist())
    if not wanted:  # images without names: their places in the table are all there is to know
        rows = ({} for _ in range(file.metadata.row_group(group).num_rows))
    for number, row in enumerate(rows):
        yield item_of(row, table.column, base, f"{table.path}:{first + number}")


def _names_only(file: Any, table: ManifestTable) -> list[str]:
    """The columns that make up an id: never the bytes of an image, but the name beside them."""
    media = file.schema_arrow.field(table.column).type
    if pa.types.is_struct(media):
        names = [f"{table.column}.path"] if media.get_field_index("path") >= 0 else []
    else:
        names = [] if pa.types.is_binary(media) or pa.types.is_large_binary(media) else [table.column]
    return [*names, *(name for name in table.columns if name != table.column)]
