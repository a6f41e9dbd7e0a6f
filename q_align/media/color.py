"""Any Pillow image -> upright 8-bit RGB in the sRGB colour space, as a viewer shows it.

Transparent parts become white; 16-bit grey is scaled, where Pillow's own conversion clips it; embedded colour profiles
are applied.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from q_align.errors import MediaError
from q_align.log import log

ORIENTATION = 0x0112
BITS_PER_SAMPLE = 258  # TIFF tag


def to_rgb(image: Image.Image) -> Image.Image:
    """Renders an image of any mode as RGB.

    Raises:
        MediaError: for float images with values that are not finite or outside 0..255, and for 32-bit integers, whose
            range is not known.
    """
    bits = _grey_bits(image)  # first: a copy does not know its file
    image = _upright(image)
    if image.mode == "RGB" and "icc_profile" not in image.info and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bit(image, bits)
    profile = image.info.get("icc_profile")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        base = Image.merge("RGB", image.split()[:3])
        white = Image.new("RGB", image.size, (255, 255, 255))
        return Image.composite(_to_srgb(base, profile), white, image.getchannel("A"))
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")  # P, 1, YCbCr, HSV, LAB, RGBX
    return _to_srgb(image, profile)


def from_array(array: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 or uint16 -> a Pillow image.

    Raises:
        MediaError: for other shapes and types; float arrays have no agreed range.
    """
    if array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    if array.dtype != np.uint8:
        nan = " with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise MediaError(f"array of {array.dtype}{nan}: give uint8, 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise MediaError(f"array of shape {array.shape}: give (height, width, 3)")
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
    except Exception as error:  # Pillow raises many kinds; a viewer shows such an image as stored
        log.debug("EXIF data cannot be read, taken as upright: %s", error)
        return image
    upright = ImageOps.exif_transpose(image) if turned else None
    return image if upright is None else upright


def _grey_bits(image: Image.Image) -> int:
    """Bits of a grey value, by the format of the file: Pillow opens 16-bit files as mode I, too."""
    if image.mode.startswith("I;16"):
        return 16
    if image.mode != "I" or image.format is None:
        return 32
    if image.format == "TIFF":
        return int(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (32,))[0])
    return 16  # PNG, PGM, JPEG 2000: 16 bits at most; of PGM Pillow scales other ranges to 16 bits


def _eight_bit(image: Image.Image, bits: int) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            raise MediaError("float image with values that are not finite or outside 0..255; convert it to 8 bits")
        scaled = values
    elif bits != 16 or values.min() < 0:
        raise MediaError(
            f"integer image of {bits} bits with values {values.min()}..{values.max()}, whose range is not known; "
            "convert it to 8 or 16 bits (Pillow modes L or I;16)"
        )
    else:
        scaled = values // 257  # 65535 -> 255
    eight = Image.fromarray(scaled.astype(np.uint8))
    if "icc_profile" in image.info:
        eight.info["icc_profile"] = image.info["icc_profile"]
    return eight


def _to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    transform = _transform(profile, image.mode) if isinstance(profile, bytes) else None
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    changed = ImageCms.applyTransform(image, transform)
    assert changed is not None, "None is for transforms in place"
    return changed


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to do, or the profile does not fit the pixels."""
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:  # or Pillow without littlecms
        log.debug("colour profile cannot be used, taken as sRGB: %s", error)
        return None
