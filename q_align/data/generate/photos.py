"""Photographs that small declared dependencies ship inside their packages: no downloads, free to use.

scikit-image: astronaut, chelsea, coffee, ... (public domain or CC0; see its data README). scikit-learn: china, flower
(CC BY). matplotlib: grace_hopper (public domain). Knows where they lie and how to take a piece; nothing of quality.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.data.generate.scenes import develop
from q_align.errors import require

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


@lru_cache(maxsize=32)
def photo(name: str) -> Image.Image:
    """One photograph in RGB.

    Raises:
        MissingExtraError: when its package is not installed.
    """
    package, file = PHOTOS[name]
    folder = require(package, extra="generate").__path__[0]
    with Image.open(Path(folder) / file) as image:
        return image.convert("RGB")


def piece(rng: np.random.Generator, size: int, name: str) -> np.ndarray:
    """A square piece (size, size, 3) uint8: shrunk (so that it is sharp), moved, mirrored, its tones varied."""
    image = photo(name)
    side = min(image.size)
    # at least 1.25: what a sensor's filter and the file's own compression softened becomes sharp again
    wide, high = (float(np.clip(size * rng.uniform(1.25, 2.2), min(size, side), side)) for _ in range(2))
    left = rng.uniform(0, image.width - wide)
    top = rng.uniform(0, image.height - high)
    cut = image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + wide, top + high))
    pixels = np.asarray(cut, np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.5:
        pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.random() < 0.25:
        pixels = pixels[..., rng.permutation(3)]
    if rng.random() < 0.15:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    tuned = pixels ** rng.uniform(0.8, 1.25, 3).astype(np.float32)
    return develop(rng, (np.clip(tuned, 0, 1) * 255 + 0.5).astype(np.uint8))
