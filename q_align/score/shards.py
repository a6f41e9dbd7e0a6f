"""Scores as Parquet: a folder of shards, each written whole or not at all, and a single file put together from such.

A shard is written under a temporary name, flushed to the disk and renamed: after `kill -9` at any moment the folder
holds whole shards only. One process writes at a time, held by a lock that dies with it.
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

from q_align.score.lock import hold

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
    ]
)
STANDARD = tuple(name for name in SCHEMA.names if name != "frames")


class Shards:
    """A folder of Parquet shards.

    Args:
        folder: made where it is missing.
        columns: which columns to write.
        shard_rows: rows per shard.
        shard_seconds: a shard is closed after so long, so that little is lost with the process.
        prefix: opening of the shards' names, one per writing process.
    """

    def __init__(
        self,
        folder: Path,
        columns: Sequence[str] = STANDARD,
        *,
        shard_rows: int = 10_000,
        shard_seconds: float = 60.0,
        prefix: str = "part",
    ) -> None:
        self.folder, self.prefix = folder, prefix
        self.shard_rows, self.shard_seconds = shard_rows, shard_seconds
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = hold(folder / f".{prefix}.lock")
        for left in folder.glob(f".{prefix}-*.tmp"):
            left.unlink()  # the shard that a dead process was writing
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
        write_whole(pa.Table.from_pylist(rows, self.schema), path)
        self.next += 1
        self.buffer = []

    def close(self) -> None:
        self.flush()
        self.lock.close()


class ParquetFile(Shards):
    """A single Parquet file: shards in a hidden folder beside it until the end, then put together and renamed."""

    def __init__(self, path: Path, columns: Sequence[str] = STANDARD, **shards: Any) -> None:
        self.path = path
        finish(path)
        super().__init__(parts_of(path), columns, **shards)

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_shards(self.folder, ([self.path] if self.path.exists() else []) + shards_of(self.folder))

    def close(self) -> None:
        self.flush()
        whole, spent = halfway(self.path)
        with pq.ParquetWriter(whole, self.schema) as writer:
            for part in ([self.path] if self.path.exists() else []) + shards_of(self.folder):
                for batch in pq.ParquetFile(part).iter_batches(8192):
                    writer.write_batch(_fit(batch, self.schema))
        _sync(whole)
        self.lock.close()
        # From here on the shards count as spent: whoever finds the folder under this name only finishes the rename.
        self.folder.replace(spent)
        finish(self.path)


def finish(path: Path) -> None:
    """Ends the last step of `ParquetFile.close` where a process died in it."""
    whole, spent = halfway(path)
    if spent.exists():
        if whole.exists():
            whole.replace(path)
        shutil.rmtree(spent)


def halfway(path: Path) -> tuple[Path, Path]:
    """The new file before its rename, and the shards that it is made of."""
    return path.with_name(f".{path.name}.whole"), path.with_name(f".{path.name}.spent")


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a schema; nulls where an earlier run did not write one."""
    there = batch.schema.names
    columns = [batch.column(f.name).cast(f.type) if f.name in there else pa.nulls(len(batch), f.type) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def parts_of(path: Path) -> Path:
    """Where the shards of a single file wait; it exists while a run is unfinished."""
    return path.with_name(f".{path.name}.parts")


def read_shards(folder: Path, shards: Sequence[Path] | None = None) -> Iterator[dict[str, Any]]:
    """What earlier runs did: id, task, value and error of every row."""
    for path in shards_of(folder) if shards is None else shards:
        file = pq.ParquetFile(path)
        names = [n for n in ("id", "task", "value", "error") if n in file.schema_arrow.names]
        for batch in file.iter_batches(8192, columns=names):
            yield from batch.to_pylist()


def drop_errors(path: Path) -> int:
    """Rewrites shards (or one file) without the rows of failed media; returns how many there were."""
    dropped = 0
    finish(path)
    unfinished = parts_of(path)
    for shard in shards_of(path) if path.is_dir() else [path, *shards_of(unfinished)]:
        table = pq.read_table(shard) if shard.exists() else None
        if table is None or table["error"].null_count == len(table):
            continue
        kept = table.filter(table["error"].is_null())
        dropped += len(table) - len(kept)
        if len(kept):
            write_whole(kept, shard)
        else:
            shard.unlink()
    return dropped


def shards_of(folder: Path) -> list[Path]:
    """Whole shards of a folder, in order; open ones begin with a dot."""
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith("."))


def write_whole(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.stem}.tmp")
    pq.write_table(table, temporary)
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
