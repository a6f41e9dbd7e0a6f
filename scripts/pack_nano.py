"""Writes a trained nano into the package: float16 weights, tokenizer, and a card that says what they are.

python scripts/pack_nano.py CHECKPOINT [CHECKPOINT ...] q_align/models/nano/weights --labels GENERATED/labels.csv

Several checkpoints of one run are averaged. Then the normalisation statistics are recomputed on whole images.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.optim.swa_utils import update_bn

from q_align.data.label_files import read_labels
from q_align.data.labels import Labels
from q_align.media import open_image
from q_align.models.backbone import Backbone
from q_align.train.averaging import average
from q_align.types import Turn

ABOUT = {
    "name": "nano, the embedded model of q_align",
    "licence": "Apache-2.0",
    "data": "generated media only (q-align data generate): procedural scenes and free photographs (docs/nano.md names "
    "them), graded distortions, simulated raters; no person's opinion",
    "limits": "a demonstration and a base for fine-tuning; docs/nano.md lists where it fails",
}
IMAGES, BATCH = 6400, 32


def pixel_batches(backbone: Backbone, labels: Labels) -> Iterator[Tensor]:
    """Pixels of training stills, all of one size, as the encoder splits them: (BATCH, 3, h, w) in 0..1."""
    trained = labels.split("train")
    stills = trained.column("media")[trained.column("task") == "iqa"].tolist()
    if len(stills) < BATCH:
        raise SystemExit(f"{labels.source}: {len(stills)} training images; the normalisation needs {BATCH} or more")
    random.Random(0).shuffle(stills)
    for start in range(0, min(IMAGES, len(stills)) - BATCH + 1, BATCH):
        frames = (open_image(path) for path in stills[start : start + BATCH])
        turns = [Turn([frame], backbone.card.question("iqa"), backbone.card.stem("iqa")) for frame in frames]
        yield backbone.encoder(turns)["pixel_values"].float() / 255


def pack(checkpoints: list[str], target: str, labels: Labels) -> None:
    with tempfile.TemporaryDirectory() as place:
        backbone = Backbone.from_pretrained(average([Path(c) for c in checkpoints], Path(place) / "mean"))
    # training left the statistics of windows under changing weights: Izmailov et al. 2018, section 3.2
    update_bn(pixel_batches(backbone, labels), backbone.model.vision)
    backbone.model.half()
    # one entry stands for all stages; names and paths of the training machine mean nothing elsewhere
    trained = [{**backbone.card.trained_on[-1], "source": "generated"}]
    backbone.card = dataclasses.replace(backbone.card, base=None, about=ABOUT, trained_on=trained)
    backbone.save(target)
    for path in Path(target).iterdir():
        path.chmod(0o644)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("target")
    parser.add_argument("--labels", required=True, help="of the generated set that the weights learned from")
    parser.add_argument("--media-root", help="folder of its media; default: that of the labels")
    args = parser.parse_args()
    pack(args.checkpoints, args.target, read_labels(args.labels, media_root=args.media_root))
