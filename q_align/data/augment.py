"""Augmentations that leave quality as it is: mirroring, and crops at native scale. Never resizing, never colour.

Knows frames and a random generator; no labels, no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def augment(
    frames: Sequence[Image.Image], rng: np.random.Generator, *, flip: bool = True, crop: int | None = None
) -> list[Image.Image]:
    """The same flip and the same window for all frames of one medium.

    Args:
        frames: RGB images.
        rng: source of all randomness.
        flip: mirror left to right, half of the time.
        crop: side in pixels of a random square window at native scale; sides that are shorter stay whole.
    """
    mirror = flip and rng.random() < 0.5
    at_x, at_y = rng.random(2)
    out = []
    for frame in frames:
        if crop is not None:
            width, height = min(crop, frame.width), min(crop, frame.height)
            left, top = int(at_x * (frame.width - width + 1)), int(at_y * (frame.height - height + 1))
            frame = frame.crop((left, top, left + width, top + height))
        out.append(frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else frame)
    return out
