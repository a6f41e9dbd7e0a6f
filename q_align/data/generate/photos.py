"""Photographs to cut pieces from: those that small declared dependencies ship, and a folder of one's own.

scikit-image: astronaut, chelsea, coffee, ... (public domain or CC0; see its data README). scikit-learn: china, flower
(CC BY). matplotlib: grace_hopper (public domain). Knows where they lie and how to take a piece; nothing of quality.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.data.generate.scenes import develop
from q_align.errors import MediaError, QAlignError, require

# name -> (package, file inside it)
PHOTOS: dict[str, tuple[str, str]] = {
    **{
        name: ("skimage", f"data/{name}.{'jpg' if name == 'rocket' else 'png'}")
        for name in (
            "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "ihc",
            "motorcycle_left", "rocket",
        )
    },
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}  # fmt: skip
# Sources never trained on.
TEST_PHOTOS = ("coffee", "china", "rocket", "chelsea", "gravel")


# Endings of the pictures in a folder of one's own.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def own_photos(folder: str | Path) -> list[str]:
    """Photographs in a folder and below it, as paths within it, sorted.

    Raises:
        QAlignError: when there is none.
    """
    root = Path(folder)
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise QAlignError(f"{root}: no photographs ({', '.join(SUFFIXES)}) in this folder")
    return found


def held_out(name: str, share: float) -> bool:
    """Whether a photograph is of the test split: packaged ones by TEST_PHOTOS, others by a checksum of the name."""
    return name in TEST_PHOTOS if name in PHOTOS else zlib.crc32(name.encode()) % 1000 < 1000 * share


@lru_cache(maxsize=32)
def photo(name: str, folder: str = "") -> Image.Image:
    """One photograph in RGB: a packaged one, or a path within `folder`.

    Raises:
        MissingExtraError: when its package is not installed.
        MediaError: when it cannot be read.
    """
    if name in PHOTOS:
        package, file = PHOTOS[name]
        path = Path(require(package, extra="generate").__path__[0]) / file
    else:
        path = Path(folder) / name
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read as a photograph ({error})") from error


def piece(rng: np.random.Generator, size: int, name: str, folder: str = "") -> np.ndarray:
    """A square piece (size, size, 3) uint8: shrunk (so that it is sharp), moved, mirrored, its tones varied."""
    image = photo(name, folder)
    side = min(image.size)
    # at least 1.25: what a sensor's filter and the file's own compression softened becomes sharp again
    if name in PHOTOS:
        wide, high = (float(np.clip(size * rng.uniform(1.25, 2.2), min(size, side), side)) for _ in range(2))
    else:
        # a large photograph is seen from near and from afar, and is softer in its single pixels
        near = max(1.25, side / 1200)
        shrink = near * max(1.0, min(side / size, 6.0) / near) ** rng.uniform(0, 1)
        wide, high = (float(np.clip(size * shrink * rng.uniform(0.9, 1.1), min(size, side), side)) for _ in range(2))
    left = rng.uniform(0, image.width - wide)
    top = rng.uniform(0, image.height - high)
    cut = image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + high))
    pixels = np.asarray(cut, np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if name not in PHOTOS and rng.random() < 0.4:
        # as it was taken: mist and dusk are not faults
        return (pixels * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.5:
        pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.random() < 0.25:
        pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.15:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    tuned = pixels ** rng.uniform(0.8, 1.25, 3).astype(np.float32)
    return develop(rng, (np.clip(tuned, 0, 1) * 255 + 0.5).astype(np.uint8))
