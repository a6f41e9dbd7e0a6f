"""Files inside tar shards: many small files packed into a few large ones, each found by its offset, without an index.

A packed file is named `SHARD.tar@OFFSET+SIZE/NAME`, so that the labels file is the index and any process opens any
file by itself. Shards are plain tar files of uncompressed members (see `q_align.data.pack_shards`). Only the bytes that
the two numbers enclose are read, whatever the name is.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from q_align.errors import MediaError

BLOCK = tarfile.BLOCKSIZE
MARK = re.compile(r"(?<=.\.tar)@(\d{1,15})\+(\d{1,15})/(?=.)", re.DOTALL)


class PackedPlace(NamedTuple):
    """Where a packed file is: `size` bytes from `offset` of `shard`."""

    shard: Path
    offset: int
    size: int


def place_of(media: Any) -> PackedPlace | None:
    """Where the bytes of a packed file are; None for anything else."""
    if not isinstance(media, (str, os.PathLike)):
        return None
    text = os.fspath(media)
    found = [PackedPlace(Path(text[: at.start()]), int(at[1]), int(at[2])) for at in MARK.finditer(text)]
    if len(found) > 1:  # names of folders and of members may look like places
        return next((place for place in found if place.shard.is_file()), found[0])
    return found[0] if found else None


def file_of(media: str | os.PathLike[str]) -> Path:
    """The file on disk that holds an image or a video: its shard, or the file itself."""
    place = place_of(media)
    return place.shard if place else Path(media)


def read_packed(place: PackedPlace, name: str) -> bytes:
    """The bytes of a packed file, after a check of the tar header before them.

    Raises:
        MediaError: when the shard cannot be read, or is not the one that the name was written for.
    """
    try:
        with place.shard.open("rb", buffering=0) as file:
            file.seek(max(0, place.offset - BLOCK))
            data = _fully(file, BLOCK + place.size)
    except OSError as error:
        raise MediaError(f"{name}: the shard {place.shard}: {error.strerror or error}") from error
    try:
        fits = tarfile.TarInfo.frombuf(data[:BLOCK], "utf-8", "surrogateescape").size == place.size
    except tarfile.HeaderError:
        fits = False
    if not fits or len(data) != BLOCK + place.size:
        raise MediaError(f"{name}: not in the shard at this offset (cut short, or another file); pack it again")
    return data[BLOCK:]


def _fully(file: Any, size: int) -> bytes:
    """As many bytes as there are, up to `size`: one read of a network disk may give fewer."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
