"""Writes a trained nano into the package: float16 weights, tokenizer, and a card that says what they are.

python scripts/pack_nano.py CHECKPOINT [CHECKPOINT ...] q_align/model/nano/weights

Of several checkpoints of one run it takes the mean of the weights.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

from q_align.model.backbone import Backbone
from q_align.train.average import average

ABOUT = {
    "name": "nano, the embedded model of q_align",
    "licence": "Apache-2.0",
    "data": "generated media only (q-align data generate): procedural scenes and free photographs (docs/nano.md names "
    "them), graded distortions, simulated raters; no person's opinion",
    "limits": "a demonstration and a base for fine-tuning; docs/nano.md says where it fails",
}


def pack(*checkpoints: str, target: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        backbone = Backbone.from_pretrained(average([Path(c) for c in checkpoints], Path(place) / "mean"))
    backbone.model.half()
    # the last stage's data stand for all; names and paths of the training machine mean nothing elsewhere
    taught = [{**backbone.card.trained_on[-1], "source": "generated"}]
    backbone.card = dataclasses.replace(backbone.card, base=None, about=ABOUT, trained_on=taught)
    backbone.save(target)
    for path in Path(target).iterdir():
        path.chmod(0o644)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    pack(*sys.argv[1:-1], target=sys.argv[-1])
