"""Tables of scores: JSON lines, CSV, one Parquet file, or a folder of Parquet shards; each can be resumed.

A row is either wholly in a table or not at all, whenever the process dies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from q_align.errors import ConfigError
from q_align.score.text_tables import CsvTable, JsonlTable, drop_text_errors, read_text
from q_align.score.write_lock import OutputLock, lock_output

COLUMNS = ("id", "value", "level", "probs", "std", "mass", "error", "task", "warning")
# frames: with --per-frame; question: where items have their own; scale: where it is not the level scale
OPTIONAL = ("frames", "question", "scale")
FORMATS = (".jsonl", ".csv", ".parquet")


class ScoreTable(Protocol):
    """Scores on disk."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows that an earlier run left; at least id, task, question, value and error where the table has them."""
        ...

    def write(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a finished table: at least id, task, question, value and error where the table has them."""
    from q_align.score.shards import read_shards

    path = Path(path)
    if path.is_dir():
        yield from read_shards(path)
    elif path.suffix.lower() == ".parquet":
        yield from read_shards(path.parent, [path])
    else:
        yield from read_text(path)


def drop_failed_rows(path: str | Path, lock: OutputLock | None = None) -> int:
    """Removes the rows that have an error, so that a resumed run scores these items again; returns how many.

    Args:
        path: of the table.
        lock: on it, where the caller has taken it.

    Raises:
        ConfigError: when another process is writing there.
    """
    from q_align.score.shards import drop_errors

    held = lock or lock_output(path, folder=is_folder(path))
    try:
        if not held.alone:
            raise ConfigError(f"{path}: another process is writing there; --retry waits for its end")
        path = Path(path)
        if path.is_dir() or path.suffix.lower() == ".parquet":
            return drop_errors(path)
        return drop_text_errors(path) if path.exists() else 0
    finally:
        if lock is None:
            held.release()


def check_free(path: str | Path, *, resume: bool) -> None:
    """Refuses to write where scores are already, unless the run resumes, and into a folder of images or videos.

    Raises:
        ConfigError: with the place.
    """
    from q_align.media.expand import MEDIA_SUFFIXES

    if is_folder(path) and Path(path).is_dir():
        with os.scandir(path) as entries:
            media = next((entry.name for entry in entries if Path(entry.name).suffix.lower() in MEDIA_SUFFIXES), None)
        if media:
            raise ConfigError(f"{path} is a folder of images or videos ({media}); name another --output")
    if has_rows(Path(path)) and not resume:
        raise ConfigError(f"{path} already contains scores; continue with --resume, or name another --output")


def has_rows(path: Path) -> bool:
    """Whether a table, finished or not, has rows."""
    from q_align.score.shards import list_shards, parts_folder

    if path.is_dir():
        return bool(list_shards(path))
    return parts_folder(path).exists() or (path.exists() and path.stat().st_size > 0)


def open_table(
    path: str | Path,
    *,
    resume: bool = False,
    columns: Sequence[str] | None = COLUMNS,
    levels: Sequence[str] = (),
    lock: OutputLock | None = None,
    **shards: Any,
) -> ScoreTable:
    """Opens a table by its suffix; no suffix, or an existing folder, means a folder of Parquet shards.

    Args:
        path: .jsonl, .csv, .parquet, or a folder.
        resume: keep the rows that are there, and append.
        columns: to write; None: those of the file that is there.
        levels: level words; in CSV each gets a column of its own (p_excellent) in place of `probs`.
        lock: on the table, where the caller has taken it; `close` of the table releases it.
        shards: `shard_rows`, `shard_seconds`, `prefix` of a folder (see `q_align.score.shards.Shards`).

    Raises:
        ConfigError: for another suffix, or when something is there already and `resume` is off.
    """
    from q_align.score.shards import ParquetTable, Shards

    folder = is_folder(path)  # before a slash at its end is lost
    check_free(path, resume=resume)
    path = Path(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        return Shards(path, columns or COLUMNS, lock=lock, **shards)
    if suffix == ".jsonl":
        return JsonlTable(path, columns or COLUMNS, lock)
    if suffix == ".csv":
        return CsvTable(path, columns, levels, lock)
    if suffix == ".parquet":
        return ParquetTable(path, columns or COLUMNS, lock=lock, **shards)
    raise ConfigError(f"{path}: cannot write {suffix}; --output takes {', '.join(FORMATS)} or a folder")


def is_folder(path: str | Path) -> bool:
    """Whether a table of that name is a folder of shards: no suffix, a slash at its end, or a folder that exists."""
    return str(path).endswith("/") or not Path(path).suffix or Path(path).is_dir()
