"""The bytes of an image or a video, checked before anything decodes them: a regular file, or bytes in memory.

Addresses are downloaded by `q_align.media.url_fetch`, only with `Limits.allow_urls`.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

from q_align.errors import MediaError
from q_align.media.limits import LIMITS, Limits
from q_align.media.packed import PackedPlace, place_of, read_packed

# What can be read more than once from the start.
Source = Path | io.BytesIO


class Broken(str):
    """Stands for an item that a list or a container lost; opening it fails with this text as the reason."""

    __slots__ = ()


def name_of(media: Any) -> str:
    """A short name for messages: the path, or the type and size."""
    if isinstance(media, (str, os.PathLike)):
        return os.fspath(media)
    shape = getattr(media, "shape", None) or getattr(media, "size", None)
    return f"<{type(media).__name__}{'' if shape is None or callable(shape) else f' {shape}'}>"


def is_url(media: Any) -> bool:
    return isinstance(media, str) and media[:8].lower().startswith(("http://", "https://"))


def open_source(media: Any, limits: Limits = LIMITS) -> Source:
    """The file or the bytes behind a path, a place in a shard, an address, bytes or a binary file object.

    Raises:
        MediaError: when there is nothing to read, or it is no regular file.
    """
    if isinstance(media, Broken):
        raise MediaError(media)
    if is_url(media):
        from q_align.media.url_fetch import download_media

        return io.BytesIO(download_media(media, limits))
    if isinstance(media, (str, os.PathLike)):
        place = place_of(media)
        if place is None:
            return _checked(Path(media))
        check_size(name_of(media), place.size, limits)
        media = read_packed(PackedPlace(_checked(place.shard), place.offset, place.size), name_of(media))
    if isinstance(media, (bytes, bytearray, memoryview)):
        data = bytes(media)
    elif hasattr(media, "read"):
        data = media.read(limits.max_bytes + 1)
        if not isinstance(data, bytes):
            raise MediaError(f"{name_of(media)}: a text stream; open the file with mode 'rb'")
    else:
        raise MediaError(f"{name_of(media)}: {_unknown(media)}")
    if not data:
        raise MediaError(f"{name_of(media)}: empty (0 bytes)")
    check_size(name_of(media), len(data), limits)
    return io.BytesIO(data)


def decoder_input(source: Source) -> str | io.BytesIO:
    """What FFmpeg gets: bytes, or an absolute path, whose start it cannot take for a protocol ("http:", "pipe:")."""
    return str(source.absolute()) if isinstance(source, Path) else source


def read_once(media: Any, limits: Limits = LIMITS) -> Any:
    """Bytes in place of what can be read only once (addresses, file objects); anything else as it is.

    Raises:
        MediaError: see `open_source`.
    """
    if is_url(media) or hasattr(media, "read"):
        source = open_source(media, limits)
        return source.getvalue() if isinstance(source, io.BytesIO) else source
    return media


def _unknown(media: Any) -> str:
    if type(media).__module__.partition(".")[0] == "torch":
        return (
            "a torch tensor; give uint8 arrays (height, width, 3), for values in 0..1: "
            "(t.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy(), and for a batch one array per image "
            "in scorer.stream([...])"
        )
    return "not an image or a video; give a path, bytes, a PIL image, a uint8 array, or a list of frames"


def check_size(name: str, size: int, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise MediaError(f"{name}: {size} bytes is above the limit of {limits.max_bytes} (Limits.max_bytes)")


def first_bytes(source: Source, count: int = 64) -> bytes:
    """The first bytes, without moving the position of a stream."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return file.read(count)
        except PermissionError as error:
            raise MediaError(f"{source}: no permission to read it") from error
        except OSError as error:
            raise MediaError(f"{source}: {error.strerror or error}") from error
    return source.getbuffer()[:count].tobytes()


def _checked(path: Path) -> Path:
    try:
        info = path.stat()
    except FileNotFoundError as error:
        what = f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file"
        raise MediaError(f"{path}: {what}") from error
    except (OSError, ValueError) as error:  # too long, no permission on a folder, a null byte
        raise MediaError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(info.st_mode):
        raise MediaError(f"{path}: a folder, not an image or a video")
    if not stat.S_ISREG(info.st_mode):
        raise MediaError(f"{path}: not a regular file")  # reading a pipe would wait for ever
    if info.st_size == 0:
        raise MediaError(f"{path}: empty (0 bytes)")
    return path
