"""Sizes of images, read from their headers without decoding."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.errors import MediaError
from q_align.media.source import open_source


def pixel_counts(paths: Iterable[str | Path], *, most: int | None = None, threads: int = 8) -> np.ndarray:
    """Pixels (N,) of each image, at most `most`; 0 for what is no image (a video, or a file that will fail later)."""
    with ThreadPoolExecutor(threads) as pool:
        found = np.array(list(pool.map(_pixels, paths)), dtype=np.int64)
    return found if most is None else np.minimum(found, most)


def _pixels(path: str | Path) -> int:
    try:
        with Image.open(open_source(path)) as image:  # reads the header only, of a packed image all its bytes
            return image.width * image.height
    except (OSError, MediaError, Image.DecompressionBombError):  # opening it for training raises the error
        return 0
