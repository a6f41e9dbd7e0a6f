"""Scores as JSON lines and CSV. A row that a dying process left half-written is cut off when the file is opened."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.errors import ConfigError
from q_align.media.expand import LONGEST_CELL
from q_align.score.write_lock import OutputLock, lock_output


class JsonlTable:
    """One JSON object a line."""

    def __init__(self, path: Path, columns: Sequence[str], lock: OutputLock | None = None) -> None:
        self.path, self.columns = path, columns
        self.lock = lock or lock_output(path)
        self.file = path.open("a", encoding="utf-8")
        _cut_tail(path)

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_text(self.path)

    def write(self, row: dict[str, Any]) -> None:
        self.file.write(to_json(row, self.columns) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        self.lock.release()


class CsvTable:
    """Comma-separated values with a header.

    Args:
        path: of the file.
        columns: to write; None: those of the file that is there.
        levels: level words: `probs` becomes a column for each (p_excellent ...); without them it is a JSON list.
        lock: on the file, where the caller has taken it; `close` releases it.

    Raises:
        ConfigError: when the file that is there has other columns.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] | None,
        levels: Sequence[str] = (),
        lock: OutputLock | None = None,
    ) -> None:
        self.path = path
        self.probs = [f"p_{word}" for word in levels]
        self.lock = lock or lock_output(path)
        self.file = path.open("a", encoding="utf-8", newline="")
        _cut_csv_tail(path)
        there = _header(path)
        if columns is None:
            self.columns = there
        else:
            self.columns = [
                name for column in columns for name in (self.probs if column == "probs" and levels else [column])
            ]
        self.writer = csv.writer(self.file)
        if not there:
            if self.columns:
                self.writer.writerow(self.columns)
        elif there != self.columns:
            self.close()
            raise ConfigError(
                f"{path} has the columns {','.join(there)}, not {','.join(self.columns)}; resume with the same "
                "--columns, or name another --output"
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        return read_text(self.path)

    def write(self, row: dict[str, Any]) -> None:
        if self.probs:
            row = row | dict(zip(self.probs, row.get("probs") or ()))
        cells = (row.get(name) for name in self.columns)
        self.writer.writerow(json.dumps(c) if isinstance(c, (list, tuple)) else c for c in cells)
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        self.lock.release()


def to_json(row: dict[str, Any], columns: Sequence[str]) -> str:
    return json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False)


def read_text(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl or .csv; an empty cell of a CSV is None."""
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix.lower() == ".jsonl":
            yield from (json.loads(line) for line in lines if line.strip())
        else:
            csv.field_size_limit(LONGEST_CELL)
            for row in csv.DictReader(lines):
                yield {name: value if value != "" else None for name, value in row.items()}


def drop_text_errors(path: Path) -> int:
    """Rewrites a .jsonl or .csv without the rows that have an error; returns how many there were."""
    text = path.suffix.lower() == ".jsonl"
    (_cut_tail if text else _cut_csv_tail)(path)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    dropped = 0
    with path.open(encoding="utf-8", newline="") as lines, temporary.open("w", encoding="utf-8", newline="") as good:
        if text:
            for line in lines:
                failed = bool(line.strip()) and bool(json.loads(line).get("error"))
                dropped += failed
                good.write("" if failed else line)
        else:
            rows, writer = csv.reader(lines), csv.writer(good)
            head = next(rows, [])
            at = head.index("error") if "error" in head else None
            writer.writerows([head] if head else [])
            for row in rows:
                failed = at is not None and bool(row[at])
                dropped += failed
                writer.writerows([] if failed else [row])
        good.flush()
        os.fsync(good.fileno())
    temporary.replace(path) if dropped else temporary.unlink()
    return dropped


def _header(path: Path) -> list[str]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8", newline="") as lines:
        return next(csv.reader(lines), [])


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
    """Removes an unfinished last row; a row may hold line ends inside quotes, so the whole file is read."""
    good = at = quotes = 0
    with path.open("rb+") as file:
        while block := file.read(1 << 20):
            data = np.frombuffer(block, np.uint8)
            seen = quotes + np.cumsum(data == 0x22)  # quotes so far: an odd number is inside of a cell
            ends = np.flatnonzero((data == 0x0A) & (seen % 2 == 0))
            good = at + int(ends[-1]) + 1 if len(ends) else good
            at, quotes = at + len(block), int(seen[-1])
        file.truncate(good)
