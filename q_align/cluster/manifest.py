"""Tables of media -> units of work without what is done: one unit per row group, with the rows that are left in it.

Reads the columns that ids are made of only, so a table with the pictures inside costs no more than a list of paths. The
same set difference over ids as on one machine (`q_align.score.job`). Knows Parquet and ids; no Ray, no model.
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
from q_align.score.job import Done, Summary
from q_align.types import Item


@dataclass(frozen=True, slots=True)
class Table:
    """A Parquet file with media.

    Attributes:
        path: the file.
        column: which column holds the media: paths, bytes, or {bytes, path}.
        named: whether there is a column of ids.
        tasked: whether there is a column of tasks.
    """

    path: str
    column: str
    named: bool
    tasked: bool

    @property
    def columns(self) -> list[str]:
        return [self.column, *(["id"] if self.named else []), *(["task"] if self.tasked else [])]


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows of one row group; `rows` are those that are left, None for all of them."""

    table: Table
    group: int
    rows: tuple[int, ...] | None


def open_tables(words: Sequence[str], column: str | None) -> list[Table]:
    """Parquet files behind files and folders.

    Raises:
        ConfigError: for a word that is neither.
        MediaError: for a table without a column of media.
    """
    paths: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            paths += sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))
        elif path.suffix.lower() == ".parquet" and path.is_file():
            paths.append(path)
        else:
            raise ConfigError(f"{word}: no Parquet file or folder here; make one from a list with q-align data convert")
    return [_open(path, column) for path in paths]


def _open(path: Path, column: str | None) -> Table:
    names = pq.read_schema(path).names
    found = column or next((name for name in COLUMNS if name in names), None)
    if found is None or found not in names:
        guess = nearest(found, names) if found else ""
        raise MediaError(
            f"{path}: no column {found or ' | '.join(COLUMNS)}{guess}; it has {', '.join(names)} (--column)"
        )
    return Table(str(path), found, "id" in names, "task" in names)


def units(
    tables: Iterable[Table], done: Done, root: str | None, summary: Summary, *, task: str = "auto"
) -> Iterator[Unit]:
    """Units with rows left; counts duplicates on the way.

    Args:
        tables: in the order in which the first of equal ids counts.
        done: what has a row already.
        root: folder that paths are relative to; the table's own where not given.
        summary: gets the duplicates.
        task: of rows that name none.
    """
    for table in tables:
        file = pq.ParquetFile(table.path)
        for group in range(file.num_row_groups):
            left = []
            count = 0
            for item in _items(file, table, group, root, only_ids=True):
                if done.left(item, (task,), summary):
                    left.append(count)
                count += 1
            if left:
                yield Unit(table, group, None if len(left) == count else tuple(left))


def read_unit(unit: Unit, root: str | None) -> Iterator[Item]:
    """The items of a unit."""
    keep = None if unit.rows is None else set(unit.rows)
    items = _items(pq.ParquetFile(unit.table.path), unit.table, unit.group, root, only_ids=False)
    yield from (item for number, item in enumerate(items) if keep is None or number in keep)


def _items(file: Any, table: Table, group: int, root: str | None, *, only_ids: bool) -> Iterator[Item]:
    base = Path(root) if root else Path(table.path).parent
    wanted = _names_only(file, table) if only_ids else table.columns
    first = sum(file.metadata.row_group(g).num_rows for g in range(group))
    rows = (row for batch in file.iter_batches(256, row_groups=[group], columns=wanted) for row in batch.to_pylist())
    if not wanted:  # pictures without names: their places are all there is to know
        rows = ({} for _ in range(file.metadata.row_group(group).num_rows))
    for number, row in enumerate(rows):
        yield item_of(row, table.column, base, f"{table.path}:{first + number}")


def _names_only(file: Any, table: Table) -> list[str]:
    """The columns that an id is made of: never the bytes of a picture, but the name beside them."""
    media = file.schema_arrow.field(table.column).type
    if pa.types.is_struct(media):
        names = [f"{table.column}.path"] if media.get_field_index("path") >= 0 else []
    else:
        names = [] if pa.types.is_binary(media) or pa.types.is_large_binary(media) else [table.column]
    return [*names, *(name for name in table.columns if name != table.column)]
