"""Augmentations that do not change quality: mirroring, and crops at native scale. No resizing, no colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

# Pixels of a block of JPEG and of most video codecs. In a whole frame the blocks start at its corner; a crop that
# starts on the grid keeps them there, and an encoder with strides of powers of two learns blocking far sooner.
GRID = 8
ON_GRID = 0.75  # of the crops; the others start anywhere, as blocks do in images that were resized after coding


def augment(
    frames: Sequence[Image.Image], rng: np.random.Generator, *, flip: bool = True, crop: int | None = None
) -> list[Image.Image]:
    """The same flip and the same window for all frames of one image or video.

    Args:
        frames: RGB images.
        rng: source of all randomness.
        flip: mirror left to right, half of the time.
        crop: side in pixels of a random square window at native scale; sides that are shorter stay whole;
            most windows start on the grid of block codecs.
    """
    mirror = flip and rng.random() < 0.5
    at_x, at_y, chance = rng.random(3)
    step = GRID if chance < ON_GRID else 1
    out = []
    for frame in frames:
        if crop is not None:
            width, height = min(crop, frame.width), min(crop, frame.height)
            left, top = (
                step * int(at * ((room + step) // step))
                for at, room in ((at_x, frame.width - width), (at_y, frame.height - height))
            )
            frame = frame.crop((left, top, left + width, top + height))
        out.append(frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else frame)
    return out
