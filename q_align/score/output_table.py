"""Where scores are written: JSON lines, CSV, Parquet, or a folder of Parquet shards; what is there can be gone on with.

A row is either wholly in a table or not at all, whenever the process dies. Knows rows; no media and no model.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from q_align.errors import ConfigError
from q_align.score.lock import hold
from q_align.types import Score

COLUMNS = tuple(name for name in Score.__slots__ if name != "frames")  # frames: where asked for
RUN = "_run.json"  # what a table's rows were made with
FORMATS = (".jsonl", ".csv", ".parquet")


class Table(Protocol):
    """Scores on disk."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows that an earlier run left; only id, task, value and error need be there."""
        ...

    def write(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a finished table: at least id, task, value and error."""
    from q_align.score.shards import read_shards

    path = Path(path)
    if path.is_dir():
        yield from read_shards(path)
    elif path.suffix.lower() == ".parquet":
        yield from read_shards(path.parent, [path])
    else:
        yield from _read_text(path)


def forget_errors(path: str | Path) -> int:
    """Removes the rows of failed media from a table, so that going on tries them again; returns how many."""
    from q_align.score.shards import drop_errors

    path = Path(path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return drop_errors(path)
    if not path.exists():
        return 0
    open_table(path, resume=True).close()  # cuts off a half-written row
    rows = list(_read_text(path))
    kept = [row for row in rows if not row.get("error")]
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    temporary.unlink(missing_ok=True)
    table = open_table(temporary, columns=list(rows[0]) if rows else COLUMNS)
    for row in kept:
        table.write(row)
    table.close()
    temporary.replace(path)
    return len(rows) - len(kept)


def _read_text(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix.lower() == ".jsonl":
            yield from (json.loads(line) for line in lines if line.strip())
        else:
            for row in csv.DictReader(lines):
                yield {name: value if value != "" else None for name, value in row.items()}


def check_free(path: Path, *, resume: bool) -> None:
    """Refuses to write where scores are already, unless they are to be gone on with.

    Raises:
        ConfigError: says where.
    """
    if _begun(path) and not resume:
        raise ConfigError(f"{path} holds scores already; go on with --resume, or name another --output")


def claim(path: str | Path, settings: dict[str, Any]) -> None:
    """Notes what a table's rows are made with, or compares with what is noted there.

    A folder holds the note as _run.json; beside a file lies a hidden one.

    Args:
        path: of the table, also one that is not there yet.
        settings: that change a score.

    Raises:
        ConfigError: when an earlier run used other settings.
    """
    folder = is_folder(path)
    path = Path(path)
    note = path / RUN if folder else path.with_name(f".{path.name}{RUN}")
    if _begun(path):
        before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else settings
        for name, value in settings.items():
            if before.get(name) != value:
                raise ConfigError(
                    f"{path} was scored with {name} {before.get(name)!r}, not {value!r}; go on with the "
                    f"same, or name another --output"
                )
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(f".{RUN}.{os.getpid()}")  # several processes may begin at once
    temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    temporary.replace(note)


def _begun(path: Path) -> bool:
    from q_align.score.shards import parts_of, shards_of

    return bool(shards_of(path)) if path.is_dir() else parts_of(path).exists() or _size(path) > 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def open_table(path: str | Path, *, resume: bool = False, columns: Sequence[str] = COLUMNS, **shards: Any) -> Table:
    """Opens a table by its suffix; no suffix, or an existing folder, means a folder of Parquet shards.

    Args:
        path: .jsonl, .csv, .parquet, or a folder.
        resume: go on with what is there.
        columns: which columns to write.
        shards: `shard_rows`, `shard_seconds`, `prefix` of a folder (see `q_align.score.shards.Shards`).

    Raises:
        ConfigError: for another suffix, or when something is there already and `resume` is off.
    """
    from q_align.score.shards import ParquetFile, Shards

    folder = is_folder(path)  # before a slash at its end is lost
    path = Path(path)
    suffix = path.suffix.lower()
    check_free(path, resume=resume)
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        return Shards(path, columns, **shards)
    if suffix == ".jsonl":
        return Lines(path, columns)
    if suffix == ".csv":
        return Csv(path, columns)
    if suffix == ".parquet":
        return ParquetFile(path, columns, **shards)
    raise ConfigError(f"{path}: cannot write {suffix}; --output takes {', '.join(FORMATS)} or a folder")


def is_folder(path: str | Path) -> bool:
    """Whether a table of that name is a folder of shards: no suffix, a slash at its end, or a folder that is there."""
    return str(path).endswith("/") or not Path(path).suffix or Path(path).is_dir()


class Lines:
    """One JSON object a line. A line that a dying process left half-written is cut off."""

    def __init__(self, path: Path, columns: Sequence[str] = COLUMNS) -> None:
        self.path, self.columns = path, columns
        self.file = path.open("a", encoding="utf-8")
        hold(path, self.file)
        _cut_tail(path)

    def rows(self) -> Iterator[dict[str, Any]]:
        return _read_text(self.path)

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(to_json(row, self.columns) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class Csv:
    """Comma-separated, with a header; probabilities as a JSON list in one cell."""

    def __init__(self, path: Path, columns: Sequence[str] = COLUMNS) -> None:
        self.path, self.columns = path, columns
        self.file = path.open("a", encoding="utf-8", newline="")
        hold(path, self.file)
        _cut_csv_tail(path)
        self.writer = csv.writer(self.file)
        if _size(path) == 0:
            self.writer.writerow(columns)

    def rows(self) -> Iterator[dict[str, Any]]:
        return _read_text(self.path)

    def write(self, row: dict[str, Any]) -> None:
        cells = (row.get(name) for name in self.columns)
        self.writer.writerow(json.dumps(c) if isinstance(c, (list, tuple)) else c for c in cells)
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def to_json(row: dict[str, Any], columns: Sequence[str] = COLUMNS) -> str:
    return json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False)


def _cut_tail(path: Path) -> None:
    """Removes bytes after the last line end."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            step = min(4096, end)
            file.seek(end - step)
            at = file.read(step).rfind(b"\n")
            if at >= 0:
                end = end - step + at + 1
                break
            end -= step
        file.truncate(end)


def _cut_csv_tail(path: Path) -> None:
    """Removes an unfinished last row; a row may hold line ends inside quotes, so the whole file is looked through."""
    good = at = quotes = 0
    with path.open("rb+") as file:
        while block := file.read(1 << 20):
            data = np.frombuffer(block, np.uint8)
            seen = quotes + np.cumsum(data == 0x22)  # quotes so far: an odd number is inside of a cell
            ends = np.flatnonzero((data == 0x0A) & (seen % 2 == 0))
            good = at + int(ends[-1]) + 1 if len(ends) else good
            at, quotes = at + len(block), int(seen[-1])
        file.truncate(good)
