"""The pixel budget of `MediaSpec.max_pixels` in the terms of each kind of image processor, and native-scale crops.

Pure functions of sizes: the same in training and in scoring. Knows no text and no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def budget(images: Any, max_pixels: int) -> tuple[dict[str, Any], bool]:
    """How an image processor keeps within a budget; told by what it can be set to, not by its family.

    Args:
        images: a transformers image processor.
        max_pixels: of one frame.

    Returns:
        Keywords of the processor's call, and whether frames are scaled down before it.
    """
    if hasattr(images, "crop_to_patches"):  # cut into equal tiles, plus a thumbnail: as many as the budget holds
        tile = _entry(images.size, "height") * _entry(images.size, "width")
        count = max(1, max_pixels // tile)
        return {"crop_to_patches": count > 1, "max_patches": count}, max_pixels < tile
    if hasattr(images, "do_image_splitting"):  # the longer side becomes a multiple of a tile: the largest square grid
        side = _entry(images.max_image_size, "longest_edge")
        count = max(1, math.isqrt(max_pixels) // side)
        return {"do_image_splitting": count > 1, "size": {"longest_edge": count * side}}, max_pixels < side * side
    if hasattr(images, "merge_size"):  # native resolution: one resize, straight to the patch grid that fits
        least = min(_entry(images.size, "shortest_edge"), max_pixels)
        return {"size": {"shortest_edge": least, "longest_edge": max_pixels}}, False
    # one input size, or a grid that follows the size of the image: smaller images go in
    return {}, True


def boxes(size: tuple[int, int], max_pixels: int, tiles: int) -> list[tuple[int, int, int, int]]:
    """Views of a large photograph: all of it, and up to `tiles` square crops at native scale, spread evenly over it.

    Scaling down hides noise, blur and compression; crops show them. Crops are taken only where the frame has at least
    twice the pixels of the budget; below that, scaling loses little.

    Args:
        size: width and height of the frame.
        max_pixels: budget of the global view, and of each crop.

    Returns:
        (left, top, right, bottom) of each view; the first is the whole frame.
    """
    width, height = size
    whole = (0, 0, width, height)
    if tiles < 1 or width * height < 2 * max_pixels:
        return [whole]
    side = min(math.isqrt(max_pixels), width, height)
    # the grid of crops closest to the frame's shape that `tiles` allows
    columns = max(1, min(tiles, round(math.sqrt(tiles * width / height))))
    rows = max(1, tiles // columns)
    columns, rows = min(columns, -(-width // side)), min(rows, -(-height // side))
    corners = [
        (_spread(width, side, columns, x), _spread(height, side, rows, y)) for y in range(rows) for x in range(columns)
    ]
    return [whole, *((x, y, x + side, y + side) for x, y in corners)]


def _spread(length: int, side: int, count: int, index: int) -> int:
    """Start of the index-th of `count` pieces, centred in equal cells."""
    return int(min(max((index + 0.5) * length / count - side / 2, 0), length - side))


def _entry(size: Any, name: str) -> int:
    """One number of a processor's size, which is a dictionary or an object by version."""
    value = size[name] if isinstance(size, Mapping) else getattr(size, name)
    assert value is not None, f"an image processor without {name}"
    return int(value)
