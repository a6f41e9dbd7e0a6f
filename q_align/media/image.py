"""One image from anything that holds one: a path, bytes, a file object, an array, a Pillow image -> RGB, upright."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from q_align.errors import MediaError
from q_align.media.color import from_array, to_rgb
from q_align.media.limits import LIMITS, Limits
from q_align.media.source import check_size, first_bytes, name_of, open_source
from q_align.types import Media

# Formats that decode inside the process: EPS, for one, would start Ghostscript.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "MPO", "JPEG2000", "PPM", "TGA", "ICO", "QOI"),
    *("PCX", "SGI", "DDS", "HEIF"),
)


HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
PIXELS = "--limit-pixels, Limits.max_pixels"


def open_image(media: Media, *, limits: Limits = LIMITS, enough: int | None = None) -> Image.Image:
    """Opens one image as upright 8-bit RGB; of an animation the first frame.

    Args:
        media: a path, bytes, a file object, an array or a Pillow image.
        limits: what is refused.
        enough: a JPEG may be decoded at half, a quarter or an eighth of its scale as long as so many pixels are left.
            Several times faster for large photographs; pixels then differ a little from decoding the whole and
            shrinking it, so that scores differ too. None: always the whole.

    Raises:
        MediaError: when it is missing, empty, damaged, not an image, or beyond the limits; the message names it.
    """
    name = name_of(media)
    try:
        if isinstance(media, np.ndarray):
            image = from_array(media)
        elif isinstance(media, Image.Image):
            image = media
        else:
            image = _decode(media, name, limits, enough)
        check_pixels(name, image.size, limits)
        return to_rgb(image)
    except MediaError as error:
        raise error if str(error).startswith(name) else MediaError(f"{name}: {error}") from error
    except (Exception, Image.DecompressionBombError) as error:  # Pillow's decoders raise a dozen kinds
        raise MediaError(f"{name}: cannot be decoded: {one_line(error)}") from error


def shrink(image: Image.Image, max_pixels: int | None) -> Image.Image:
    """Scales an image down to at most `max_pixels`, keeping its proportions; smaller ones stay as they are."""
    if max_pixels is None or image.width * image.height <= max_pixels:
        return image
    scale = sqrt(max_pixels / (image.width * image.height))
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def check_pixels(name: str, size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise MediaError(f"{name}: {width} x {height} is above {limits.max_pixels} pixels ({PIXELS})")
    if max(width, height) > limits.max_side:
        raise MediaError(f"{name}: {width} x {height} is above {limits.max_side} on one side (Limits.max_side)")


def one_line(error: BaseException) -> str:
    """The message of an exception in one line, with its type where it is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _decode(media: Media, name: str, limits: Limits, enough: int | None) -> Image.Image:
    source = open_source(media, limits)
    if isinstance(source, Path):
        check_size(name, source.stat().st_size, limits)
    try:
        image = Image.open(source, formats=_formats())
    except UnidentifiedImageError as error:
        begins = first_bytes(source, 12)
        if begins[4:8] == b"ftyp" and begins[8:12] in HEIC:
            raise MediaError(f"{name}: HEIC, which Pillow cannot read; convert it to JPEG or PNG") from error
        raise MediaError(f"{name}: not an image (it begins with {begins!r})") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, twice ours
        raise MediaError(f"{name}: is above {limits.max_pixels} pixels ({PIXELS})") from error
    except PermissionError as error:
        raise MediaError(f"{name}: no permission to read it") from error
    check_pixels(name, image.size, limits)  # the header is enough; nothing is decoded yet
    if enough is not None:
        scale = sqrt(enough / (image.width * image.height))
        # for JPEG only; anything else ignores it
        image.draft(None, (ceil(image.width * scale), ceil(image.height * scale)))
    image.load()  # closes the file
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
