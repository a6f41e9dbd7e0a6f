"""Packs a labelled set into a few tar shards, and writes labels that point into them.

For network disks, where opening a million small files costs more than reading them. Bytes are copied, nothing is
decoded. Shards depend on the files only, so that the same command resumes an interrupted one; the labels are written
last, and a folder without them is incomplete.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from q_align.data.convert_labels import write_labels
from q_align.data.labels import Labels
from q_align.errors import LabelError, MediaError
from q_align.log import log
from q_align.media.limits import LIMITS, Limits

SHARD_BYTES = 1 << 30
SHOWN = 5  # unusable files that an error names; it counts them all


class Member(NamedTuple):
    """One file to be packed: where it is, what the shard calls it, and its size and time, which show a later change."""

    path: str
    name: str
    size: int
    seconds: int


def pack(labels: Labels, folder: str | Path, *, shard_bytes: int = SHARD_BYTES, limits: Limits = LIMITS) -> Path:
    """Writes the shards of a set, then its labels.

    Args:
        labels: with the paths of existing files; a file of several rows is packed once.
        folder: gets `pack-00000.tar`, ... and `SOURCE.csv`; made if it is missing.
        shard_bytes: a shard is closed before it would grow beyond this many bytes of files.
        limits: a file above `max_bytes` is refused, since it is read as a whole.

    Returns:
        The labels file. Read with its own folder as the media root, it gives the same rows and ids.

    Raises:
        MediaError: when files are missing, empty or too large (names some and counts all; nothing is written then),
            when one changes meanwhile, or when the disk is full.
        LabelError: when the folder holds other files, or the labels of a whole pack.
    """
    folder = Path(folder)
    target = folder / f"{labels.source}.csv"
    members = _members(labels.column("media").tolist(), limits)
    shards = _shards(list(members.values()), shard_bytes)
    names = [f"pack-{number:05d}.tar" for number in range(len(shards))]
    _claim(folder, target, names)
    places: dict[str, str] = {}
    for name, content in zip(names, shards):
        shard = folder / name
        offsets = _offsets(shard, content)
        if offsets is None:
            _write(shard, content)
            offsets = _offsets(shard, content)
        if offsets is None:
            raise MediaError(f"{shard}: does not read back as it was written; pack again on another disk")
        for member, offset in zip(content, offsets):
            places[member.path] = f"{name}@{offset}+{member.size}/{member.name}"
        log.info("%s: %d files", shard, len(content))
    media = pa.array([places[path] for path in labels.column("media").tolist()], pa.large_string())
    table = labels.table.set_column(labels.table.column_names.index("media"), "media", media)
    fresh = folder / f"new-{target.name}"
    write_labels(replace(labels, table=table), fresh)
    fresh.replace(target)
    return target


def _members(paths: Sequence[str], limits: Limits) -> dict[str, Member]:
    """Every file once, in the order of the labels, named below the folder that all of them share."""
    unique = list(dict.fromkeys(paths))
    found, wrong = {}, []
    root = os.path.commonpath([Path(path).absolute().parent for path in unique])
    for path in unique:
        try:
            info = Path(path).stat()
        except (OSError, ValueError) as error:
            wrong.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        if not stat.S_ISREG(info.st_mode):
            wrong.append(f"{path}: not a regular file")
        elif not 0 < info.st_size <= limits.max_bytes:
            wrong.append(f"{path}: {info.st_size} bytes (1 to {limits.max_bytes} can be packed)")
        else:
            name = os.path.normpath(Path(path).absolute())
            name = Path(os.path.relpath(name, os.path.normpath(root))).as_posix()
            found[path] = Member(path, name, info.st_size, int(info.st_mtime))
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise MediaError(
            f"{len(wrong)} of {len(unique)} files cannot be packed: {'; '.join(wrong[:SHOWN])}{more}; nothing was "
            f"written (--media-root names their folder)"
        )
    return found


def _shards(members: list[Member], shard_bytes: int) -> list[list[Member]]:
    shards: list[list[Member]] = []
    room = 0
    for member in members:
        if not shards or member.size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(member)
        room -= member.size
    return shards


def _claim(folder: Path, target: Path, names: Sequence[str]) -> None:
    """The folder is new, empty, or holds what an earlier, unfinished run of the same command left."""
    folder.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise LabelError(f"{target}: exists, so this folder holds a whole pack; name a new folder")
    mine = {*names, *(f"{name}.part" for name in names), f"new-{target.name}"}
    others = sorted({path.name for path in folder.iterdir()} - mine)
    if others:
        raise LabelError(
            f"{folder}: holds {others[0]} ({len(others)} other files), no part of this pack; name a new one"
        )
    for part in folder.glob("*.part"):
        part.unlink()


def _write(shard: Path, members: Sequence[Member]) -> None:
    """One shard, written aside and renamed when it has reached the disk."""
    part = shard.with_name(f"{shard.name}.part")
    try:
        with part.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
                for member in members:
                    _add(tar, member)
            file.flush()
            os.fsync(file.fileno())
        part.replace(shard)
    except OSError as error:
        raise MediaError(f"{shard}: {error.strerror or error}; run it again to resume") from error
    finally:
        part.unlink(missing_ok=True)  # gone already, where all went well


def _add(tar: tarfile.TarFile, member: Member) -> None:
    info = tarfile.TarInfo(member.name)
    info.size, info.mtime, info.mode = member.size, member.seconds, 0o644
    with Path(member.path).open("rb") as file:
        if os.fstat(file.fileno()).st_size != member.size:
            raise MediaError(f"{member.path}: changed while it was packed; run the same command again")
        tar.addfile(info, file)


def _offsets(shard: Path, members: Sequence[Member]) -> list[int] | None:
    """Offsets of the files, by the shard's own headers; None where it is missing or holds anything else."""
    if not shard.is_file():
        return None
    try:
        with tarfile.open(shard, "r:") as tar:
            inside = tar.getmembers()
    except tarfile.TarError:
        return None
    if [(m.name, m.size, m.mtime) for m in inside] != [(m.name, m.size, m.seconds) for m in members]:
        return None
    return [m.offset_data for m in inside]
