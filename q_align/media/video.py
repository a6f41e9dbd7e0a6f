"""The frames of a video, as RGB images: decord, or PyAV where decord is missing or cannot open the file (AV1).

Frames are decoded one at a time and scaled down at once, so memory is bounded by the frames that are sampled, not by
the length of the video.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from q_align.errors import MediaError, MissingExtraError, require
from q_align.media.frame_sampling import pick
from q_align.media.image import check_pixels, one_line, open_image, shrink
from q_align.media.limits import LIMITS, Limits
from q_align.media.source import Source, first_bytes, is_url, name_of, open_source
from q_align.types import Media, MediaSpec

SUFFIXES = frozenset(
    (
        *(
            ".mp4",
            ".m4v",
            ".mov",
            ".mkv",
            ".webm",
            ".avi",
            ".mpg",
            ".mpeg",
            ".ts",
            ".m2ts",
            ".mts",
            ".flv",
            ".wmv",
            ".3gp",
        ),
        *(".ogv", ".y4m", ".vob", ".asf", ".h264", ".hevc"),
    )
)
MAX_FAILURES = 3  # frames in a row that cannot be decoded; each may cost seconds
# Brands of still images in the container that MP4 uses too.
STILLS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")


class Frames(list[Any]):
    """The frames of one video, given as paths, bytes, images or arrays.

    A plain list of images or arrays means the same; a plain list of paths or bytes is refused, since it is more often
    meant as several items.
    """


class Reader(NamedTuple):
    """An open video.

    Attributes:
        times: (N,) seconds at which each frame is shown, rising.
        rate: average frames per second.
        size: width and height as stored.
        read: decodes the frame of an index; made for rising ones.
        damage: what is known to be missing, or None.
    """

    times: np.ndarray
    rate: float
    size: tuple[int, int]
    read: Callable[[int], Image.Image]
    damage: str | None = None


def is_video(media: Media) -> bool:
    """Whether this is a video: by its first bytes where they tell, else by its name; a list holds frames of one."""
    if isinstance(media, (Image.Image, np.ndarray)):
        return isinstance(media, np.ndarray) and media.ndim == 4
    if isinstance(media, (list, tuple)):
        return True
    named = isinstance(media, (str, os.PathLike)) and Path(os.fspath(media)).suffix.lower() in SUFFIXES
    if is_url(media):
        return named
    try:
        if isinstance(media, (bytes, bytearray, memoryview)):  # of any size: limits are the reader's business
            start = bytes(media[:64])
        else:
            start = first_bytes(open_source(media)) if not hasattr(media, "read") else media.read(64)
        if hasattr(media, "seek"):
            media.seek(0)
    except MediaError:
        return named  # the reader reports what is wrong
    found = sniff(start)
    return named if found is None else found


def sniff(start: bytes) -> bool | None:
    """Whether a file that begins so is a video (True), an image (False), or unknown (None)."""
    if start[4:8] == b"ftyp":
        return start[8:12] not in STILLS
    if start[:4] == b"RIFF":
        return {b"AVI ": True, b"WEBP": False}.get(start[8:12])
    if start.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"OggS", b"YUV4MPEG2", b"0&\xb2u")):
        return True
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\x00\x00\x00\x0cjP")):
        return False
    return None


def open_frames(
    media: Media,
    spec: MediaSpec | None = None,
    *,
    video: bool | None = None,
    limits: Limits = LIMITS,
    reduced: bool = False,
) -> tuple[list[Image.Image], str | None]:
    """Opens what an encoder sees: one image, or the sampled frames of a video, within the pixel budget.

    Args:
        media: an image, a video, a list of frames (images or arrays), or `Frames`.
        spec: how a video is sampled and how large a frame may be.
        video: whether it is a video; None: `is_video`.
        limits: what is refused.
        reduced: decode JPEGs at a reduced scale where the pixel budget allows it (see `open_image`).

    Returns:
        At least one RGB frame, and a warning (one line) when a damaged video gave only some of its frames.

    Raises:
        MediaError: when nothing can be read, or some frames cannot and `limits.damaged` is "error".
    """
    spec = spec or MediaSpec()
    if video is None:
        video = is_video(media)
    if not video:
        enough = spec.max_pixels if reduced and not spec.tiles else None
        image = open_image(media, limits=limits, enough=enough)
        return [image if spec.tiles else shrink(image, spec.max_pixels)], None  # tiles are cut at native scale
    if isinstance(media, (list, tuple)) or (isinstance(media, np.ndarray) and media.ndim == 4):
        return _given(media, spec, limits), None
    return _read(media, spec, limits)


def _given(media: Sequence[Any] | np.ndarray, spec: MediaSpec, limits: Limits) -> list[Image.Image]:
    """Frames that the caller has chosen: all of them are taken, none is dropped."""
    if len(media) == 0:
        raise MediaError("a list of no frames; give at least one")
    if not isinstance(media, Frames) and any(isinstance(frame, (str, bytes, os.PathLike)) for frame in media):
        raise MediaError(
            f"a list of {len(media)} paths or files is not one item: Scorer.stream([...]) scores each of them; "
            "q_align.media.Frames([...]) makes them the frames of one video"
        )
    frames = []
    for number, frame in enumerate(media):
        try:
            frames.append(shrink(open_image(frame, limits=limits), spec.max_pixels))
        except MediaError as error:
            raise MediaError(f"frame {number}: {error}") from error
    return frames


def _read(media: Media, spec: MediaSpec, limits: Limits) -> tuple[list[Image.Image], str | None]:
    name = name_of(media)
    with open_reader(open_source(media, limits), name, limits) as reader:
        check_pixels(name, reader.size, limits)
        indices = pick(reader.times, reader.rate, spec)
        frames, reason, failures = [], reader.damage or "", 0
        for index in indices:
            try:
                frames.append(shrink(reader.read(index), spec.max_pixels))
                failures = 0
            except Exception as error:  # decord and FFmpeg raise their own kinds
                reason = reason or f"frame {index}: {one_line(error)[:200]}"
                failures += 1
                if failures == MAX_FAILURES:
                    break
    if not frames:
        raise MediaError(f"{name}: no frame can be decoded: {reason}")
    if not reason:
        return frames, None
    warning = f"{len(frames)} of {len(indices)} frames could be read; {reason}"
    if limits.damaged == "error":
        raise MediaError(f"{name}: {warning}")
    return frames, warning


@contextmanager
def open_reader(source: Source, name: str, limits: Limits = LIMITS) -> Iterator[Reader]:
    """Opens a video with decord, or with PyAV where decord is missing or fails.

    Raises:
        MediaError: when neither can open it.
        MissingExtraError: when neither is installed.
    """
    reasons = []
    with ExitStack() as stack:
        for backend in ("decord", "av"):
            if find_spec(backend) is None:
                continue
            module = require(f"q_align.media.reader_{backend}", extra="video")
            try:
                reader = stack.enter_context(module.open_video(source, limits))
            except Exception as error:  # decord and FFmpeg raise their own kinds
                reasons.append(one_line(error)[:200])
                if hasattr(source, "seek"):
                    source.seek(0)
                continue
            yield reader
            return
    if not reasons:
        raise MissingExtraError("videos need decord or PyAV; they come with: pip install 'q_align[video]'")
    raise MediaError(f"{name}: cannot be opened as a video ({reasons[-1]})")
