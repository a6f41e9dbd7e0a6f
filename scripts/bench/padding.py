"""Padding waste of scoring batches on media of mixed sizes: tokens counted, nothing timed.

    python scripts/bench/padding.py --output scripts/bench/results/padding.json

The scorer's own engine cuts 64 generated pictures (160 to 900 pixels a side) into batches for a Qwen3-VL encoder; the
shapes of its batches are what is counted. Ways: as the pictures come; by pixels; by tokens; by tokens within a budget.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tiny_models import make

from q_align.models.backbone import read_card
from q_align.models.chat import load_encoder
from q_align.models.chat.encoder import ChatEncoder
from q_align.models.families import family_of
from q_align.score.engine import Batch, Engine, Loaded
from q_align.tasks import TASKS
from q_align.types import MediaSpec, Turn


def pictures(count: int) -> list[Image.Image]:
    sides = np.random.default_rng(0).integers(160, 900, (count, 2))
    return [Image.new("RGB", (int(w), int(h))) for w, h in sides]


def shapes(encoder: ChatEncoder, images: list[Image.Image], **settings: object) -> list[Tensor]:
    """The attention mask of every batch that the engine makes."""
    masks: list[Tensor] = []

    def forward(batch: Batch) -> Callable[[], Tensor]:
        masks.append(batch["attention_mask"])
        return lambda: torch.zeros(len(batch["attention_mask"]), 5)

    engine = Engine(encoder, forward, **settings)  # type: ignore[arg-type]
    task = TASKS["iqa"]
    done = list(engine.run(images, lambda image: Loaded(image, [Turn([image], task.question, task.stem)])))
    assert all(one.error is None for one in done)
    return masks


def report(masks: list[Tensor]) -> dict[str, float]:
    padded, real = sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)
    return {
        "batches": len(masks),
        "tokens": real,
        "padded_tokens": padded,
        "waste_percent": round(100 * (1 - real / padded), 1),
        "largest_batch": max(mask.numel() for mask in masks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 64), ("pixels", 786432), ("batch-size", 16), ("batch-tokens", 4096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = {"shortest_edge": 65536, "longest_edge": 16777216}
        folder = make("qwen3_vl", Path(name), vision={"patch_size": 16}, images={"patch_size": 16, "size": size})
        card = replace(read_card(folder), media=MediaSpec(max_pixels=args.pixels))
        encoder = load_encoder(folder, card, family_of(card.family))
        images, whole = pictures(args.images), {"batch_size": args.batch_size, "window": 4 * args.batch_size}
        by_tokens = whole | {"length": encoder.length}
        result = {
            "command": f"python scripts/bench/padding.py {' '.join(sys.argv[1:])}".strip(),
            "as they come": report(shapes(encoder, images, batch_size=args.batch_size, window=args.batch_size)),
            "by pixels": report(shapes(encoder, images, **whole)),
            "by tokens": report(shapes(encoder, images, **by_tokens)),
            "by tokens, budget": report(shapes(encoder, images, **by_tokens, batch_tokens=args.batch_tokens)),
        }
    # without sorting a chunk is one batch
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
