"""Number of items that command line arguments name, where it is quick to find; for progress bars."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from q_align.media.expand import MEDIA_SUFFIXES, TABLES, folders

MAX_TEXT = 2**28  # bytes of a list that are worth reading through only to count them


def count_items(words: Iterable[str]) -> int | None:
    """Number of items behind files, folders, globs and tables; None where a look costs too much (tar, a pipe)."""
    total = 0
    for word in words:
        one = None if word == "-" else _count(Path(word), word)
        if one is None:
            return None
        total += one
    return total


def _count(path: Path, word: str) -> int | None:
    suffix = path.suffix.lower()
    if path.is_dir():
        names = (name for _, files in folders(path, []) for name in files)
        return sum(Path(name).suffix.lower() in MEDIA_SUFFIXES for name in names)
    if not path.is_file():
        found = glob.glob(word, recursive=True) if glob.has_magic(word) else []  # noqa: PTH207 (absolute patterns)
        return max(1, sum(_count(Path(name), "") or 0 for name in found))
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    if suffix in TABLES:
        if path.stat().st_size > MAX_TEXT:
            return None
        with path.open("rb") as lines:
            filled = sum(bool(line.strip()) for line in lines)
        return max(0, filled - (suffix in (".csv", ".tsv")))
    return None if suffix == ".tar" else 1
