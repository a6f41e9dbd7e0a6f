"""How fast do 12-megapixel JPEGs become 448-pixel frames? Plain Pillow, our exact path, reduced decoding, a cache.

    python scripts/bench/loader.py --output scripts/bench/results/loader.json

The four ways take turns on the same files in the same run; what counts is their ratio, since other work may share the
machine. Also says how far reduced decoding moves the pixels (of 255).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from q_align.data.frame_cache import FrameCache
from q_align.media import open_frames
from q_align.types import MediaSpec

SPEC = MediaSpec(max_pixels=448 * 448)


def photograph(path: Path, seed: int) -> None:
    """4000 x 3000 with structure at all scales, as a camera writes it (quality 92, 4:2:0)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((3000, 4000, 3), np.float32)
    for cells, weight in ((4, 80), (16, 50), (64, 30), (256, 20), (1000, 12)):
        rough = rng.normal(0, weight, (cells * 3 // 4, cells, 3)).astype(np.float32)
        for channel in range(3):
            plane = Image.fromarray(rough[..., channel]).resize((4000, 3000), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(plane)
    total += 128 + rng.normal(0, 3, total.shape).astype(np.float32)
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(path, quality=92)


def pillow(path: Path) -> Image.Image:
    """What a loader written in two lines does."""
    image = Image.open(path).convert("RGB")
    scale = (SPEC.max_pixels / (image.width * image.height)) ** 0.5  # type: ignore[operator]
    return image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)


def rate(open_one: Callable[[Path], Any], paths: list[Path], workers: int) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:  # decoding releases the interpreter's lock
        list(pool.map(open_one, paths))
    return len(paths) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / f"{i}.jpg" for i in range(args.images)]
        for i, path in enumerate(paths):
            photograph(path, i)
        exact = partial(open_frames, spec=SPEC, video=False)
        cache = FrameCache(Path(place) / "cache", open_frames)
        cached = partial(cache, spec=SPEC, video=False)
        for path in paths:
            cached(path)
        ways = {"pillow": pillow, "exact": exact, "reduced": partial(exact, reduced=True), "cached": cached}
        gaps = [np.abs(np.asarray(exact(p)[0][0], int) - np.asarray(exact(p, reduced=True)[0][0], int)) for p in paths]
        same = all(np.array_equal(np.asarray(pillow(p)), np.asarray(exact(p)[0][0])) for p in paths)
        rounds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                rounds[name].append(rate(way, paths, args.workers))
        megabytes = sum(p.stat().st_size for p in paths) / len(paths) / 2**20
    base = rounds["pillow"]
    found = {
        "command": f"python scripts/bench/loader.py --images {args.images} --rounds {args.rounds}",
        "machine": f"{os.cpu_count()}-core {platform.machine()} VM, Python {platform.python_version()}, "
        f"Pillow {__version__}; shared with other work: trust the ratios, not the rates",
        "files": f"{args.images} JPEGs of 4000 x 3000, {megabytes:.1f} MB each",
        "workers": args.workers,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in rounds.items()},
        "times_pillow": {
            name: round(statistics.median(v / b for v, b in zip(values, base)), 2) for name, values in rounds.items()
        },
        "exact_equals_pillow": same,
        "reduced_minus_exact": {
            "mean_absolute": round(float(np.mean([gap.mean() for gap in gaps])), 3),
            "largest": int(max(gap.max() for gap in gaps)),
        },
    }
    print(json.dumps(found, indent=1))
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
