"""Writes a trained nano into the package: float16 weights, tokenizer, and a card that says what they are.

python scripts/pack_nano.py CHECKPOINT [CHECKPOINT ...] q_align/model/nano/weights --labels GENERATED/labels.csv

Of several checkpoints of one run it takes the mean of the weights. Then whole pictures settle the normalisation.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.optim.swa_utils import update_bn

from q_align.media import open_image
from q_align.model.backbone import Backbone
from q_align.tasks import TASKS
from q_align.train.average import average
from q_align.types import Turn

ABOUT = {
    "name": "nano, the embedded model of q_align",
    "licence": "Apache-2.0",
    "data": "generated media only (q-align data generate): procedural scenes and free photographs (docs/nano.md names "
    "them), graded distortions, simulated raters; no person's opinion",
    "limits": "a demonstration and a base for fine-tuning; docs/nano.md says where it fails",
}
BATCH = 32


def pictures(backbone: Backbone, labels: Path, count: int, root: Path) -> Iterator[Tensor]:
    """Pixels of training pictures as the encoder cuts them, (BATCH, 3, h, w) in 0..1."""
    with labels.open(newline="", encoding="utf-8") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["split"] == "train" and row["task"] == "iqa"]
    if len(names) < BATCH:
        raise SystemExit(f"{labels}: {len(names)} training pictures; the normalisation wants {BATCH} or more")
    random.Random(0).shuffle(names)
    for start in range(0, min(count, len(names)) - BATCH + 1, BATCH):
        frames = (open_image(root / name) for name in names[start : start + BATCH])
        turns = [Turn([frame], TASKS["iqa"].question, TASKS["iqa"].stem, None) for frame in frames]
        yield backbone.encoder(turns)["pixel_values"].float() / 255


def pack(checkpoints: list[str], target: str, labels: Path, count: int, root: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        backbone = Backbone.from_pretrained(average([Path(c) for c in checkpoints], Path(place) / "mean"))
    # Those of training are of windows and of weights that moved: Izmailov et al. 2018, section 3.2
    update_bn(pictures(backbone, labels, count, root), backbone.model.vision)
    backbone.model.half()
    # the last stage's data stand for all; names and paths of the training machine mean nothing elsewhere
    taught = [{**backbone.card.trained_on[-1], "source": "generated"}]
    backbone.card = dataclasses.replace(backbone.card, base=None, about=ABOUT, trained_on=taught)
    backbone.save(target)
    for path in Path(target).iterdir():
        path.chmod(0o644)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("target")
    parser.add_argument("--labels", type=Path, required=True, help="of the generated set that the weights learned from")
    parser.add_argument("--media-root", type=Path, help="folder of its media; default: that of the labels")
    parser.add_argument("--count", type=int, default=6400, help="pictures to settle the normalisation by")
    args = parser.parse_args()
    pack(args.checkpoints, args.target, args.labels, args.count, args.media_root or args.labels.parent)
