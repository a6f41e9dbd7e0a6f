"""Words of a command line -> items to score: files, folders, globs, lists, tables, tar shards, addresses.

Lazy, so that a list of a billion lines costs nothing until it is reached. What cannot be found becomes an item all the
same: it fails in its own row.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from q_align.errors import MediaError, nearest
from q_align.log import log
from q_align.media.source import Broken, is_url
from q_align.media.video import SUFFIXES as VIDEO_SUFFIXES
from q_align.types import Item, Media

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".mpo"),
        *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".qoi", ".pcx", ".heic", ".heif"),
    )
)
MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
WITH_COLUMNS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
TABLES = (*WITH_COLUMNS, ".txt", ".lst")
LONGEST_CELL = 1 << 30  # characters of a CSV cell; Python's own limit is 131072
COLUMNS = ("media", "path", "image", "video", "file", "file_name", "filename", "url", "bytes")


def expand(words: Iterable[str], *, root: str | None = None, column: str | None = None) -> Iterator[Item]:
    """Items behind the words of a command line, in order.

    Args:
        words: files, folders (walked through), globs, lists and tables, tar shards, addresses; "-": names from the
            standard input, one a line.
        root: folder that paths inside lists and tables are relative to; the folder of the list where not given.
        column: column of a table that holds the paths or bytes; found by its name where not given.

    Raises:
        MediaError: for a table without such a column.
    """
    for word in words:
        path = Path(word)
        suffix = path.suffix.lower()
        if word == "-":
            base = Path(root or "")
            yield from (item_of({"path": line.rstrip("\r\n")}, "path", base, "") for line in sys.stdin if line.strip())
        elif is_url(word):
            yield Item(word, word)
        elif path.is_dir():
            yield from walk(path)
        elif suffix in TABLES and path.is_file():
            yield from _table(path, Path(root) if root else path.parent, column)
        elif suffix == ".tar" and path.is_file():
            yield from tar_members(path)
        elif glob.has_magic(word) and not path.exists():
            found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute patterns)
            if not found:
                yield Item(word, word)  # its row reports that there is no such file
            yield from expand(found, root=root, column=column)  # lists and shards count as if named one by one
        else:
            yield _named(word)


def has_questions(words: Iterable[str]) -> bool:
    """Whether a list among the words has a column `question`; looks at the first row of each."""
    for word in words:
        names = [word]
        if glob.has_magic(word) and not Path(word).exists():
            names = glob.glob(word, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
        for path in map(Path, names):
            if path.suffix.lower() in WITH_COLUMNS and path.is_file() and "question" in _first_columns(path):
                return True
    return False


def _first_columns(path: Path) -> Iterable[str]:
    if path.suffix.lower() == ".parquet":  # its rows may hold the images themselves
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    return next(_rows(path), {})


def walk(folder: Path) -> Iterator[Item]:
    """Images and videos of a folder and those below it, by name; other files are skipped and counted.

    A folder that cannot be listed is an item that fails, so that its files are not missed in silence.
    """
    skipped = 0
    locked: list[OSError] = []
    for base, files in folders(folder, locked):
        yield from _unlisted(locked)
        for name in files:
            if Path(name).suffix.lower() in MEDIA_SUFFIXES:
                yield _named(os.path.join(base, name))  # noqa: PTH118 (twice as fast, and there may be millions)
            else:
                skipped += 1
    yield from _unlisted(locked)
    if skipped:
        log.info("%s: %d files without the suffix of an image or a video were skipped", folder, skipped)


def folders(top: Path, errors: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """A folder and all below it with their files' names, sorted; links are followed, and no folder comes twice.

    Args:
        top: where to begin.
        errors: gets one for every folder that cannot be listed.
    """
    entered: set[tuple[int, int]] = set()  # a link to a folder above it would never end
    for base, inner, files in os.walk(top, onerror=errors.append, followlinks=True):
        status = os.stat(base)  # noqa: PTH116 (as above)
        place = (status.st_dev, status.st_ino)
        if place in entered:
            inner.clear()
            continue
        entered.add(place)
        inner.sort()
        yield base, sorted(files)


def _unlisted(errors: list[OSError]) -> Iterator[Item]:
    while errors:
        error = errors.pop()
        yield Item(clean(str(error.filename)), Broken(f"{error.filename}: cannot be listed ({error.strerror})"))


def clean(text: str) -> str:
    """A file name as text that every table can hold: undecodable bytes and halves of surrogate pairs become escapes."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair, as JSON can hold
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def tar_members(path: Path) -> Iterator[Item]:
    """Images and videos in a tar (WebDataset) shard, by offset (`q_align.media.packed`); the id is shard/member."""
    import tarfile

    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if member.isfile() and Path(member.name).suffix.lower() in MEDIA_SUFFIXES:
                    place = f"{path}@{member.offset_data}+{member.size}/{member.name}"
                    yield Item(clean(f"{path}/{member.name}"), place)
    except (tarfile.TarError, OSError, EOFError) as error:
        yield Item(clean(str(path)), Broken(f"{path}: the tar ends early or is damaged ({error})"))


def _named(name: str) -> Item:
    return Item(clean(name), name)


def _table(path: Path, root: Path, column: str | None) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if suffix in (".txt", ".lst"):
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            yield from (item_of({"path": line.rstrip("\r\n")}, "path", root, "") for line in lines if line.strip())
        return
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        return
    if column is None:
        column = next((name for name in COLUMNS if name in first), None)
    if column is None or column not in first:
        guess = nearest(column, first) if column else ""
        raise MediaError(
            f"{path}: no column {column or ' | '.join(COLUMNS)}{guess}; it has {', '.join(map(str, first))} (--column)"
        )
    for number, row in enumerate(chain([first], rows)):
        yield item_of(row, column, root, f"{path}:{number}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(1024):
            yield from batch.to_pylist()
    elif suffix in (".jsonl", ".ndjson"):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except (json.JSONDecodeError, UnicodeDecodeError) as error:
                        raise MediaError(f"{path}, line {number}: not JSON in UTF-8 ({error})") from error
                    yield row if isinstance(row, dict) else {"path": row}
    else:
        import csv

        with path.open(encoding="utf-8-sig", newline="") as lines:
            csv.field_size_limit(LONGEST_CELL)
            try:
                yield from csv.DictReader(lines, delimiter="\t" if suffix == ".tsv" else ",")
            except (csv.Error, UnicodeDecodeError) as error:
                raise MediaError(f"{path}: not a table in UTF-8 ({error})") from error


def item_of(row: dict[str, Any], column: str, root: Path, place: str) -> Item:
    """One row of a table; `place` names it where nothing else does."""
    media: Any = row.get(column)
    name: str | None = None
    if isinstance(media, dict):  # how Hugging Face datasets store images: {"bytes": ..., "path": ...}
        name, media = media.get("path"), media.get("bytes") or media.get("path")
    if isinstance(media, str) and media and not is_url(media):
        name = name or media
        media = str(root / media)
    given = row.get("id")
    id = given if given not in (None, "") else name or (media if isinstance(media, str) and media else place)
    return Item(clean(str(id)), _present(media, column), _text(row, "task"), _text(row, "question"))


def _text(row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value else None


def _present(media: Any, column: str) -> Media:
    return media if media else Broken(f"nothing in column {column!r}")
