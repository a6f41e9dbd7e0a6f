"""Crops of photographs: those that small declared dependencies ship, and those of a folder of one's own.

scikit-image: astronaut, chelsea, coffee, ... (public domain or CC0; see its data README). scikit-learn: china, flower
(CC BY). matplotlib: grace_hopper (public domain).
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.errors import MediaError, require
from q_align.media import open_image
from q_align.media.expand import IMAGE_SUFFIXES, folders
from q_align.synthetic.pixels import between
from q_align.synthetic.scene_parts import well_exposed

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


def photos_in(folder: str | Path) -> list[str]:
    """Photographs in a folder and below it, as paths within it, sorted.

    Raises:
        MediaError: when there is none, or a folder cannot be read.
    """
    errors: list[OSError] = []
    root = Path(folder)
    found = [Path(place, name) for place, names in folders(root, errors) for name in names]
    if errors:
        raise MediaError(f"{root}: cannot be read ({errors[0]})")
    photos = sorted(p.relative_to(root).as_posix() for p in found if p.suffix.lower() in IMAGE_SUFFIXES)
    if not photos:
        raise MediaError(f"{root}: no photographs in this folder")
    return photos


def is_test_photo(name: str, share: float) -> bool:
    """Whether a photograph is of the test split: packaged ones by TEST_PHOTOS, others by a checksum of the name."""
    return name in TEST_PHOTOS if name in PHOTOS else zlib.crc32(name.encode()) % 1000 < 1000 * share


@lru_cache(maxsize=32)
def packaged_photo(name: str) -> Image.Image:
    """One packaged photograph in RGB.

    Raises:
        MissingExtraError: when its package is not installed.
    """
    package, file = PHOTOS[name]
    folder = require(package, extra="generate").__path__[0]
    with Image.open(Path(folder) / file) as image:
        return image.convert("RGB")


def photo_crop(rng: np.random.Generator, size: int, name: str, folder: str = "") -> np.ndarray:
    """A square crop (size, size, 3) uint8: shrunk (so that it is sharp), moved, mirrored, its tones varied.

    Args:
        rng: of the place and the changes.
        size: side of the crop.
        name: of PHOTOS, or a path within `folder`.
        folder: of one's own photographs.

    Raises:
        MissingExtraError: when the package of a packaged one is not installed.
        MediaError: when one's own cannot be read.
    """
    packaged = name in PHOTOS
    # one's own are not cached: there may be thousands, of tens of megapixels
    image = packaged_photo(name) if packaged else open_image(Path(folder) / name)
    side = min(image.size)
    # at least 1.25: what a sensor's filter and the file's own compression softened becomes sharp again
    low, high = 1.25, 2.2
    if not packaged:
        # a large photograph is seen from near and from afar, and is softer in its single pixels
        near = max(low, side / 1200)
        shrink = between(near, max(near, min(side / size, 6.0)), rng.random())
        low, high = 0.9 * shrink, 1.1 * shrink
    wide, high = (float(np.clip(size * rng.uniform(low, high), min(size, side), side)) for _ in range(2))
    left = rng.uniform(0, image.width - wide)
    top = rng.uniform(0, image.height - high)
    cropped = image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + high))
    pixels = np.asarray(cropped, np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if not packaged and rng.random() < 0.4:
        # as it was taken: mist and dusk are not faults
        return (pixels * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.5:
        pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.random() < 0.25:
        pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.15:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    tuned = pixels ** rng.uniform(0.8, 1.25, 3).astype(np.float32)
    return well_exposed(rng, (np.clip(tuned, 0, 1) * 255 + 0.5).astype(np.uint8))
