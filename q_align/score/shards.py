"""Scores as Parquet: a folder of shards, each written atomically, and a single file that is joined from such shards.

A shard is written under a temporary name, flushed to the disk and renamed: after `kill -9` at any moment the folder
holds whole shards only. One run writes at a time; a lock that ends with its processes sees to it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from q_align.score.output_table import COLUMNS
from q_align.score.write_lock import OutputLock, lock_output

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("value", pa.float64()),
        ("level", pa.string()),
        ("probs", pa.list_(pa.float64())),
        ("std", pa.float64()),
        ("mass", pa.float64()),
        ("error", pa.string()),
        ("task", pa.string()),
        ("warning", pa.string()),
        ("frames", pa.list_(pa.float64())),
        ("question", pa.string()),
        ("scale", pa.string()),
    ]
)


class Shards:
    """A folder of Parquet shards.

    Args:
        folder: made where it is missing.
        columns: which columns to write.
        shard_rows: rows per shard.
        shard_seconds: a shard is closed after this many seconds, which bounds what dies with the process.
        prefix: of the shards' names, one per writing process.
        lock: on the folder, where the caller has taken it; `close` releases it.
    """

    def __init__(
        self,
        folder: Path,
        columns: Sequence[str] = COLUMNS,
        *,
        shard_rows: int = 10_000,
        shard_seconds: float = 60.0,
        prefix: str = "part",
        lock: OutputLock | None = None,
    ) -> None:
        self.folder, self.prefix = folder, prefix
        self.shard_rows, self.shard_seconds = shard_rows, shard_seconds
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = lock or lock_output(folder, folder=True)
        for left in folder.glob(f".{prefix}-*.tmp"):
            left.unlink()  # the shard that a dead process was writing
        self.columns = columns
        self.schema = pa.schema([SCHEMA.field(name) for name in columns])
        self.buffer: list[dict[str, Any]] = []
        self.opened = time.monotonic()
        numbers = [int(p.stem.rsplit("-", 1)[1]) for p in folder.glob(f"{prefix}-*.parquet")]
        self.next = max(numbers, default=-1) + 1

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_shards(self.folder)

    def write(self, row: dict[str, Any]) -> None:
        if not self.buffer:
            self.opened = time.monotonic()
        self.buffer.append(row)
        if len(self.buffer) >= self.shard_rows or time.monotonic() - self.opened >= self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Closes the open shard."""
        if not self.buffer:
            return
        rows = [{name: row.get(name) for name in self.schema.names} for row in self.buffer]
        path = self.folder / f"{self.prefix}-{self.next:06d}.parquet"
        write_parquet(pa.Table.from_pylist(rows, self.schema), path)
        self.next += 1
        self.buffer = []

    def close(self) -> None:
        self.flush()
        self.lock.release()


class ParquetTable(Shards):
    """A single Parquet file: shards in a hidden folder beside it until the end, then joined and renamed."""

    def __init__(
        self, path: Path, columns: Sequence[str] = COLUMNS, *, lock: OutputLock | None = None, **shards: Any
    ) -> None:
        self.path = path
        lock = lock or lock_output(path)
        finish_rename(path)
        super().__init__(parts_folder(path), columns, lock=lock, **shards)

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_shards(self.folder, ([self.path] if self.path.exists() else []) + list_shards(self.folder))

    def close(self) -> None:
        self.flush()
        whole, spent = rename_stages(self.path)
        with pq.ParquetWriter(whole, self.schema) as writer:
            for part in ([self.path] if self.path.exists() else []) + list_shards(self.folder):
                for batch in pq.ParquetFile(part).iter_batches(8192):
                    writer.write_batch(_fit(batch, self.schema))
        _sync(whole)
        # from here on the shards are spent: a run that finds the folder under this name only finishes the rename
        self.folder.replace(spent)
        finish_rename(self.path)
        self.lock.release()


def finish_rename(path: Path) -> None:
    """Completes the last step of `ParquetTable.close` where a process died in it."""
    whole, spent = rename_stages(path)
    if spent.exists():
        if whole.exists():
            whole.replace(path)
        shutil.rmtree(spent)


def rename_stages(path: Path) -> tuple[Path, Path]:
    """The new file before its rename, and the shards that it is made of."""
    return path.with_name(f".{path.name}.whole"), path.with_name(f".{path.name}.spent")


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a schema; nulls where an earlier run did not write one."""
    there = batch.schema.names
    columns = [batch.column(f.name).cast(f.type) if f.name in there else pa.nulls(len(batch), f.type) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def parts_folder(path: Path) -> Path:
    """Where the shards of a single file wait; it exists while a run is unfinished."""
    return path.with_name(f".{path.name}.parts")


def read_shards(folder: Path, shards: Sequence[Path] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of earlier runs: id, task, question, value and error, where the shards have them."""
    for path in list_shards(folder) if shards is None else shards:
        file = pq.ParquetFile(path)
        names = [n for n in ("id", "task", "question", "value", "error") if n in file.schema_arrow.names]
        for batch in file.iter_batches(8192, columns=names):
            yield from batch.to_pylist()


def drop_errors(path: Path) -> int:
    """Rewrites shards (or one file) without the rows that have an error; returns how many there were."""
    dropped = 0
    finish_rename(path)
    unfinished = parts_folder(path)
    for shard in list_shards(path) if path.is_dir() else [path, *list_shards(unfinished)]:
        table = pq.read_table(shard) if shard.exists() else None
        if table is None or table["error"].null_count == len(table):
            continue
        good = table.filter(table["error"].is_null())
        dropped += len(table) - len(good)
        if len(good):
            write_parquet(good, shard)
        else:
            shard.unlink()
    return dropped


def list_shards(folder: Path) -> list[Path]:
    """Whole shards of a folder, in order; open ones begin with a dot."""
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith("."))


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file under a temporary name, flushes it to the disk and renames it."""
    temporary = path.with_name(f".{path.stem}.tmp")
    pq.write_table(table, temporary)
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
