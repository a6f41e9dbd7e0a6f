"""Splits a frame of any size into tiles: crops at native scale, and downscaled views of the whole.

Downscaling hides distortions, so the crops keep the pixels as they are; the views add the composition. The grid is
fixed: the same frame always gives the same tiles.

    up to one tile on both sides       the frame itself, one tile
    up to as many tiles as allowed     a grid at native scale that covers it
    larger                             crops at native scale, evenly spread, plus the whole frame in one tile
    and longer than four tiles         also a grid over the frame downscaled to two tiles on its long side
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

# Tiles at native scale of one frame: 448 x 448 takes 4, 1024 x 768 and everything beyond 12 (5% of 12 megapixels).
NATIVE = 12
# Tiles start where blocks of JPEG and of most video codecs start: all have one phase under the strides of the encoder.
GRID = 8


@dataclass(slots=True)
class Tile:
    """One crop or view.

    Attributes:
        pixels: (h, w, 3) uint8.
        place: centre x and y in -1..1, log2 of the down-scaling, log2 of the covered side, time in its video 0..1; all
            zero for a whole frame at native scale.
    """

    pixels: np.ndarray
    place: tuple[float, float, float, float, float]


def split_into_tiles(frame: Image.Image, side: int, *, native: int = NATIVE, time: float = 0.0) -> list[Tile]:
    """One frame -> its tiles, native ones first, the whole last.

    Args:
        frame: RGB image of any size.
        side: largest side of a tile in pixels.
        native: at most so many tiles at native scale.
        time: of the frame within its video, 0..1.
    """
    width, height = frame.size
    if max(width, height) <= side:
        return grid_of_tiles(frame, side, most=1, scale=1.0, time=time)
    tiles = grid_of_tiles(frame, side, most=native, scale=1.0, time=time)
    if math.ceil(width / side) * math.ceil(height / side) <= native:
        return tiles
    longest = max(width, height)
    if longest > 4 * side and native >= 4:
        ratio = longest / (2 * side)
        size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
        tiles += grid_of_tiles(downscale(frame, size), side, most=4, scale=ratio, time=time)
    # squeezed to a square: all large frames then share one tile size, and go through the convolutions together
    whole = downscale(frame, (side, side))
    ratio = math.sqrt(width * height) / side
    return [*tiles, Tile(np.asarray(whole), (0.0, 0.0, math.log2(ratio), 0.0, time))]


def downscale(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    # reducing_gap: a fast box reduction first; a 12 megapixel frame takes 25 ms instead of 80
    return frame.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def grid_of_tiles(frame: Image.Image, side: int, *, most: int, scale: float, time: float) -> list[Tile]:
    """Tiles of at most side x side, evenly spread over the frame, row by row; as small as cover it, so that they hardly
    overlap."""
    width, height = frame.size
    columns, rows = grid_shape(width / side, height / side, most)
    w, h = (min(side, tile_length(width, columns)), min(side, tile_length(height, rows)))
    tiles = []
    for top in even_offsets(height - h, rows):
        for left in even_offsets(width - w, columns):
            x = (2 * left + w) / width - 1
            y = (2 * top + h) / height - 1
            share = math.log2(w * h / (width * height)) / 2
            pixels = np.asarray(frame.crop((left, top, left + w, top + h)))
            tiles.append(Tile(pixels, (x, y, math.log2(scale), share, time)))
    return tiles


def tile_length(whole: int, count: int) -> int:
    """The shortest of `count` pieces that cover `whole` from offsets on the codecs' grid, without a gap."""
    rest = whole % GRID
    piece = math.ceil((whole / count - rest) / GRID) * GRID + rest
    while any(b - a > piece for a, b in pairwise(even_offsets(whole - piece, count))):
        piece += GRID
    return piece


def grid_shape(wide: float, high: float, most: int) -> tuple[int, int]:
    """Columns and rows for a frame of wide x high tiles: enough to cover it, or at most `most` in its proportions."""
    columns, rows = math.ceil(wide), math.ceil(high)
    if columns * rows > most:
        columns = min(most, max(1, round(math.sqrt(most * wide / high))))
        rows = max(1, min(rows, most // columns))
        columns = min(math.ceil(wide), columns)
    return columns, rows


def even_offsets(room: int, count: int) -> list[int]:
    """`count` offsets from 0 to `room` on the codecs' grid; the middle when there is one."""
    offsets = [room // 2] if count == 1 else [i * room // (count - 1) for i in range(count)]
    return [offset // GRID * GRID for offset in offsets]
